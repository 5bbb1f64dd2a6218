"""What must come in order, come again, or come to another worker, on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
from aio_pika.abc import AbstractConnection

from flashsale_core.errors import Unavailable
from flashsale_core.events import Channel
from flashsale_core.ports import Delivery, Subscription
from flashsale_core.testing.event_bus import SILENCE_S, take_delivery, take_messages
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_rabbitmq import RabbitMQBus, open_rabbitmq_bus
from flashsale_rabbitmq.subscription import RabbitMQSubscription
from tests.integration.rabbitmq_world import RabbitMQWorld, own_config, rabbitmq_world
from tests.servers import RabbitMQ

ROOT = Path(__file__).parents[2]
COUNT = 30
HELD = 10
DYING_WORKER = """
import asyncio, sys
from flashsale_core.events import Channel
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_rabbitmq import RabbitMQBus, RabbitMQConfig

async def work(url, exchange, accepted):
    config = RabbitMQConfig(
        url=url, exchange=exchange, accepted=accepted, accepted_partitions=1
    )
    async with RabbitMQBus(config, PlainCodec()).subscribe(
        Channel.ACCEPTED, messages_max=10
    ) as subscription:
        delivery = await subscription.take()
        print(delivery.messages[0].body.decode(), flush=True)
        await asyncio.Event().wait()

asyncio.run(work(*sys.argv[1:]))
"""
"""Takes what it can, says so, and acknowledges nothing until it is killed."""


@pytest.fixture
async def world(rabbitmq_server: RabbitMQ) -> AsyncIterator[RabbitMQWorld]:
    """Lend a topology with one accepted queue, whose order is then the order of all."""
    config = own_config(rabbitmq_server.url, partitions=1)
    async with rabbitmq_world(rabbitmq_server, config) as made:
        yield made


async def put_numbers(world: RabbitMQWorld, channel: Channel, count: int = COUNT) -> list[bytes]:
    """Put numbered messages into a queue, in order."""
    bodies = [str(number).encode() for number in range(count)]
    async with world.foreign_channel() as foreign:
        driver = await foreign.get_underlay_channel()
        for body in bodies:
            await driver.basic_publish(
                body, exchange=world.config.exchange, routing_key=world.queue(channel)
            )
    return bodies


async def take_bodies(subscription: Subscription, count: int) -> list[bytes | None]:
    """Take and acknowledge so many, in order."""
    return [message.body for message in await take_messages(subscription, count)]


async def assert_idle(waiting: asyncio.Future[Delivery]) -> None:
    """Listen for long enough to be sure that nothing comes."""
    done, _ = await asyncio.wait([waiting], timeout=SILENCE_S)
    assert not done


async def test_when_a_worker_is_killed_its_unacknowledged_come_first_and_in_order(
    world: RabbitMQWorld,
) -> None:
    """The next active consumer begins where the killed one had acknowledged, and misses none."""
    bodies = await put_numbers(world, Channel.ACCEPTED)
    config = world.config
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DYING_WORKER, config.url, config.exchange, config.accepted),
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("src", "src/adapters")),
        },
    )
    try:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"0\n"
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=HELD) as heir:
            waiting = asyncio.ensure_future(heir.take())
            await assert_idle(waiting)
            worker.kill()
            async with asyncio.timeout(30):
                first = await waiting
            await heir.acknowledge(first)
            rest = await take_bodies(heir, COUNT - len(first.messages))
        assert [message.body for message in first.messages] + rest == bodies
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


async def test_a_worker_that_stops_with_work_in_hand_is_not_overtaken(
    world: RabbitMQWorld,
) -> None:
    """Leaving closes the channel, so the broker puts everything back before another is active."""
    bodies = await put_numbers(world, Channel.ACCEPTED)
    other = await world.another()
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=HELD) as leaving:
        done = await take_delivery(leaving)
        await leaving.acknowledge(done)
        in_hand = await take_delivery(leaving)
        async with other.subscribe(Channel.ACCEPTED, messages_max=HELD) as next_one:
            waiting = asyncio.ensure_future(next_one.take())
            await assert_idle(waiting)
            await close_as_a_worker_does(leaving)
            async with asyncio.timeout(30):
                first = await waiting
            await next_one.acknowledge(first)
            left = COUNT - len(done.messages) - len(first.messages)
            rest = await take_bodies(next_one, left)
    assert first.messages[0].body == in_hand.messages[0].body
    assert ([m.body for m in done.messages] + [m.body for m in first.messages] + rest) == bodies


async def close_as_a_worker_does(subscription: Subscription) -> None:
    """Leave early; the context's own leaving then finds nothing to do."""
    assert isinstance(subscription, RabbitMQSubscription)
    await subscription.__aexit__(None, None, None)


async def test_a_lost_connection_brings_the_same_again_and_the_old_delivery_means_nothing(
    world: RabbitMQWorld,
) -> None:
    """Tags of a lost channel acknowledge nothing; the next delivery waits for the old one's end."""
    bodies = await put_numbers(world, Channel.ACCEPTED)
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=HELD) as subscription:
        old = await take_delivery(subscription)
        await cut(subscription)
        further = asyncio.ensure_future(subscription.take())
        await assert_idle(further)
        await subscription.acknowledge(old)
        async with asyncio.timeout(30):
            again = await further
        await subscription.acknowledge(again)
        rest = await take_bodies(subscription, COUNT - len(again.messages))
    assert [message.body for message in again.messages] + rest == bodies
    assert again.messages[0] == old.messages[0]


async def cut(subscription: Subscription) -> None:
    """Cut the subscription's socket, as a network does."""
    assert isinstance(subscription, RabbitMQSubscription)
    connection: AbstractConnection = await subscription._line.connection()
    assert connection.transport is not None
    await connection.transport.connection.close(ConnectionResetError("cut by a test"))


async def test_what_is_given_back_comes_before_what_has_arrived_meanwhile(
    world: RabbitMQWorld,
) -> None:
    """Later messages of the queue may be here already; they wait."""
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=HELD) as subscription:
        await world.put(Channel.REQUESTS, b"first")
        held = await take_delivery(subscription)
        await put_numbers(world, Channel.REQUESTS, 3)
        assert isinstance(subscription, RabbitMQSubscription)
        async with asyncio.timeout(30):
            while subscription._lanes[0].unacknowledged < 4:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        await subscription.give_back(held)
        assert await take_bodies(subscription, 4) == [b"first", b"0", b"1", b"2"]


async def test_what_is_given_back_is_not_counted_as_a_delivery(world: RabbitMQWorld) -> None:
    """A message that waits for its sale is given back for hours; the broker must not drop it."""
    await put_numbers(world, Channel.REQUESTS, 1)
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
        for _ in range(1_200):
            await subscription.give_back(await take_delivery(subscription))
        assert await take_bodies(subscription, 1) == [b"0"]
    assert await world.read(Channel.DEAD_LETTERS) == []


async def test_two_workers_share_the_requests_and_neither_takes_more_than_it_may_hold(
    world: RabbitMQWorld,
) -> None:
    """The queue is not the possession of whoever comes first, and nothing comes twice."""
    bodies = await put_numbers(world, Channel.REQUESTS, 12)
    other = await world.another()
    async with (
        world.bus.subscribe(Channel.REQUESTS, messages_max=4) as first,
        other.subscribe(Channel.REQUESTS, messages_max=4) as second,
    ):
        held = [await take_all(first, 4), await take_all(second, 4)]
        counts = [len(delivery.messages) for delivery in held]
        assert counts == [4, 4]
        bodies_held = [m.body for delivery in held for m in delivery.messages]
        assert sorted(map(repr, bodies_held)) == sorted(map(repr, bodies[:8]))
        # The board sums what workers count: each holds four, and they share the four that wait.
        assert [await first.lag(), await second.lag()] == [4 + 2, 4 + 2]
        await first.acknowledge(held[0])
        assert await take_bodies(first, 4) == bodies[8:]
        await second.acknowledge(held[1])


async def take_all(subscription: Subscription, count: int) -> Delivery:
    """Take until one delivery holds so many, giving shorter ones back."""
    async with asyncio.timeout(30):
        while True:
            delivery = await subscription.take()
            if len(delivery.messages) == count:
                return delivery
            await subscription.give_back(delivery)


async def test_a_delivery_held_too_long_goes_to_another_worker(world: RabbitMQWorld) -> None:
    """The broker would end a channel that acknowledges nothing for 30 minutes.

    A stuck worker's queue is another's before that; once it ended its delivery, it may have more.
    """
    bodies = await put_numbers(world, Channel.ACCEPTED, 2)
    impatient = attrs.evolve(world.config, hold_ms_max=400)
    async with (
        open_rabbitmq_bus(impatient, PlainCodec()) as stuck_bus,
        stuck_bus.subscribe(Channel.ACCEPTED, messages_max=HELD) as stuck,
    ):
        held = await take_all(stuck, 2)
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=HELD) as heir:
            again = await take_all(heir, 2)
            await stuck.acknowledge(held)
            await heir.acknowledge(again)
        assert [message.body for message in again.messages] == bodies
        await world.put(Channel.ACCEPTED, b"later")
        assert await take_bodies(stuck, 1) == [b"later"]


async def test_a_stuck_worker_does_not_fetch_again_what_it_gave_up(world: RabbitMQWorld) -> None:
    """It takes no part until it has ended its delivery, or it would hold the same for ever."""
    await put_numbers(world, Channel.REQUESTS, 2)
    impatient = attrs.evolve(world.config, hold_ms_max=200)
    async with (
        open_rabbitmq_bus(impatient, PlainCodec()) as stuck_bus,
        stuck_bus.subscribe(Channel.REQUESTS, messages_max=HELD) as stuck,
    ):
        held = await take_all(stuck, 2)
        async with asyncio.timeout(30):
            # The broker tells only who asks.
            while await waiting_in(world, world.config.requests) != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(5):
            await asyncio.sleep(0.1)
            assert await waiting_in(world, world.config.requests) == 2
        await stuck.give_back(held)
        assert await take_bodies(stuck, 2) == [b"0", b"1"]


async def waiting_in(world: RabbitMQWorld, queue: str) -> int | None:
    """Ask the broker how many messages are with nobody."""
    async with world.foreign_channel() as foreign:
        declared = await foreign.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count


async def test_a_queue_that_is_deleted_and_made_again_is_consumed_again(
    world: RabbitMQWorld,
) -> None:
    """The broker cancels the consumer; the worker says so and keeps trying."""
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=HELD) as subscription:
        await put_numbers(world, Channel.REQUESTS, 1)
        assert await take_bodies(subscription, 1) == [b"0"]
        async with world.foreign_channel() as foreign:
            await (await foreign.get_underlay_channel()).queue_delete(world.config.requests)
        # Made again in the moment of its end, a quorum queue of RabbitMQ 3.10 may never find its
        # leader; an operator is slower than that, and waits for the workers' complaint.
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable):
                await subscription.take()
        await asyncio.sleep(1)
        await world.ensure()
        await world.put(Channel.REQUESTS, b"new")
        assert await take_messages_through_outages(subscription) == b"new"


async def take_messages_through_outages(subscription: Subscription) -> bytes | None:
    """Take as a worker does, which goes on after `Unavailable`."""
    async with asyncio.timeout(30):
        while True:
            try:
                delivery = await subscription.take()
            except Unavailable:
                continue
            await subscription.acknowledge(delivery)
            return delivery.messages[0].body


async def test_batches_are_batches(world: RabbitMQWorld) -> None:
    """What waits in the socket's buffer comes in one delivery: a transaction each is too dear."""
    await put_numbers(world, Channel.REQUESTS, 600)
    sizes: list[int] = []
    async with RabbitMQBus(world.config, PlainCodec()).subscribe(
        Channel.REQUESTS, messages_max=200
    ) as subscription:
        while sum(sizes) < 600:
            delivery = await take_delivery(subscription)
            await subscription.acknowledge(delivery)
            sizes.append(len(delivery.messages))
    assert len(sizes) <= 30
