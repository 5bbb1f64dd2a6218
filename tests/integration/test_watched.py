"""What the board shows and the alerts watch moves when it happens, in an engine as it is run.

One engine lives through a bad night while both of its pages are read again and again; in the end
every series that a query names must have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from math import isnan
from pathlib import Path

import attrs
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis as RedisClient

from flashsale_avro import AvroCodec
from flashsale_core.model import SaleId
from flashsale_core.testing.event_bus import accepted_fact
from tests.deploy.queries import Selector, queries, selectors
from tests.integration.engine import Engine, Program, ask, engine, own_names
from tests.integration.kafka_world import kafka_admin
from tests.integration.paying import shop
from tests.integration.test_purchase_end_to_end import KafkaOutsider, Stack
from tests.servers import (
    Kafka,
    Postgres,
    Redis,
    running_kafka,
    running_postgres,
    running_redis,
)
from tests.servers.provider import running_provider

pytestmark = pytest.mark.timeout(300)
LOOK_S = 0.15
SEEN_S_MAX = 40
HURRIED = {
    "FLASHSALE_SAMPLE_INTERVAL_MS": "150",
    "FLASHSALE_PROBE_INTERVAL_MS": "200",
    "FLASHSALE_PROBE_TIMEOUT_MS": "500",
    "FLASHSALE_RECONCILE_INTERVAL_MS": "200",
    "FLASHSALE_SWEEP_INTERVAL_MS": "1500",
    "FLASHSALE_JOURNAL_RESERVED_DUE_MS": "2000",
    "FLASHSALE_BACKOFF_MAX_MS": "500",
}
"""All looks many times as often as usual."""
Series = tuple[str, frozenset[tuple[str, str]]]


class Watcher:
    """Reads the pages of an engine's processes, and remembers all values of every series."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.seen: dict[tuple[str, Series], set[float | None]] = defaultdict(set)
        self._pages: dict[str, set[Series]] = {}

    @contextlib.contextmanager
    def watching(self, programs: list[Program]) -> Iterator[None]:
        """Go on reading in a thread; programs that are added are read too."""
        done = threading.Event()

        def go_on() -> None:
            while not done.wait(LOOK_S):
                for program in list(programs):
                    with contextlib.suppress(OSError):
                        self._read(program.url)

        thread = threading.Thread(target=go_on, name="watcher", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _read(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}/metrics", timeout=2) as page:
            text = page.read().decode()
        now: set[Series] = set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if isnan(sample.value):
                    continue
                series = (sample.name, frozenset(sample.labels.items()))
                now.add(series)
                is_new = url in self._pages and series not in self._pages[url]
                self.seen[url, series] |= {None, sample.value} if is_new else {sample.value}
        self._pages[url] = self._pages.get(url, set()) | now

    def values(self, wanted: Selector) -> set[float | None]:
        """Collect the values of a selector's series, where one of them had more than one."""
        moved: set[float | None] = set()
        for (_, (name, labels)), values in list(self.seen.items()):
            if len(values) > 1 and wanted.fits(name, dict(labels)):
                moved |= values
        return moved

    async def shows(self, metric: str, is_wanted: Callable[[float], bool], **labels: str) -> None:
        """Wait until a series has been seen with such a value."""
        wanted = Selector(metric, tuple((name, "=", value) for name, value in labels.items()))
        until = time.monotonic() + SEEN_S_MAX
        while not any(
            value is not None and is_wanted(value)
            for (_, (name, found)), values in list(self.seen.items())
            if wanted.fits(name, dict(found))
            for value in list(values)
        ):
            assert time.monotonic() < until, f"{wanted} never showed it"
            await asyncio.sleep(0.05)


@attrs.define
class Night:
    """An engine of one API and one worker on servers that may die, and who watches it."""

    stack: Stack
    redis: Redis
    kafka: Kafka
    postgres: Postgres
    watcher: Watcher

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self.stack.engine

    def buy(self, item: str, purchase: str) -> int:
        """Buy one; answer the status."""
        return self.stack.buy(item, user=len(purchase), purchaseId=purchase).status

    async def crowd(self, item: str, count: int, prefix: str) -> list[int]:
        """Buy as many, one after the other."""
        return [
            await asyncio.to_thread(self.buy, item, f"{prefix}{number}") for number in range(count)
        ]


def is_up(value: float) -> bool:
    """Say that there is something."""
    return value > 0


def is_none(value: float) -> bool:
    """Say that there is nothing."""
    return value == 0


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """Servers of its own and an engine on them, watched from the start."""
    with contextlib.ExitStack() as running:
        redis = running.enter_context(running_redis(ours=True))
        postgres = running.enter_context(running_postgres(ours=True))
        kafka = running.enter_context(running_kafka(ours=True))
        settings = {
            **own_names(),
            **HURRIED,
            "FLASHSALE_GATE_URL": redis.url,
            "FLASHSALE_BUS_URL": kafka.url,
            "FLASHSALE_DATABASE_URL": postgres.create_database(),
        }
        (tmp_path / "night").mkdir()
        ours = running.enter_context(engine(tmp_path / "night", settings))
        ours.prepare()
        for kind in ("serve", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        watcher = Watcher()
        running.enter_context(watcher.watching(ours.programs))
        stack = Stack(ours, KafkaOutsider(settings))
        yield Night(stack, redis, kafka, postgres, watcher)


async def test_every_series_that_the_board_or_an_alert_names_moves(
    night: Night, tmp_path: Path
) -> None:
    """Buys, sold out, dead letters, a pause, dead servers, drift, a halt, expiry, payments."""
    item = await it_sells_out(night)
    await messages_are_set_aside(night)
    await database_and_broker_die(night)
    await the_gate_hangs(night, item)
    await the_books_drift(night, item)
    await a_sale_halts(night)
    await messages_expire(night)
    await payments_wait(night, tmp_path)
    still = {
        (where, one)
        for where, query in queries()
        for one in selectors(query)
        if not night.watcher.values(one)
    }
    assert still == set()


async def it_sells_out(night: Night) -> str:
    """Sell ten units to twelve."""
    item = night.stack.sell(10)
    assert await night.crowd(item, 12, "p") == [200] * 10 + [429] * 2
    await night.watcher.shows(
        "flashsale_stock_units", lambda n: n == 10, sale=f"{item}.1", standing="sold"
    )
    return item


async def messages_are_set_aside(night: Night) -> None:
    """Bytes that nobody can read, a promise of an unknown sale, a request for a paused one."""
    item = night.stack.sell(5)
    night.engine.must("sale", "pause", f"{item}.1")
    await night.stack.outsider.put(b"no Avro")
    await night.stack.ask_from_outside(item, "waits")
    promise = attrs.evolve(accepted_fact(1), sale_id=SaleId("ghost.1"))
    async with AIOKafkaProducer(bootstrap_servers=night.kafka.bootstrap) as producer:
        topic = night.engine.settings["FLASHSALE_ACCEPTED_TOPIC"]
        await producer.send_and_wait(topic, AvroCodec().encode(promise).body)
    shows = night.watcher.shows
    await shows("flashsale_parked_messages", is_up, status="DEAD")
    await shows("flashsale_parked_messages", is_up, status="WAITING")
    await shows("flashsale_dead_letters_holding_unit_messages", is_up)


async def database_and_broker_die(night: Night) -> None:
    """What was promised waits, first for the database, and then to be told of."""
    item, shows = night.stack.sell(50), night.watcher.shows
    night.postgres.stop()
    await night.crowd(item, 5, "late")
    await shows("flashsale_dependency_up", is_none, name="database")
    await shows("flashsale_breaker_open", is_up, name="database")
    await shows("flashsale_consumer_lag_messages", is_up, channel="accepted")
    await shows("flashsale_journal_age_seconds", lambda s: s > 1, sale=f"{item}.1")
    night.kafka.stop()
    assert 503 in await night.crowd(item, 5, "unheard")
    await shows("flashsale_dependency_up", is_none, name="bus")
    await shows("flashsale_journal_overdue_seconds", is_up, sale=f"{item}.1")
    night.postgres.start()
    await shows("flashsale_outbox_age_seconds", is_up)
    night.kafka.start()
    until = time.monotonic() + SEEN_S_MAX
    while ask("GET", f"{night.stack.door}/sales/{item}.1").body["gate"]["journal"]:
        assert time.monotonic() < until
        await asyncio.sleep(0.2)


async def the_gate_hangs(night: Night, item: str) -> None:
    """Buyers are told to come back, and nobody waits."""
    night.redis.freeze()
    try:
        assert set(await night.crowd(item, 5, "frozen")) == {503}
        await night.watcher.shows("flashsale_dependency_up", is_none, name="gate")
    finally:
        night.redis.thaw()


async def the_books_drift(night: Night, item: str) -> None:
    """Somebody deletes a record by hand; a rebuild puts it right under another epoch."""
    key = f"{night.engine.settings['FLASHSALE_NAMESPACE']}:{{{item}.1}}:purchases"
    async with RedisClient.from_url(night.redis.url) as client:
        assert await client.hdel(key, "p1") == 1
    await night.watcher.shows("flashsale_drift_purchases", is_up, sale=f"{item}.1")
    night.engine.must("gate", "rebuild", f"{item}.1")
    await night.watcher.shows("flashsale_sale_armed", is_none, sale=f"{item}.1")


async def a_sale_halts(night: Night) -> None:
    """A gate that hands out more than the database has is proven wrong."""
    item = night.stack.sell(1)
    key = f"{night.engine.settings['FLASHSALE_NAMESPACE']}:{{{item}.1}}:sale"
    async with RedisClient.from_url(night.redis.url) as client:
        for field in ("initial", "available"):
            await client.hincrby(key, field, 1)
    assert await night.crowd(item, 2, "both") == [200, 200]
    await night.watcher.shows("flashsale_sale_state", is_up, sale=f"{item}.1", state="HALTED")


async def messages_expire(night: Night) -> None:
    """Workers are away for longer than the topic keeps what waits."""
    assert night.stack.worker.stop() == 0
    for _ in range(3):
        await night.stack.outsider.put(b"in vain")
    topic = night.engine.settings["FLASHSALE_REQUESTS_TOPIC"]
    parts = [TopicPartition(topic, number) for number in range(4)]
    async with kafka_admin(night.kafka.bootstrap) as admin:
        # To the end, wherever that is.
        await admin.delete_records({part: RecordsToDelete(-1) for part in parts})
    worker = night.engine.start("worker")
    worker.wait_until_ready()
    await night.watcher.shows("flashsale_consumer_expired_messages", is_up, channel="requests")


async def payments_wait(night: Night, folder: Path) -> None:
    """One that the provider refuses to hear of, for a person; one that takes its time."""
    (folder / "shop").mkdir()
    with (
        running_provider() as provider,
        shop(
            folder / "shop", night.kafka, night.redis, night.postgres, provider, "serve", "worker"
        ) as paid,
        night.watcher.watching(paid.engine.programs),
    ):
        paid.open(5)
        for number, token in enumerate(("broken-1", "slow-2")):
            body = {"userId": number, "productId": 1, "paymentToken": token}
            assert ask("POST", f"{paid.door}/purchase/buy", body).status == 200
        await night.watcher.shows("flashsale_open_payments", is_up, state="flagged")
        await night.watcher.shows("flashsale_open_payment_age_seconds", is_up)
