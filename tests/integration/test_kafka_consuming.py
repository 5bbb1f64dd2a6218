"""What other producers and other workers may do to a consumer on Kafka."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c_py

from flashsale_core.events import Channel, Message
from flashsale_core.testing.event_bus import (
    PATIENCE_S,
    accepted_fact,
    facts_of,
    take_delivery,
    take_messages,
)
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_kafka import consuming, open_kafka_bus
from flashsale_kafka.committing import COMMIT_PAUSE_S
from tests.integration.kafka_world import PARTITIONS, KafkaWorld, kafka_admin, kafka_world

if TYPE_CHECKING:
    from tests.servers import Kafka

CRC_AT = 17
"""Where a record batch keeps the checksum of all that follows it."""
BATCH_AT = 21
POLL_INTERVAL_MS = 2_000
"""Short, so that a test outlasts it."""


@pytest.fixture
async def world(kafka_server: Kafka) -> AsyncIterator[KafkaWorld]:
    """Open a bus on fresh topics."""
    async with kafka_world(kafka_server, publish_deadline_ms=10_000) as world:
        yield world


async def bodies(world: KafkaWorld, count: int) -> list[Message]:
    """Consume so many messages of the outside door."""
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=10) as subscription:
        return await take_messages(subscription, count)


async def put_with_spoiled_header(world: KafkaWorld, values: list[bytes], spoiled: int) -> None:
    """Write one batch, in which one record's header has a name that is not UTF-8.

    Any client in C or Go can do that; the broker does not look.
    """
    async with AIOKafkaProducer(
        bootstrap_servers=world.server.plaintext_bootstrap, enable_idempotence=False, acks="all"
    ) as producer:
        batch = spoiled_batch(producer, values, spoiled)
        await (await producer.send_batch(batch, world.config.requests, partition=0))


def spoiled_batch(producer: AIOKafkaProducer, values: list[bytes], spoiled: int) -> BatchBuilder:
    """Build a batch as no client of Python's could."""
    batch = producer.create_batch()
    for number, value in enumerate(values):
        headers = [("SPOIL", b"x")] if number == spoiled else []
        batch.append(timestamp=None, key=None, value=value, headers=headers)
    buffer = bytearray(batch._build())
    at = buffer.index(b"SPOIL")
    buffer[at : at + 5] = b"\xff\xfe\xfd\xfc\xfb"
    buffer[CRC_AT:BATCH_AT] = calc_crc32c_py(bytes(buffer[BATCH_AT:])).to_bytes(4, "big")
    batch._buffer = buffer
    return batch


async def test_a_record_that_the_driver_cannot_read_stops_nothing_and_nothing_is_skipped(
    world: KafkaWorld,
) -> None:
    """The driver fails for ever on a header that is not UTF-8, and on the rest of its batch.

    In place of each comes a message without a body, which the worker parks as a dead letter, with
    the origin by which other tools find the record. Everything before and behind is read.
    """
    await world.put(Channel.REQUESTS, b"before")
    await put_with_spoiled_header(world, [b"one", b"two", b"spoiled", b"behind it"], spoiled=2)
    await put_with_spoiled_header(world, [b"spoiled too"], spoiled=0)
    await world.put(Channel.REQUESTS, b"after")
    messages = await bodies(world, 7)
    assert [message.body for message in messages] == [
        *(b"before", b"one", b"two", None, None),
        *(None, b"after"),
    ]
    topic = world.config.requests
    assert [message.origin for message in messages] == [f"{topic}:0:{n}" for n in range(7)]
    ((name, fault),) = messages[3].headers
    assert name == "flashsale-unreadable"
    assert b"UnicodeDecodeError" in fault


async def test_a_record_that_cannot_be_read_and_comes_first_stops_nothing(
    world: KafkaWorld,
) -> None:
    """Whoever waits for news must not be told for ever that there is some."""
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=10) as subscription:
        await world.put(Channel.REQUESTS, b"joined")
        await take_messages(subscription, 1)
        await put_with_spoiled_header(world, [b"spoiled"], spoiled=0)
        await world.put(Channel.REQUESTS, b"after")
        messages = await take_messages(subscription, 2)
    assert [message.body for message in messages] == [None, b"after"]


async def test_a_record_that_cannot_be_read_loses_nothing_of_other_partitions(
    world: KafkaWorld,
) -> None:
    """What one fetch brought of a sound partition comes, whatever lies on its neighbour."""
    topic, rounds = world.config.requests, 15
    async with (
        world.bus.subscribe(Channel.REQUESTS, messages_max=10) as subscription,
        AIOKafkaProducer(
            bootstrap_servers=world.server.plaintext_bootstrap, enable_idempotence=False
        ) as producer,
    ):
        messages: list[Message] = []
        for _ in range(rounds):
            # Without an await between, both travel in one request, and come in one fetch.
            sound = producer.create_batch()
            sound.append(timestamp=None, key=None, value=b"sound")
            spoiled = spoiled_batch(producer, [b"spoiled"], spoiled=0)
            confirms = [
                await producer.send_batch(sound, topic, partition=1),
                await producer.send_batch(spoiled, topic, partition=0),
            ]
            await asyncio.gather(*confirms)
            messages += await take_messages(subscription, 2)
    wanted = {f"{topic}:{partition}:{n}" for partition in (0, 1) for n in range(rounds)}
    assert {message.origin for message in messages} == wanted


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_other_producers_compress_is_read(world: KafkaWorld, compression: str) -> None:
    """Java's clients compress by setting; a library that is missing here would stop the door."""
    async with AIOKafkaProducer(
        bootstrap_servers=world.server.plaintext_bootstrap, compression_type=compression
    ) as producer:
        await producer.send_and_wait(world.config.requests, b"squeezed" * 100, partition=0)
    assert [message.body for message in await bodies(world, 1)] == [b"squeezed" * 100]


async def test_a_transaction_that_was_aborted_asks_for_nothing(world: KafkaWorld) -> None:
    """A request that its producer took back must not become an order; and nothing waits behind."""
    topic = world.config.requests
    async with AIOKafkaProducer(
        bootstrap_servers=world.server.plaintext_bootstrap, transactional_id=topic
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"taken back", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"meant", partition=0)
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=10) as subscription:
        messages = await take_messages(subscription, 1)
        assert [message.body for message in messages] == [b"meant"]
        async with asyncio.timeout(PATIENCE_S):
            while await subscription.lag() != 0:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.05)


async def test_lag_counts_what_waits_and_what_is_in_hand(world: KafkaWorld) -> None:
    """Fetched or not, acknowledged alone counts as done."""
    for _ in range(3):
        await world.put(Channel.REQUESTS, b"x")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
        held = await take_delivery(subscription)
        assert await subscription.lag() == 3
        await subscription.acknowledge(held)
        assert await subscription.lag() == 2


async def left_behind(world: KafkaWorld, count: int) -> None:
    """Do one message, leave the group, and let `count` more come to nobody."""
    await world.put(Channel.REQUESTS, b"done")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
        assert await subscription.expired() == 0
        await subscription.acknowledge(await take_delivery(subscription))
    for _ in range(count):
        await world.put(Channel.REQUESTS, b"waits")


async def deleted_before(world: KafkaWorld, offset: int) -> None:
    """Let partition 0 of the outside door begin there, as a topic's retention does."""
    partition = TopicPartition(world.config.requests, 0)
    async with kafka_admin(world.server.plaintext_bootstrap) as admin:
        await admin.delete_records({partition: RecordsToDelete(offset)})


async def test_what_expired_before_it_was_done_is_told_though_later_ones_are_committed(
    world: KafkaWorld,
) -> None:
    """The next member begins at the log's start, commits there, and wipes out the only trace."""
    await left_behind(world, 3)
    await deleted_before(world, 3)
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
        last = await take_delivery(subscription)
        assert last.messages[0].origin.endswith(":3")
        await subscription.acknowledge(last)
        await asyncio.sleep(5 * COMMIT_PAUSE_S)
        assert await subscription.expired() == 2


async def test_what_expires_under_a_member_is_told_and_a_growing_gap_is_one(
    world: KafkaWorld,
) -> None:
    """A worker whose database is away for as long as the topic keeps messages."""
    await left_behind(world, 3)
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
        await take_delivery(subscription)
        assert await subscription.expired() == 0
        for offset, gone in ((2, 1), (4, 3)):
            await deleted_before(world, offset)
            assert await subscription.expired() == gone


async def test_a_delivery_in_hand_for_long_keeps_its_partition_and_its_neighbours_going(
    world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that waits for its database is polled for: it is not thrown out of the group."""
    monkeypatch.setattr(consuming, "POLL_INTERVAL_MS_MAX", POLL_INTERVAL_MS)
    await world.bus.publish([accepted_fact(number) for number in range(PARTITIONS)])
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription:
        held = await take_delivery(subscription)
        neighbours = await take_messages(subscription, PARTITIONS - 1)
        await asyncio.sleep(2 * POLL_INTERVAL_MS / 1_000)
        await world.bus.publish([accepted_fact(number) for number in range(PARTITIONS)])
        neighbours += await take_messages(subscription, PARTITIONS - 1)
        assert held.partition not in {message.partition for message in neighbours}
        await subscription.acknowledge(held)
        next_one = await take_delivery(subscription)
        assert next_one.partition == held.partition
        assert next_one.messages[0].origin.endswith(":1")


async def test_a_worker_whose_hands_and_lanes_are_full_stays_a_member(
    kafka_server: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to ask for it asks for nothing, and the group sees that it lives."""
    monkeypatch.setattr(consuming, "POLL_INTERVAL_MS_MAX", POLL_INTERVAL_MS)
    async with kafka_world(kafka_server, partitions=1) as world:
        for body in (b"in hand", b"in the lane", b"behind"):
            await world.put(Channel.REQUESTS, body)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
            held = await take_delivery(subscription)
            await asyncio.sleep(2 * POLL_INTERVAL_MS / 1_000)
            await subscription.acknowledge(held)
            messages = await take_messages(subscription, 2)
    assert [message.body for message in messages] == [b"in the lane", b"behind"]


async def test_a_rebalance_waits_for_what_is_in_hand(world: KafkaWorld) -> None:
    """A second worker that comes does not make the first one's work be done twice."""
    facts = [accepted_fact(number) for number in range(PARTITIONS)]
    await world.bus.publish(facts)
    seen: list[Message] = []
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=5) as first:
        held = [await take_delivery(first) for _ in range(PARTITIONS)]
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=5) as second:
            # The group has noticed the second when the first takes leave of its partitions.
            lanes = first._lanes  # type: ignore[attr-defined]
            async with asyncio.timeout(PATIENCE_S):
                while not lanes._is_closing:  # noqa: ASYNC110 - nothing public tells it
                    await asyncio.sleep(0.01)
            for delivery in held:
                await first.acknowledge(delivery)
            await world.bus.publish([accepted_fact(99)] * PARTITIONS)
            async with asyncio.timeout(PATIENCE_S):
                while len(seen) < PARTITIONS:
                    takes = [asyncio.ensure_future(s.take()) for s in (first, second)]
                    await asyncio.wait(takes, return_when=asyncio.FIRST_COMPLETED)
                    for take, subscription in zip(takes, (first, second), strict=True):
                        if take.done():
                            seen += take.result().messages
                            await subscription.acknowledge(take.result())
                        take.cancel()
    assert {message.origin.rsplit(":")[-1] for message in seen} == {"1"}


WORKER = """
import asyncio, sys
from flashsale_core.events import Channel
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_kafka import KafkaConfig, open_kafka_bus

async def main(**settings):
    async with open_kafka_bus(KafkaConfig(**settings), PlainCodec()) as bus:
        async with bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription:
            delivery = await subscription.take()
            print(delivery.messages[0].origin, flush=True)
            await asyncio.Event().wait()

asyncio.run(main(**eval(sys.argv[1])))
"""
"""A worker in a process of its own, which takes one delivery and works on it for ever."""


@asynccontextmanager
async def stuck_worker(world: KafkaWorld) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it until it is killed."""
    settings = {
        field.name: getattr(world.config, field.name) for field in attrs.fields(type(world.config))
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKER, repr(settings)),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_what_a_killed_worker_held_goes_to_the_other_within_its_session(
    kafka_server: Kafka,
) -> None:
    """No good-bye, no acknowledge: the group gives its partitions to who is left."""
    facts = [accepted_fact(number) for number in range(4 * PARTITIONS)]
    async with kafka_world(kafka_server, session_ms=2_000) as world:
        await world.bus.publish(facts)
        async with stuck_worker(world) as victim:
            assert victim.stdout is not None
            async with asyncio.timeout(PATIENCE_S):
                origin = (await victim.stdout.readline()).decode().strip()
            assert origin.startswith(world.config.accepted)
            async with world.bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription:
                held = await take_delivery(subscription)
                victim.kill()
                await subscription.give_back(held)
                messages: list[Message] = []
                while len({message.origin for message in messages}) < len(facts):
                    messages += await take_messages(subscription, 1)
    assert origin in {message.origin for message in messages}
    assert {repr(fact) for fact in await facts_of(messages)} == {repr(fact) for fact in facts}


async def test_an_acknowledge_after_the_partition_moved_has_no_effect(world: KafkaWorld) -> None:
    """The one who has it now gets the message, whatever the slow one says afterwards."""
    await world.put(Channel.ACCEPTED, b"slow")
    other = await world.another()
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=1) as slow:
        held = await take_delivery(slow)
        async with other.subscribe(Channel.ACCEPTED, messages_max=1) as quick:
            takes = [asyncio.ensure_future(s.take()) for s in (slow, quick)]
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait(takes, return_when=asyncio.FIRST_COMPLETED)
            await slow.acknowledge(held)
            for take in takes:
                take.cancel()
            (again,) = [task.result() for task in takes if task.done() and not task.cancelled()]
            assert again.messages == held.messages
    async with other.subscribe(Channel.ACCEPTED, messages_max=1) as heir:
        assert (await take_messages(heir, 1))[0].body == b"slow"


async def test_a_new_group_reads_from_the_beginning(world: KafkaWorld) -> None:
    """`latest` would skip what was accepted before the first worker came."""
    await world.bus.publish([accepted_fact(1)])
    config = attrs.evolve(world.config, accepted_group=f"{world.config.accepted_group}-new")
    async with (
        open_kafka_bus(config, PlainCodec()) as bus,
        bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription,
    ):
        assert await facts_of(await take_messages(subscription, 1)) == [accepted_fact(1)]
