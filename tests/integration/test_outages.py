"""What buyers hear while a server is away, and what becomes of it when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.integration.crowds import connected, crowd, purchases, quiet_gate, settled_orders
from tests.integration.engine import Engine, ask, buy_by_socket, engine, own_names
from tests.servers import (
    Kafka,
    Postgres,
    RabbitMQ,
    Redis,
    running_kafka,
    running_postgres,
    running_rabbitmq,
)

STILL_S = 1.5
"""PostgreSQL tells what a connection did within a second of its rest."""
STILL_S_MAX = 30


@pytest.fixture(scope="module", params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def broker(request: pytest.FixtureRequest) -> Iterator[Kafka | RabbitMQ]:
    """Have a broker of either kind that may be stopped."""
    if request.param == "kafka":
        with running_kafka(ours=True) as kafka:
            yield kafka
    else:
        with running_rabbitmq(ours=True) as rabbitmq:
            yield rabbitmq


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that may be stopped."""
    with running_postgres(ours=True) as server:
        yield server


@pytest.fixture
def stack(
    tmp_path: Path, redis_server: Redis, broker: Kafka | RabbitMQ, postgres: Postgres
) -> Iterator[Engine]:
    """One API and one worker."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": broker.url,
        "FLASHSALE_DATABASE_URL": postgres.create_database(),
        "FLASHSALE_BACKOFF_MAX_MS": "500",
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        ours.start("serve")
        ours.start("worker")
        for program in ours.programs:
            program.wait_until_ready()
        yield ours


async def written(ours: Engine) -> int:
    """Count all rows that PostgreSQL says it ever wrote for this database."""
    query = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables"
    async with connected(ours) as database:
        await database.execute("SELECT pg_stat_force_next_flush()")
        return int(await database.fetchval(query))


async def still(ours: Engine, broker: Kafka | RabbitMQ) -> tuple[int, dict[str, int]]:
    """Read both servers' counters once they have come to rest."""
    async with asyncio.timeout(STILL_S_MAX):
        seen: tuple[int, dict[str, int]] | None = None
        while (now := (await written(ours), await on_the_broker(ours, broker))) != seen:
            seen = now
            await asyncio.sleep(STILL_S)
    return now


async def on_the_broker(ours: Engine, broker: Kafka | RabbitMQ) -> dict[str, int]:
    """Ask the broker how much was ever put on our topics, or lies in our queues."""
    counted = _end_offsets if isinstance(broker, Kafka) else _queue_lengths
    return await counted(ours)


async def _end_offsets(ours: Engine) -> dict[str, int]:
    bootstrap = ours.settings["FLASHSALE_BUS_URL"].removeprefix("kafka://")
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ours_begin = ours.settings["FLASHSALE_NAMESPACE"]
        parts = [
            TopicPartition(name, number)
            for name in await consumer.topics()
            if name.startswith(ours_begin)
            for number in consumer.partitions_for_topic(name) or ()
        ]
        ends = await consumer.end_offsets(parts)
        return {f"{part.topic}-{part.partition}": end for part, end in ends.items()}
    finally:
        await consumer.stop()


async def _queue_lengths(ours: Engine) -> dict[str, int]:
    """While no worker takes anything out, a queue's length tells what was put in."""
    named = ours.settings
    accepted = range(int(named["FLASHSALE_PARTITIONS"]))
    names = [f"{named['FLASHSALE_ACCEPTED_TOPIC']}.{number}" for number in accepted]
    names.append(named["FLASHSALE_REQUESTS_TOPIC"])
    async with (
        await aio_pika.connect(named["FLASHSALE_BUS_URL"]) as connection,
        connection.channel() as channel,
    ):
        declared = [await channel.declare_queue(name, passive=True) for name in names]
    return {queue.name: queue.declaration_result.message_count or 0 for queue in declared}


@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_sold_out_is_said_with_database_and_broker_stopped_and_touches_neither(
    stack: Engine, broker: Kafka | RabbitMQ, postgres: Postgres
) -> None:
    """429 from Redis alone; the servers' own counters do not move, before the stop or by it."""
    [url] = stack.doors
    assert ask("POST", f"{url}/purchase/init?productId=1&stock=3").status == 200
    assert await crowd([url], purchases(3)) == {200: 3}
    assert await settled_orders(stack, 3) == {"CONFIRMED": 3}
    await quiet_gate(url)
    stack.programs[1].stop()
    before = await still(stack, broker)
    assert await crowd([url], purchases(300, prefix="early")) == {429: 300}
    assert await still(stack, broker) == before
    postgres.stop()
    broker.stop()
    try:
        answers = await crowd([url], purchases(300, prefix="late"))
        assert answers == {429: 300}
    finally:
        postgres.start()
        broker.start()
    assert await still(stack, broker) == before


@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_with_the_database_stopped_a_thousand_buys_are_accepted_and_become_orders(
    stack: Engine, postgres: Postgres
) -> None:
    """A slow database must not take the doors away."""
    api, worker = stack.programs
    assert ask("POST", f"{api.url}/purchase/init?productId=1&stock=1000").status == 200
    postgres.stop()
    try:
        assert await crowd([api.url], purchases(1_000), at_once=200) == {200: 1_000}
        assert (await buy_by_socket(api.url, {"userId": 1, "productId": 1})).status == 429
        assert ask("GET", f"{api.url}/readyz").status == 200
        await worker.ready_as(503)
    finally:
        postgres.start()
    assert await settled_orders(stack, 1_000) == {"CONFIRMED": 1_000}
    gate = await quiet_gate(api.url)
    assert (gate["available"], gate["sold"]) == (0, 1_000)
