"""Readiness is looked at in one place, answers at once, and names what is wrong."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from flashsale.readiness import Dependency, Readiness, Report
from flashsale.setting_kinds import Address
from flashsale.worker_http import CLIENTS_MAX, LOOP_SILENT_MS, REQUEST_WAIT_S, WorkerPages, serving
from flashsale_core.errors import Unavailable, Why
from flashsale_core.ports import Alarm
from tests.unit.world import TurnableClock, Witness


class Server:
    """Something that answers or does not."""

    def __init__(self) -> None:
        """Begin well."""
        self.error: Exception | None = None

    async def check(self) -> None:
        """Answer, or raise what is wrong."""
        if self.error is not None:
            raise self.error


@pytest.fixture
def gate() -> Server:
    """Make a gate to look at."""
    return Server()


@pytest.fixture
def witness() -> Witness:
    """Make a witness of alarms."""
    return Witness()


@pytest.fixture
def readiness(gate: Server, witness: Witness) -> Readiness:
    """Look at a gate, and at a bus that is well."""
    return Readiness(
        {"gate": gate.check, "bus": Server().check},
        clock=TurnableClock(),
        observer=witness,
        timeout_ms=50,
        interval_ms=1_000,
    )


async def test_a_process_that_never_looked_is_not_ready(readiness: Readiness) -> None:
    """It must not get work before it knows that it can do it."""
    assert not readiness.report.is_ready
    await readiness.look()
    assert readiness.report.is_ready


async def test_one_that_is_away_is_named_and_its_last_error_is_kept(
    readiness: Readiness, gate: Server
) -> None:
    """Also after it came back: whoever looks then wants to know what it was."""
    gate.error = Unavailable(Why.GATE_AWAY, "connection refused")
    down = await readiness.look()
    assert not down.is_ready
    assert [one.is_up for one in down.dependencies] == [False, True]
    assert down.dependencies[0].error == "gate-away: connection refused"
    gate.error = None
    up = await readiness.look()
    assert up.is_ready
    assert up.dependencies[0].error == "gate-away: connection refused"
    assert up.dependencies[1].error is None


async def test_an_outage_alarms_once_and_the_next_one_again(
    readiness: Readiness, gate: Server, witness: Witness
) -> None:
    """A look a second must not be an alarm a second; one away from the start is one too."""
    gate.error = OSError("away")
    await readiness.look()
    await readiness.look()
    assert witness.alarms == [Alarm.DEPENDENCY_DOWN]
    gate.error = None
    await readiness.look()
    gate.error = OSError("away")
    await readiness.look()
    assert witness.alarms == [Alarm.DEPENDENCY_DOWN] * 2


async def test_one_that_keeps_silent_is_away(witness: Witness) -> None:
    """A look ends by its deadline, whoever hangs."""

    async def silent() -> None:
        await asyncio.Event().wait()

    heard: list[object] = []
    readiness = Readiness(
        {"gate": silent},
        clock=TurnableClock(),
        observer=witness,
        timeout_ms=10,
        interval_ms=1_500,
        tell=heard.append,
    )
    assert await readiness.step() == 1.5
    assert readiness.report.dependencies[0].error == "no answer within 0.01 s"
    assert heard == [{"gate": False}]


class Pages:
    """The worker's pages on a real socket."""

    def __init__(self) -> None:
        """Begin with a process that is ready."""
        self.now_ms = 1_000_000
        self.report = Report(
            looked_at_ms=self.now_ms, dependencies=(Dependency(name="gate", is_up=True),)
        )
        self.base = ""

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Ask for a page."""
        request = urllib.request.Request(self.base + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()


@pytest.fixture
def pages() -> Iterator[Pages]:
    """Serve the pages on a free port."""
    pages = Pages()
    wsgi = WorkerPages(
        report=lambda: pages.report,
        metrics_text=lambda: (b"up 1\n", "text/plain"),
        now_ms=lambda: pages.now_ms,
    )
    with serving(wsgi, Address("127.0.0.1", 0)) as port:
        pages.base = f"http://127.0.0.1:{port}"
        yield pages


def test_a_worker_answers_without_any_web_stack(pages: Pages) -> None:
    """Health, readiness and metrics by the standard library alone."""
    assert pages.ask("/healthz") == (200, b'{"status": "ok"}')
    status, body = pages.ask("/readyz")
    assert status == 200
    assert json.loads(body)["dependencies"]["gate"] == {
        "up": True,
        "error": None,
        "error_at_ms": None,
    }
    assert pages.ask("/metrics") == (200, b"up 1\n")
    assert pages.ask("/metrics", "HEAD") == (200, b"")
    assert pages.ask("/elsewhere")[0] == 404
    assert pages.ask("/readyz", "POST")[0] == 405


def test_a_worker_that_lost_something_is_not_ready_but_healthy(pages: Pages) -> None:
    """Nobody must restart it for that: it waits and goes on."""
    down = Dependency(name="gate", is_up=False, error="gate-away", error_at_ms=5)
    pages.report = Report(looked_at_ms=pages.now_ms, dependencies=(down,))
    status, body = pages.ask("/readyz")
    assert status == 503
    assert json.loads(body)["dependencies"]["gate"]["error"] == "gate-away"
    assert pages.ask("/healthz")[0] == 200


def test_a_worker_whose_loop_hangs_says_so_itself(pages: Pages) -> None:
    """The pages come from another thread, which sees how old the last look is."""
    pages.now_ms += LOOP_SILENT_MS + 1
    assert pages.ask("/healthz") == (503, b'{"status": "hanging"}')


async def test_one_that_was_told_to_end_is_not_ready_whatever_it_finds(
    readiness: Readiness, gate: Server
) -> None:
    """Also when a look was under way as it was told, and found everything well."""
    goes_on = asyncio.Event()
    inner = gate.check

    async def slow() -> None:
        await goes_on.wait()
        await inner()

    readiness._probes["gate"] = slow
    looking = asyncio.create_task(readiness.look())
    await asyncio.sleep(0)
    readiness.leave()
    assert not readiness.report.is_ready
    goes_on.set()
    report = await looking
    assert all(one.is_up for one in report.dependencies)
    assert not report.is_ready
    assert not readiness.report.is_ready
    assert report.as_json()["stopping"] is True


def test_clients_that_never_finish_keep_neither_threads_nor_probes(pages: Pages) -> None:
    """Three times as many as there may be, each with half a request; then a probe comes."""
    host, _, port = pages.base.removeprefix("http://").partition(":")
    with ExitStack() as clients:
        slow = [
            clients.enter_context(
                socket.create_connection((host, int(port)), timeout=REQUEST_WAIT_S / 2)
            )
            for _ in range(3 * CLIENTS_MAX)
        ]
        for one in slow:
            with suppress(OSError):
                one.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        assert pages.ask("/healthz") == (200, b'{"status": "ok"}')
        for one in slow[:CLIENTS_MAX]:
            with suppress(ConnectionError):
                assert one.recv(1) == b""
