"""The gate's server fails over, comes back, loses its tail, and learns new functions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
from redis.asyncio import Redis as RedisClient

from flashsale_redis import gate_library
from tests.integration.crowds import quiet_gate, settled_orders
from tests.integration.engine import (
    ROOT,
    SOURCES,
    Answer,
    Engine,
    buy_by_socket,
    buy_until_told,
    engine,
    own_names,
)
from tests.servers import Kafka, Postgres, Redis
from tests.servers.redis import running_redis

UNITS = 40
HOLDS_S_MAX = 60


@attrs.define
class Switch:
    """One address for whichever server is the primary now, as a service's name is."""

    target: str
    port: int = 0
    _carrying: set[asyncio.Task[None]] = attrs.field(factory=set)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def turn_to(self, target: str) -> None:
        """Lead new connections to another server, and cut the old ones."""
        self.target = target
        for task in self._carrying:
            task.cancel()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        where = urlsplit(self.target)
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            upstream, down = await asyncio.open_connection(where.hostname, where.port)
            with contextlib.closing(down):
                await asyncio.wait(
                    [
                        asyncio.ensure_future(one)
                        for one in (_pipe(reader, down), _pipe(upstream, writer))
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def switched(target: str) -> AsyncIterator[Switch]:
    """Have a switch that leads to a server."""
    switch = Switch(target)
    server = await asyncio.start_server(switch.carry, "127.0.0.1", 0)
    switch.port = server.sockets[0].getsockname()[1]
    try:
        yield switch
    finally:
        server.close()
        switch.turn_to(target)


@pytest.fixture
def primary() -> Iterator[Redis]:
    """Have a Redis of one's own."""
    with running_redis(ours=True) as redis:
        yield redis


@pytest.fixture
def replica() -> Iterator[Redis]:
    """Have another one."""
    with running_redis(ours=True) as redis:
        yield redis


@asynccontextmanager
async def selling(
    folder: Path, gate_url: str, bus: Kafka, postgres: Postgres, *, workers: int = 1
) -> AsyncIterator[Engine]:
    """One API and some workers that sell UNITS units."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": gate_url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres.create_database(),
        "FLASHSALE_BACKOFF_MAX_MS": "500",
    }
    with engine(folder, settings) as ours:
        await asyncio.to_thread(ours.prepare)
        ours.start("serve")
        for _ in range(workers):
            ours.start("worker")
        for program in ours.programs:
            await asyncio.to_thread(program.wait_until_ready)
        await asyncio.to_thread(ours.must, "sale", "create", "--item", "1", "--stock", str(UNITS))
        yield ours


def body(purchase: str) -> dict[str, object]:
    """Ask for one unit."""
    return {"userId": purchase, "productId": 1, "purchaseId": purchase}


async def bought(ours: Engine, *purchases: str) -> list[int]:
    """Buy as a crowd does: each repeats a 503 with the same id until it is told."""
    told = await asyncio.gather(*(buy_until_told(ours.doors, body(one)) for one in purchases))
    return [answer.status for answer, _ in told]


async def sold_out_exactly(ours: Engine, promised: set[str]) -> None:
    """Buy what is left and more; then every unit is an order, and every promise too."""
    rest = [f"rest-{n}" for n in range(UNITS + 5)]
    statuses = await bought(ours, *rest)
    promised |= {one for one, status in zip(rest, statuses, strict=True) if status == 200}
    assert len(promised) == UNITS
    assert set(statuses) == {200, 429}
    assert await settled_orders(ours, UNITS) == {"CONFIRMED": UNITS}
    again = await bought(ours, *promised)
    assert again == [200] * UNITS
    gate = await quiet_gate(ours.doors[0])
    assert (gate["available"], gate["sold"]) == (0, UNITS)


async def replicates(replica: RedisClient) -> bool:
    """Tell whether the replica has caught up with its primary's stream."""
    facts = await replica.info("replication")
    return bool(facts["master_link_status"] == "up")


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_lagging_replica_that_is_promoted_and_a_primary_that_comes_back_sell_nothing_twice(
    tmp_path: Path,
    primary: Redis,
    replica: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
) -> None:
    """The replica has half the sale, the old primary is still armed: neither sells unloaded."""
    async with (
        RedisClient.from_url(replica.url) as follower,
        switched(primary.url) as switch,
        selling(tmp_path, switch.url, kafka_server, postgres_server) as ours,
    ):
        where = urlsplit(primary.url)
        await follower.replicaof(where.hostname, where.port)
        until = time.monotonic() + HOLDS_S_MAX
        while not await replicates(follower):
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
        first = [f"first-{n}" for n in range(10)]
        assert await bought(ours, *first) == [200] * 10
        # Promoted before it hears of the next ones: its books are of before.
        await follower.replicaof("NO", "ONE")
        late = [f"late-{n}" for n in range(10)]
        assert await bought(ours, *late) == [200] * 10
        switch.turn_to(replica.url)
        failed_over = [f"over-{n}" for n in range(5)]
        assert await bought(ours, *failed_over) == [200] * 5
        # The old primary comes back as it was, armed in its own memory.
        switch.turn_to(primary.url)
        back = [f"back-{n}" for n in range(5)]
        assert await bought(ours, *back) == [200] * 5
        await sold_out_exactly(ours, {*first, *late, *failed_over, *back})


def newest_log(folder: str) -> Path:
    """Find the file that Redis appends to."""
    return max(Path(folder).glob("appendonlydir/*.incr.aof"), key=os.path.getmtime)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_redis_that_lost_the_end_of_its_log_sells_nothing_twice(
    tmp_path: Path, primary: Redis, kafka_server: Kafka, postgres_server: Postgres
) -> None:
    """`appendfsync everysec` may lose a second; what was promised in it is in the database."""
    async with selling(tmp_path, primary.url, kafka_server, postgres_server) as ours:
        first = [f"first-{n}" for n in range(10)]
        assert await bought(ours, *first) == [200] * 10
        async with RedisClient.from_url(primary.url) as client:
            [folder] = (await client.config_get("dir")).values()
        log = newest_log(str(folder))
        await asyncio.sleep(1.5)
        length = log.stat().st_size
        late = [f"late-{n}" for n in range(10)]
        assert await bought(ours, *late) == [200] * 10
        primary.kill()
        with log.open("r+b") as file:
            file.truncate(length)
        primary.start()
        await sold_out_exactly(ours, {*first, *late})


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_two_workers_rebuild_a_lost_gate_once(
    tmp_path: Path, primary: Redis, kafka_server: Kafka, postgres_server: Postgres
) -> None:
    """Both see it at the same moment; one does it, and both drain."""
    async with selling(tmp_path, primary.url, kafka_server, postgres_server, workers=2) as ours:
        first = [f"first-{n}" for n in range(10)]
        assert await bought(ours, *first) == [200] * 10
        async with RedisClient.from_url(primary.url) as client:
            await client.flushall()
        await sold_out_exactly(ours, set(first))
        told = [program.log.read_text().count("gate lives again") for program in ours.programs]
        assert sum(told) == 1


def other_version(folder: Path) -> list[str]:
    """Copy the sources with another gate library; answer what PYTHONPATH leads there."""
    for name in ("src", "lua", "schemas"):
        shutil.copytree(ROOT / name, folder / name)
    library = folder / "lua" / "stock_gate.lua"
    library.write_text(library.read_text() + "\n-- A later version.\n")
    return [str(folder / source) for source in SOURCES]


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_a_new_version_of_the_functions_is_taken_up_under_load_without_a_failed_request(
    tmp_path: Path, primary: Redis, kafka_server: Kafka, postgres_server: Postgres
) -> None:
    """New processes sell beside the old ones as soon as they say that they are ready."""
    answers: list[Answer] = []
    (tmp_path / "later").mkdir()
    later = await asyncio.to_thread(other_version, tmp_path / "later")
    async with selling(tmp_path, primary.url, kafka_server, postgres_server) as ours:
        stop = asyncio.Event()

        async def buyer(number: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                # Only doors that were ready when they were asked, as a balancer picks them.
                door = ready[turn % len(ready)]
                answers.append(await buy_by_socket(door, body(f"b{number}-{turn}")))
                await asyncio.sleep(0.02)

        ready = list(ours.doors)
        buyers = [asyncio.create_task(buyer(n)) for n in range(4)]
        path = os.pathsep.join(later)
        new = [ours.start(kind, PYTHONPATH=path) for kind in ("worker", "serve")]
        for program in new:
            await asyncio.to_thread(program.wait_until_ready)
        ready.append(new[1].url)
        await asyncio.sleep(1.0)
        # The old ones leave, one after the other.
        old_door, old_worker = ours.programs[:2]
        ready.remove(old_door.url)
        await asyncio.sleep(0.2)
        for program in (old_door, old_worker):
            assert await asyncio.to_thread(program.stop) == 0
        await asyncio.sleep(1.0)
        stop.set()
        await asyncio.gather(*buyers)
        async with RedisClient.from_url(primary.url) as client:
            libraries = await client.function_list(library="flashsale_gate_*")
        assert len(libraries) == 2
        assert gate_library().name in str(libraries)
        assert {answer.status for answer in answers} == {200, 429}
        assert sum(answer.status == 200 for answer in answers) == UNITS
        assert await settled_orders(ours, UNITS) == {"CONFIRMED": UNITS}
        assert not any("gate lives again" in one.log.read_text() for one in ours.programs)
