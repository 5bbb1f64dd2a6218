"""The cold path: safe to run twice, and one message's trouble is not another's."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from flashsale_core.arming import expected_books, rebuild_stopped
from flashsale_core.board import SaleBoard
from flashsale_core.errors import StaleEpoch, Unavailable, Why
from flashsale_core.events import Channel, ParkedStatus, PurchaseAccepted, PurchasesAccepted
from flashsale_core.fulfilment import PURCHASES_MAX
from flashsale_core.model import (
    Epoch,
    GateRecord,
    ItemId,
    PurchaseId,
    PurchaseState,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.outcomes import Refused
from flashsale_core.ports import (
    Alarm,
    ClaimBatch,
    Decision,
    FollowBatch,
    GateReply,
    SaleBooks,
    Standing,
)
from flashsale_core.selling import SaleDesk
from tests.unit.world import START_MS, World, request


def promise(sale: Sale, *purchases: str, epoch: int | None = None) -> PurchasesAccepted:
    """Make what one call of the gate accepted."""
    return PurchasesAccepted(
        sale_id=sale.sale_id,
        epoch=Epoch(epoch) if epoch is not None else sale.epoch,
        purchases=tuple(
            PurchaseAccepted(
                purchase_id=PurchaseId(one),
                user_id=UserId("ann"),
                quantity=1,
                accepted_at_ms=START_MS - 5,
                requested_at_ms=START_MS - 9,
                source=Source.MOBILE,
            )
            for one in purchases
        ),
    )


def sale_of(world: World, item: str = "1") -> Sale:
    """Find the listed sale."""
    sale = world.board.seen(ItemId(item))
    assert sale is not None
    return sale


async def status(world: World, purchase: str) -> tuple[str, str | None] | None:
    """Say how the row stands."""
    row = await world.order(purchase)
    return (row.status.value, row.reason) if row is not None else None


async def test_an_outside_request_becomes_an_order() -> None:
    """The same gate, without a promise."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(request())])
    assert await status(world, "p1") == ("CONFIRMED", None)
    row = await world.order("p1")
    assert row is not None
    assert (row.door, row.accepted_at_ms) == ("outside", START_MS)
    books = await world.books()
    assert (books.sold, books.outside, books.journal) == (1, 0, 0)


async def test_refused_outside_requests_are_rejected_with_their_reason() -> None:
    """A row and an event each; the buyer tries again with a new id."""
    no = Refused(code="NO_BOTS")
    world = World(rules=[lambda asked, _: no if asked.user_id == "bot" else None])
    await world.sell(units=1)
    await world.sell("2", per_user_limit=1)
    await world.sell("3", opens_at_ms=START_MS + 1)
    await world.sell("4", closes_at_ms=START_MS)
    asked = [
        request("bot", user="bot"),
        request("won"),
        request("sold-out"),
        request("limit", item="2", quantity=2),
        request("early", item="3"),
        request("late", item="4"),
        request("ghost", item="ghost"),
    ]
    await world.parking.deliver([world.message(one, at) for at, one in enumerate(asked)])
    reasons = {event.purchase_id: event.reason for event in await world.events()}
    assert reasons == {
        "bot": "NO_BOTS",
        "won": None,
        "sold-out": "SOLD_OUT",
        "limit": "LIMIT_REACHED",
        "early": "NOT_OPEN",
        "late": "CLOSED",
        "ghost": "UNKNOWN_ITEM",
    }
    row = await world.order("ghost")
    assert row is not None
    assert row.sale_id == "ghost.0"


@pytest.mark.parametrize("times", [2, 3])
async def test_the_same_delivery_again_changes_nothing(times: int) -> None:
    """Every message may come twice."""
    world = World()
    await world.sell(units=2)
    batch = [world.message(request(f"p{n}"), n) for n in range(3)]
    for _ in range(times):
        await world.parking.deliver(batch)
    assert [await status(world, f"p{n}") for n in range(3)] == [
        ("CONFIRMED", None),
        ("CONFIRMED", None),
        ("REJECTED", "SOLD_OUT"),
    ]
    assert len(await world.events()) == 3
    books = await world.books()
    assert (books.available, books.sold, books.journal) == (0, 2, 0)


async def test_many_purchases_of_an_item_cost_one_gate_call_each_way_and_one_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many messages brought them: one reserve, one record, one follow, each for all."""
    world = World()
    await world.sell(units=1_000)
    calls: list[tuple[str, int]] = []

    def counted(name: str, port: object, size_of: Callable[[Any], int]) -> None:
        inner = getattr(port, name)

        async def call(first: Any, *rest: Any) -> Any:
            calls.append((name, size_of(first)))
            return await inner(first, *rest)

        monkeypatch.setattr(port, name, call)

    counted("reserve", world.gate, lambda batches: len(batches[0].claims))
    counted("follow", world.gate, lambda batches: len(batches[0].sold))
    counted("record", world.database.orders, len)
    promises = [promise(sale_of(world), *(f"p{n}-{m}" for m in range(30))) for n in range(10)]
    await world.parking.deliver([world.message(one, at) for at, one in enumerate(promises)])
    assert calls == [("reserve", 300), ("record", 300), ("follow", 300)]
    assert (await world.books()).sold == 300


async def test_duplicates_within_one_delivery_have_one_effect() -> None:
    """A producer that retries may put both copies into one fetch."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(request(), at) for at in range(3)])
    assert len(await world.events()) == 1
    assert (await world.books()).sold == 1


async def test_a_redelivered_rejection_takes_no_unit_when_units_are_back() -> None:
    """Rule 4: the gate follows the row that stands, never its own new answer."""
    world = World()
    await world.sell(units=1)
    sale = sale_of(world)
    await world.parking.deliver([world.message(request("p1")), world.message(request("p2"), 1)])
    # A gate that has lost p2's burned id, and p1's unit with it.
    raised = await world.database.catalogue.raise_epoch(sale.sale_id)
    token = await world.gate.begin_load(sale.sale_id, raised.epoch, sale.terms, SaleState.OPEN)
    assert token is not None
    empty = expected_books(SaleBooks(sale=raised, records=()))
    await world.gate.arm(sale.sale_id, token, empty)
    await world.board.refresh()
    await world.parking.deliver([world.message(request("p2"), 1)])
    assert await status(world, "p2") == ("REJECTED", "SOLD_OUT")
    assert (await world.books()).available == 1


async def test_a_promise_is_kept_whatever_the_sale_does() -> None:
    """Paused or halted, what holds a unit goes on."""
    world = World()
    await world.sell()
    await world.desk.buy(request("p1"))
    sale = sale_of(world)
    await world.selling.pause(sale.sale_id)
    await world.parking.deliver([world.message(promise(sale, "p1", "stranger"))])
    assert await status(world, "p1") == ("CONFIRMED", None)
    [waiting] = world.witness.set_aside
    assert (waiting.status, waiting.reason) == (ParkedStatus.WAITING, "paused")
    assert waiting.purchase_id == "stranger"
    [alone] = await world.codec.decode([waiting.message])
    assert isinstance(alone, PurchasesAccepted)
    assert [one.purchase_id for one in alone.purchases] == ["stranger"]


async def test_a_message_of_an_older_epoch_promises_nothing() -> None:
    """It takes a unit like anybody from outside, or is rejected."""
    world = World()
    await world.sell(units=1)
    sale = sale_of(world)
    await world.parking.deliver([world.message(promise(sale, "p1", epoch=0))])
    await world.parking.deliver([world.message(promise(sale, "p2", epoch=0), 1)])
    assert await status(world, "p1") == ("CONFIRMED", None)
    assert await status(world, "p2") == ("REJECTED", "SOLD_OUT")


async def test_poison_is_dead_at_once_untouched_and_its_neighbours_go_on() -> None:
    """Bytes, key, headers and reason are kept; a copy goes to the dead letters."""
    world = World()
    await world.sell()
    poison = world.message(b"\x00\xffnot a fact", 1)
    batch = [world.message(request("p1")), poison, world.message(request("p2"), 2)]
    await world.parking.deliver(batch)
    assert await status(world, "p1") == await status(world, "p2") == ("CONFIRMED", None)
    [dead] = world.witness.set_aside
    assert dead.status is ParkedStatus.DEAD
    assert dead.message == poison
    [letter] = world.bus.log(Channel.DEAD_LETTERS)
    assert (letter.body, letter.key) == (poison.body, poison.key)
    await world.parking.deliver(batch)
    assert len(world.witness.set_aside) == 1


async def test_the_same_id_with_other_content_is_a_dead_letter() -> None:
    """It never was that purchase."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(request("p1")), world.message(request("p1", "eve"))])
    [dead] = world.witness.set_aside
    assert (dead.status, dead.reason) == (ParkedStatus.DEAD, "key-reused")
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_requests_for_an_unarmed_sale_wait_and_others_go_on() -> None:
    """One sale's lost gate is not another's."""
    world = World()
    await world.sell("1")
    await world.sell("2")
    await world.gate.drop(sale_of(world, "1").sale_id)
    await world.parking.deliver(
        [world.message(request("p1", item="1")), world.message(request("p2", item="2"), 1)]
    )
    assert await status(world, "p1") is None
    assert await status(world, "p2") == ("CONFIRMED", None)
    [waiting] = world.witness.set_aside
    assert (waiting.status, waiting.reason) == (ParkedStatus.WAITING, "not-armed")


async def test_promises_of_a_lost_gate_are_kept_by_the_database_alone() -> None:
    """From a rebuild's first step on PostgreSQL arbitrates; the rebuild reads the row."""
    world = World()
    await world.sell()
    await world.desk.buy(request("p1"))
    sale = sale_of(world)
    await world.gate.drop(sale.sale_id)
    await world.database.catalogue.raise_epoch(sale.sale_id)
    await world.board.refresh()
    await world.parking.deliver([world.message(promise(sale, "p1"))])
    assert await status(world, "p1") == ("CONFIRMED", None)
    assert world.witness.set_aside == []


async def test_promises_of_a_lost_gate_wait_until_a_rebuild_begins() -> None:
    """Before that nobody knows whether the gate is lost for everybody; nothing is set aside."""
    world = World()
    await world.sell()
    await world.desk.buy(request("p1"))
    sale = sale_of(world)
    await world.gate.drop(sale.sale_id)
    with pytest.raises(StaleEpoch):
        await world.parking.deliver([world.message(promise(sale, "p1"))])
    assert await status(world, "p1") is None
    assert world.witness.set_aside == []


async def test_a_late_message_of_an_earlier_life_promises_nothing_while_the_gate_is_lost() -> None:
    """It landed after its life had ended; it waits for the new life's gate like any stranger."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.gate.drop(sale.sale_id)
    await world.database.catalogue.raise_epoch(sale.sale_id)
    await world.board.refresh()
    await world.parking.deliver([world.message(promise(sale, "late", epoch=0))])
    assert await status(world, "late") is None
    [waiting] = world.witness.set_aside
    assert (waiting.status, waiting.reason) == (ParkedStatus.WAITING, "not-armed")


async def test_a_late_copy_for_a_settled_sale_changes_nothing_and_a_stranger_is_dead() -> None:
    """The gate has forgotten the sale; the rows have not."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.desk.buy(request("p1"))
    await world.parking.deliver([world.message(promise(sale, "p1"))])
    await world.selling.close(sale.sale_id)
    await world.selling.settle(sale.sale_id)
    await world.gate.drop(sale.sale_id)
    await world.parking.deliver([world.message(promise(sale, "p1"))])
    assert world.witness.set_aside == []
    await world.parking.deliver([world.message(promise(sale, "stranger"), 1)])
    [dead] = world.witness.set_aside
    assert (dead.status, dead.reason) == (ParkedStatus.DEAD, "sale-settled")


async def test_a_batch_that_met_a_new_epoch_begins_again() -> None:
    """The list was old: nothing is decided by it."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    stale = world.board.unsettled()
    await world.database.catalogue.raise_epoch(sale.sale_id)
    await world.gate.drop(sale.sale_id)
    world.board.replace(stale)
    with pytest.raises(StaleEpoch):
        await world.fulfilment.process([world.message(request())])
    assert await status(world, "p1") is None


async def test_a_gate_proven_wrong_halts_the_sale() -> None:
    """Rule 7: the database has fewer units than the gate handed out."""
    world = World()
    await world.sell(units=2)
    sale = sale_of(world)
    ledger = world.gate._ledgers[sale.sale_id]
    ledger.terms = attrs.evolve(ledger.terms, units=3)
    ledger.available = 3
    batch = [world.message(request(f"p{n}"), n) for n in range(3)]
    await world.parking.deliver(batch)
    assert await status(world, "p2") == ("REJECTED", "GATE_DRIFT")
    assert Alarm.GATE_DRIFT in world.witness.alarms
    books = await world.books()
    assert books.state is SaleState.HALTED
    assert books.outside == 1  # what drifted stays held until a rebuild
    await world.board.refresh()
    assert sale_of(world).state is SaleState.HALTED


async def test_a_rebuild_puts_a_halted_sales_books_right_and_leaves_it_paused() -> None:
    """An operator who knows why they were wrong resumes it."""
    world = World()
    await world.sell(units=2)
    sale = sale_of(world)
    await world.parking.deliver([world.message(request())])
    catalogue = world.database.catalogue
    await catalogue.change_state(sale.sale_id, SaleState.HALTED, expected=[SaleState.OPEN])
    rebuilt = await rebuild_stopped(catalogue, world.gate, sale.sale_id)
    assert (rebuilt.epoch, rebuilt.state) == (2, SaleState.PAUSED)
    await world.board.refresh()
    books = await world.books()
    assert (books.state, books.available, books.sold) == (SaleState.PAUSED, 1, 1)
    view = await world.selling.resume(sale.sale_id)
    assert view.sale.state is SaleState.OPEN


async def test_a_promise_for_a_sale_that_never_was_is_dead_and_an_alarm() -> None:
    """Somebody else writes to our own channel."""
    world = World()
    await world.sell()
    lost = attrs.evolve(promise(sale_of(world), "p1"), sale_id=SaleId("ghost.1"))
    await world.parking.deliver([world.message(lost)])
    [dead] = world.witness.set_aside
    assert (dead.status, dead.reason) == (ParkedStatus.DEAD, "unknown-sale")
    assert Alarm.UNIT_PARKED in world.witness.alarms


async def test_a_dependency_that_is_away_dead_letters_nothing() -> None:
    """The batch comes again, whole."""
    world = World()
    await world.sell()

    async def away(*_: object) -> list[object]:
        raise Unavailable(Why.DATABASE_AWAY)

    world.database.orders.record = away  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(request())])
    assert world.witness.set_aside == []
    assert (await world.books()).outside == 1


async def test_the_state_of_a_followed_purchase_is_final() -> None:
    """S, and out of the journal."""
    world = World()
    await world.sell()
    await world.parking.deliver([world.message(request())])
    sale = sale_of(world)
    [record] = await world.gate.find([(sale.sale_id, sale.epoch)], PurchaseId("p1"))
    assert record is not None
    assert not isinstance(record, Unavailable)
    assert record.state is PurchaseState.SOLD


async def test_a_gate_that_is_away_for_one_sale_is_waited_for() -> None:
    """A server that refuses is no sale that is not sellable: nothing is decided, nothing parked."""
    world = World()
    await world.sell()

    async def full(batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        return [Unavailable(Why.GATE_AWAY, "out of memory") for _ in batches]

    world.gate.reserve = full  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(promise(sale_of(world), "p1"))])
    assert await status(world, "p1") is None
    assert world.witness.set_aside == []


async def test_a_crowd_of_unknown_items_costs_a_batch_one_look_at_the_list() -> None:
    """Looks are a tenth of a second apart: one for each request would hold all others up."""
    world = World()
    await world.sell()
    looks = 0
    current = world.database.catalogue.current

    async def counted() -> list[Sale]:
        nonlocal looks
        looks += 1
        return await current()

    world.database.catalogue.current = counted  # type: ignore[method-assign]
    crowd = [world.message(request(f"p{n}", item=f"no{n}"), n) for n in range(20)]
    await world.parking.deliver([*crowd, world.message(request("mine"), 20)])
    assert looks == 1
    assert await status(world, "p19") == ("REJECTED", "UNKNOWN_ITEM")
    assert await status(world, "mine") == ("CONFIRMED", None)


async def test_a_settled_sale_refuses_nothing_that_the_next_sale_would_take() -> None:
    """A rejection at the outside door is final, so the list is read again before it."""
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
    await elsewhere.settle(SaleId("1.1"))
    await world.board.refresh()
    await elsewhere.init(ItemId("1"), SaleTerms(units=5))
    await world.parking.deliver([world.message(request())])
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_a_message_of_an_older_epoch_proves_nothing_though_the_list_changes_midway() -> None:
    """Only a message of the gate's own epoch may make a unit QUEUED, which is answered 200."""
    world = World()
    await world.sell()
    old, sale = promise(sale_of(world), "p1"), sale_of(world)
    await rebuild_stopped(world.database.catalogue, world.gate, sale.sale_id)
    elsewhere = attrs.evolve(promise(sale, "p2"), sale_id=SaleId("ghost.1"))
    get = world.database.catalogue.get

    async def slow(sale_id: SaleId) -> Sale | None:
        await world.board.refresh()
        return await get(sale_id)

    world.database.catalogue.get = slow  # type: ignore[method-assign]
    messages = [old, elsewhere, promise(sale, "p3")]
    with pytest.raises(StaleEpoch):
        await world.fulfilment.process([world.message(m, n) for n, m in enumerate(messages)])
    [record] = await world.gate.find([(sale.sale_id, Epoch(2))], PurchaseId("p1"))
    assert record is None


async def test_a_delivery_of_any_size_is_recorded_in_bounded_transactions() -> None:
    """A crowd's messages hold hundreds of purchases each; one transaction holds a few thousand."""
    world = World()
    await world.sell(units=10_000)
    sale = sale_of(world)
    sizes: list[int] = []
    record = world.database.orders.record

    async def counted(decisions: list[Decision], *fences: dict[SaleId, Epoch]) -> list[Standing]:
        sizes.append(len(decisions))
        return await record(decisions, *fences)

    world.database.orders.record = counted  # type: ignore[method-assign,assignment]
    batch = [
        world.message(promise(sale, *(f"p{at}-{n}" for n in range(500))), at) for at in range(9)
    ]
    ghost = world.message(request("ghost", item="ghost"), 9)
    await world.parking.deliver([*batch, ghost])
    assert max(sizes) <= PURCHASES_MAX + 1
    books = await world.books()
    assert (books.sold, books.journal) == (4_500, 0)
    assert await status(world, "ghost") == ("REJECTED", "UNKNOWN_ITEM")


async def test_a_gate_that_missed_what_its_row_says_hears_it_when_the_message_comes_again() -> None:
    """Whoever wrote the row: a worker may have died between its commit and the gate."""
    world = World()
    await world.sell()
    delivery = [world.message(promise(sale_of(world), "p1"))]
    follows = world.gate.follow

    async def falls(_: Sequence[FollowBatch]) -> list[int | Unavailable]:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.follow = falls  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.deliver(delivery)
    assert await status(world, "p1") == ("CONFIRMED", None)
    world.gate.follow = follows  # type: ignore[method-assign]
    await world.parking.deliver(delivery)
    books = await world.books()
    assert (books.sold, books.journal) == (1, 0)


async def test_a_batch_with_poison_is_fulfilled_at_its_first_try() -> None:
    """Nothing is halved for it: a thousand neighbours cost one transaction, not twenty."""
    world = World()
    await world.sell()
    poison = world.message(b"no fact", 1)
    done = await world.fulfilment.process([world.message(request("p1")), poison])
    assert await status(world, "p1") == ("CONFIRMED", None)
    assert [[one.status for one in left] for left in done.left] == [[], [ParkedStatus.DEAD]]


async def test_a_message_of_an_older_epoch_does_not_prove_that_a_purchase_is_queued() -> None:
    """A rebuild would set it aside: a buyer who asks again must not hear 200 because of it."""
    world = World()
    await world.sell()
    sale = sale_of(world)
    await world.desk.buy(request("p1"))

    async def away(*_: object) -> list[Standing]:
        raise Unavailable(Why.DATABASE_AWAY)

    world.database.orders.record = away  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(promise(sale, "p1", epoch=0))])
    [found] = await world.gate.find([(sale.sale_id, sale.epoch)], PurchaseId("p1"))
    assert isinstance(found, GateRecord)
    assert found.state is not PurchaseState.QUEUED
