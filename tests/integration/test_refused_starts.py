"""What must be right before a process begins: it ends at once and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import aio_pika
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.crowds import settled_orders
from tests.integration.engine import Engine, engine, own_names
from tests.integration.outside import Sent, sender
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry
from tests.servers.kafka import Account, running_kafka
from tests.servers.registry import running_registry

ENDED_S_MAX = 60
WRONG = "swordfish-and-more"
"""A secret that must not be repeated in any log."""

Settings = Mapping[str, str]


def started(
    folder: Path, redis: Redis, bus: Kafka | RabbitMQ, postgres: Postgres, **more: str
) -> AbstractContextManager[Engine]:
    """Describe an engine on these servers."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres.create_database(),
        **more,
    }
    return engine(folder, settings)


def refused(ours: Engine, kind: str, **settings: str) -> str:
    """Start a process that must not begin; answer the one line that it says on its own behalf."""
    program = ours.start(kind, **settings)
    assert program.process.wait(ENDED_S_MAX) == 1
    said = program.log.read_text()
    assert "Traceback" not in said
    assert WRONG not in said
    [line] = said.split("flashsale: ")[1:]
    return line


async def topic_of_another_shape(settings: Settings) -> str:
    """Have a topic that keeps one message a key, where every promise should be kept."""
    name = settings["FLASHSALE_ACCEPTED_TOPIC"]
    compact = NewTopic(name, 4, 1, topic_configs={"cleanup.policy": "compact"})
    bootstrap = settings["FLASHSALE_BUS_URL"].removeprefix("kafka://")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name])
        await admin.create_topics([compact])
    finally:
        await admin.close()
    return name


async def queue_of_another_shape(settings: Settings) -> str:
    """Have a classic queue, which may lose what it confirmed."""
    name = settings["FLASHSALE_REQUESTS_TOPIC"]
    connection = await aio_pika.connect(settings["FLASHSALE_BUS_URL"])
    async with connection, connection.channel() as channel:
        await channel.queue_delete(name)
        await channel.declare_queue(name, durable=True)
    return name


SHAPES = {
    "kafka": (topic_of_another_shape, ("cleanup.policy compact", "cleanup.policy delete")),
    "rabbitmq": (queue_of_another_shape, ("quorum", "classic")),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("bus", sorted(SHAPES))
async def test_a_queue_or_topic_of_another_shape_stops_the_start_with_both_shapes(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    bus: str,
) -> None:
    """Whoever serves on it would lose promises; it is left as it is, for a person to decide."""
    server: Kafka | RabbitMQ = request.getfixturevalue(f"{bus}_server")
    spoil, shapes = SHAPES[bus]
    soon = {"FLASHSALE_START_TIMEOUT_MS": "5000"}
    with started(tmp_path, redis_server, server, postgres_server, **soon) as ours:
        ours.prepare()
        name = await spoil(ours.settings)
        for kind in ("serve", "worker"):
            line = refused(ours, kind)
            assert name in line
            for shape in shapes:
                assert shape in line


@pytest.fixture(scope="module")
def guarded_kafka() -> Iterator[Kafka]:
    """Have a broker with TLS and logins."""
    with running_kafka(sasl=True) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_registry() -> Iterator[Registry]:
    """Have a registry that asks for a password."""
    with running_registry(auth=True) as registry:
        yield registry


@pytest.fixture(params=[pytest.param("plain", marks=pytest.mark.long), "scram"])
def account(request: pytest.FixtureRequest, guarded_kafka: Kafka) -> Account:
    """Log in by PLAIN, and by SCRAM-SHA-512."""
    found: Account = getattr(guarded_kafka, request.param)
    return found


@pytest.mark.timeout(300)
async def test_as_a_managed_cloud_wants_it_a_request_becomes_an_order_and_a_wrong_secret_one_line(
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    guarded_kafka: Kafka,
    guarded_registry: Registry,
    account: Account,
) -> None:
    """SASL_SSL under an authority of its own, and basic auth at the registry, by settings alone."""
    assert guarded_registry.auth is not None
    secrets = {
        "FLASHSALE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "FLASHSALE_KAFKA_SASL_MECHANISM": account.mechanism,
        "FLASHSALE_KAFKA_USERNAME": account.username,
        "FLASHSALE_KAFKA_PASSWORD": account.password,
        "FLASHSALE_KAFKA_CA": str(guarded_kafka.ca),
        "FLASHSALE_SCHEMA_REGISTRY_URL": guarded_registry.url,
        "FLASHSALE_SCHEMA_REGISTRY_AUTH": guarded_registry.auth,
        "FLASHSALE_START_TIMEOUT_MS": "5000",
    }
    with started(tmp_path, redis_server, guarded_kafka, postgres_server, **secrets) as ours:
        ours.must("schema", "register")
        ours.prepare()
        ours.must("sale", "create", "--item", "1", "--stock", "5")
        wrong = {"FLASHSALE_KAFKA_PASSWORD": WRONG}
        assert "FLASHSALE_KAFKA_PASSWORD" in refused(ours, "worker", **wrong)
        user = guarded_registry.username
        wrong = {"FLASHSALE_SCHEMA_REGISTRY_AUTH": f"{user}:{WRONG}"}
        assert "FLASHSALE_SCHEMA_REGISTRY_AUTH" in refused(ours, "worker", **wrong)
        ours.start("worker").wait_until_ready()
        plaintext = {"FLASHSALE_BUS_URL": guarded_kafka.plaintext_url}
        async with sender(Engine(tmp_path, ours.settings | plaintext)) as send:
            await send([Sent(b"k", AvroCodec().encode(REQUEST).body)])
        assert await settled_orders(ours, 1) == {"CONFIRMED": 1}
        [*_, worker] = ours.programs
        said = worker.log.read_text()
        assert account.password not in said
        assert str(guarded_registry.password) not in said


REQUEST = PurchaseRequest(
    purchase_id=PurchaseId("p"),
    user_id=UserId("u"),
    item_id=ItemId("1"),
    requested_at_ms=1,
)
