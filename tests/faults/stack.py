"""An engine of two APIs and two workers on real servers of its own, under load, to be broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.faults.books import collect, waiting
from tests.faults.buyers import Item, Load, Outsiders, now_ms
from tests.faults.checker import Violation, check
from tests.faults.disks import Disk, small_disk
from tests.faults.history import Asked, Books, History
from tests.faults.wire import Wire, wire_before
from tests.integration.crowds import connected
from tests.integration.engine import Engine, Program, ask, engine, entered, own_names
from tests.servers import (
    Kafka,
    Postgres,
    RabbitMQ,
    Redis,
    running_kafka,
    running_postgres,
    running_rabbitmq,
    running_redis,
)
from tests.servers.launch import free_port
from tests.servers.provider import Provider, running_provider

QUICK = {
    "FLASHSALE_LAME_DUCK_MS": "3000",
    "FLASHSALE_JOURNAL_RESERVED_DUE_MS": "2000",
    "FLASHSALE_JOURNAL_QUEUED_DUE_MS": "10000",
    "FLASHSALE_SWEEP_INTERVAL_MS": "500",
    "FLASHSALE_REBUILD_INTERVAL_MS": "100",
    "FLASHSALE_KAFKA_SESSION_MS": "3000",
    "FLASHSALE_PARKED_INTERVAL_MS": "500",
    "FLASHSALE_PARKED_LEASE_MS": "1500",
    "FLASHSALE_BACKOFF_MAX_MS": "500",
    "FLASHSALE_PROBE_INTERVAL_MS": "500",
    "FLASHSALE_PAYMENT_INTERVAL_MS": "50",
    "FLASHSALE_PAYMENT_DEADLINE_MS": "1000",
    "FLASHSALE_PAYMENT_LEASE_MS": "3000",
    "FLASHSALE_PAYMENT_RETRY_INITIAL_MS": "100",
    "FLASHSALE_PAYMENT_RETRY_MAX_MS": "1000",
    "FLASHSALE_LOG_LEVEL": "warning",
}
"""Due times, back-offs and probes are settings, and a twentieth here or the least that they may be.

The hot path's never change.
"""
BIG = Item("big", units=900_000, share=0.89)
SMALL = Item("small", units=300, share=0.05, users=200, per_user_limit=2)
PAID = Item("paid", units=90_000, share=0.06, price_minor=4_990)
DROPS_ONE_IN = 3
"""The payment provider charges, and then closes without a word, so often."""
REDIS_DISK_BYTES = 768 << 20
POSTGRES_DISK_BYTES = 2 << 30
"""Room for a long run's file and its rewrite, for tables and a gigabyte of WAL; then it is full."""
STRIKES = "fault strikes"
"""What a process writes before a fault of its own happens."""
QUIET_S_MAX = 90.0
RECOVERY_S_MAX = 60.0
OUTSIDE_EVERY_S = 0.25
STRIKE_S_MAX = 90.0
"""A process starts within seconds; on a machine that is busy with more than a drill, later."""


def struck_in(program: Program) -> set[str]:
    """Name the points at which a process was broken."""
    lines = program.log.read_text().splitlines()
    return {json.loads(line)["point"] for line in lines if STRIKES in line}


@attrs.define(eq=False)
class Stack:
    """Everything that a drill can lay its hands on."""

    bus: str
    engine: Engine
    redis: Redis
    broker: Kafka | RabbitMQ
    postgres: Postgres
    database_url: str
    gate_wire: Wire
    database_wire: Wire
    bus_wire: Wire
    replica: Redis
    """A second Redis, which nobody asks until it is made to follow the first."""
    provider: Provider
    disks: dict[str, Disk]
    """The small disks that servers live on, where this machine lets us have some."""
    dice: random.Random
    history: History = attrs.field(factory=History)
    load: Load = attrs.field(init=False)
    outsiders: Outsiders = attrs.field(init=False)
    points_hit: dict[str, int] = attrs.field(factory=dict)
    probes: int = 0

    def __attrs_post_init__(self) -> None:
        """Have buyers, who have not come yet."""
        self.load = Load(self.history, [BIG, SMALL, PAID], self.doors, self.dice, "buyer")
        self.outsiders = Outsiders(
            self.history, self.engine, BIG, _encoded, "outside", has_keys=self.bus == "kafka"
        )

    # ── processes ───────────────────────────────────────────────────────────────────────────────

    def running(self, *, workers: bool) -> list[Program]:
        """List the processes of a kind that have not ended."""
        return [
            program
            for program in self.engine.programs
            if program.is_worker is workers and program.process.poll() is None
        ]

    def doors(self) -> list[str]:
        """Name the APIs that run, or the last that did."""
        return [program.url for program in self.running(workers=False)] or self.engine.doors[-1:]

    async def start(self, kind: str, **settings: str) -> Program:
        """Start a process, without waiting for it."""
        return await asyncio.to_thread(self.engine.start, kind, **settings)

    async def ready(self, *programs: Program) -> None:
        """Wait until these are."""
        await asyncio.gather(*(asyncio.to_thread(one.wait_until_ready) for one in programs))

    async def strikes(self, program: Program, points: Sequence[str]) -> None:
        """Wait until armed faults have struck at all these points, or the process is dead."""
        until = time.monotonic() + STRIKE_S_MAX
        while missing := set(points) - struck_in(program):
            if program.process.poll() is not None:
                break  # A death was quicker than what stood before it.
            assert time.monotonic() < until, f"nothing struck at {missing}: {program.log}"
            await asyncio.sleep(0.1)
        for point in struck_in(program):
            self.points_hit[point] = self.points_hit.get(point, 0) + 1

    # ── the sale ────────────────────────────────────────────────────────────────────────────────

    def open_sales(self) -> None:
        """Open both sales."""
        for item in self.load.items:
            limit = "" if item.per_user_limit is None else f"&maxPerUser={item.per_user_limit}"
            price = f"&unitPriceMinor={item.price_minor}&currency=CHF"
            query = f"productId={item.item_id}&stock={item.units}{limit}{price}"
            until = time.monotonic() + RECOVERY_S_MAX
            # On a busy machine a gate may need longer than an operator is made to wait.
            while (answer := ask("POST", f"{self.doors()[0]}/purchase/init?{query}")).status == 503:
                assert time.monotonic() < until, answer
            assert answer.status == 200, answer

    @asynccontextmanager
    async def under_load(self, rate: float) -> AsyncIterator[None]:
        """Have buyers and outsiders come; leaving waits until everybody was told."""
        stop = asyncio.Event()
        coming = [
            asyncio.create_task(self.load.come(rate, stop)),
            asyncio.create_task(self.outsiders.come(OUTSIDE_EVERY_S, stop)),
        ]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*coming)
            await self.load.all_told()

    @asynccontextmanager
    async def breaking(self) -> AsyncIterator[None]:
        """Note when a fault began and ended: for so long, and a minute, its promises may wait."""
        began_ms = now_ms()
        try:
            yield
        finally:
            self.history.faults.append((began_ms, now_ms()))

    async def whole(self) -> None:
        """Start what a fault has left us without, and wait until everything is ready."""
        fresh = [
            await self.start("worker" if workers else "serve")
            for workers in (False, True)
            for _ in range(2 - len(self.running(workers=workers)))
        ]
        await self.ready(*fresh)

    async def recovered(self) -> float:
        """Buy once and wait for the order; answer how many seconds that took."""
        began = time.monotonic()
        self.probes += 1
        purchase = f"probe-{self.probes}"
        asked = self.history.ask(Asked(purchase, purchase, BIG.sale_id))
        await self.load._buyer(asked, BIG.item_id)
        query = "SELECT count(*) FROM orders WHERE purchase_id = $1 AND status = 'CONFIRMED'"
        while time.monotonic() - began < RECOVERY_S_MAX:
            with contextlib.suppress(OSError, TimeoutError):
                async with connected(self.beside()) as database:
                    if await database.fetchval(query, purchase):
                        break
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def discard_some(self) -> int:
        """Throw a few dead letters away, as an operator does who gives a name."""
        query = "SELECT parked_id FROM parked_messages WHERE status = 'DEAD' LIMIT 5"
        async with connected(self.beside()) as database:
            dead = [row["parked_id"] for row in await database.fetch(query)]
        for number in dead:
            url = f"{self.doors()[0]}/dead-letters/{number}/discard?who=drill&why=noise"
            answer = await asyncio.to_thread(ask, "POST", url)
            assert answer.status == 200, answer
        return len(dead)

    def beside(self) -> Engine:
        """Name the servers themselves, not the wires before them."""
        return Engine(
            self.engine.folder,
            {
                **self.engine.settings,
                "FLASHSALE_GATE_URL": self.redis.url,
                "FLASHSALE_BUS_URL": self.broker.url,
                "FLASHSALE_DATABASE_URL": self.database_url,
            },
        )

    async def judged(self) -> tuple[Books, list[Violation]]:
        """Wait until all is quiet, read every book, and judge."""
        until = time.monotonic() + QUIET_S_MAX
        while not await self._is_quiet():
            if time.monotonic() > until:
                break  # What is left over is the judge's to name.
            await asyncio.sleep(0.5)
        books = await collect(
            self.engine, self.redis.url, self.broker.url, self.database_url, self.provider
        )
        return books, await asyncio.to_thread(check, self.history, books)

    async def _is_quiet(self) -> bool:
        """Look along the way of a purchase, so that nothing slips past from one to the next."""
        if await waiting(self.beside()):
            return False
        for item in self.load.items:
            url = f"{self.doors()[0]}/sales/{item.sale_id}"
            answer = await asyncio.to_thread(ask, "GET", url)
            gate = answer.body.get("gate") or {}
            if gate.get("journal") != 0:
                return False
        query = (
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM orders "
            "WHERE status = 'PENDING_PAYMENT') + (SELECT count(*) FROM parked_messages "
            "WHERE status IN ('WAITING', 'RETRYING'))"
        )
        async with connected(self.beside()) as database:
            return not await database.fetchval(query)


def _encoded(purchase: str, user: str, item: str) -> bytes:
    request = PurchaseRequest(
        purchase_id=PurchaseId(purchase),
        user_id=UserId(user),
        item_id=ItemId(item),
        requested_at_ms=1_700_000_000_000,
    )
    return AvroCodec().encode(request).body


@asynccontextmanager
async def standing(bus: str, folder: Path, seed: int) -> AsyncIterator[Stack]:
    """Start the servers and the engine's four processes; end them all."""
    async with AsyncExitStack() as ending:
        disks = {
            "redis": ending.enter_context(small_disk(REDIS_DISK_BYTES)),
            "postgres": ending.enter_context(small_disk(POSTGRES_DISK_BYTES)),
        }
        bus_port = free_port()
        starting: AbstractContextManager[Kafka | RabbitMQ] = (
            running_kafka(ours=True, advertised_port=bus_port)
            if bus == "kafka"
            else running_rabbitmq(ours=True)
        )
        redis, replica, broker, postgres, provider = await asyncio.gather(
            entered(ending, running_redis(ours=True, folder=folder_of(disks["redis"]))),
            entered(ending, running_redis(ours=True)),
            entered(ending, starting),
            entered(ending, running_postgres(ours=True, folder=folder_of(disks["postgres"]))),
            entered(ending, running_provider(drops_one_in=DROPS_ONE_IN)),
        )
        database_url = await asyncio.to_thread(postgres.create_database)
        gate_wire, database_wire, bus_wire = [
            await ending.enter_async_context(wire_before(url, port))
            for url, port in ((redis.url, 0), (database_url, 0), (broker.url, bus_port))
        ]
        settings = {
            **own_names(),
            **QUICK,
            "FLASHSALE_GATE_URL": gate_wire.url,
            "FLASHSALE_BUS_URL": bus_wire.url,
            "FLASHSALE_DATABASE_URL": database_wire.url,
            "FLASHSALE_PAYMENT_URL": provider.url,
        }
        ours = await entered(ending, engine(folder, settings))
        dice = random.Random(f"{seed}:{bus}")
        stack = Stack(
            *(bus, ours, redis, broker, postgres, database_url),
            *(gate_wire, database_wire, bus_wire, replica, provider),
            *({name: disk for name, disk in disks.items() if disk is not None}, dice),
        )
        await asyncio.to_thread(ours.prepare)
        programs = [await stack.start(kind) for kind in ("serve", "serve", "worker", "worker")]
        await stack.ready(*programs)
        await asyncio.to_thread(stack.open_sales)
        yield stack


def folder_of(disk: Disk | None) -> Path | None:
    """Name the folder of a disk that there is."""
    return disk.folder if disk is not None else None


async def ended(program: Program) -> int:
    """End a process in good order."""
    return await asyncio.to_thread(program.stop)


async def killed(program: Program) -> None:
    """End a process as a power cut does."""
    await asyncio.to_thread(program.kill)


@asynccontextmanager
async def frozen(program: Program) -> AsyncIterator[None]:
    """Stop a process's clock for the length of the context."""
    program.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        program.process.send_signal(signal.SIGCONT)
