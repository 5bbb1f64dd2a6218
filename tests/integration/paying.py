"""An engine whose sale is paid for, the provider that it asks, and everything to look at after."""

from __future__ import annotations

import asyncio
import collections
import os
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs

from flashsale_avro import AvroCodec
from flashsale_core.events import Channel, Message, OrderEvent
from tests.integration.crowds import connected
from tests.integration.engine import ROOT, SOURCES, Engine, Program, ask, engine, own_names
from tests.integration.test_purchase_end_to_end import KafkaOutsider, RabbitMQOutsider
from tests.servers import Kafka, Postgres, RabbitMQ, Redis
from tests.servers.provider import Provider

PRICE = 4_990
SETTLED_S_MAX = 40
QUICK = {
    "FLASHSALE_PAYMENT_INTERVAL_MS": "50",
    "FLASHSALE_PAYMENT_DEADLINE_MS": "1000",
    "FLASHSALE_PAYMENT_LEASE_MS": "2500",
    "FLASHSALE_PAYMENT_RETRY_INITIAL_MS": "100",
    "FLASHSALE_PAYMENT_RETRY_MAX_MS": "500",
    # A worker that died after it stored an end leaves the gate to the sweeper.
    "FLASHSALE_JOURNAL_QUEUED_DUE_MS": "10000",
    "FLASHSALE_SWEEP_INTERVAL_MS": "200",
}
"""A twentieth of the usual waits."""
AUTH = "sk_live_of_the_shop"


def as_installed(folder: Path) -> str:
    """Answer the path to run with, on which the adapter is found as in an installed package.

    An editable install made before the adapter was added does not name its entry points.
    """
    path = [str(ROOT / source) for source in SOURCES]
    if not entry_points(group="flashsale.payments"):
        info = folder / "flashsale_payments-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flashsale-payments\n")
        opener = "flashsale_http_payment.opening:open_gateway"
        (info / "entry_points.txt").write_text(
            f"[flashsale.payments]\nhttp = {opener}\nhttps = {opener}\n"
        )
        path.append(str(folder))
    return os.pathsep.join(path)


@attrs.define
class Shop:
    """An engine, its provider, and whoever listens to the events."""

    engine: Engine
    provider: Provider
    outsider: KafkaOutsider | RabbitMQOutsider

    @property
    def door(self) -> str:
        """Name the API."""
        return self.engine.doors[0]

    @property
    def worker(self) -> Program:
        """Name the worker that was started last."""
        return [program for program in self.engine.programs if program.is_worker][-1]

    def open(self, units: int) -> None:
        """Put the item on sale, at a price."""
        terms = f"productId=1&stock={units}&unitPriceMinor={PRICE}&currency=CHF"
        answer = ask("POST", f"{self.door}/purchase/init?{terms}")
        assert answer.status == 200, answer

    async def rows(self) -> dict[str, tuple[str, str | None]]:
        """Read status and reason of every order, by purchase id."""
        async with connected(self.engine) as database:
            found = await database.fetch("SELECT purchase_id, status, reason FROM orders")
        return {row["purchase_id"]: (row["status"], row["reason"]) for row in found}

    async def settled(self, count: int) -> collections.Counter[str]:
        """Wait until so many rows are final; count them by status."""
        until = time.monotonic() + SETTLED_S_MAX
        while True:
            statuses = collections.Counter(status for status, _ in (await self.rows()).values())
            if statuses.total() - statuses["PENDING_PAYMENT"] >= count:
                return statuses
            assert time.monotonic() < until, (statuses, self.worker.log.read_text()[-3_000:])
            await asyncio.sleep(0.1)

    async def pending(self, count: int) -> None:
        """Wait until so many rows are pending."""
        until = time.monotonic() + SETTLED_S_MAX
        while True:
            rows = (await self.rows()).values()
            if sum(status == "PENDING_PAYMENT" for status, _ in rows) >= count:
                return
            assert time.monotonic() < until, rows
            await asyncio.sleep(0.1)

    async def sale(self) -> dict[str, Any]:
        """Read the sale's row and its gate."""
        answer = await asyncio.to_thread(ask, "GET", f"{self.door}/sales/1.1")
        return answer.body

    async def told(self, count: int) -> tuple[list[OrderEvent], bytes]:
        """Listen until so many purchases were spoken of; answer distinct events, and all bytes."""
        codec, events = AvroCodec(), {}
        raw = b""
        reading: AsyncGenerator[bytes, None] = self.outsider.read(
            self.engine.settings["FLASHSALE_ORDERS_TOPIC"]
        )
        async with asyncio.timeout(SETTLED_S_MAX), aclosing(reading) as bodies:
            async for body in bodies:
                raw += body
                message = Message(channel=Channel.ORDERS, body=body, origin="listened")
                [event] = await codec.decode([message])
                assert isinstance(event, OrderEvent), event
                events[event.occurrence_id] = event
                if len({one.purchase_id for one in events.values()}) == count:
                    return list(events.values()), raw
        raise AssertionError("the events ended")


@contextmanager
def shop(
    folder: Path,
    bus: Kafka | RabbitMQ,
    redis: Redis,
    postgres: Postgres,
    provider: Provider,
    *programs: str,
    more: Mapping[str, str] | None = None,
) -> Iterator[Shop]:
    """Have an API and workers on real servers, with a payment gateway; `more` is environment."""
    settings = {
        **own_names(),
        **QUICK,
        "FLASHSALE_GATE_URL": redis.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres.create_database(),
        "FLASHSALE_PAYMENT_URL": provider.url,
        "FLASHSALE_PAYMENT_AUTH": AUTH,
        "PYTHONPATH": as_installed(folder / "installed"),
        **(more or {}),
    }
    outsider = KafkaOutsider if isinstance(bus, Kafka) else RabbitMQOutsider
    with engine(folder, settings) as ours:
        ours.prepare()
        for kind in programs:
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        yield Shop(ours, provider, outsider(settings))
