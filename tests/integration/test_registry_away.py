"""A schema registry that is away stops what needs it, parks nothing, and is waited for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flashsale_avro import SchemaName
from flashsale_avro.framing import confluent_header
from flashsale_avro.schema_files import schema_texts
from tests.integration.crowds import connected, orders, settled_orders
from tests.integration.engine import Engine, ask, engine, own_names
from tests.integration.outside import Sent, sender
from tests.integration.test_outside_door import put_schema, written
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry
from tests.servers.registry import running_registry


@pytest.fixture(scope="module")
def own_registry() -> Iterator[Registry]:
    """Have a registry that may be stopped."""
    with running_registry(ours=True) as registry:
        yield registry


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def stack(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    own_registry: Registry,
) -> Iterator[Engine]:
    """One API and one worker that frame their messages by the registry's ids, on either bus."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_SCHEMA_REGISTRY_URL": own_registry.url,
        "FLASHSALE_BACKOFF_MAX_MS": "500",
    }
    with engine(tmp_path, settings) as ours:
        ours.must("schema", "register")
        ours.prepare()
        for kind in ("serve", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        yield ours


def foreign_schema(colour: str) -> dict[str, Any]:
    """Write a schema that nobody has seen: it has one optional field more."""
    schema: dict[str, Any] = json.loads(schema_texts()[SchemaName.PURCHASE_REQUEST])
    added = {"name": colour, "type": ["null", "string"], "default": None}
    return {**schema, "fields": [*schema["fields"], added]}


async def parked(ours: Engine) -> int:
    """Count what is parked."""
    async with connected(ours) as database:
        return int(await database.fetchval("SELECT count(*) FROM parked_messages"))


@pytest.mark.timeout(240)
async def test_requests_of_an_unknown_schema_wait_for_the_registry_and_become_orders(
    stack: Engine, own_registry: Registry
) -> None:
    """Nothing is parked or dead-lettered meanwhile, and what was promised over HTTP goes on."""
    door, worker = stack.programs
    assert ask("POST", f"{door.url}/purchase/init?productId=1&stock=9").status == 200
    subject = stack.settings["FLASHSALE_NAMESPACE"]
    schema = foreign_schema(subject)
    header = confluent_header(put_schema(own_registry, subject, schema))
    requests = [
        Sent(b"k", header + written(schema, purchaseId=f"outside-{n}", **{subject: "red"}))
        for n in range(3)
    ]
    own_registry.stop()
    try:
        async with sender(stack) as send:
            await send(requests)
        await worker.says("delivery waits", "registry-away")
        bought = ask("POST", f"{door.url}/purchase/buy", {"userId": 1, "productId": 1})
        assert bought.status == 200
        assert await settled_orders(stack, 1) == {"CONFIRMED": 1}
        assert await parked(stack) == 0
    finally:
        own_registry.start()
    assert await settled_orders(stack, 4) == {"CONFIRMED": 4}
    assert await orders(stack) == {"CONFIRMED": 4}
    assert await parked(stack) == 0
    assert worker.process.poll() is None
