"""What an operator does with dead letters: idempotent, followed by the gate, and never a loss."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from flashsale_core import batch
from flashsale_core.errors import Conflict, Corrupt, Unavailable, Why
from flashsale_core.events import (
    Channel,
    Message,
    OrderEventType,
    ParkedMessage,
    ParkedStatus,
    PurchasesAccepted,
)
from flashsale_core.handling import quarantined
from flashsale_core.letters import Act, Letter, Signed, Wanted
from flashsale_core.model import Epoch, PurchaseState, SaleId, SaleState, UserId
from flashsale_core.outcomes import Accepted
from flashsale_core.ports import Alarm, Decoded, GateBooks
from flashsale_core.retry import UNKNOWN_ATTEMPTS_MAX
from tests.unit.test_fulfilment import promise, sale_of, status
from tests.unit.test_parking import MINUTE_MS, cannot_store
from tests.unit.world import World, request

ANN = Signed(who="ann", why="the codec is mended")
DISCARDED = ("REJECTED", "DISCARDED")


async def parked_promise(world: World, purchase: str = "p1") -> int:
    """Have a buyer promised a unit, and the promise die; answer the letter's id."""
    stores = world.database.orders.record
    cannot_store(world, purchase)
    async with world.worker():
        assert isinstance(await world.desk.buy(request(purchase)), Accepted)
    for _ in range(UNKNOWN_ATTEMPTS_MAX):
        world.clock.ms += MINUTE_MS
        await world.parking.feed()
    world.database.orders.record = stores  # type: ignore[method-assign]
    [letter] = await world.letters.matching(Wanted(), 10)
    assert letter.parked.holds_unit
    return letter.letter_id


async def fed(world: World) -> None:
    """Let the feeder take up what is due."""
    world.clock.ms += MINUTE_MS
    await world.parking.feed()


async def letter_of(world: World, letter_id: int) -> Letter:
    """Find one."""
    letter, _ = await world.letters.show(letter_id)
    return letter


# ── replaying ───────────────────────────────────────────────────────────────────────────────────


async def test_a_replayed_promise_is_an_order_once_however_often_it_is_replayed() -> None:
    """Twice, by two operators, while the feeder has it, and after it succeeded."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    first = await world.letters.replay(letter_id, ANN)
    assert (first.status, first.is_changed) == (ParkedStatus.WAITING, True)
    second = await world.letters.replay(letter_id, Signed(who="bob"))
    assert (second.status, second.is_changed) == (ParkedStatus.WAITING, False)
    [claimed] = await world.database.parked.claim_due(10, 1)
    assert claimed.parked_id == letter_id
    third = await world.letters.replay(letter_id, Signed(who="bob"))
    assert not third.is_changed
    await fed(world)
    assert await status(world, "p1") == ("CONFIRMED", None)
    last = await world.letters.replay(letter_id, ANN)
    assert (last.status, last.is_changed) == (ParkedStatus.REPLAYED, False)
    await fed(world)
    books = await world.books()
    assert (books.sold, books.available, books.queued) == (1, 9, 0)
    assert len(await world.events()) == 1
    assert [entry.signed.who for entry in (await world.letters.show(letter_id))[1]] == ["ann"]


@pytest.mark.parametrize("is_raised", [True, False])
async def test_what_fails_again_is_dead_again_with_its_new_reason(is_raised: bool) -> None:
    """And is copied and told of again; its unit stays held."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    letter = await letter_of(world, letter_id)
    process = world.fulfilment.process

    async def unstorable(*_: object, **__: object) -> batch.Processed:
        if is_raised:
            raise Corrupt("unstorable", "a NUL")
        left = [[batch.dead(letter.parked.message, Corrupt("unstorable", "a NUL"))]]
        return batch.Processed(left=left)

    world.fulfilment.process = unstorable  # type: ignore[method-assign]
    world.witness.alarms.clear()
    await world.letters.replay(letter_id, ANN)
    await fed(world)
    world.fulfilment.process = process  # type: ignore[method-assign]
    letter = await letter_of(world, letter_id)
    assert (letter.parked.status, letter.parked.reason) == (ParkedStatus.DEAD, "unstorable")
    assert letter.parked.holds_unit
    assert Alarm.UNIT_PARKED in world.witness.alarms
    assert len(world.bus.log(Channel.DEAD_LETTERS)) == 2


async def test_a_dry_run_says_what_would_be_and_changes_nothing() -> None:
    """Of either act."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    replay = await world.letters.replay(letter_id, ANN, is_dry=True)
    discard = await world.discarder.discard(letter_id, ANN, is_dry=True)
    assert (replay.status, replay.is_changed) == (ParkedStatus.WAITING, True)
    assert (discard.status, discard.is_changed) == (ParkedStatus.DISCARDED, True)
    letter, trail = await world.letters.show(letter_id)
    assert (letter.parked.status, list(trail)) == (ParkedStatus.DEAD, [])
    assert await world.order("p1") is None


# ── discarding ──────────────────────────────────────────────────────────────────────────────────


async def test_a_discarded_promise_is_rejected_with_its_event_and_its_unit_is_free() -> None:
    """Row first, then the unit; the trail names who and why."""
    world = World()
    await world.sell(units=1)
    letter_id = await parked_promise(world)
    done = await world.discarder.discard(letter_id, ANN)
    assert (done.status, done.is_changed) == (ParkedStatus.DISCARDED, True)
    assert await status(world, "p1") == DISCARDED
    [event] = await world.events()
    assert (event.type, event.reason) == (OrderEventType.PURCHASE_REJECTED, "DISCARDED")
    books = await world.books()
    assert (books.available, books.queued, books.journal) == (1, 0, 0)
    _, [entry] = await world.letters.show(letter_id)
    assert (entry.act, entry.signed) == (Act.DISCARD, ANN)
    again = await world.discarder.discard(letter_id, ANN)
    assert not again.is_changed
    assert await world.events() == []
    with pytest.raises(Conflict, match="discarded"):
        await world.letters.replay(letter_id, ANN)
    await world.parking.deliver([world.message(request("p2", user="bob"), 9)])
    assert await status(world, "p2") == ("CONFIRMED", None)


STEPS = ("sign", "record", "follow", "discard")


@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_of_a_discard_is_mended_by_the_same_again(
    step: str, after: bool
) -> None:
    """One row, one event, one unit back; at no point is the unit free without its row."""
    world = World()
    await world.sell(units=1)
    letter_id = await parked_promise(world)
    owner: Any = {
        "sign": world.database.letters,
        "record": world.database.orders,
        "follow": world.gate,
        "discard": world.database.letters,
    }[step]
    whole = getattr(owner, step)

    async def falls(*args: Any, **how: Any) -> Any:
        if after:
            await whole(*args, **how)
        raise Unavailable(Why.DATABASE_AWAY)

    setattr(owner, step, falls)
    with pytest.raises(Unavailable):
        await world.discarder.discard(letter_id, ANN)
    setattr(owner, step, whole)
    books = await world.books()
    assert books.available == 0 or await status(world, "p1") == DISCARDED
    # The sweeper meanwhile publishes nothing again: the row stands, or the letter waits.
    world.clock.ms += 3_600_000
    assert await world.sweeper.sweep() == 0
    await world.discarder.discard(letter_id, Signed(who="bob"))
    assert await status(world, "p1") == DISCARDED
    assert len(await world.events()) == 1
    books = await world.books()
    assert (books.available, books.queued, books.journal) == (1, 0, 0)
    assert (await letter_of(world, letter_id)).parked.status is ParkedStatus.DISCARDED
    assert await world.sweeper.sweep() == 0


async def test_an_order_that_stands_is_followed_and_told_and_never_rejected() -> None:
    """Somebody replayed it between the operator's look and the discard."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    await world.parking.deliver([world.message(promise(sale_of(world), "p1"), 7)])
    assert await status(world, "p1") == ("CONFIRMED", None)
    await world.events()
    done = await world.discarder.discard(letter_id, ANN)
    assert "stands CONFIRMED" in done.detail
    assert await status(world, "p1") == ("CONFIRMED", None)
    assert await world.events() == []
    books = await world.books()
    assert (books.sold, books.available) == (1, 9)


async def test_what_nobody_can_read_is_ended_as_a_message_alone() -> None:
    """No purchase is known, so no row is written."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(b"nonsense")])
    [letter] = await world.letters.matching(Wanted(), 10)
    done = await world.discarder.discard(letter.letter_id, ANN)
    assert done.is_changed
    assert world.witness.rows == []


async def test_an_id_that_is_somebody_elses_ends_nobodys_purchase() -> None:
    """A key-reused letter names a purchase that is not its own."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(request("p1", user="ann"))])
    await world.parking.deliver([world.message(request("p1", user="eve"), 1)])
    [letter] = await world.letters.matching(Wanted(reason="key-reused"), 10)
    await world.discarder.discard(letter.letter_id, ANN)
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_a_promise_under_somebody_elses_id_ends_nobodys_promise() -> None:
    """Two of them on the engine's own channel raised the alarm; the first is on its way yet."""
    world = World()
    await world.sell()
    assert await reserved(world) is PurchaseState.RESERVED
    fact = promise(sale_of(world), "p1")
    eves = attrs.evolve(fact, purchases=(attrs.evolve(fact.purchases[0], user_id=UserId("eve")),))
    await world.parking.deliver([world.message(eves)])
    [letter] = await world.letters.matching(Wanted(reason="key-reused"), 10)
    await world.discarder.discard(letter.letter_id, ANN)
    assert await world.order("p1") is None
    assert (await world.books()).reserved == 1


async def test_an_outside_request_that_took_a_unit_gives_it_back() -> None:
    """It failed between gate and database: its O would be held for ever."""
    world = World()
    await world.sell(units=1)
    stores = world.database.orders.record
    cannot_store(world, "p1")
    await world.parking.deliver([world.message(request("p1"))])
    world.database.orders.record = stores  # type: ignore[method-assign]
    assert (await world.books()).outside == 1
    [letter] = await world.letters.matching(Wanted(statuses=(ParkedStatus.RETRYING,)), 10)
    await world.discarder.discard(letter.letter_id, ANN)
    assert await status(world, "p1") == DISCARDED
    assert (await world.books()).available == 1


async def test_an_outside_letter_under_a_buyers_id_ends_no_promise() -> None:
    """The buyer was answered 200; the letter of another service is ended alone."""
    world = World()
    await world.sell()
    record = await reserved(world)
    assert record is PurchaseState.RESERVED
    letter = ParkedMessage(
        message=world.message(request("p1"), 5), status=ParkedStatus.DEAD, reason="RuntimeError"
    )
    await world.database.parked.park([letter])
    [found] = await world.letters.matching(Wanted(), 10)
    await world.discarder.discard(found.letter_id, ANN)
    assert await world.order("p1") is None
    assert (await world.books()).reserved == 1


async def reserved(world: World) -> PurchaseState:
    """Take a unit over HTTP whose message no worker took yet."""
    with_nobody = await world.desk.buy(request("p1"))
    assert not isinstance(with_nobody, Accepted)
    [record] = await world.gate.find([(SaleId("1.1"), Epoch(1))], request("p1").purchase_id)
    assert record is not None
    assert not isinstance(record, Unavailable)
    return record.state


async def test_a_letter_of_several_purchases_ends_each_of_them() -> None:
    """One message of the engine's own channel may carry what hundreds were promised."""
    world = World()
    await world.sell()
    fact = promise(sale_of(world), "p1", "p2", "p3")
    message = world.message(fact)
    letter = ParkedMessage(
        message=message, status=ParkedStatus.DEAD, reason="RuntimeError", holds_unit=True
    )
    await world.database.parked.park([letter])
    await world.parking.deliver([world.message(promise(sale_of(world), "p2"), 3)])
    [found] = await world.letters.matching(Wanted(), 10)
    done = await world.discarder.discard(found.letter_id, ANN)
    assert "p2 of 1.1 stands CONFIRMED" in done.detail
    assert await status(world, "p1") == await status(world, "p3") == DISCARDED
    assert await status(world, "p2") == ("CONFIRMED", None)
    assert (await world.books()).available == 9


async def test_a_promise_of_a_sale_that_never_was_is_ended_with_its_row() -> None:
    """Its buyer may ask, and be told."""
    world = World()
    await world.sell()
    fact = attrs.evolve(promise(sale_of(world), "p1"), sale_id=SaleId("9.9"))
    assert isinstance(fact, PurchasesAccepted)
    await world.parking.deliver([world.message(fact)])
    [found] = await world.letters.matching(Wanted(reason="unknown-sale"), 10)
    await world.discarder.discard(found.letter_id, ANN)
    assert await status(world, "p1") == DISCARDED


async def test_what_killed_its_workers_is_not_decoded_by_whoever_discards_it() -> None:
    """The operator's process would be the fourth; what it promised the journal still knows."""
    world = World()
    await world.sell()
    poison = world.message(promise(sale_of(world), "p1"))
    await world.database.parked.park([quarantined(poison)])

    decoded: list[Message] = []

    async def deadly(messages: Sequence[Message]) -> list[Decoded | Corrupt]:
        decoded.extend(messages)
        raise RuntimeError

    world.codec.decode = deadly  # type: ignore[method-assign]
    [found] = await world.letters.matching(Wanted(holds_unit=True), 10)
    done = await world.discarder.discard(found.letter_id, ANN)
    assert decoded == []
    assert done.is_changed
    assert "publishes it again" in done.detail


async def test_what_a_quarantined_message_promised_is_published_again() -> None:
    """Nobody could read it; the gate's record holds all that a message needs."""
    world = World()
    await world.sell()
    assert await reserved(world) is PurchaseState.RESERVED
    poison = Message(channel=Channel.ACCEPTED, body=b"poison", origin="t:0:1")
    await world.database.parked.park([quarantined(poison)])
    world.clock.ms += MINUTE_MS
    async with world.worker():
        assert await world.sweeper.sweep() == 1
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_while_a_sale_is_unarmed_a_discard_leaves_the_unit_to_the_rebuild() -> None:
    """The row stands first; the rebuild reads it."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    world.gate._armed.clear()
    await world.discarder.discard(letter_id, ANN)
    assert await status(world, "p1") == DISCARDED


async def test_while_the_gate_is_away_a_discard_is_not_done() -> None:
    """The row stands, the letter is still DEAD, and the operator tries again."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    follow = world.gate.follow

    async def away(_: object) -> list[int | Unavailable]:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.follow = away  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.discarder.discard(letter_id, ANN)
    world.gate.follow = follow  # type: ignore[method-assign]
    assert (await letter_of(world, letter_id)).parked.status is ParkedStatus.DEAD


async def test_a_sale_with_a_discarded_letter_can_be_settled() -> None:
    """What kept it open was the unit that nobody would ever sell."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    await world.selling.close(SaleId("1.1"))
    with pytest.raises(Conflict, match="parked"):
        await world.selling.settle(SaleId("1.1"))
    await world.discarder.discard(letter_id, ANN)
    assert (await world.selling.settle(SaleId("1.1"))).sale.state is SaleState.SETTLED


async def test_an_unknown_letter_is_said_so() -> None:
    """By every act."""
    world = World()
    for act in (
        world.letters.show(404),
        world.letters.replay(404, ANN),
        world.discarder.discard(404, ANN),
    ):
        with pytest.raises(Conflict, match="404") as raised:
            await act
        assert raised.value.code == "unknown-letter"


async def test_a_replayed_letter_cannot_be_discarded() -> None:
    """It is done."""
    world = World()
    await world.sell()
    letter_id = await parked_promise(world)
    await world.letters.replay(letter_id, ANN)
    await fed(world)
    with pytest.raises(Conflict, match="replayed"):
        await world.discarder.discard(letter_id, ANN)
    assert isinstance(await world.books(), GateBooks)
