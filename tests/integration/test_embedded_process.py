"""`flashsale run` as a process: one SQLite file, and no promise that a crash could break."""

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import httpx
import pytest

START_WAIT_S = 60.0
"""A first start migrates; on a machine that runs everything else too, it takes a while."""
STOP_WAIT_S = 30.0
# Four starts of a process, on a machine that does other things too.
pytestmark = pytest.mark.timeout(240)


@attrs.define
class Running:
    """`flashsale run` as a process of its own."""

    folder: Path
    port: int
    process: "subprocess.Popen[str]"

    @property
    def url(self) -> str:
        """Name where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> None:
        """Wait until it sells."""
        deadline = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.errors()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=1).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.errors())

    def end(self, number: signal.Signals) -> int:
        """End it and tell how it ended."""
        self.process.send_signal(number)
        return self.process.wait(STOP_WAIT_S)

    def output(self) -> str:
        """Read what it printed."""
        return (self.folder / "out.txt").read_text()

    def errors(self) -> str:
        """Read what it logged."""
        return (self.folder / "err.txt").read_text()


@contextmanager
def _running(folder: Path, port: int) -> Iterator[Running]:
    """Start it with nothing but a port, in a folder of its own."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("FLASHSALE_")
    }
    with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "flashsale", "run", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=err,
            text=True,
        )
    started = Running(folder, port, process)
    try:
        started.wait_until_ready()
        yield started
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_WAIT_S)


@pytest.fixture
def port() -> int:
    """Find a free port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number: int = probe.getsockname()[1]
        return number


def _buy(url: str, **fields: object) -> httpx.Response:
    return httpx.post(
        f"{url}/purchase/buy", json={"userId": 101, "productId": 1, **fields}, timeout=10
    )


def test_a_newcomer_buys_at_once_and_a_restart_finds_everything(tmp_path: Path, port: int) -> None:
    """Sales, orders and the gate come back from the file; Ctrl-C ends it well."""
    with _running(tmp_path, port) as first:
        bought = _buy(first.url)
        assert bought.status_code == 200
        purchase_id = bought.json()["purchaseId"]
        assert first.end(signal.SIGINT) == 0
    assert "1 setting" not in first.errors()
    with _running(tmp_path, port) as second:
        found = httpx.get(f"{second.url}/purchase/{purchase_id}").json()
        assert found["status"] == "CONFIRMED"
        sale = httpx.get(f"{second.url}/sales/1.1").json()
        assert (sale["available"], sale["sold"]) == (999, 1)
        assert sale["gate"]["available"] == 999
        again = _buy(second.url, purchaseId=purchase_id)
        assert (again.status_code, again.json()["purchaseId"]) == (200, purchase_id)
        assert httpx.get(f"{second.url}/sales/1.1").json()["sold"] == 1
        assert second.end(signal.SIGTERM) == 0
    assert "Traceback" not in first.errors() + second.errors()


def test_what_it_prints_can_be_typed(tmp_path: Path, port: int) -> None:
    """The curl lines buy and look up; the file and the way to start clean are named."""
    with _running(tmp_path, port) as running:
        shown = running.output()
        assert "data/flashsale.db" in shown
        assert (tmp_path / "data" / "flashsale.db").exists()
        assert "make clean-data" in shown
        assert f"{running.url}/docs" in shown
        answers = [
            subprocess.run(
                ["bash", "-c", line.replace("curl", "curl -s", 1)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            for line in re.findall(r"^ *(curl .+)$", shown, re.MULTILINE)
        ]
        bought, looked_up, sale = (json.loads(answer) for answer in answers)
        assert bought["purchaseId"] == looked_up["purchaseId"] == "first"
        assert looked_up["status"] == "CONFIRMED"
        assert sale["sold"] == 1


def test_a_busy_port_is_named_before_anything_is_opened(tmp_path: Path) -> None:
    """With the way round it, and no file made."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "flashsale", "run", "--port", str(number)],
            check=False,
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if not k.startswith("FLASHSALE_")},
            capture_output=True,
            text=True,
            timeout=START_WAIT_S,
        )
    assert ended.returncode == 1
    assert f"make run PORT={number + 10}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


BUYERS = 16
KILLS = 3
ACCEPTED_BEFORE_KILL = 150


async def _buy_until_killed(running: Running, numbers: "itertools.count[int]") -> list[str]:
    """Let a crowd buy; kill -9 in the middle; tell which purchases were answered ACCEPTED."""
    accepted: list[str] = []

    async def buyer(client: httpx.AsyncClient) -> None:
        while True:
            purchase_id = f"k-{next(numbers)}"
            fields = {"userId": purchase_id, "productId": 1, "purchaseId": purchase_id}
            try:
                answer = await client.post("/purchase/buy", json=fields)
            except httpx.TransportError:
                return
            if answer.status_code == httpx.codes.OK:
                accepted.append(purchase_id)
            if len(accepted) == ACCEPTED_BEFORE_KILL:
                running.process.send_signal(signal.SIGKILL)

    async with httpx.AsyncClient(base_url=running.url, timeout=10) as client:
        await asyncio.gather(*(buyer(client) for _ in range(BUYERS)))
    running.process.wait(STOP_WAIT_S)
    return accepted


def test_three_kills_under_load_lose_no_accepted_purchase(tmp_path: Path, port: int) -> None:
    """An embedded 200 is a row: whatever kill -9 interrupts, each one is CONFIRMED afterwards."""
    numbers, accepted = itertools.count(), list[str]()
    for _ in range(KILLS):
        with _running(tmp_path, port) as running:
            accepted += asyncio.run(_buy_until_killed(running, numbers))
    assert len(accepted) >= KILLS * ACCEPTED_BEFORE_KILL
    with _running(tmp_path, port) as running:
        sale = httpx.get(f"{running.url}/sales/1.1").json()
        with closing(sqlite3.connect(tmp_path / "data" / "flashsale.db")) as file:
            rows = dict(file.execute("select purchase_id, status from orders").fetchall())
        assert not [one for one in accepted if rows.get(one) != "CONFIRMED"]
        assert set(rows.values()) == {"CONFIRMED"}
        assert sale["sold"] == len(rows) == 1_000 - sale["available"]
        assert sale["gate"]["available"] == sale["available"]
        assert running.end(signal.SIGTERM) == 0
