"""What looks after purchases later: the sweeper, the parked messages, the buyer's question."""

import pytest

from flashsale_core.board import SaleBoard
from flashsale_core.errors import Conflict, Corrupt, Unavailable, Why
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.inquiry import Inquiry, PurchaseStatus
from flashsale_core.model import Epoch, ItemId, PurchaseId, PurchaseState, Sale, SaleId, SaleState
from flashsale_core.outcomes import Accepted, Closed
from flashsale_core.ports import Alarm, Overdue
from flashsale_core.selling import SaleDesk
from flashsale_core.sweeper import Forgetter
from tests.unit.world import World, request

RESERVED_DUE_MS = 10_000
HOUR_MS = 3_600_000


def sale_of(world: World, item: str = "1") -> Sale:
    """Find the listed sale."""
    sale = world.board.seen(ItemId(item))
    assert sale is not None
    return sale


async def state(world: World, purchase: str) -> PurchaseState | None:
    """Ask the gate how a purchase stands."""
    sale = sale_of(world)
    [record] = await world.gate.find([(sale.sale_id, sale.epoch)], PurchaseId(purchase))
    assert not isinstance(record, Unavailable)
    return record.state if record is not None else None


# ── the sweeper ─────────────────────────────────────────────────────────────────────────────────


async def test_an_overdue_reservation_is_published_again_and_ends_as_an_order() -> None:
    """A publish that never reached the broker, and an API that died, lose nobody."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    _drop_what_waits(world)
    async with world.worker():
        assert await world.sweeper.sweep() == 0
        world.clock.ms += RESERVED_DUE_MS
        assert await world.sweeper.sweep() == 1
    assert await state(world, "p1") is PurchaseState.SOLD
    assert await world.order("p1") is not None
    assert world.witness.republished_count == 1


def _drop_what_waits(world: World) -> None:
    for partition in world.bus._channels[Channel.ACCEPTED]:
        partition.waiting.clear()


async def test_a_purchase_that_has_a_row_is_followed_and_not_published() -> None:
    """The worker died between commit and gate: the row speaks."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    _drop_what_waits(world)
    follow = world.gate.follow

    async def died(_: object) -> list[object]:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.follow = died  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(request())])
    world.gate.follow = follow  # type: ignore[method-assign]
    assert await state(world, "p1") is PurchaseState.RESERVED
    world.clock.ms += RESERVED_DUE_MS
    assert await world.sweeper.sweep() == 0
    assert await state(world, "p1") is PurchaseState.SOLD


async def test_what_is_parked_is_not_published_again() -> None:
    """It is somebody's already."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    sale = sale_of(world)
    [waiting] = await _park(world, sale)
    assert waiting
    world.clock.ms += RESERVED_DUE_MS
    assert await world.sweeper.sweep() == 0


async def _park(world: World, sale: Sale) -> list[bool]:
    from flashsale_core.events import ParkedMessage  # noqa: PLC0415 - the one use

    return await world.database.parked.park(
        [
            ParkedMessage(
                message=world.message(request()),
                status=ParkedStatus.DEAD,
                reason="tried",
                sale_id=sale.sale_id,
                purchase_id=PurchaseId("p1"),
                holds_unit=True,
            )
        ]
    )


async def test_somebody_elses_message_under_the_same_id_hides_no_purchase() -> None:
    """One dead letter from outside must not keep a buyer's unit from ever becoming an order."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    _drop_what_waits(world)
    await world.parking.deliver([world.message(request(user="eve"))])
    view = await world.inquiry.find(PurchaseId("p1"))
    assert view is not None
    assert view.status is PurchaseStatus.RESERVED
    world.clock.ms += RESERVED_DUE_MS
    async with world.worker():
        assert await world.sweeper.sweep() == 1
    assert await state(world, "p1") is PurchaseState.SOLD


async def test_an_outside_purchase_is_left_to_its_redelivery_and_alarms_after_an_hour() -> None:
    """The engine never publishes a promise for it."""
    world = World()
    await world.sell()

    async def died(*_: object) -> list[object]:
        raise Unavailable(Why.DATABASE_AWAY)

    record = world.database.orders.record
    world.database.orders.record = died  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(request())])
    world.database.orders.record = record  # type: ignore[method-assign]
    world.clock.ms += HOUR_MS // 2
    assert await world.sweeper.sweep() == 0
    assert Alarm.OUTSIDE_OVERDUE not in world.witness.alarms
    world.clock.ms += HOUR_MS
    assert await world.sweeper.sweep() == 0
    assert Alarm.OUTSIDE_OVERDUE in world.witness.alarms


async def test_a_sale_whose_journal_cannot_be_read_keeps_no_other_waiting() -> None:
    """Somebody must look at it; the others' buyers become orders meanwhile."""
    world = World()
    await world.sell("1")
    await world.sell("2")
    await world.desk.buy(request("p2", item="2"))
    _drop_what_waits(world)
    world.clock.ms += RESERVED_DUE_MS
    overdue = world.gate.overdue

    async def broken(sale_id: SaleId, epoch: Epoch, limit: int) -> list[Overdue] | Unavailable:
        if sale_id == "1.1":
            raise Corrupt("record-version", "from a version that is yet to come")
        return await overdue(sale_id, epoch, limit)

    world.gate.overdue = broken  # type: ignore[method-assign]
    async with world.worker():
        assert await world.sweeper.sweep() == 1
    assert await world.order("p2") is not None
    assert Alarm.SWEEP_FAILED in world.witness.alarms


async def test_a_gate_that_missed_a_pause_is_aligned() -> None:
    """The database was changed, and then the process died."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.database.catalogue.change_state(
        sale.sale_id, SaleState.PAUSED, expected=[SaleState.OPEN]
    )
    await world.board.refresh()
    await world.sweeper.align()
    assert (await world.books()).state is SaleState.PAUSED


async def test_a_long_settled_sales_books_are_given_back_once() -> None:
    """Until then a retry hears its old answer; afterwards the item is closed."""
    world = World()
    await world.sell()
    async with world.worker():
        await world.desk.buy(request())
    sale_id = sale_of(world).sale_id
    await world.selling.close(sale_id)
    await world.selling.settle(sale_id)
    forgetter = Forgetter(catalogue=world.database.catalogue, gate=world.gate, keep_ms=HOUR_MS)
    assert await forgetter.forget() == 0
    assert isinstance(await world.desk.buy(request()), Accepted)
    world.clock.ms += HOUR_MS
    assert await forgetter.forget() == 1
    assert await forgetter.forget() == 0
    assert await world.desk.buy(request()) == Closed()


# ── parked messages ─────────────────────────────────────────────────────────────────────────────


async def test_a_waiting_request_goes_through_the_normal_gate_when_its_sale_sells_again() -> None:
    """It competes like anybody; no attempt counts meanwhile."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.selling.pause(sale.sale_id)
    await world.parking.deliver([world.message(request())])
    await world.parking.feed()
    assert (await world.database.parked.counts())[ParkedStatus.WAITING] == 1
    await world.selling.resume(sale.sale_id)
    world.clock.ms += 2_000
    assert await world.parking.feed() == 1
    assert await world.order("p1") is not None
    counts = await world.database.parked.counts()
    assert (counts.get(ParkedStatus.WAITING, 0), counts[ParkedStatus.REPLAYED]) == (0, 1)


async def test_an_unknown_failure_is_narrowed_down_to_its_message() -> None:
    """Its neighbours become orders; it is tried again off the path, five times, then it is dead."""
    world = World()
    await world.sell()
    record = world.database.orders.record

    async def breaks(decisions: list, *fences: object) -> list:  # type: ignore[type-arg]
        if any(decision.purchase_id == "p3" for decision in decisions):
            raise ZeroDivisionError("nobody foresaw this")
        return await record(decisions, *fences)  # type: ignore[arg-type]

    world.database.orders.record = breaks  # type: ignore[method-assign,assignment]
    batch = [world.message(request(f"p{n}", user=f"u{n}"), n) for n in range(6)]
    await world.parking.deliver(batch)
    assert [await world.order(f"p{n}") is not None for n in range(6)] == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]
    for tries_left in (3, 2, 1, 0):
        world.clock.ms += 20_000
        assert await world.parking.feed() == 1
        counts = await world.database.parked.counts()
        is_dead = counts.get(ParkedStatus.DEAD, 0) == 1
        assert is_dead == (tries_left == 0)
    [letter] = world.bus.log(Channel.DEAD_LETTERS)
    assert letter.body == batch[3].body
    world.clock.ms += 20_000
    assert await world.parking.feed() == 0


# ── the buyer's question ────────────────────────────────────────────────────────────────────────


async def test_a_purchase_is_seen_on_its_whole_way() -> None:
    """RESERVED, ACCEPTED, CONFIRMED; and REJECTED with the reason."""
    world = World()
    await world.sell(units=1)
    find = world.inquiry.find
    assert await find(PurchaseId("p1")) is None
    await world.desk.buy(request())
    reserved = await find(PurchaseId("p1"))
    assert reserved is not None
    assert reserved.status is PurchaseStatus.RESERVED
    sale = sale_of(world)
    await world.gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")])
    accepted = await find(PurchaseId("p1"))
    assert accepted is not None
    assert accepted.status is PurchaseStatus.ACCEPTED
    await world.parking.deliver([world.message(request()), world.message(request("p2"), 1)])
    confirmed, rejected = await find(PurchaseId("p1")), await find(PurchaseId("p2"))
    assert confirmed is not None
    assert rejected is not None
    assert confirmed.status is PurchaseStatus.CONFIRMED
    assert (rejected.status, rejected.reason) == (PurchaseStatus.REJECTED, "SOLD_OUT")


async def test_a_silent_gate_is_never_no_such_purchase() -> None:
    """What was answered 200 is never 404."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    await world.gate.drop(sale_of(world).sale_id)
    with pytest.raises(Unavailable):
        await world.inquiry.find(PurchaseId("p1"))


async def test_an_id_known_in_two_sales_must_be_told_apart() -> None:
    """A purchase is identified by sale and id."""
    world = World()
    await world.sell("1")
    await world.sell("2")
    await world.parking.deliver(
        [world.message(request(item="1")), world.message(request(item="2"), 1)]
    )
    with pytest.raises(Conflict):
        await world.inquiry.find(PurchaseId("p1"))
    for by in ({"item_id": ItemId("2")}, {"sale_id": SaleId("2.1")}):
        found = await world.inquiry.find(PurchaseId("p1"), **by)
        assert found is not None
        assert found.sale_id == "2.1"


async def test_a_parked_purchase_is_told_as_parked() -> None:
    """Neither lost nor promised."""
    world = World()
    await world.sell()
    await world.selling.pause(sale_of(world).sale_id)
    await world.parking.deliver([world.message(request())])
    found = await world.inquiry.find(PurchaseId("p1"))
    assert found is not None
    assert found.status is PurchaseStatus.PARKED


async def test_an_old_list_does_not_open_a_closed_sale_again() -> None:
    """A worker's list may be a second old; the gate has followed the operator already."""
    world = World()
    await world.sell()
    elsewhere = SaleDesk(
        board=SaleBoard(world.database.catalogue),
        catalogue=world.database.catalogue,
        gate=world.gate,
        parked=world.database.parked,
        clock=world.clock,
        wait=world.wait,
    )
    await elsewhere.close(SaleId("1.1"))
    await world.sweeper.align()
    assert (await world.books()).state is SaleState.CLOSED


async def test_a_purchase_of_a_sale_that_another_process_just_made_is_found() -> None:
    """What was answered 200 is never unknown, also where the list has not heard of its sale."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    late = SaleBoard(world.database.catalogue)
    inquiry = Inquiry(
        board=late, gate=world.gate, orders=world.database.orders, parked=world.database.parked
    )
    assert await inquiry.find(PurchaseId("p1")) is not None
    assert await inquiry.find(PurchaseId("nobody")) is None


async def test_what_is_parked_in_one_sale_is_no_answer_about_another() -> None:
    """Whoever names the sale or the item means that one."""
    world = World()
    await world.sell()
    await world.sell("2")
    await world.gate.set_state(SaleId("1.1"), sale_of(world).epoch, SaleState.PAUSED)
    await world.parking.deliver([world.message(request())])
    here = await world.inquiry.find(PurchaseId("p1"), sale_id=SaleId("1.1"))
    assert here is not None
    assert here.status is PurchaseStatus.PARKED
    assert await world.inquiry.find(PurchaseId("p1"), sale_id=SaleId("2.1")) is None
    assert await world.inquiry.find(PurchaseId("p1"), item_id=ItemId("2")) is None
