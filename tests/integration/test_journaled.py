"""The policy `journaled` on real servers: kept through a dead API and a broker that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis as RedisClient

from tests.integration.crowds import crowd, purchases, quiet_gate, settled_orders
from tests.integration.engine import Engine, engine, own_names
from tests.integration.test_refused_starts import refused
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, running_kafka, running_rabbitmq
from tests.servers.redis import running_redis

BUYERS = 100


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """Have a Redis that writes all it answers, and may be told not to."""
    with running_redis(ours=True) as redis:
        asyncio.run(configured(redis, appendfsync="always"))
        yield redis


async def configured(redis: Redis, **config: str) -> None:
    """Change how the server keeps what it answers."""
    async with RedisClient.from_url(redis.url) as client:
        for name, value in config.items():
            await client.config_set(name, value)


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def broker(request: pytest.FixtureRequest) -> Iterator[Kafka | RabbitMQ]:
    """Have a broker that may be stopped."""
    running = running_kafka if request.param == "kafka" else running_rabbitmq
    with running(ours=True) as server:
        yield server


@pytest.fixture
def stack(
    tmp_path: Path, own_redis: Redis, broker: Kafka | RabbitMQ, postgres_server: Postgres
) -> Iterator[Engine]:
    """One API that answers from the journal, and one worker."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": own_redis.url,
        "FLASHSALE_BUS_URL": broker.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_DURABILITY": "journaled",
        "FLASHSALE_BACKOFF_MAX_MS": "500",
        "FLASHSALE_JOURNAL_RESERVED_DUE_MS": "2000",
        "FLASHSALE_SWEEP_INTERVAL_MS": "200",
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        for kind in ("serve", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        ours.must("sale", "create", "--item", "1", "--stock", str(BUYERS))
        yield ours


@pytest.mark.timeout(240)
async def test_promises_are_kept_while_the_broker_is_away_and_after_a_kill(
    stack: Engine, broker: Kafka | RabbitMQ
) -> None:
    """Answered from the journal; the API dies with messages in hand, and the sweeper has them."""
    door = stack.programs[0]
    broker.stop()
    assert await crowd(stack.doors, purchases(BUYERS)) == {200: BUYERS}
    door.kill()
    broker.start()
    assert await settled_orders(stack, BUYERS) == {"CONFIRMED": BUYERS}
    again = stack.start("serve")
    again.wait_until_ready()
    gate = await quiet_gate(again.url)
    assert (gate["available"], gate["sold"]) == (0, BUYERS)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"appendfsync": "everysec"}, "appendfsync is everysec, which may lose a second"),
        pytest.param({"appendonly": "no"}, "appendonly is no", marks=pytest.mark.long),
    ],
)
async def test_a_redis_that_may_forget_what_it_answered_is_refused_with_its_mend(
    tmp_path: Path,
    own_redis: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
    config: dict[str, str],
    said: str,
) -> None:
    """Unless a person accepts the loss by name."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": own_redis.url,
        "FLASHSALE_BUS_URL": kafka_server.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_DURABILITY": "journaled",
    }
    with engine(tmp_path, settings) as ours:
        await asyncio.to_thread(ours.prepare)
        await configured(own_redis, **config)
        try:
            line = await asyncio.to_thread(refused, ours, "serve")
            assert said in line
            assert "CONFIG SET" in line
            assert "FLASHSALE_JOURNAL_LOSS=i-accept-loss" in line
            accepted = ours.start("serve", FLASHSALE_JOURNAL_LOSS="i-accept-loss")
            await asyncio.to_thread(accepted.wait_until_ready)
        finally:
            await configured(own_redis, appendonly="yes", appendfsync="always")
