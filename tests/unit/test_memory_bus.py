"""The memory bus keeps the contract, and the promises of its own."""

import asyncio
import time

import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Channel, Message
from flashsale_core.ports import EventBus
from flashsale_core.testing.event_bus import (
    EventBusContract,
    accepted_fact,
    order_fact,
    take_delivery,
    take_messages,
)
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_memory import bus as memory_bus
from flashsale_memory.bus import MemoryBus


class MemoryWorld:
    """One process is the whole world, so another process's bus is the same bus."""

    def __init__(self) -> None:
        """Wait long for an acknowledge: a test machine is slow, and no test is about this wait."""
        self.bus = MemoryBus(PlainCodec(), publish_deadline_ms=30_000)

    async def another(self) -> EventBus:
        """Hand out the only bus there is."""
        return self.bus

    async def put(
        self,
        channel: Channel,
        body: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        content_type: str | None = None,
    ) -> None:
        """Put a message on partition 0."""
        self.bus.put(
            Message(
                channel=channel,
                body=body,
                key=key,
                headers=headers,
                content_type=content_type,
                origin="",
            )
        )

    async def read(self, channel: Channel) -> list[Message]:
        """Read the log."""
        return self.bus.log(channel)


class TestMemoryBus(EventBusContract):
    """The contract of every bus."""

    @pytest.fixture
    async def world(self) -> MemoryWorld:
        """Make an empty bus."""
        return MemoryWorld()


async def test_publish_returns_only_after_the_worker_acknowledged() -> None:
    """A confirm means that the worker committed, so an embedded 200 is a row in the database."""
    bus = MemoryBus(PlainCodec(), publish_deadline_ms=30_000)
    publish = asyncio.ensure_future(bus.publish([accepted_fact(1), accepted_fact(2)]))
    async with bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription:
        first, second = [await take_delivery(subscription) for _ in range(2)]
        await subscription.acknowledge(first)
        await asyncio.sleep(0)
        assert not publish.done()
        await subscription.acknowledge(second)
        async with asyncio.timeout(5):
            await publish


async def test_without_a_subscriber_publish_waits_and_then_leaves_the_outcome_open() -> None:
    """Nobody took it: Unavailable that may have happened, and whoever comes later gets it."""
    bus = MemoryBus(PlainCodec(), publish_deadline_ms=50)
    began = time.monotonic()
    with pytest.raises(Unavailable) as raised:
        await bus.publish([accepted_fact(1)])
    assert time.monotonic() - began >= 0.045
    assert raised.value.why is Why.BUS_AWAY
    assert raised.value.may_have_happened
    async with bus.subscribe(Channel.ACCEPTED, messages_max=5) as subscription:
        assert len(await take_messages(subscription, 1)) == 1


async def test_a_full_partition_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody consumes must not eat the process's memory; a refusal took nothing."""
    monkeypatch.setattr(memory_bus, "WAITING_MAX", 2)
    bus = MemoryBus(PlainCodec(), partitions=2, publish_deadline_ms=10)
    with pytest.raises(Unavailable):
        await bus.publish([accepted_fact(number) for number in range(4)])
    with pytest.raises(Unavailable) as raised:
        await bus.publish([accepted_fact(5)])
    assert raised.value.why is Why.OVERLOADED
    assert not raised.value.may_have_happened


async def test_the_log_of_order_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest are kept."""
    monkeypatch.setattr(memory_bus, "LOG_MAX", 3)
    bus = MemoryBus(PlainCodec())
    await bus.publish([order_fact(number) for number in range(5)])
    assert [message.key for message in bus.log(Channel.ORDERS)] == [b"p-2", b"p-3", b"p-4"]


async def test_lag_counts_what_is_not_acknowledged() -> None:
    """A delivery in hand still waits to be done."""
    world = MemoryWorld()
    await world.put(Channel.REQUESTS, b"x")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
        held = await take_delivery(subscription)
        assert await subscription.lag() == 1
        await subscription.acknowledge(held)
        assert await subscription.lag() == 0


def test_one_bus_serves_one_event_loop() -> None:
    """Futures of one loop must not be set from another: refused with the way out."""
    bus = MemoryBus(PlainCodec())
    asyncio.run(bus.check())
    with pytest.raises(RuntimeError, match="one event loop"):
        asyncio.run(bus.check())


async def test_orders_are_a_log_and_not_a_subscription() -> None:
    """Subscribing to what is only logged is a mistake of the caller's."""
    bus = MemoryBus(PlainCodec())
    with pytest.raises(ValueError, match="log"):
        async with bus.subscribe(Channel.ORDERS, messages_max=1):
            pass


async def test_no_message_is_taken_for_one_of_an_earlier_life() -> None:
    """Numbers begin anew with the process; what was parked under an origin is still in the file."""
    origins = set()
    for _ in range(2):
        bus = MemoryBus(PlainCodec())
        bus.put(Message(channel=Channel.REQUESTS, body=b"?", origin=""))
        async with bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
            [message] = (await subscription.take()).messages
            origins.add(message.origin)
    assert len(origins) == 2
