"""What every bus must do. Subclass `EventBusContract`, give it a world, and run it.

    class TestMyBus(EventBusContract):
        @pytest.fixture
        async def world(self):
            yield MyWorld(...)      # a fresh, empty topology; the bus uses PlainCodec

`EventBusOutageContract` wants a broker that can be stopped and started besides.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Barrier,
    Channel,
    Message,
    OrderEvent,
    OrderEventType,
    ParkedMessage,
    ParkedStatus,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import (
    Epoch,
    EventId,
    ItemId,
    PurchaseId,
    SaleId,
    Source,
    UserId,
)
from flashsale_core.ports import Delivery, EventBus, Subscription
from flashsale_core.testing.plain_codec import FACT_HEADER, PlainCodec

PATIENCE_S = 60.0
"""No test waits longer for anything: a broker on a busy machine joins a group within seconds."""
SILENCE_S = 0.5
"""How long a test listens to be sure that nothing comes; a broken bus delivers within 0.1 s."""
OVERRUN_S = 2.0
"""How late a deadline may be noticed on a busy machine."""


class BusWorld(Protocol):
    """A bus with PlainCodec on an empty topology, and what other programs would do to it.

    ACCEPTED has at least two partitions.
    """

    @property
    def bus(self) -> EventBus:
        """The bus under test."""

    async def another(self) -> EventBus:
        """Open a second bus on the same topology, as another process would."""

    async def put(
        self,
        channel: Channel,
        body: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        content_type: str | None = None,
    ) -> None:
        """Write as somebody else's producer does; what one test puts lands on one partition."""

    async def read(self, channel: Channel) -> list[Message]:
        """Read all of ORDERS or DEAD_LETTERS from the start, as somebody else's tool does."""


class StoppableBusWorld(BusWorld, Protocol):
    """A world whose broker can be stopped and started, what it stored still there."""

    @property
    def publish_deadline_ms(self) -> int:
        """Within what time a publish to ACCEPTED answers."""

    async def stop_broker(self) -> None:
        """Stop the broker; return when it is gone."""

    async def start_broker(self) -> None:
        """Start it again; return when it answers."""


def accepted_fact(number: int, *, purchases: int = 1) -> PurchasesAccepted:
    """Make one fact for ACCEPTED; equal numbers make equal facts."""
    return PurchasesAccepted(
        sale_id=SaleId("item.1"),
        epoch=Epoch(3),
        purchases=tuple(
            PurchaseAccepted(
                purchase_id=PurchaseId(f"p-{number}-{place}"),
                user_id=UserId(f"u-{number}"),
                quantity=2,
                accepted_at_ms=1_700_000_000_000 + number,
                requested_at_ms=1_700_000_000_000,
                source=Source.MOBILE,
                event_id=EventId("summer"),
            )
            for place in range(purchases)
        ),
    )


def order_fact(number: int) -> OrderEvent:
    """Make one fact for ORDERS; equal numbers make equal facts."""
    return OrderEvent(
        occurrence_id=f"00000000-0000-5000-8000-{number:012d}",
        type=OrderEventType.ORDER_CREATED,
        purchase_id=PurchaseId(f"p-{number}"),
        user_id=UserId("u"),
        item_id=ItemId("item"),
        sale_id=SaleId("item.1"),
        quantity=1,
        source=Source.WEB,
        requested_at_ms=1_700_000_000_000,
        occurred_at_ms=1_700_000_000_001,
    )


def dead_letter(body: bytes | None, *, key: bytes | None = None) -> ParkedMessage:
    """Make a dead letter whose bytes no text encoding would survive."""
    message = Message(
        channel=Channel.REQUESTS,
        body=body,
        key=key,
        headers=(("shop", b"z\xc3\xbcrich"), ("raw", b"\x00\xff\x10")),
        origin="flashsale.purchase.requests:4:5000000000",
        partition=4,
    )
    return ParkedMessage(
        message=message, status=ParkedStatus.DEAD, reason="bad-framing", detail="magic 7 ≠ 0"
    )


async def take_messages(subscription: Subscription, count: int) -> list[Message]:
    """Take and acknowledge until at least `count` messages came."""
    messages: list[Message] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(messages) < count:
            delivery = await subscription.take()
            messages.extend(delivery.messages)
            await subscription.acknowledge(delivery)
    return messages


async def take_delivery(subscription: Subscription) -> Delivery:
    """Take one delivery and leave it unended."""
    async with asyncio.timeout(PATIENCE_S):
        return await subscription.take()


async def facts_of(messages: Sequence[Message]) -> list[object]:
    """Decode as the worker does."""
    return list(await PlainCodec().decode(messages))


@asynccontextmanager
async def publishing(bus: EventBus, *facts: PurchasesAccepted) -> AsyncIterator[None]:
    """Hold a publish to ACCEPTED: confirmed on entry, or on exit where the bus confirms then."""
    task = asyncio.ensure_future(bus.publish(facts))
    if not bus.features.confirms_after_acknowledge:
        await task
    try:
        yield
        async with asyncio.timeout(PATIENCE_S):
            await task
    finally:
        task.cancel()


class EventBusContract:
    """The contract of `EventBus` and `Subscription`; a subclass provides the fixture `world`."""

    async def test_confirmed_facts_arrive_and_decode_to_what_was_published(
        self, world: BusWorld
    ) -> None:
        """Once `publish` has confirmed, every fact reaches a subscriber who comes later."""
        facts = [accepted_fact(1), accepted_fact(2, purchases=3)]
        async with (
            publishing(world.bus, *facts),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription,
        ):
            messages = await take_messages(subscription, 2)
        decoded = await facts_of(messages)
        assert sorted(decoded, key=repr) == sorted(facts, key=repr)
        assert {message.content_type for message in messages} == {"application/json"}
        assert all((FACT_HEADER, b"PurchasesAccepted") in m.headers for m in messages)
        assert {message.channel for message in messages} == {Channel.ACCEPTED}

    async def test_facts_go_to_the_partitions_in_turn(self, world: BusWorld) -> None:
        """No partition gets two facts more than another: promises do not wait behind promises."""
        count = world.bus.features.accepted_partitions
        facts = [accepted_fact(number) for number in range(3 * count)]
        async with (
            publishing(world.bus, *facts),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription,
        ):
            messages = await take_messages(subscription, len(facts))
        spread = Counter(message.partition for message in messages)
        assert len(spread) == count
        assert max(spread.values()) - min(spread.values()) <= 1

    async def test_a_partition_keeps_its_order(self, world: BusWorld) -> None:
        """What one partition carries comes in the order in which it was put there."""
        facts = [accepted_fact(number) for number in range(40)]
        async with (
            publishing(world.bus, *facts),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=3) as subscription,
        ):
            messages = await take_messages(subscription, len(facts))
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(message.partition, []).append(message)
        for held in by_partition.values():
            decoded = await facts_of(held)
            assert decoded == [fact for fact in facts if fact in decoded]

    async def test_a_delivery_holds_one_partition_and_no_more_than_asked(
        self, world: BusWorld
    ) -> None:
        """A delivery is a batch of one partition, never longer than `messages_max`."""
        facts = [accepted_fact(number) for number in range(20)]
        async with (
            publishing(world.bus, *facts),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=2) as subscription,
        ):
            seen = 0
            while seen < len(facts):
                delivery = await take_delivery(subscription)
                assert 1 <= len(delivery.messages) <= 2
                assert {m.partition for m in delivery.messages} == {delivery.partition}
                assert delivery.channel is Channel.ACCEPTED
                seen += len(delivery.messages)
                await subscription.acknowledge(delivery)

    async def test_a_partition_has_at_most_one_unended_delivery(self, world: BusWorld) -> None:
        """Partitions go side by side; within one, the next comes after the last one ended."""
        count = world.bus.features.accepted_partitions
        facts = [accepted_fact(number) for number in range(2 * count)]
        async with (
            publishing(world.bus, *facts),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription,
        ):
            held = [await take_delivery(subscription) for _ in range(count)]
            assert len({delivery.partition for delivery in held}) == count
            further = asyncio.ensure_future(subscription.take())
            done, _ = await asyncio.wait([further], timeout=SILENCE_S)
            assert not done
            await subscription.acknowledge(held[1])
            async with asyncio.timeout(PATIENCE_S):
                second = await further
            assert second.partition == held[1].partition
            assert second.messages[0].origin != held[1].messages[0].origin
            for delivery in [held[0], *held[2:], second]:
                await subscription.acknowledge(delivery)
            await take_messages(subscription, count - 1)

    async def test_a_cancelled_take_loses_nothing(self, world: BusWorld) -> None:
        """Who stops waiting for a delivery leaves it to the next who takes."""
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
            early = asyncio.ensure_future(subscription.take())
            await asyncio.sleep(0)
            early.cancel()
            await world.put(Channel.REQUESTS, b"kept")
            messages = await take_messages(subscription, 1)
        assert [message.body for message in messages] == [b"kept"]

    async def test_given_back_messages_come_again_before_later_ones(self, world: BusWorld) -> None:
        """Giving back is not done: the same messages, same origins, and nothing overtakes them."""
        bodies = [b"one", b"two", b"three", b"four"]
        for body in bodies:
            await world.put(Channel.REQUESTS, body)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=2) as subscription:
            first = await take_delivery(subscription)
            await subscription.give_back(first)
            again = await take_delivery(subscription)
            await subscription.give_back(again)
            messages = await take_messages(subscription, len(bodies))
        assert again.messages[0] == first.messages[0]
        assert [message.body for message in messages] == bodies
        assert messages[: len(first.messages)] == list(first.messages)

    async def test_who_takes_and_gives_back_in_a_loop_lets_others_run(
        self, world: BusWorld
    ) -> None:
        """A worker that cannot work must not stop what else its process does."""
        await world.put(Channel.REQUESTS, b"again")
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
            await subscription.give_back(await take_delivery(subscription))
            other = asyncio.ensure_future(asyncio.sleep(0))
            for _ in range(3):
                await subscription.give_back(await take_delivery(subscription))
            assert other.done()
            await take_messages(subscription, 1)

    async def test_giving_one_partition_back_does_not_hold_up_the_others(
        self, world: BusWorld
    ) -> None:
        """While one partition is given back over and over, its neighbours go on."""
        facts = [accepted_fact(number) for number in range(20)]
        async with (
            publishing(world.bus, *facts),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=2) as subscription,
        ):
            stuck = await take_delivery(subscription)
            await subscription.give_back(stuck)
            ended, others = 0, 0
            while ended < len(facts):
                delivery = await take_delivery(subscription)
                if delivery.partition == stuck.partition and others < 3:
                    assert delivery.messages[0] == stuck.messages[0]
                    await subscription.give_back(delivery)
                    continue
                others += delivery.partition != stuck.partition
                ended += len(delivery.messages)
                await subscription.acknowledge(delivery)

    async def test_what_was_not_acknowledged_comes_again_to_the_next_subscriber(
        self, world: BusWorld
    ) -> None:
        """A worker that dies with a delivery in hand loses nothing."""
        for body in (b"one", b"two", b"three"):
            await world.put(Channel.REQUESTS, body)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=2) as dying:
            held = await take_delivery(dying)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=2) as heir:
            messages = await take_messages(heir, 3)
        assert messages[0].origin == held.messages[0].origin
        assert [message.body for message in messages] == [b"one", b"two", b"three"]

    async def test_what_was_acknowledged_does_not_come_again(self, world: BusWorld) -> None:
        """The broker remembers an acknowledge, also one a moment before leaving."""
        for body in (b"one", b"two", b"three"):
            await world.put(Channel.REQUESTS, body)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as first:
            await take_messages(first, 3)
        await world.put(Channel.REQUESTS, b"new")
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as second:
            messages = await take_messages(second, 1)
        assert [message.body for message in messages] == [b"new"]

    async def test_an_acknowledge_after_leaving_has_no_effect_and_does_not_raise(
        self, world: BusWorld
    ) -> None:
        """A worker slower than its lease cannot acknowledge what is another's by now."""
        await world.put(Channel.REQUESTS, b"mine")
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as lost:
            held = await take_delivery(lost)
        await lost.acknowledge(held)
        await lost.give_back(held)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as heir:
            messages = await take_messages(heir, 1)
        assert messages[0].body == b"mine"

    async def test_two_subscribers_share_the_messages_and_lose_none(self, world: BusWorld) -> None:
        """Two workers on one channel: every fact reaches at least one, and both may work."""
        facts = [accepted_fact(number) for number in range(60)]
        seen: dict[str, object] = {}
        complete = asyncio.Event()

        async def work(bus: EventBus) -> None:
            async with bus.subscribe(Channel.ACCEPTED, messages_max=3) as subscription:
                while True:
                    delivery = await subscription.take()
                    decoded = await facts_of(delivery.messages)
                    await subscription.acknowledge(delivery)
                    seen.update((repr(fact), fact) for fact in decoded)
                    if len(seen) == len(facts):
                        complete.set()

        other = await world.another()
        async with asyncio.timeout(PATIENCE_S), publishing(world.bus, *facts):
            workers = [asyncio.ensure_future(work(bus)) for bus in (world.bus, other)]
            waiting = asyncio.ensure_future(complete.wait())
            await asyncio.wait([waiting, *workers], return_when=asyncio.FIRST_COMPLETED)
            for task in (*workers, waiting):
                task.cancel()
            outcomes = await asyncio.gather(*workers, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
        assert sorted(seen) == sorted(repr(fact) for fact in facts)

    async def test_when_one_of_two_subscribers_leaves_the_other_gets_its_share(
        self, world: BusWorld
    ) -> None:
        """What a leaving worker held unended goes to the one who stays."""
        facts = [accepted_fact(number) for number in range(20)]
        other = await world.another()
        async with (
            asyncio.timeout(PATIENCE_S),
            publishing(world.bus, *facts),
            other.subscribe(Channel.ACCEPTED, messages_max=1) as staying,
        ):
            async with world.bus.subscribe(Channel.ACCEPTED, messages_max=1) as leaving:
                takers = [asyncio.ensure_future(s.take()) for s in (leaving, staying)]
                await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
                for taker in takers:
                    taker.cancel()
                results = await asyncio.gather(*takers, return_exceptions=True)
            if isinstance(results[1], Delivery):
                await staying.give_back(results[1])
            seen: set[str] = set()
            while len(seen) < len(facts):
                seen |= {repr(fact) for fact in await facts_of(await take_messages(staying, 1))}
        assert seen == {repr(fact) for fact in facts}

    async def test_origins_name_a_message_for_good(self, world: BusWorld) -> None:
        """Two equal messages differ in origin wherever the broker numbers them."""
        for _ in range(2):
            await world.put(Channel.REQUESTS, b"same", key=b"k")
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
            messages = await take_messages(subscription, 2)
        assert len({m.origin for m in messages}) == (
            2 if world.bus.features.numbers_messages else 1
        )

    async def test_bytes_key_headers_and_content_type_arrive_untouched(
        self, world: BusWorld
    ) -> None:
        """The engine decodes; the bus carries."""
        headers = (("shop", b"z\xc3\xbcrich"), ("raw", b"\x00\xff\x10"))
        await world.put(
            Channel.REQUESTS,
            b"\x00\x01\xfe\xff",
            key=b"\x80key",
            headers=headers,
            content_type="avro/binary",
        )
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
            (message,) = await take_messages(subscription, 1)
        assert message.body == b"\x00\x01\xfe\xff"
        assert message.key == (b"\x80key" if world.bus.features.has_keys else None)
        assert set(headers) <= set(message.headers)
        assert message.content_type == "avro/binary"
        assert message.channel is Channel.REQUESTS

    @pytest.mark.parametrize("body", [None, b"", b"\x00"])
    async def test_absent_and_empty_bodies_arrive(
        self, world: BusWorld, body: bytes | None
    ) -> None:
        """A tombstone or an empty body is a message like another, and its neighbour goes on."""
        await world.put(Channel.REQUESTS, body)
        await world.put(Channel.REQUESTS, b"neighbour")
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
            messages = await take_messages(subscription, 2)
        expected = body if body is not None or world.bus.features.carries_null_bodies else b""
        assert [message.body for message in messages] == [expected, b"neighbour"]

    async def test_order_events_are_told_keyed_by_purchase(self, world: BusWorld) -> None:
        """A batch of follow-up facts is confirmed as a whole, each keyed by its purchase id."""
        facts = [order_fact(number) for number in range(25)]
        await world.bus.publish(facts)
        messages = await world.read(Channel.ORDERS)
        told = {repr(fact): m for fact, m in zip(await facts_of(messages), messages, strict=True)}
        assert set(told) == {repr(fact) for fact in facts}
        for fact in facts:
            key = fact.purchase_id.encode() if world.bus.features.has_keys else None
            assert told[repr(fact)].key == key

    async def test_publishing_nothing_is_nothing(self, world: BusWorld) -> None:
        """An empty publish returns at once."""
        await world.bus.publish([])

    @pytest.mark.parametrize("body", [b"\x00\x00\xff\xfe\x80", b"", None])
    async def test_a_dead_letters_copy_is_byte_identical(
        self, world: BusWorld, body: bytes | None
    ) -> None:
        """Bytes, key and headers as they were, and two headers more: from where, and why."""
        letter = dead_letter(body, key=b"\x80k")
        await world.bus.copy_dead_letter(letter)
        (copy,) = await world.read(Channel.DEAD_LETTERS)
        features = world.bus.features
        assert copy.body == (body if body is not None or features.carries_null_bodies else b"")
        assert copy.key == (b"\x80k" if features.has_keys else None)
        assert set(letter.message.headers) <= set(copy.headers)
        assert (ORIGIN_HEADER, letter.message.origin.encode()) in copy.headers
        assert (REASON_HEADER, b"bad-framing") in copy.headers

    async def test_a_barrier_lands_on_every_partition_behind_what_was_there(
        self, world: BusWorld
    ) -> None:
        """Whoever read the marker on every partition has read all that was published before it."""
        count = world.bus.features.accepted_partitions
        facts = [accepted_fact(number) for number in range(2 * count)]
        marker = Barrier(rebuild_id="r-1", epochs=((SaleId("item.1"), Epoch(4)),))
        async with publishing(world.bus, *facts):
            # Where a publish confirms late, one pass of the loop lets it reach the partitions.
            await asyncio.sleep(0)
            assert await world.bus.barrier(marker) == count
            async with world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription:
                messages = await take_messages(subscription, 3 * count)
        decoded = await facts_of(messages)
        last = {m.partition: fact for m, fact in zip(messages, decoded, strict=True)}
        assert last == dict.fromkeys(last, marker)
        assert len(last) == count

    async def test_a_cancelled_publish_leaves_the_bus_usable(self, world: BusWorld) -> None:
        """Cancelling at any step loses at most that publish's own answer."""
        for steps in range(6):
            task = asyncio.ensure_future(world.bus.publish([accepted_fact(steps)]))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        last = accepted_fact(99)
        async with (
            publishing(world.bus, last),
            world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription,
        ):
            while last not in await facts_of(await take_messages(subscription, 1)):
                pass

    async def test_concurrent_publishes_are_all_confirmed_and_all_arrive(
        self, world: BusWorld
    ) -> None:
        """Many callers at once: every one's fact arrives."""
        facts = [accepted_fact(number) for number in range(50)]
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription:
            tasks = [asyncio.ensure_future(world.bus.publish([fact])) for fact in facts]
            messages = await take_messages(subscription, len(facts))
            await asyncio.gather(*tasks)
        assert {repr(f) for f in await facts_of(messages)} == {repr(f) for f in facts}

    async def test_lag_falls_to_nothing_when_all_is_acknowledged(self, world: BusWorld) -> None:
        """Where the broker can say how much waits, nothing waits once all is done."""
        for _ in range(3):
            await world.put(Channel.REQUESTS, b"x")
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
            await take_messages(subscription, 3)
            assert await subscription.lag() in (0, None)

    async def test_the_check_passes_on_a_sound_topology(self, world: BusWorld) -> None:
        """The broker answers and everything has the shape it must."""
        await world.bus.check()


class EventBusOutageContract:
    """What a bus with a broker of its own must do when that broker goes and comes."""

    async def test_a_publish_while_the_broker_is_away_raises_within_its_deadline(
        self, world: StoppableBusWorld
    ) -> None:
        """No hang and no other error: Unavailable, about this bus, in time; then it recovers."""
        await world.bus.publish([accepted_fact(1)])
        await world.stop_broker()
        try:
            for number in (2, 3):
                began = time.monotonic()
                with pytest.raises(Unavailable) as raised:
                    await world.bus.publish([accepted_fact(number)])
                assert time.monotonic() - began < world.publish_deadline_ms / 1_000 + OVERRUN_S
                assert raised.value.why is Why.BUS_AWAY
        finally:
            await world.start_broker()
        await publish_until_confirmed(world.bus, accepted_fact(4))
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription:
            seen: list[object] = []
            while not {repr(accepted_fact(1)), repr(accepted_fact(4))} <= set(map(repr, seen)):
                seen += await facts_of(await take_messages(subscription, 1))

    async def test_a_subscription_goes_on_after_the_broker_came_back(
        self, world: StoppableBusWorld
    ) -> None:
        """Nothing confirmed is lost by a restart, and the worker need not be started again."""
        async with world.bus.subscribe(Channel.ACCEPTED, messages_max=10) as subscription:
            await world.bus.publish([accepted_fact(1)])
            held = await take_delivery(subscription)
            await world.stop_broker()
            await world.start_broker()
            await subscription.give_back(held)
            await publish_until_confirmed(world.bus, accepted_fact(2))
            wanted = {repr(accepted_fact(1)), repr(accepted_fact(2))}
            seen: set[str] = set()
            async with asyncio.timeout(PATIENCE_S):
                while not wanted <= seen:
                    try:
                        delivery = await subscription.take()
                    except Unavailable:
                        await asyncio.sleep(SILENCE_S)
                        continue
                    seen |= {repr(fact) for fact in await facts_of(delivery.messages)}
                    await subscription.acknowledge(delivery)

    async def test_the_check_names_a_broker_that_is_away(self, world: StoppableBusWorld) -> None:
        """A check of a bus whose broker is gone says so and does not hang."""
        await world.stop_broker()
        try:
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(Unavailable) as raised:
                    await world.bus.check()
            assert raised.value.why is Why.BUS_AWAY
        finally:
            await world.start_broker()


async def publish_until_confirmed(bus: EventBus, fact: PurchasesAccepted) -> None:
    """Publish again until the broker confirms, as the sweeper does."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await bus.publish([fact])
            except Unavailable as away:
                await asyncio.sleep(min(away.retry_after_ms, 500) / 1_000)
            else:
                return


__all__ = [
    "BusWorld",
    "EventBusContract",
    "EventBusOutageContract",
    "StoppableBusWorld",
    "accepted_fact",
    "dead_letter",
    "facts_of",
    "order_fact",
    "publish_until_confirmed",
    "publishing",
    "take_delivery",
    "take_messages",
]
