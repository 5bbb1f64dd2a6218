"""`flashsale serve --processes 2` on real servers: one port, one page of metrics, one stop."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flashsale.starting import claim_port
from tests.integration.crowds import crowd, purchases, quiet_gate, settled_orders
from tests.integration.engine import Engine, Program, ask, buy_by_socket, engine, own_names
from tests.integration.test_refused_starts import refused
from tests.servers import Kafka, Postgres, Redis

BUYERS, UNITS = 300, 1_000
SEEN_S_MAX = 20
END_S_MAX = 10
"""What an API may take from its signal, or from its parent's death, to its end."""
ACCEPTED = re.compile(
    r'^flashsale_answers_total\{door="http",outcome="accepted"\} ([0-9.e+]+)$', re.MULTILINE
)


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
) -> Iterator[Engine]:
    """An engine with a worker; APIs and sales are the tests' own."""
    folder = tmp_path_factory.mktemp("processes")
    database = postgres_server.create_database()
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": kafka_server.url,
        "FLASHSALE_DATABASE_URL": database,
        "FLASHSALE_HTTP_PROCESSES": "2",
        "TMPDIR": str(folder),
    }
    with engine(folder, settings) as ours:
        ours.prepare()
        ours.start("worker")
        yield ours
    postgres_server.drop_database(database)


@asynccontextmanager
async def served(ours: Engine, item: int, **settings: str) -> AsyncIterator[Program]:
    """Begin an API, wait until both of its processes serve, and open a sale."""
    api = ours.start("serve", **settings)
    try:
        await asyncio.to_thread(api.wait_until_ready)
        await until(lambda: len(lines(api, "started")) == 2, api)
        url = f"{api.url}/purchase/init?productId={item}&stock={UNITS}"
        assert (await asyncio.to_thread(ask, "POST", url)).status == 200
        yield api
    finally:
        await asyncio.to_thread(api.stop)


async def until(happened: Callable[[], bool], api: Program) -> None:
    """Wait until it has happened."""
    latest = time.monotonic() + SEEN_S_MAX
    while not happened():
        assert time.monotonic() < latest, api.log.read_text()[-3000:]
        await asyncio.sleep(0.05)


def lines(api: Program, event: str) -> list[dict[str, object]]:
    """Read the log's lines of one event."""
    told = [json.loads(line) for line in api.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in told if line["event"] == event]


def processes(api: Program) -> list[int]:
    """List the processes of a parent."""
    of = api.process.pid
    try:
        return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]
    except FileNotFoundError:
        return []


def lives(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def accepted(api: Program) -> float | None:
    """Ask for the sum by a new connection; None where the process that was asked has just died."""
    try:
        page: str = ask("GET", f"{api.url}/metrics").body["text"]
    except (OSError, ValueError):
        return None
    found = ACCEPTED.search(page)
    return float(found[1]) if found else 0.0


@asynccontextmanager
async def watched(api: Program) -> AsyncIterator[list[float]]:
    """Read the sum again and again meanwhile."""
    sums: list[float] = []

    async def watch() -> None:
        while True:
            total = await asyncio.to_thread(accepted, api)
            sums.extend([] if total is None else [total])
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield sums
    finally:
        watching.cancel()


@pytest.mark.timeout(120)
async def test_two_processes_sell_on_one_port_and_any_of_them_tells_the_sum(stack: Engine) -> None:
    """Every answer is counted once, by whichever it was given; no purchase is lost or doubled."""
    async with served(stack, 1) as api:
        assert await crowd([api.url], purchases(BUYERS)) == {200: BUYERS}
        sums = [await asyncio.to_thread(accepted, api) for _ in range(16)]
        assert sums == [BUYERS] * len(sums)
        await until(lambda: sum(share(api).values()) == BUYERS, api)
        assert min(share(api)[place] for place in (1, 2)) > BUYERS / 4
        assert await settled_orders(stack, BUYERS) == {"CONFIRMED": BUYERS}
        gate = await quiet_gate(api.url)
        assert (gate["available"], gate["sold"]) == (UNITS - BUYERS, BUYERS)


def share(api: Program) -> collections.Counter[object]:
    """Count the accepted purchases of each process, by its log."""
    found: collections.Counter[object] = collections.Counter()
    for line in lines(api, "answers"):
        by_outcome = line["http"]
        assert isinstance(by_outcome, dict)
        found[line["process"]] += by_outcome.get("accepted", 0)
    return found


@pytest.mark.timeout(120)
async def test_a_process_that_is_killed_in_a_crowd_comes_back_and_nothing_is_lost(
    stack: Engine,
) -> None:
    """Buyers whose answer was cut off repeat; the sum never falls, and counts the dead too."""
    async with served(stack, 2) as api, watched(api) as sums:
        victim = processes(api)[1]
        buying = asyncio.create_task(crowd([api.url], purchases(BUYERS, item=2), at_once=20))
        await until(lambda: bool(sums) and sums[-1] > BUYERS / 4, api)
        os.kill(victim, signal.SIGKILL)
        assert await buying == {200: BUYERS}
        await until(lambda: len(lines(api, "started")) == 3, api)
        later = purchases(BUYERS, item=2, prefix="later")
        assert await crowd([api.url], later) == {200: BUYERS}
        assert sums == sorted(sums)
        [ended] = lines(api, "process ended, begun again")
        assert (ended["process"], ended["ended"]) == (2, -signal.SIGKILL)
        assert len(processes(api)) == 2
        # Who repeats a purchase whose answer was cut off is answered twice.
        totals = [await asyncio.to_thread(accepted, api) for _ in range(8)]
        assert len(set(totals)) == 1
        assert BUYERS * 2 <= (totals[0] or 0) < BUYERS * 2 + 40
        assert await settled_orders(stack, BUYERS * 2, "2.1") == {"CONFIRMED": BUYERS * 2}
        assert (await quiet_gate(api.url, "2.1"))["sold"] == BUYERS * 2


@pytest.mark.timeout(120)
async def test_a_stop_answers_what_is_under_way_and_ends_with_0(stack: Engine) -> None:
    """Both processes serve on, answer, and leave; a port that is in use meanwhile is an error."""
    slow = {
        "FLASHSALE_LAME_DUCK_MS": "1000",
        "FLASHSALE_FAULTS": "after-reserve=delay:100",
        "FLASHSALE_FAULTS_ALLOWED": "yes",
    }
    async with served(stack, 3, **slow) as api:
        pids, port = processes(api), api.url.rpartition(":")[2]
        again = await asyncio.to_thread(refused, stack, "serve", FLASHSALE_HTTP_PORT=port)
        assert f"port {port} on 127.0.0.1 is in use by another program" in again
        wanted = purchases(100, item=3)
        buying = [asyncio.create_task(buy_by_socket(api.url, one)) for one in wanted]
        await asyncio.wait(buying, return_when=asyncio.FIRST_COMPLETED)
        api.process.send_signal(signal.SIGTERM)
        assert {answer.status for answer in await asyncio.gather(*buying)} == {200}
        assert await asyncio.to_thread(api.process.wait, END_S_MAX) == 0
        assert not any(lives(pid) for pid in pids)
        assert await settled_orders(stack, 100, "3.1") == {"CONFIRMED": 100}


@pytest.mark.timeout(120)
async def test_processes_whose_parent_is_killed_end_and_free_the_port(stack: Engine) -> None:
    """Whoever begins the parent again has the port, and no old process sells beside the new."""
    async with served(stack, 4) as api:
        pids = processes(api)
        assert await crowd([api.url], purchases(50, item=4)) == {200: 50}
        api.kill()
        latest = time.monotonic() + END_S_MAX
        while any(lives(pid) for pid in pids):
            assert time.monotonic() < latest, api.log.read_text()[-3000:]
            await asyncio.sleep(0.05)
        assert len(lines(api, "the parent is gone")) == 2
        claim_port("127.0.0.1", int(api.url.rpartition(":")[2]), "FLASHSALE_HTTP_PORT")
        assert not list(stack.folder.glob("flashsale-serve-*"))
        assert await settled_orders(stack, 50, "4.1") == {"CONFIRMED": 50}


@pytest.mark.timeout(60)
async def test_a_start_that_cannot_succeed_is_one_line_and_leaves_nobody(stack: Engine) -> None:
    """Settings are judged by the first process, servers are waited for by it."""
    line = await asyncio.to_thread(refused, stack, "serve", FLASHSALE_GATE_URL="memory://")
    assert "FLASHSALE_GATE_URL: memory:// counts units inside one process" in line
    dead = {"FLASHSALE_BUS_URL": "kafka://127.0.0.1:1", "FLASHSALE_START_TIMEOUT_MS": "500"}
    assert "bus:" in await asyncio.to_thread(refused, stack, "serve", **dead)
    assert not list(stack.folder.glob("flashsale-serve-*"))
