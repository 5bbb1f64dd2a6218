"""What the pages say to type, typed in their order on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from flashsale_avro import SchemaName
from flashsale_avro.framing import confluent_header
from flashsale_avro.schema_files import schema_texts
from tests.docs.pages import ROOT
from tests.docs.reader import reader
from tests.integration.crowds import orders
from tests.integration.engine import Engine, engine, own_names
from tests.integration.outside import Sent, sender
from tests.integration.test_outside_door import put_schema, written
from tests.servers import Kafka, Postgres, Redis, Registry, running_redis
from tests.servers.launch import free_port

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """Have a Redis of our own: a page empties it."""
    with running_redis(ours=True) as server:
        yield server


@pytest.fixture
def played(
    tmp_path: Path,
    redis: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
    registry_server: Registry,
) -> Iterator[Engine]:
    """Have what `make servers` prints, under names of our own, and nothing prepared."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis.url,
        "FLASHSALE_BUS_URL": kafka_server.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_SCHEMA_REGISTRY_URL": registry_server.url,
        "FLASHSALE_HTTP_PORT": str(free_port()),
        "FLASHSALE_WORKER_HTTP": f"127.0.0.1:{free_port()}",
        # The least that brokers allow: a killed worker is given up sooner.
        "FLASHSALE_KAFKA_SESSION_MS": "6000",
    }
    folder = tmp_path / "engine"
    folder.mkdir()
    with engine(folder, settings) as ours:
        yield ours


PRINTED = ("GATE_URL", "BUS_URL", "DATABASE_URL", "SCHEMA_REGISTRY_URL")


def test_the_tutorial(played: Engine, tmp_path: Path) -> None:
    """From `make run` to a killed worker, and two orders at the end."""
    printed = {f"FLASHSALE_{name}" for name in PRINTED}
    servers = "\n".join(f"export {name}={played.env[name]}" for name in sorted(printed))
    env = {name: value for name, value in played.env.items() if name not in printed}
    with reader(tmp_path, env, servers) as somebody:
        somebody.read(ROOT / "docs/tutorial.md")
        assert somebody.typed
    assert asyncio.run(orders(played, "ticket.1")) == {"CONFIRMED": 2}


PREPARE = """\
flashsale db upgrade
flashsale topics ensure
flashsale gate install
flashsale worker 2>worker.log &
flashsale sale create --item 1 --stock 100
"""
ALL_SET_ASIDE = """\
until [ "$(flashsale dead-letters list --json | grep -c '"reason": ')" = 8 ]; do sleep 0.2; done
"""
UNREADABLE = Sent(b"k", b"nobody can read this")
UNKNOWN_SCHEMA = Sent(b"k", b"\x00\x00\x0f\xff\xff what follows an id that no registry knows")


async def _set_aside(played: Engine) -> None:
    """Put what nobody can read on the outside door, and wait until it is set aside."""
    async with sender(played) as send:
        await send([UNREADABLE] * 4 + [UNKNOWN_SCHEMA] * 4)


def test_what_operators_are_told_to_type(played: Engine, tmp_path: Path) -> None:
    """Dead letters looked at, replayed and discarded; a gate that is lost, and comes back."""
    with reader(tmp_path, played.env) as somebody:
        somebody.type(PREPARE)
        asyncio.run(_set_aside(played))
        somebody.type(ALL_SET_ASIDE)
        somebody.read(ROOT / "docs/dead-letters.md")
        somebody.read(ROOT / "docs/recover-a-lost-redis.md")
        somebody.type("flashsale dead-letters show 7 --json | grep DISCARDED")


OLD_GROUP_HAD = 2


async def _the_old_consumer(played: Engine, registry: Registry) -> None:
    """Five requests came, in both forms; it has processed two, committed that, and left."""
    sent = []
    for number in range(5):
        name = "AvroPurchaseRequest" if number % 2 else "PurchaseRequest"
        schema = json.loads(schema_texts()[SchemaName(f"ch.luimode.flashsale.{name}")])
        header = confluent_header(put_schema(registry, f"ch.luimode.flashsale.{name}", schema))
        fields = {"purchaseId": f"r{number}", "userId": f"u{number}", "itemId": "7"}
        body = written(schema, **fields, eventId="black-friday")
        sent.append(Sent(b"of one partition", header + body))
    async with sender(played) as send:
        await send(sent)
    old = AIOKafkaConsumer(
        bootstrap_servers=played.settings["FLASHSALE_BUS_URL"].removeprefix("kafka://"),
        group_id=played.settings["FLASHSALE_CONSUMER_GROUP"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    old.subscribe([played.settings["FLASHSALE_REQUESTS_TOPIC"]])
    await old.start()
    try:
        first = await old.getone()
        where = TopicPartition(first.topic, first.partition)
        await old.commit({where: OLD_GROUP_HAD})
    finally:
        await old.stop()


def test_a_flashsale_purchase_processor_is_replaced(
    played: Engine, tmp_path: Path, registry_server: Registry
) -> None:
    """Under its group the worker begins where it has committed: nothing twice, nothing lost."""
    with reader(tmp_path, played.env) as somebody:
        played.must("topics", "ensure")
        asyncio.run(_the_old_consumer(played, registry_server))
        somebody.read(ROOT / "docs/migrate-from-purchase-processor.md")
    assert asyncio.run(orders(played, "7.1")) == {"CONFIRMED": 5 - OLD_GROUP_HAD}
