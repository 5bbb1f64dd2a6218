"""One server of each kind for a whole test run, however many processes it has.

The first process that needs a server starts a host for it: a process of its own, which starts the
server, writes down where it is, and stops it when the run has ended. The others join. Sharing is
quicker than one server per process: Kafka, RabbitMQ and the registry take seconds of both cores
to start and half a gigabyte to keep. No test process owns a server: one that has no work left
ends before the others do, and must take nothing with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import kafka, launch, postgres, rabbitmq, redis, registry
from tests.servers.launch import Server, ServerMissing

STARTERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "redis": redis.running_redis,
    "postgres": postgres.running_postgres,
    "rabbitmq": rabbitmq.running_rabbitmq,
    "kafka": kafka.running_kafka,
    "registry": registry.running_registry,
}
ATTACH: dict[str, Callable[[str, str], Server]] = {
    "redis": redis.attach,
    "postgres": postgres.attach,
    "rabbitmq": rabbitmq.attach,
    "kafka": kafka.attach,
    "registry": registry.attach,
}
ROOT = Path(__file__).parents[2]
TICK_S = 0.02


class SharedServers:
    """Hands out servers that nobody may stop; they run until the whole run ends."""

    def __init__(self, folder: Path) -> None:
        """Meet the run's other processes in `folder`."""
        self._folder = folder
        self._held: dict[str, Server] = {}
        self._life: int | None = None

    def begin(self) -> None:
        """Begin the run: from now on, and until this process ends, servers may be asked for."""
        os.mkfifo(self._folder / "life")
        # Hosts read from it until nobody can write to it, however that comes about.
        self._life = os.open(self._folder / "life", os.O_RDWR)

    def get(self, kind: str) -> Any:
        """Return the run's server of this kind; started when first asked for."""
        if kind not in self._held:
            self._held[kind] = self._join(kind)
        return self._held[kind]

    def end(self) -> list[str]:
        """End the run, if begun here; wait until its servers are gone, tell which were before."""
        if self._life is None:
            return []
        os.close(self._life)
        self._life = None
        told = []
        for kind in STARTERS:
            with _locked(self._folder / f"{kind}.host"):
                died = self._folder / f"{kind}.died"
                if died.exists():
                    told.append(died.read_text())
        return told

    def _join(self, kind: str) -> Server:
        note = self._folder / f"{kind}.json"
        with _locked(self._folder / f"{kind}.lock"):
            if not note.exists():
                self._start_host(kind, note)
            told = json.loads(note.read_text())
        if "reason" in told:
            raise ServerMissing(kind, told["reason"], told["fix"])
        server = ATTACH[kind](told["url"], told["origin"])
        launch.used[kind] = server.origin
        return server

    def _start_host(self, kind: str, note: Path) -> None:
        log = self._folder / f"{kind}.log"
        with log.open("wb") as output:
            host = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.shared", str(self._folder), kind],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the whole group of the terminal; the run ends its servers.
                start_new_session=True,
            )
        while not note.exists():
            if host.poll() is not None and not note.exists():
                message = f"no {kind}: {log.read_text(errors='replace')}"
                raise RuntimeError(message)
            time.sleep(TICK_S)
        # It ends after us, so nobody waits for it.
        host.returncode = 0


def host(folder: Path, kind: str) -> None:
    """Keep one server while the run lasts, and tell if it did not last as long."""
    # Without a writer this opens too, and reads the end at once.
    life = os.open(folder / "life", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(life, True)
    with _locked(folder / f"{kind}.host"):
        try:
            with STARTERS[kind]() as server:
                _note(folder, kind, {"url": server.url, "origin": server.origin})
                os.read(life, 1)
                last_words = _last_words(server)
        except ServerMissing as missing:
            _note(folder, kind, {"reason": missing.reason, "fix": missing.fix})
            return
        if last_words is not None:
            (folder / f"{kind}.died").write_text(last_words)


def _last_words(server: Server) -> str | None:
    runner = server.runner
    if not isinstance(runner, launch.Daemon) or runner.after_start_check():
        return None
    code = None if runner.process is None else runner.process.poll()
    tail = runner.log.read_text(errors="replace")[-launch.LOG_TAIL_CHARACTERS :]
    return (
        f"{server.kind} at {server.url} did not answer any more when the run ended "
        f"(exit code {code}); its last words:\n{tail}"
    )


def _note(folder: Path, kind: str, told: dict[str, str]) -> None:
    # In one piece: whoever waits for it looks whether it is there.
    half = folder / f"{kind}.half"
    half.write_text(json.dumps(told))
    half.rename(folder / f"{kind}.json")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


shared_servers = pytest.StashKey[SharedServers]()


if __name__ == "__main__":
    host(Path(sys.argv[1]), sys.argv[2])
