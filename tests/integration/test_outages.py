"""What buyers hear while a server is away, and what becomes of it when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.integration.crowds import connected, crowd, purchases, quiet_gate, settled_orders
from tests.integration.engine import Engine, ask, buy_by_socket, engine, own_names
from tests.servers import Kafka, Postgres, Redis, running_kafka, running_postgres


@pytest.fixture(scope="module")
def broker() -> Iterator[Kafka]:
    """A Kafka that may be stopped."""
    with running_kafka(ours=True) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that may be stopped."""
    with running_postgres(ours=True) as server:
        yield server


@pytest.fixture
def stack(
    tmp_path: Path, redis_server: Redis, broker: Kafka, postgres: Postgres
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


async def end_offsets(ours: Engine, broker: Kafka) -> dict[str, int]:
    """Ask the broker how far each of our topics goes."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.url.removeprefix("kafka://"))
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


@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_sold_out_is_said_with_database_and_broker_stopped_and_touches_neither(
    stack: Engine, broker: Kafka, postgres: Postgres
) -> None:
    """429 from Redis alone; the servers' own counters do not move."""
    [url] = stack.doors
    assert ask("POST", f"{url}/purchase/init?productId=1&stock=3").status == 200
    assert await crowd([url], purchases(3)) == {200: 3}
    assert await settled_orders(stack, 3) == {"CONFIRMED": 3}
    await quiet_gate(url)
    stack.programs[1].stop()
    before = (await written(stack), await end_offsets(stack, broker))
    postgres.stop()
    broker.stop()
    try:
        answers = await crowd([url], purchases(300, prefix="late"))
        assert answers == {429: 300}
    finally:
        postgres.start()
        broker.start()
    assert (await written(stack), await end_offsets(stack, broker)) == before


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
        assert ask("GET", f"{worker.url}/readyz").status == 503
    finally:
        postgres.start()
    assert await settled_orders(stack, 1_000) == {"CONFIRMED": 1_000}
    gate = await quiet_gate(api.url)
    assert (gate["available"], gate["sold"]) == (0, 1_000)
