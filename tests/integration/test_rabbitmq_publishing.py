"""What a confirm means and what its absence means, on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import attrs
import pytest
from aio_pika.abc import AbstractIncomingMessage

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Barrier, Channel, Message
from flashsale_core.model import Epoch, SaleId
from flashsale_core.testing.event_bus import (
    accepted_fact,
    facts_of,
    order_fact,
    publish_until_confirmed,
    take_messages,
)
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_rabbitmq import RabbitMQBus, open_rabbitmq_bus, publisher
from flashsale_rabbitmq.publisher import WINDOW_LETTERS
from flashsale_rabbitmq.wire import PURCHASE_HEADER
from tests.integration.rabbitmq_world import RabbitMQWorld, own_config, rabbitmq_world
from tests.servers import RabbitMQ, running_rabbitmq


@pytest.fixture
async def world(rabbitmq_server: RabbitMQ) -> AsyncIterator[RabbitMQWorld]:
    """Lend a topology of the test's own, with two accepted queues."""
    config = own_config(rabbitmq_server.url, partitions=2)
    async with rabbitmq_world(rabbitmq_server, config) as made:
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[RabbitMQ]:
    """Start a broker that may be frozen."""
    with running_rabbitmq(ours=True) as server:
        yield server


async def test_an_unroutable_publish_is_refused_and_certainly_did_not_happen(
    world: RabbitMQWorld,
) -> None:
    """A confirm alone would say that the broker has taken care of it; it dropped it."""
    await delete(world, world.config.orders)
    with pytest.raises(Unavailable, match="topics ensure") as raised:
        await world.bus.publish([order_fact(1)])
    assert raised.value.why is Why.BUS_AWAY
    assert not raised.value.may_have_happened


async def test_a_publish_that_failed_in_part_may_have_happened(world: RabbitMQWorld) -> None:
    """One of the two facts is on the bus, and nobody says which."""
    await delete(world, world.config.orders)
    with pytest.raises(Unavailable) as raised:
        await world.bus.publish([accepted_fact(1), order_fact(1)])
    assert raised.value.may_have_happened


async def test_a_missing_accepted_queue_is_skipped(world: RabbitMQWorld) -> None:
    """Every promise is on the queue that is left, and is not there twice."""
    gone, left = world.config.accepted_queues()
    await delete(world, gone)
    for number in range(6):
        await world.bus.publish([accepted_fact(number)])
    async with other_reader(world, left) as reader:
        messages = [await reader.next() for _ in range(6)]
    bodies = [message.body for message in messages]
    assert await decoded(bodies) == [accepted_fact(number) for number in range(6)]


async def test_a_queue_that_refuses_is_skipped(world: RabbitMQWorld) -> None:
    """A queue at its limit refuses each message; the other one takes them all."""
    full = world.config.accepted_queues()[0]
    await delete(world, full)
    await declare_full(world, full)
    facts = [accepted_fact(number) for number in range(20)]
    for fact in facts:
        await world.bus.publish([fact])
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=50) as subscription:
        messages = await take_messages(subscription, 20)
    found = await facts_of(messages)
    assert sorted(map(repr, found)) == sorted(map(repr, facts))
    assert sum(message.partition == 0 for message in messages) < 5


async def test_when_every_queue_refuses_the_publish_may_have_happened(
    world: RabbitMQWorld,
) -> None:
    """A refusal does not say that no replica kept it."""
    for queue in world.config.accepted_queues():
        await delete(world, queue)
        await declare_full(world, queue)
    with pytest.raises(Unavailable, match="refused") as raised:
        await publish_in_a_row(world, 50)
    assert raised.value.may_have_happened


async def publish_in_a_row(world: RabbitMQWorld, count: int) -> None:
    """Publish one fact after another: a quorum queue notices its limit between them."""
    for number in range(count):
        await world.bus.publish([accepted_fact(number)])


async def test_a_barrier_that_misses_a_queue_is_no_barrier(world: RabbitMQWorld) -> None:
    """Unlike a promise it may not go elsewhere: it must be on every queue."""
    await delete(world, world.config.accepted_queues()[1])
    with pytest.raises(Unavailable):
        await world.bus.barrier(Barrier(rebuild_id="r", epochs=((SaleId("i.1"), Epoch(2)),)))


async def test_more_facts_than_a_window_are_all_confirmed(world: RabbitMQWorld) -> None:
    """A relay may hand over any number."""
    facts = [order_fact(number) for number in range(2 * WINDOW_LETTERS + 1)]
    await world.bus.publish(facts)
    assert len(await world.read(Channel.ORDERS)) == len(facts)


async def test_a_body_larger_than_a_frame_arrives_whole(world: RabbitMQWorld) -> None:
    """A crowd's batch may take several frames."""
    fact = accepted_fact(1, purchases=2_000)
    await world.bus.publish([fact])
    async with world.bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription:
        (message,) = await take_messages(subscription, 1)
    assert len(message.body or b"") > 3 * 128 * 1024
    assert await facts_of([message]) == [fact]


async def test_messages_are_persistent_and_name_their_purchase(world: RabbitMQWorld) -> None:
    """The message id is new with each attempt, so the purchase id has a header of its own."""
    await world.bus.publish([accepted_fact(7)])
    await world.bus.publish([accepted_fact(7)])
    await world.bus.publish([order_fact(7)])
    found = []
    for queue in (*world.config.accepted_queues(), world.config.orders):
        async with other_reader(world, queue) as reader:
            found.append(await reader.next())
    assert {message.delivery_mode for message in found} == {2}
    assert len({message.message_id for message in found}) == 3
    named = [message.headers[PURCHASE_HEADER] for message in found]
    assert named == ["p-7-0", "p-7-0", "p-7"]


async def test_a_publish_into_silence_ends_in_time_and_may_have_happened(
    own_server: RabbitMQ,
) -> None:
    """A broker that hangs neither confirms nor refuses; when it goes on, the message is there."""
    async with rabbitmq_world(own_server) as world:
        hasty = attrs.evolve(world.config, accepted_deadline_ms=800)
        async with open_rabbitmq_bus(hasty, PlainCodec()) as bus:
            await bus.publish([accepted_fact(1)])
            own_server.freeze()
            try:
                began = time.monotonic()
                with pytest.raises(Unavailable) as raised:
                    await bus.publish([accepted_fact(2)])
                took_s = time.monotonic() - began
            finally:
                own_server.thaw()
            assert 0.7 < took_s < 1.5
            assert raised.value.may_have_happened
            await publish_until_confirmed(bus, accepted_fact(3))
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription:
            messages = await take_messages(subscription, 3)
        assert repr(accepted_fact(2)) in {repr(fact) for fact in await facts_of(messages)}


async def test_a_queue_that_kept_silent_is_tried_last(own_server: RabbitMQ) -> None:
    """After one silence, the next promise does not begin at the same queue."""
    async with rabbitmq_world(own_server) as world:
        hasty = attrs.evolve(world.config, accepted_deadline_ms=300)
        async with open_rabbitmq_bus(hasty, PlainCodec()) as bus:
            await bus.publish([accepted_fact(1)])
            own_server.freeze()
            try:
                with pytest.raises(Unavailable):
                    await bus.publish([accepted_fact(2)])
            finally:
                own_server.thaw()
            silent = hasty.accepted_queues()[1]
            turns = bus._publisher.turns
            routes = [turns.routes(asyncio.get_running_loop().time()) for _ in range(3)]
            assert {route[-1] for route in routes} == {silent}


async def test_a_broker_that_cannot_be_reached_certainly_did_not_take_it(
    world: RabbitMQWorld, unused_tcp_port: int
) -> None:
    """Nothing left this process, so the buyer can be told that nothing happened."""
    nowhere = attrs.evolve(world.config, url=f"amqp://guest:guest@127.0.0.1:{unused_tcp_port}/")
    async with open_rabbitmq_bus(nowhere, PlainCodec()) as bus:
        for _ in range(3):
            with pytest.raises(Unavailable) as raised:
                await bus.publish([accepted_fact(1)])
            assert not raised.value.may_have_happened


async def test_a_channel_that_the_broker_closed_is_replaced(world: RabbitMQWorld) -> None:
    """A missing exchange costs the channel; once it is there, publishing goes on."""
    async with world.foreign_channel() as foreign:
        await (await foreign.get_underlay_channel()).exchange_delete(world.config.exchange)
    with pytest.raises(Unavailable, match="topics ensure"):
        await world.bus.publish([accepted_fact(1)])
    await world.ensure()
    await world.bus.publish([accepted_fact(2)])


async def test_closing_the_bus_ends_a_publish_as_unavailable(
    world: RabbitMQWorld, own_server: RabbitMQ
) -> None:
    """A caller is never cancelled by somebody else's closing."""
    async with rabbitmq_world(own_server) as frozen:
        bus = RabbitMQBus(frozen.config, PlainCodec())
        await bus.publish([accepted_fact(1)])
        own_server.freeze()
        try:
            waiting = asyncio.ensure_future(bus.publish([accepted_fact(2)]))
            await asyncio.sleep(0.05)
            closing = asyncio.ensure_future(bus.close())
            with pytest.raises(Unavailable) as raised:
                await waiting
        finally:
            own_server.thaw()
        await closing
        assert raised.value.may_have_happened


async def test_a_channel_that_answers_nothing_is_given_up(
    own_server: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is never answered must not be remembered without end."""
    monkeypatch.setattr(publisher, "UNCONFIRMED_MAX", 3)
    async with rabbitmq_world(own_server) as world:
        hasty = attrs.evolve(world.config, accepted_deadline_ms=300)
        async with open_rabbitmq_bus(hasty, PlainCodec()) as bus:
            await bus.publish([accepted_fact(0)])
            silent = bus._publisher._channel
            assert silent is not None
            own_server.freeze()
            try:
                for number in range(1, 6):
                    with pytest.raises(Unavailable):
                        await bus.publish([accepted_fact(number)])
            finally:
                own_server.thaw()
            assert len(silent.confirmations) <= 3
            await publish_until_confirmed(bus, accepted_fact(6))
            assert bus._publisher._channel is not silent


async def test_a_connection_that_takes_longer_than_a_deadline_is_there_for_the_next_publish(
    world: RabbitMQWorld,
) -> None:
    """Callers give up one by one; the attempt that they share goes on."""
    async with slow_to_connect(world.server, delay_s=0.6) as port:
        url = f"amqp://guest:guest@127.0.0.1:{port}/"
        hasty = attrs.evolve(world.config, url=url, accepted_deadline_ms=300)
        async with open_rabbitmq_bus(hasty, PlainCodec()) as bus:
            with pytest.raises(Unavailable) as raised:
                await bus.publish([accepted_fact(1)])
            assert not raised.value.may_have_happened
            await publish_until_confirmed(bus, accepted_fact(2))


@asynccontextmanager
async def slow_to_connect(server: RabbitMQ, delay_s: float) -> AsyncIterator[int]:
    """Stand before the broker and let each connection wait."""
    pumps: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_s)
        inner_reader, inner_writer = await asyncio.open_connection(server.host, server.port)
        pumps.append(asyncio.ensure_future(pump(reader, inner_writer)))
        pumps.append(asyncio.ensure_future(pump(inner_reader, writer)))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def delete(world: RabbitMQWorld, queue: str) -> None:
    """Delete a queue behind the bus's back."""
    async with world.foreign_channel() as foreign:
        await (await foreign.get_underlay_channel()).queue_delete(queue)


async def declare_full(world: RabbitMQWorld, queue: str) -> None:
    """Make a queue that holds very little and refuses the rest."""
    async with world.foreign_channel() as foreign:
        declared = await foreign.declare_queue(
            queue,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"},
        )
        await declared.bind(world.config.exchange, routing_key=queue)


async def decoded(bodies: list[bytes]) -> list[object]:
    """Decode bodies that another program read."""
    return await facts_of(
        [Message(channel=Channel.ACCEPTED, body=body, origin="") for body in bodies]
    )


@attrs.frozen
class OtherReader:
    """A consumer of another program; it acknowledges nothing."""

    arrived: asyncio.Queue[AbstractIncomingMessage] = attrs.field(factory=asyncio.Queue)

    async def next(self) -> AbstractIncomingMessage:
        """Wait for the next message."""
        async with asyncio.timeout(30):
            return await self.arrived.get()


@asynccontextmanager
async def other_reader(world: RabbitMQWorld, queue: str) -> AsyncIterator[OtherReader]:
    """Consume a queue as another program does, and put everything back."""
    reader = OtherReader()
    async with world.foreign_channel() as foreign:
        consumed = await foreign.get_queue(queue, ensure=False)
        await consumed.consume(reader.arrived.put)
        yield reader
