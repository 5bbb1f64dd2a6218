"""What fails for a reason that nobody foresaw: set aside alone, and never given away."""

from collections.abc import Mapping, Sequence

import attrs
import pytest

from flashsale_core.arming import rebuild_stopped
from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.events import Barrier, Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.model import Epoch, SaleId, SaleState
from flashsale_core.outcomes import Accepted
from flashsale_core.ports import Alarm, Decision, Decoded, Standing
from flashsale_core.retry import WAITING_RETRY_MS
from tests.unit.test_fulfilment import promise, sale_of, status
from tests.unit.world import World, request

MINUTE_MS = 60_000


def cannot_store(world: World, *purchases: str) -> None:
    """Let every batch with one of these fail for a reason that nobody foresaw."""
    record = world.database.orders.record

    async def picky(
        decisions: Sequence[Decision], *fences: Mapping[SaleId, Epoch]
    ) -> list[Standing]:
        if any(one.purchase_id in purchases for one in decisions):
            raise RuntimeError("nobody foresaw")
        return await record(decisions, *fences)

    world.database.orders.record = picky  # type: ignore[method-assign,assignment]


async def test_one_purchase_that_fails_sets_no_neighbour_of_its_message_aside() -> None:
    """A message holds what one call of the gate accepted: up to hundreds of buyers."""
    world = World()
    await world.sell()
    cannot_store(world, "bad")
    await world.parking.deliver([world.message(promise(sale_of(world), "p1", "bad", "p2"))])
    assert await status(world, "p1") == await status(world, "p2") == ("CONFIRMED", None)
    [aside] = world.witness.set_aside
    assert (aside.status, aside.purchase_id) == (ParkedStatus.RETRYING, "bad")


async def test_a_promise_set_aside_keeps_its_unit_over_a_rebuild() -> None:
    """It was answered 200: whoever comes after the rebuild is sold out, and it becomes an order."""
    world = World()
    await world.sell(units=1)
    stores = world.database.orders.record
    cannot_store(world, "p1")
    async with world.worker():
        assert isinstance(await world.desk.buy(request()), Accepted)
    assert Alarm.UNIT_PARKED in world.witness.alarms
    world.database.orders.record = stores  # type: ignore[method-assign]
    await _begin_another_life(world)
    await world.parking.deliver([world.message(request("late", user="bob"), 7)])
    assert await status(world, "late") == ("REJECTED", "SOLD_OUT")
    world.clock.ms += MINUTE_MS
    await world.parking.feed()
    assert await status(world, "p1") == ("CONFIRMED", None)


async def _begin_another_life(world: World) -> None:
    world.gate._ledgers.clear()
    world.gate._armed.clear()
    await rebuild_stopped(world.database.catalogue, world.gate, SaleId("1.1"))
    await world.board.refresh()


async def test_what_a_parked_message_leaves_over_is_kept_purchase_by_purchase() -> None:
    """One of them may be dead while its neighbour only waits."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(request("used", user="bob"))])
    decode = world.codec.decode

    async def broken(_: Sequence[Message]) -> list[Decoded | Corrupt]:
        raise RuntimeError("nobody foresaw")

    world.codec.decode = broken  # type: ignore[method-assign,assignment]
    old = promise(sale_of(world), "used", "fine", epoch=7)
    await world.parking.deliver([world.message(old, 5)])
    world.codec.decode = decode  # type: ignore[method-assign]
    await world.gate.set_state(SaleId("1.1"), Epoch(1), SaleState.PAUSED)
    world.clock.ms += MINUTE_MS
    await world.parking.feed()
    await world.gate.set_state(SaleId("1.1"), Epoch(1), SaleState.OPEN)
    world.clock.ms += MINUTE_MS
    await world.parking.feed()
    assert await status(world, "fine") == ("CONFIRMED", None)
    counts = await world.database.parked.counts()
    assert (counts[ParkedStatus.DEAD], counts[ParkedStatus.REPLAYED]) == (1, 2)


async def test_a_message_whose_schema_cannot_be_looked_up_holds_up_no_other() -> None:
    """The registry is away, and one parked message alone would ask it."""
    world = World()
    await world.sell()
    await world.gate.set_state(SaleId("1.1"), Epoch(1), SaleState.PAUSED)
    strange = world.message(request("strange"))
    await world.parking.deliver([strange, world.message(request(), 1)])
    await world.gate.set_state(SaleId("1.1"), Epoch(1), SaleState.OPEN)
    decode = world.codec.decode

    async def asking(messages: Sequence[Message]) -> list[Decoded | Corrupt]:
        if any(message.origin == strange.origin for message in messages):
            raise Unavailable(Why.REGISTRY_AWAY)
        return await decode(messages)

    world.codec.decode = asking  # type: ignore[method-assign]
    await world.parking.feed()
    assert await status(world, "p1") == ("CONFIRMED", None)
    world.codec.decode = decode  # type: ignore[method-assign]
    world.clock.ms += 2 * MINUTE_MS
    await world.parking.feed()
    assert await status(world, "strange") == ("CONFIRMED", None)


async def test_a_dead_letter_that_no_topic_takes_holds_up_no_other() -> None:
    """Whoever writes a message of the largest size and of nonsense ends nobody's sale."""
    world = World()
    await world.sell()

    async def too_large(_: ParkedMessage) -> None:
        raise Corrupt("too-large", "the message is larger than the topic takes")

    world.bus.copy_dead_letter = too_large  # type: ignore[method-assign,assignment]
    await world.parking.deliver([world.message(b"nonsense"), world.message(request(), 1)])
    assert await status(world, "p1") == ("CONFIRMED", None)
    [aside] = world.witness.set_aside
    assert aside.status is ParkedStatus.DEAD
    assert (await world.database.parked.counts())[ParkedStatus.DEAD] == 1


async def test_what_meets_a_sale_between_two_lives_is_fed_again_soon() -> None:
    """Not when its lease ends: a rebuild takes seconds, a lease a minute."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.gate.drop(sale.sale_id)
    await world.parking.deliver([world.message(request("p1"))])
    old_list = list(world.board)
    await world.database.catalogue.raise_epoch(sale.sale_id)
    world.board.replace(old_list)
    assert await world.parking.feed() == 1
    world.clock.ms += WAITING_RETRY_MS
    assert len(await world.database.parked.claim_due(10, 1_000)) == 1


async def test_what_was_claimed_when_the_gate_went_away_is_given_back() -> None:
    """All of it needs the gate, and none of it waits for its lease."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.gate.drop(sale.sale_id)
    await world.parking.deliver(
        [world.message(request(f"p{n}", user=f"u{n}"), n) for n in range(3)]
    )

    async def away(*_: object) -> list[object]:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.reserve = away  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.feed()
    world.clock.ms += WAITING_RETRY_MS
    assert len(await world.database.parked.claim_due(10, 1_000)) == 3


async def away(_: Sequence[ParkedMessage]) -> list[bool]:
    """Keep nothing, as the table does while its database is away."""
    raise Unavailable(Why.DATABASE_AWAY)


async def test_what_cannot_be_set_aside_now_stays_in_hand_and_is_copied_nowhere() -> None:
    """A copy that no table knows could be neither replayed nor counted."""
    world = World()
    await world.sell()
    parks = world.database.parked.park
    world.database.parked.park = away  # type: ignore[method-assign,assignment]
    poison = world.message(b"no fact", 1)
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(request()), poison])
    assert world.bus.log(Channel.DEAD_LETTERS) == []
    world.database.parked.park = parks  # type: ignore[method-assign]
    await world.parking.deliver([world.message(request()), poison])
    assert [letter.body for letter in world.bus.log(Channel.DEAD_LETTERS)] == [poison.body]
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_a_barrier_is_not_passed_before_what_came_before_it_is_set_aside() -> None:
    """A rebuild reads rows and parked units as soon as it is passed."""
    world = World()
    await world.sell()
    parks = world.database.parked.park
    world.database.parked.park = away  # type: ignore[method-assign,assignment]
    marker = world.codec.encode(Barrier(rebuild_id="r1", epochs=((SaleId("1.1"), Epoch(2)),)))
    delivery = [
        world.message(promise(sale_of(world), "p1")),
        attrs.evolve(world.message(b"no fact", 1), channel=Channel.ACCEPTED),
        attrs.evolve(world.message(marker.body, 2), channel=Channel.ACCEPTED),
    ]
    with pytest.raises(Unavailable):
        await world.parking.deliver(delivery)
    assert await world.database.rebuilds.passed("r1") == frozenset()
    world.database.parked.park = parks  # type: ignore[method-assign]
    await world.parking.deliver(delivery)
    assert await world.database.rebuilds.passed("r1") == {0}
