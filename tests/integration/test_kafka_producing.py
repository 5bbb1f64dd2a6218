"""What a Kafka producer may do to us, and that publishing outlives it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.structs import TopicPartition

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.events import Barrier, Channel
from flashsale_core.testing.event_bus import (
    OVERRUN_S,
    PATIENCE_S,
    accepted_fact,
    order_fact,
    publish_until_confirmed,
    take_delivery,
)
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_kafka import open_kafka_bus, producing
from flashsale_kafka.config import KafkaConfig
from tests.integration.kafka_world import (
    PARTITIONS,
    KafkaWorld,
    config_for,
    kafka_admin,
    kafka_world,
)
from tests.servers import running_kafka

if TYPE_CHECKING:
    from tests.servers import Kafka

NOBODY = "kafka://127.0.0.1:9"
"""The discard port of the loopback address, where nothing listens."""


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[Kafka]:
    """Start a broker that may be frozen."""
    with running_kafka(ours=True) as server:
        yield server


def break_sequence(world: KafkaWorld) -> object:
    """Make the broker miss a batch, as after a lost log segment; return the producer."""
    producer = world.bus._publisher._producer
    assert producer is not None
    for partition in range(PARTITIONS):
        place = TopicPartition(world.config.accepted, partition)
        producer._txn_manager.increment_sequence_number(place, 7)
    return producer


async def test_a_producer_that_lost_its_sequence_is_replaced(kafka_server: Kafka) -> None:
    """The driver has no epoch bump: without a new producer every later publish fails too."""
    async with kafka_world(kafka_server, publish_deadline_ms=5_000) as world:
        await world.bus.publish([accepted_fact(number) for number in range(PARTITIONS)])
        spent = break_sequence(world)
        both = [world.bus.publish([accepted_fact(7)]) for _ in range(2)]
        for outcome in await asyncio.gather(*both, return_exceptions=True):
            assert isinstance(outcome, Unavailable)
            assert outcome.may_have_happened
        await world.bus.publish([accepted_fact(number) for number in range(PARTITIONS)])
        renewed = world.bus._publisher._producer
        assert renewed is not spent
        # One that failed late with the old producer does not take the new one with it.
        world.bus._publisher._renew(spent)
        assert world.bus._publisher._producer is renewed


async def test_a_frozen_broker_answers_within_the_deadline_and_may_have_it(
    own_kafka: Kafka,
) -> None:
    """What left this process may arrive: that is said; and when the broker goes on, so do we."""
    async with kafka_world(own_kafka) as world:
        await world.bus.publish([accepted_fact(1)])
        own_kafka.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(Unavailable) as raised:
                await world.bus.publish([accepted_fact(2)])
            assert time.monotonic() - began < world.publish_deadline_ms / 1_000 + OVERRUN_S
            assert raised.value.may_have_happened
        finally:
            own_kafka.thaw()
        await publish_until_confirmed(world.bus, accepted_fact(3))


async def test_a_producer_that_confirms_nothing_for_long_is_replaced(
    own_kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one asks the configured brokers again; the old one goes without a trace."""
    monkeypatch.setattr(producing, "RENEW_AFTER_S", 0.0)
    async with kafka_world(own_kafka) as world:
        await world.bus.publish([accepted_fact(1)])
        spent = world.bus._publisher._producer  # nothing public names it
        own_kafka.freeze()
        try:
            with pytest.raises(Unavailable):
                await world.bus.publish([accepted_fact(2)])
        finally:
            own_kafka.thaw()
        await publish_until_confirmed(world.bus, accepted_fact(3))
        assert world.bus._publisher._producer is not spent


async def test_a_barrier_reaches_a_partition_that_was_added_a_moment_ago(
    kafka_server: Kafka,
) -> None:
    """Else the rebuild would take its promises for drained."""
    marker = Barrier(rebuild_id="r-1", epochs=())
    async with kafka_world(kafka_server) as world:
        async with kafka_admin(kafka_server.plaintext_bootstrap) as admin:
            grown = NewPartitions(PARTITIONS + 1)
            await admin.create_partitions({world.config.accepted: grown})
            async with asyncio.timeout(PATIENCE_S):
                while await known_partitions(admin, world.config.accepted) <= PARTITIONS:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert await world.bus.barrier(marker) == PARTITIONS + 1


async def known_partitions(admin: AIOKafkaAdminClient, topic: str) -> int:
    """Count the partitions that the broker tells of."""
    (described,) = await admin.describe_topics([topic])
    return len(described["partitions"])


async def test_closing_does_not_wait_for_a_frozen_broker_and_leaves_nothing_behind(
    own_kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    """A shutdown is bounded, with a publish and a commit under way; no task, no forgotten error."""
    async with kafka_world(own_kafka) as world:
        tasks_before = asyncio.all_tasks()
        second = open_kafka_bus(world.config, PlainCodec())
        bus = await second.__aenter__()
        await bus.publish([accepted_fact(1)])
        async with bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription:
            held = await take_delivery(subscription)
            own_kafka.freeze()
            await subscription.acknowledge(held)
            try:
                with pytest.raises(Unavailable):
                    await bus.publish([accepted_fact(2)])
                began = time.monotonic()
                await second.__aexit__(None, None, None)
                assert time.monotonic() - began < PATIENCE_S / 4
                began = time.monotonic()
                await subscription.leave()  # type: ignore[attr-defined]
                assert time.monotonic() - began < PATIENCE_S / 2
                left = asyncio.all_tasks() - tasks_before
                assert [task.get_coro() for task in left] == []
                gc.collect()
                # The driver may say what it met; asyncio tells of what nobody looked at.
                assert [one for one in caplog.records if one.name == "asyncio"] == []
            finally:
                own_kafka.thaw()


async def test_without_a_broker_opening_does_not_wait_and_nothing_is_left_unknown() -> None:
    """A process starts before its broker does; what was never sent has not happened."""
    config = config_for(NOBODY)
    began = time.monotonic()
    async with open_kafka_bus(config, PlainCodec()) as bus:
        with pytest.raises(Unavailable) as raised:
            await bus.publish([accepted_fact(1)])
        assert time.monotonic() - began < OVERRUN_S
        assert raised.value.why is Why.BUS_AWAY
        assert not raised.value.may_have_happened
        assert "FLASHSALE_BUS_URL" in raised.value.detail


async def test_a_missing_topic_is_an_outage_that_sent_nothing(kafka_server: Kafka) -> None:
    """The deadline answers; `check` says which topic."""
    async with open_kafka_bus(config_for(kafka_server.url), PlainCodec()) as bus:
        with pytest.raises(Unavailable) as raised:
            await bus.publish([accepted_fact(1)])
        assert not raised.value.may_have_happened


async def test_a_fact_that_no_topic_takes_is_refused_for_good(kafka_server: Kafka) -> None:
    """Corrupt, not Unavailable: waiting makes no message smaller. The bus goes on."""
    async with kafka_world(kafka_server, publish_deadline_ms=5_000) as world:
        with pytest.raises(Corrupt) as raised:
            await world.bus.publish([accepted_fact(1), accepted_fact(2, purchases=8_000)])
        assert raised.value.code == "too-large"
        await world.bus.publish([accepted_fact(3)])


async def test_order_events_travel_many_to_a_batch_and_keep_to_their_keys_partition(
    kafka_server: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a megabyte of events at once, and a batch for each partition and megabyte."""
    batches: list[int] = []
    send_batch = AIOKafkaProducer.send_batch

    async def counted(self: AIOKafkaProducer, *given: Any, **named: Any) -> Any:
        batches.append(1)
        return await send_batch(self, *given, **named)

    monkeypatch.setattr(AIOKafkaProducer, "send_batch", counted)
    facts = [order_fact(number % 700) for number in range(7_000)]
    async with kafka_world(kafka_server) as world:
        await world.bus.publish(facts)
        assert len(batches) <= 2 * PARTITIONS
        messages = await world.read(Channel.ORDERS)
    assert len(messages) == len(facts)
    places = {message.key: message.partition for message in messages}
    assert all(places[message.key] == message.partition for message in messages)
    assert len(set(places.values())) == PARTITIONS


def test_a_config_names_the_field_that_is_wrong() -> None:
    """And never repeats a secret that somebody put into the URL."""
    for field, value in (
        ("url", "kafka://user:secret@host:9092"),
        ("url", "host:9092"),
        ("security_protocol", "TLS"),
        ("sasl_mechanism", "GSSAPI"),
        ("partitions", 0),
        ("accepted", "with space"),
        ("accepted_group", ""),
        ("session_ms", 100),
    ):
        with pytest.raises(ValueError, match=field) as raised:
            KafkaConfig(**{"url": "kafka://h:1", field: value})  # type: ignore[arg-type]
        assert "secret" not in str(raised.value)
    with pytest.raises(ValueError, match="username and password"):
        KafkaConfig(url="kafka://h:1", security_protocol="SASL_SSL")
    config = KafkaConfig(url="kafka://a:1,[::1]:2/")
    assert config.brokers == ("a:1", "[::1]:2")
