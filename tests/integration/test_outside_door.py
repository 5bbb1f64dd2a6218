"""The outside door of a running engine: what is wrong is parked, what is right is an order."""

from __future__ import annotations

import asyncio
import io
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest

from flashsale_avro import AvroCodec, AvroConfig, RegistryConfig, SchemaName, open_codec
from flashsale_avro.framing import confluent_header
from flashsale_avro.schema_files import schema_texts
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.crowds import connected, settled_orders
from tests.integration.engine import Engine, ask, engine, own_names
from tests.integration.java.producer import produce
from tests.integration.outside import Sent, dead_letters, sender
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry

PARKED_S_MAX = 60


def request(purchase: str) -> PurchaseRequest:
    """Make what another service asks for."""
    return PurchaseRequest(
        purchase_id=PurchaseId(purchase),
        user_id=UserId(purchase),
        item_id=ItemId("1"),
        requested_at_ms=1_700_000_000_000,
    )


def started(
    folder: Path, redis: Redis, bus: Kafka | RabbitMQ, postgres: Postgres, **more: str
) -> Any:
    """Describe an engine on these servers."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres.create_database(),
        **more,
    }
    return engine(folder, settings)


@pytest.fixture
def on_kafka(
    tmp_path: Path,
    redis_server: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
    registry_server: Registry,
) -> Iterator[Engine]:
    """Kafka with the schema registry."""
    registry = {"FLASHSALE_SCHEMA_REGISTRY_URL": registry_server.url}
    with started(tmp_path, redis_server, kafka_server, postgres_server, **registry) as ours:
        ours.must("schema", "register")
        begin(ours)
        yield ours


@pytest.fixture
def on_rabbitmq(
    tmp_path: Path, redis_server: Redis, rabbitmq_server: RabbitMQ, postgres_server: Postgres
) -> Iterator[Engine]:
    """RabbitMQ without a registry."""
    with started(tmp_path, redis_server, rabbitmq_server, postgres_server) as ours:
        begin(ours)
        yield ours


def begin(ours: Engine) -> None:
    """Prepare, open a sale by the command line, and start one worker."""
    ours.prepare()
    ours.must("sale", "create", "--item", "1", "--stock", "1000")
    ours.start("worker").wait_until_ready()


def put_schema(registry: Registry, subject: str, schema: dict[str, Any]) -> int:
    """Register a foreign writer's schema."""
    asked = urllib.request.Request(
        f"{registry.url}/subjects/{subject}/versions",
        data=json.dumps({"schema": json.dumps(schema)}).encode(),
        headers={"content-type": "application/vnd.schemaregistry.v1+json"},
        method="POST",
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return int(json.load(answer)["id"])


def written(schema: dict[str, Any], **fields: object) -> bytes:
    """Write a record by a schema of one's own."""
    out = io.BytesIO()
    record = {
        "purchaseId": "x",
        "userId": "u",
        "itemId": "1",
        "quantity": 1,
        "requestedAt": 1_700_000_000_000,
        "source": "WEB",
        **fields,
    }
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


async def parked_bodies(ours: Engine, count: int) -> dict[bytes, tuple[str, str, str]]:
    """Wait until as many messages are parked; answer their reasons by their bytes."""
    until = time.monotonic() + PARKED_S_MAX
    query = "SELECT body, status, reason, detail FROM parked_messages"
    while True:
        async with connected(ours) as database:
            found = await database.fetch(query)
        if len(found) >= count or time.monotonic() > until:
            return {
                row["body"] or b"": (row["status"], row["reason"], row["detail"]) for row in found
            }
        await asyncio.sleep(0.2)


async def send_and_check(ours: Engine, good: list[Sent], bad: list[Sent]) -> dict[bytes, Any]:
    """Send bad messages between good ones: the good are orders, the bad are dead, byte for byte."""
    mixed = [one for pair in zip(good, bad, strict=False) for one in pair]
    mixed += good[len(bad) :] + bad[len(good) :]
    async with sender(ours) as send:
        await send(mixed)
    assert await settled_orders(ours, len(good)) == {"CONFIRMED": len(good)}
    parked = await parked_bodies(ours, len(bad))
    assert set(parked) == {one.body or b"" for one in bad}
    assert {status for status, _, _ in parked.values()} == {"DEAD"}
    async with asyncio.timeout(PARKED_S_MAX):
        letters = await dead_letters(ours, len(bad))
    assert sorted(one or b"" for one in letters) == sorted(one.body or b"" for one in bad)
    [worker] = ours.programs
    assert worker.process.poll() is None
    return parked


def truncated(body: bytes) -> list[Sent]:
    """Cut a message at every offset."""
    return [Sent(b"cut-%d" % at, body[:at]) for at in range(1, len(body))]


@pytest.mark.timeout(240)
async def test_on_kafka_every_bad_message_is_parked_and_its_neighbours_are_orders(
    on_kafka: Engine, registry_server: Registry
) -> None:
    """Framing, schema and content, with the schema registry."""
    schema = json.loads(schema_texts()[SchemaName.PURCHASE_REQUEST])
    optional = {"name": "colour", "type": ["null", "string"], "default": None}
    wider = {**schema, "fields": [*schema["fields"], optional]}
    symbols = ["WEB", "MOBILE", "API", "LUNAR"]
    lunar_source = {"type": "enum", "name": "SourceType", "symbols": symbols}
    lunar = {
        **schema,
        "fields": [*schema["fields"][:-1], {"name": "source", "type": lunar_source}],
    }
    following = {"name": "next", "type": ["null", "PurchaseRequest"], "default": None}
    recursive = {**schema, "fields": [*schema["fields"], following]}
    ids = {
        name: put_schema(registry_server, f"{on_kafka.settings['FLASHSALE_NAMESPACE']}-{name}", one)
        for name, one in (("wider", wider), ("lunar", lunar), ("recursive", recursive))
    }
    config = AvroConfig(registry=RegistryConfig(url=registry_server.url))
    async with open_codec(config) as codec:
        whole = codec.encode(request("whole")).body
        good = [Sent(b"g", codec.encode(request(f"good-{n}")).body) for n in range(20)]
    header, valid = whole[:5], whole[5:]
    widened = confluent_header(ids["wider"]) + written(wider, purchaseId="wider", colour="red")
    good.append(Sent(b"wider", widened))
    bad = [
        Sent(b"null", None),
        Sent(b"magic", b"\x07" + whole[1:]),
        Sent(b"unknown", confluent_header(2_000_000_000) + valid),
        Sent(b"trailing", whole + b"\x00"),
        Sent(b"enum", whole[:-1] + b"\x0e"),
        Sent(b"zero", header + written(schema, quantity=0)),
        Sent(b"many", header + written({**schema, "fields": _long(schema)}, quantity=2**31)),
        Sent(b"utf8", header + written(schema, userId="QQ").replace(b"QQ", b"\xff\xfe")),
        Sent(b"lunar", confluent_header(ids["lunar"]) + written(lunar, source="LUNAR")),
        Sent(b"deep", confluent_header(ids["recursive"]) + valid + b"\x02" * 5_000),
        Sent(b"empty", b""),
        Sent(b"noise", b"\x01\x02\x03\x04"),
        *truncated(whole),
    ]
    parked = await send_and_check(on_kafka, good, bad)
    assert "LUNAR" in parked[bad[8].body or b""][2]
    assert "recursive" in parked[bad[9].body or b""][2]


def _long(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Let quantity be a long, so that a number past 32 bits can be written."""
    return [{**f, "type": "long"} if f["name"] == "quantity" else f for f in schema["fields"]]


@pytest.mark.timeout(240)
async def test_on_rabbitmq_every_bad_message_is_parked_and_its_neighbours_are_orders(
    on_rabbitmq: Engine,
) -> None:
    """Avro without a registry, and JSON."""
    codec = AvroCodec()
    whole = codec.encode(request("whole")).body
    json_type = "application/json"
    fields = {
        "purchaseId": "j",
        "userId": "u",
        "itemId": "1",
        "quantity": 1,
        "requestedAt": 1,
        "source": "WEB",
    }
    good = [Sent(b"g", codec.encode(request(f"good-{n}")).body) for n in range(20)]
    good.append(Sent(b"json", json.dumps({**fields, "purchaseId": "json"}).encode(), json_type))
    spoilt = [
        {**fields, "quantity": 0},
        {**fields, "quantity": 2**31},
        {**fields, "quantity": 1.5},
        {**fields, "source": "LUNAR"},
        {**fields, "userId": "a\x00b"},
        {**fields, "colour": "red"},
        {k: v for k, v in fields.items() if k != "userId"},
    ]
    bad = [
        Sent(b"empty", b""),
        Sent(b"noise", b"\x01\x02\x03\x04"),
        Sent(b"trailing", whole + b"\x00"),
        Sent(b"two", b"{}{}", json_type),
        Sent(b"deep", b"[" * 50_000, json_type),
        *(
            Sent(b"spoilt-%d" % n, json.dumps(one).encode(), json_type)
            for n, one in enumerate(spoilt)
        ),
        *truncated(whole),
    ]
    await send_and_check(on_rabbitmq, good, bad)


@pytest.mark.timeout(600)
async def test_a_java_services_requests_become_orders(
    on_kafka: Engine, kafka_server: Kafka, registry_server: Registry
) -> None:
    """Kafka's Java client, Apache Avro, Apicurio's serializer; both records, both framings."""
    topic = on_kafka.settings["FLASHSALE_REQUESTS_TOPIC"]
    count = await asyncio.to_thread(produce, kafka_server, registry_server, topic, 5)
    async with connected(on_kafka) as database:
        until = time.monotonic() + PARKED_S_MAX
        total = 0
        while total < count and time.monotonic() < until:
            total = await database.fetchval("SELECT count(*) FROM orders")
            await asyncio.sleep(0.2)
        assert total == count
        events = await database.fetch("SELECT DISTINCT event_id FROM orders")
        assert {row["event_id"] for row in events} == {None, "black-friday"}
        assert await database.fetchval("SELECT count(*) FROM parked_messages") == 0


def test_the_worker_shows_what_it_parked(on_rabbitmq: Engine) -> None:
    """An operator sees it without the database."""
    [worker] = on_rabbitmq.programs

    async def poison() -> None:
        async with sender(on_rabbitmq) as send:
            await send([Sent(b"noise", b"\x01\x02\x03\x04")])
        await parked_bodies(on_rabbitmq, 1)

    asyncio.run(poison())
    until = time.monotonic() + PARKED_S_MAX
    wanted = 'flashsale_parked_messages{status="DEAD"} 1.0'
    while wanted not in ask("GET", f"{worker.url}/metrics").body["text"]:
        assert time.monotonic() < until
        time.sleep(0.2)
