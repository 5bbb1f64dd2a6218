"""The engine as it is run: processes of its own, on real servers, under names of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import attrs

from tests.servers.launch import free_port

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("src", "src/adapters", "src/entrypoints")
START_S_MAX = 40
STOP_S_MAX = 30
SAYS_S_MAX = 60
NOBODY_BALANCES = {"FLASHSALE_LAME_DUCK_MS": "100"}
"""Where no balancer looks at /readyz there is nobody to serve on for."""


@attrs.define
class Answer:
    """What a buyer was told."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class Program:
    """One process of the engine."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_worker(self) -> bool:
        """Say whether it has no door."""
        return self.name.startswith("worker")

    def wait_until_ready(self) -> None:
        """Wait until /readyz says so; the log is in the error when it does not."""
        until = time.monotonic() + START_S_MAX
        last = "no answer"
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended: {self.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError):
                answer = ask("GET", f"{self.url}/readyz")
                if answer.status == 200:
                    return
                last = json.dumps(answer.body)
            time.sleep(0.1)
        raise AssertionError(f"{self.name} is not ready: {last}\n{self.log.read_text()[-3000:]}")

    async def ready_as(self, status: int) -> Any:
        """Wait until /readyz answers with this status; tell how it describes the dependencies."""
        until = time.monotonic() + SAYS_S_MAX
        while (
            answer := await asyncio.to_thread(ask, "GET", f"{self.url}/readyz")
        ).status != status:
            assert time.monotonic() < until, answer
            await asyncio.sleep(0.1)
        return answer.body["dependencies"]

    async def says(self, *words: str) -> None:
        """Wait until one line of its log has all these words."""
        until = time.monotonic() + SAYS_S_MAX
        while not self._said(words):
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            await asyncio.sleep(0.1)

    def _said(self, words: tuple[str, ...]) -> bool:
        lines = self.log.read_text().splitlines()
        return any(all(word in line for word in words) for line in lines)

    def stop(self) -> int:
        """End it as an operator does, and answer its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S_MAX)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(STOP_S_MAX)


@attrs.define
class Engine:
    """Settings shared by all processes of one engine, and the processes."""

    folder: Path
    settings: dict[str, str]
    python: str = sys.executable
    """The interpreter; one that is not ours has the wheel installed, and is shown no checkout."""
    programs: list[Program] = attrs.field(factory=list)

    @property
    def doors(self) -> list[str]:
        """The APIs' addresses."""
        return [program.url for program in self.programs if not program.is_worker]

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process: ours, without anybody else's settings."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLASHSALE_")}
        inherited.pop("PYTHONPATH", None)
        if self.python == sys.executable:
            inherited["PYTHONPATH"] = os.pathsep.join(str(ROOT / source) for source in SOURCES)
        return {**inherited, **NOBODY_BALANCES, **self.settings}

    def command(self, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run one command of the command line to its end."""
        return subprocess.run(
            [self.python, "-m", "flashsale", *args],
            env={**self.env, **settings},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def must(self, *args: str) -> str:
        """Run a command that must succeed, and answer what it printed."""
        done = self.command(*args)
        assert done.returncode == 0, f"{args}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, kind: str, **settings: str) -> Program:
        """Start an API (`serve`), a worker, or both (`run`), without waiting for it."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        where = (
            {"FLASHSALE_WORKER_HTTP": f"127.0.0.1:{port}"}
            if kind == "worker"
            else {"FLASHSALE_HTTP_PORT": str(port)}
        )
        log = self.folder / f"{kind}-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [self.python, "-m", "flashsale", kind],
                env={**self.env, **where, **settings},
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        program = Program(f"{kind}-{port}", url, process, log)
        self.programs.append(program)
        return program

    def prepare(self) -> None:
        """Make tables, topics and functions, as a deployment does once."""
        self.must("db", "upgrade")
        self.must("topics", "ensure")
        self.must("gate", "install")

    def stop(self) -> None:
        """End what still runs."""
        for program in self.programs:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGTERM)
        for program in self.programs:
            try:
                program.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                program.kill()


@contextlib.contextmanager
def engine(
    folder: Path, settings: Mapping[str, str], *, python: str = sys.executable
) -> Iterator[Engine]:
    """Have an engine; its processes are ended whatever the test does."""
    ours = Engine(folder, dict(settings), python)
    try:
        yield ours
    finally:
        ours.stop()


async def entered(ending: AsyncExitStack, context: AbstractContextManager[T]) -> T:
    """Enter a context in a thread, so that several servers start side by side.

    It is left, in a thread too, when the stack ends.
    """
    value = await asyncio.to_thread(context.__enter__)
    ending.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
    return value


def own_names() -> dict[str, str]:
    """Name everything anew, so that tests share servers and nothing else."""
    mark = uuid.uuid4().hex[:10]
    return {
        "FLASHSALE_NAMESPACE": f"t{mark}",
        "FLASHSALE_CONSUMER_GROUP": f"t{mark}.processor",
        "FLASHSALE_ACCEPTED_GROUP": f"t{mark}.accepted",
        "FLASHSALE_REQUESTS_TOPIC": f"t{mark}.requests",
        "FLASHSALE_ACCEPTED_TOPIC": f"t{mark}.accepted",
        "FLASHSALE_ORDERS_TOPIC": f"t{mark}.orders",
        "FLASHSALE_DEAD_LETTER_TOPIC": f"t{mark}.dead",
        "FLASHSALE_EXCHANGE": f"t{mark}",
        "FLASHSALE_PARTITIONS": "4",
    }


def ask(
    method: str,
    url: str,
    body: object = None,
    timeout: float = 10.0,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask over HTTP; an error status is an answer too."""
    data = None if body is None else json.dumps(body).encode()
    given = {} if data is None else {"content-type": "application/json"}
    request = urllib.request.Request(
        url, data=data, method=method, headers={**given, **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return _answer(response.status, response.read(), dict(response.headers))
    except urllib.error.HTTPError as refused:
        return _answer(refused.code, refused.read(), dict(refused.headers))


def _answer(status: int, raw: bytes, headers: dict[str, str]) -> Answer:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {"text": raw.decode(errors="replace")}
    return Answer(status, body, {k.lower(): v for k, v in headers.items()})


async def buy_by_socket(url: str, body: Mapping[str, object], timeout_s: float = 30.0) -> Answer:
    """Buy on a connection of one's own, as a browser in a crowd does."""
    host, _, port = url.removeprefix("http://").partition(":")
    data = json.dumps(body).encode()
    head = (
        f"POST /purchase/buy HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(head.encode() + data)
            await writer.drain()
            raw = await reader.read()
        finally:
            writer.close()
    start, _, rest = raw.partition(b"\r\n\r\n")
    return _answer(int(start.split()[1]), rest, {})


async def buy_until_told(
    urls: list[str], body: Mapping[str, object], *, tries: int = 40
) -> tuple[Answer, int]:
    """Repeat a 503 with the same id, at another door each time; answer how often it took."""
    answer = Answer(503, {})
    for attempt in range(tries):
        try:
            answer = await buy_by_socket(urls[attempt % len(urls)], body)
        except (TimeoutError, OSError, IndexError):
            answer = Answer(503, {})
        if answer.status != 503:
            return answer, attempt + 1
        await asyncio.sleep(min(0.05 * 2**attempt, 1.0))
    return answer, tries
