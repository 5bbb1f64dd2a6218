"""An engine of two APIs and two workers on real servers of its own, under load, to be broken."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.faults.books import collect, waiting
from tests.faults.buyers import Item, Load, Outsiders, now_ms
from tests.faults.checker import Violation, check
from tests.faults.history import Asked, Books, History
from tests.faults.wire import Wire, wire_before
from tests.integration.crowds import connected
from tests.integration.engine import Engine, Program, ask, engine, own_names
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

QUICK = {
    "FLASHSALE_JOURNAL_RESERVED_DUE_MS": "2000",
    "FLASHSALE_SWEEP_INTERVAL_MS": "500",
    "FLASHSALE_PARKED_INTERVAL_MS": "500",
    "FLASHSALE_BACKOFF_MAX_MS": "500",
    "FLASHSALE_PROBE_INTERVAL_MS": "500",
    "FLASHSALE_LOG_LEVEL": "warning",
}
"""Due times, back-offs and probes are settings, and short here. The hot path's never change."""
BIG = Item("big", units=900_000, share=0.93)
SMALL = Item("small", units=300, share=0.07, users=200, per_user_limit=2)
QUIET_S_MAX = 90.0
RECOVERY_S_MAX = 60.0
OUTSIDE_EVERY_S = 0.25
STRIKE_S_MAX = 90.0
"""A process starts within seconds; on a machine that is busy with more than a drill, later."""


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
    bus_wire: Wire | None
    dice: random.Random
    history: History = attrs.field(factory=History)
    load: Load = attrs.field(init=False)
    outsiders: Outsiders = attrs.field(init=False)
    points_hit: dict[str, int] = attrs.field(factory=dict)
    probes: int = 0

    def __attrs_post_init__(self) -> None:
        """Have buyers, who have not come yet."""
        self.load = Load(self.history, [BIG, SMALL], self.doors, self.dice, "buyer")
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

    async def strikes(self, program: Program) -> None:
        """Wait until an armed fault has struck in a process."""
        until = time.monotonic() + STRIKE_S_MAX
        while "fault strikes" not in program.log.read_text():
            assert time.monotonic() < until, f"nothing struck: {program.log.read_text()[-2000:]}"
            await asyncio.sleep(0.05)

    # ── the sale ────────────────────────────────────────────────────────────────────────────────

    def open_sales(self) -> None:
        """Open both sales."""
        for item in self.load.items:
            limit = "" if item.per_user_limit is None else f"&maxPerUser={item.per_user_limit}"
            query = f"productId={item.item_id}&stock={item.units}{limit}"
            answer = ask("POST", f"{self.doors()[0]}/purchase/init?{query}")
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
        self.history.fault_ended_ms = self.history.fault_ended_ms or now_ms()
        until = time.monotonic() + QUIET_S_MAX
        while not await self._is_quiet():
            if time.monotonic() > until:
                break  # What is left over is the judge's to name.
            await asyncio.sleep(0.5)
        books = await collect(self.engine, self.redis.url, self.broker.url, self.database_url)
        return books, await asyncio.to_thread(check, self.history, books)

    async def _is_quiet(self) -> bool:
        query = (
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM parked_messages "
            "WHERE status IN ('WAITING', 'RETRYING'))"
        )
        async with connected(self.beside()) as database:
            if await database.fetchval(query):
                return False
        for item in self.load.items:
            url = f"{self.doors()[0]}/sales/{item.sale_id}"
            answer = await asyncio.to_thread(ask, "GET", url)
            gate = answer.body.get("gate") or {}
            if gate.get("journal") != 0:
                return False
        return await waiting(self.beside()) == 0


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

        async def entered(context: Any) -> Any:
            value = await asyncio.to_thread(context.__enter__)
            ending.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
            return value

        broker_context = running_kafka if bus == "kafka" else running_rabbitmq
        redis, broker, postgres = await asyncio.gather(
            entered(running_redis(ours=True)),
            entered(broker_context(ours=True)),
            entered(running_postgres(ours=True)),
        )
        database_url = await asyncio.to_thread(postgres.create_database)
        gate_wire = await ending.enter_async_context(wire_before(redis.url))
        database_wire = await ending.enter_async_context(wire_before(database_url))
        bus_wire = None
        if bus != "kafka":
            bus_wire = await ending.enter_async_context(wire_before(broker.url))
        settings = {
            **own_names(),
            **QUICK,
            "FLASHSALE_GATE_URL": gate_wire.url,
            "FLASHSALE_BUS_URL": broker.url if bus_wire is None else bus_wire.url,
            "FLASHSALE_DATABASE_URL": database_wire.url,
        }
        ours = await entered(engine(folder, settings))
        dice = random.Random(f"{seed}:{bus}")
        stack = Stack(
            *(bus, ours, redis, broker, postgres, database_url),
            *(gate_wire, database_wire, bus_wire, dice),
        )
        await asyncio.to_thread(ours.prepare)
        programs = [await stack.start(kind) for kind in ("serve", "serve", "worker", "worker")]
        await stack.ready(*programs)
        await asyncio.to_thread(stack.open_sales)
        yield stack


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
