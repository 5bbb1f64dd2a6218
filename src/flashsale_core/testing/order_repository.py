"""What every OrderRepository must do. Subclass the contract and give it a `database` fixture.

    class TestMyOrders(OrderRepositoryContract):
        @pytest.fixture
        async def database(self):
            yield ...      # an opened `flashsale_core.opening.Database`, empty

The four contracts of a database take the same fixture: what one port writes, another reads.
"""

import asyncio
from collections.abc import Iterable, Sequence

import attrs
import pytest

from flashsale_core.errors import StaleEpoch
from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import (
    PRICE_MINOR_MAX,
    QUANTITY_MAX,
    TIME_MS_MAX,
    UNITS_MAX,
    Door,
    Epoch,
    EventId,
    ItemId,
    Order,
    OrderStatus,
    PurchaseId,
    Reason,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
    sale_id_of,
)
from flashsale_core.occurrence import occurrence_id
from flashsale_core.opening import Database
from flashsale_core.ports import Decision, Standing

ITEM = ItemId("shoe")
OTHER_ITEM = ItemId("hat")
REQUESTED_MS = 1_700_000_000_123
ACCEPTED_MS = 1_700_000_000_456
ROUNDS = 20
"""How often a race is run: one that goes wrong does so within the first few."""
EVERYTHING = 10_000
"""More facts than any contract writes."""


def decision(
    sale: Sale, purchase: str, *, quantity: int = 1, reason: str | None = None
) -> Decision:
    """Decide about a purchase of a sale; confirmed unless there is a reason."""
    return Decision(
        sale_id=sale.sale_id,
        item_id=sale.item_id,
        purchase_id=PurchaseId(purchase),
        user_id=UserId(f"user-of-{purchase}"),
        quantity=quantity,
        source=Source.MOBILE,
        event_id=EventId("black-friday"),
        door=Door.HTTP,
        requested_at_ms=REQUESTED_MS,
        accepted_at_ms=ACCEPTED_MS,
        reason=reason,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


def unknown_item(purchase: str, item: str = "nowhere") -> Decision:
    """Decide about a purchase of an item that no sale knows; filed under round 0."""
    return Decision(
        sale_id=sale_id_of(ItemId(item), 0),
        item_id=ItemId(item),
        purchase_id=PurchaseId(purchase),
        user_id=UserId("ann"),
        quantity=1,
        source=Source.WEB,
        event_id=None,
        door=Door.OUTSIDE,
        requested_at_ms=REQUESTED_MS,
        accepted_at_ms=0,
        reason=Reason.UNKNOWN_ITEM.value,
    )


def epochs_of(*sales: Sale) -> dict[SaleId, Epoch]:
    """Name the epochs that a batch believes in."""
    return {sale.sale_id: sale.epoch for sale in sales}


async def told_events(database: Database) -> list[OrderEvent]:
    """Take all facts off the outbox."""
    told: list[OrderEvent] = []

    async def publish(facts: Sequence[OrderEvent]) -> None:
        told.extend(facts)

    await database.outbox.relay(publish, EVERYTHING)
    return told


async def seen(database: Database, sale: Sale) -> Sale:
    """Read the sale as it is now, and check that no unit appeared or vanished."""
    found = await database.catalogue.get(sale.sale_id)
    assert found is not None
    assert found.terms.units == found.available + found.pending + found.sold
    assert found.available >= 0
    return found


def statuses(standings: Iterable[Standing]) -> list[tuple[str, str | None]]:
    """Shorten standings to what tests compare."""
    return [(one.status.value, one.reason) for one in standings]


CONFIRMED = (OrderStatus.CONFIRMED.value, None)
SOLD_OUT = (OrderStatus.REJECTED.value, Reason.SOLD_OUT.value)
DRIFT = (OrderStatus.REJECTED.value, Reason.GATE_DRIFT.value)


class OrderRepositoryContract:
    """One batch, one transaction, and the row that stands for each purchase."""

    @pytest.fixture
    async def sale(self, database: Database) -> Sale:
        """Open a sale of ten units."""
        return await database.catalogue.create(ITEM, SaleTerms(units=10))

    @pytest.fixture
    async def other_sale(self, database: Database) -> Sale:
        """Open a sale of another item."""
        return await database.catalogue.create(OTHER_ITEM, SaleTerms(units=10))

    async def test_a_confirmed_order_takes_its_units_from_the_sale(
        self, database: Database, sale: Sale
    ) -> None:
        """Stock and row move together: available goes down, sold goes up."""
        batch = [decision(sale, "p1", quantity=3), decision(sale, "p2")]
        standings = await database.orders.record(batch, epochs_of(sale))
        assert statuses(standings) == [CONFIRMED, CONFIRMED]
        assert all(standing.is_new for standing in standings)
        after = await seen(database, sale)
        assert (after.available, after.sold) == (6, 4)

    async def test_a_rejected_order_takes_nothing(self, database: Database, sale: Sale) -> None:
        """A refusal has a row of its own, with its reason."""
        refused = decision(sale, "p1", reason=Reason.SOLD_OUT.value)
        standings = await database.orders.record([refused], epochs_of(sale))
        assert statuses(standings) == [SOLD_OUT]
        assert (await seen(database, sale)).available == 10

    async def test_answers_come_in_the_order_of_the_decisions(
        self, database: Database, sale: Sale, other_sale: Sale
    ) -> None:
        """However an adapter sorts them for its locks, old rows and new."""
        await database.orders.record([decision(sale, "m")], epochs_of(sale))
        batch = [
            decision(sale, "z"),
            decision(other_sale, "b", reason=Reason.CLOSED.value),
            decision(sale, "m"),
            decision(other_sale, "a"),
            decision(sale, "a"),
        ]
        standings = await database.orders.record(batch, epochs_of(sale, other_sale))
        assert [(one.sale_id, one.purchase_id) for one in standings] == [
            (one.sale_id, one.purchase_id) for one in batch
        ]
        assert [one.is_new for one in standings] == [True, True, False, True, True]
        assert standings[1].reason == Reason.CLOSED.value

    async def test_an_order_tells_the_whole_purchase(self, database: Database, sale: Sale) -> None:
        """The row is the truth after the sale, so nothing of the purchase may be missing."""
        batch = [decision(sale, "p1", quantity=2), decision(sale, "p2", reason="REGION_BLOCKED")]
        await database.orders.record(batch, epochs_of(sale))
        [confirmed] = await database.orders.find(PurchaseId("p1"))
        expected = Order(
            sale_id=sale.sale_id,
            purchase_id=PurchaseId("p1"),
            item_id=ITEM,
            user_id=UserId("user-of-p1"),
            quantity=2,
            unit_price_minor=None,
            currency=None,
            source=Source.MOBILE,
            event_id=EventId("black-friday"),
            door=Door.HTTP,
            requested_at_ms=REQUESTED_MS,
            accepted_at_ms=ACCEPTED_MS,
            recorded_at_ms=confirmed.recorded_at_ms,
            status=OrderStatus.CONFIRMED,
            reason=None,
        )
        assert confirmed == expected
        [rejected] = await database.orders.find(PurchaseId("p2"))
        assert (rejected.status, rejected.reason) == (OrderStatus.REJECTED, "REGION_BLOCKED")

    async def test_an_order_carries_the_price_of_its_sale(self, database: Database) -> None:
        """A later round may cost something else."""
        terms = SaleTerms(units=1, unit_price_minor=PRICE_MINOR_MAX, currency="CHF")
        sale = await database.catalogue.create(ITEM, terms)
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        [order] = await database.orders.find(PurchaseId("p1"))
        assert (order.unit_price_minor, order.currency) == (PRICE_MINOR_MAX, "CHF")

    async def test_the_largest_values_come_back_as_they_were(self, database: Database) -> None:
        """The model's limits are the database's limits."""
        item = ItemId("i" * 64)
        sale = await database.catalogue.create(item, SaleTerms(units=UNITS_MAX))
        largest = attrs.evolve(
            decision(sale, "p" * 64, quantity=QUANTITY_MAX, reason="R" * 64),
            user_id=UserId("u" * 64),
            event_id=EventId("e" * 64),
            requested_at_ms=TIME_MS_MAX,
            accepted_at_ms=TIME_MS_MAX,
        )
        whole = decision(sale, "all", quantity=UNITS_MAX)
        await database.orders.record([largest, whole], epochs_of(sale))
        [order] = await database.orders.find(PurchaseId("p" * 64))
        assert (order.requested_at_ms, order.accepted_at_ms) == (TIME_MS_MAX, TIME_MS_MAX)
        assert (order.item_id, order.quantity) == (item, QUANTITY_MAX)
        assert (await seen(database, sale)).sold == UNITS_MAX

    # ── idempotency ─────────────────────────────────────────────────────────────────────────────

    async def test_the_same_batch_again_changes_nothing(
        self, database: Database, sale: Sale
    ) -> None:
        """Messages come at least once; a lost commit is asked again whole."""
        batch = [decision(sale, "p1"), decision(sale, "p2", reason=Reason.SOLD_OUT.value)]
        await database.orders.record(batch, epochs_of(sale))
        again = await database.orders.record(batch, epochs_of(sale))
        assert statuses(again) == [CONFIRMED, SOLD_OUT]
        assert not any(standing.is_new for standing in again)
        assert (await seen(database, sale)).sold == 1
        assert await database.outbox.backlog() == 2

    async def test_the_row_that_stands_wins_over_a_later_decision(
        self, database: Database, sale: Sale
    ) -> None:
        """Whoever wrote it: the gate follows the row, never the other way."""
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        refused = decision(sale, "p2", reason=Reason.SOLD_OUT.value)
        await database.orders.record([refused], epochs_of(sale))
        batch = [decision(sale, "p1", reason=Reason.CLOSED.value), decision(sale, "p2")]
        standings = await database.orders.record(batch, epochs_of(sale))
        assert statuses(standings) == [CONFIRMED, SOLD_OUT]
        assert (await seen(database, sale)).sold == 1

    async def test_the_same_purchase_id_in_two_sales_is_two_purchases(
        self, database: Database, sale: Sale, other_sale: Sale
    ) -> None:
        """A purchase is identified by sale and id everywhere."""
        batch = [decision(sale, "p1"), decision(other_sale, "p1")]
        standings = await database.orders.record(batch, epochs_of(sale, other_sale))
        assert all(standing.is_new for standing in standings)
        assert [(await seen(database, one)).sold for one in (sale, other_sale)] == [1, 1]

    async def test_a_batch_that_names_a_purchase_twice_is_refused(
        self, database: Database, sale: Sale
    ) -> None:
        """It would take its units twice; nothing of it is written."""
        with pytest.raises(ValueError, match="at most once"):
            await database.orders.record(
                [decision(sale, "p1"), decision(sale, "p2"), decision(sale, "p1")],
                epochs_of(sale),
            )
        assert await database.orders.find(PurchaseId("p2")) == []

    async def test_an_empty_batch_is_nothing(self, database: Database, sale: Sale) -> None:
        """A delivery of dead letters alone decides nothing."""
        assert await database.orders.record([], epochs_of(sale)) == []

    # ── events ──────────────────────────────────────────────────────────────────────────────────

    async def test_a_new_row_tells_one_event(self, database: Database, sale: Sale) -> None:
        """With the row's own time, and an id that is the same however often it is told."""
        batch = [decision(sale, "p1", quantity=2), decision(sale, "p2", reason="REGION_BLOCKED")]
        await database.orders.record(batch, epochs_of(sale))
        created, rejected = await told_events(database)
        [order] = await database.orders.find(PurchaseId("p1"))
        assert created == OrderEvent(
            occurrence_id=occurrence_id(
                sale.sale_id, PurchaseId("p1"), OrderEventType.ORDER_CREATED
            ),
            type=OrderEventType.ORDER_CREATED,
            purchase_id=PurchaseId("p1"),
            user_id=UserId("user-of-p1"),
            item_id=ITEM,
            sale_id=sale.sale_id,
            quantity=2,
            source=Source.MOBILE,
            requested_at_ms=REQUESTED_MS,
            occurred_at_ms=order.recorded_at_ms,
            event_id=EventId("black-friday"),
            reason=None,
            traceparent=batch[0].traceparent,
        )
        assert rejected.type is OrderEventType.PURCHASE_REJECTED
        assert (rejected.purchase_id, rejected.reason) == (PurchaseId("p2"), "REGION_BLOCKED")
        assert rejected.occurrence_id != created.occurrence_id

    # ── epochs ──────────────────────────────────────────────────────────────────────────────────

    async def test_a_batch_of_an_old_epoch_writes_nothing(
        self, database: Database, sale: Sale, other_sale: Sale
    ) -> None:
        """The gate was rebuilt meanwhile and may have sold these units to others."""
        await database.catalogue.raise_epoch(sale.sale_id)
        batch = [decision(other_sale, "p1"), decision(sale, "p2")]
        with pytest.raises(StaleEpoch):
            await database.orders.record(batch, epochs_of(sale, other_sale))
        assert await database.orders.find(PurchaseId("p1")) == []
        assert await database.orders.find(PurchaseId("p2")) == []
        assert await database.outbox.backlog() == 0
        assert [(await seen(database, one)).sold for one in (sale, other_sale)] == [0, 0]

    async def test_a_batch_of_refusals_needs_the_epoch_too(
        self, database: Database, sale: Sale
    ) -> None:
        """A refusal burned the id in a gate that is no more."""
        await database.catalogue.raise_epoch(sale.sale_id)
        with pytest.raises(StaleEpoch):
            await database.orders.record(
                [decision(sale, "p1", reason=Reason.SOLD_OUT.value)], epochs_of(sale)
            )
        assert await database.orders.find(PurchaseId("p1")) == []

    async def test_a_batch_of_repeats_needs_the_epoch_too(
        self, database: Database, sale: Sale
    ) -> None:
        """The gate would else follow rows under an epoch that has passed."""
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        await database.catalogue.raise_epoch(sale.sale_id)
        with pytest.raises(StaleEpoch):
            await database.orders.record([decision(sale, "p1")], epochs_of(sale))

    async def test_an_epoch_of_no_sale_is_stale(self, database: Database, sale: Sale) -> None:
        """Nobody can hold an epoch of a sale that was never made."""
        with pytest.raises(StaleEpoch):
            await database.orders.record(
                [decision(sale, "p1")], {**epochs_of(sale), SaleId("ghost.1"): Epoch(1)}
            )
        assert await database.orders.find(PurchaseId("p1")) == []

    # ── the database refuses what the gate holds ────────────────────────────────────────────────

    async def test_units_that_the_database_does_not_have_prove_the_gate_wrong(
        self, database: Database, sale: Sale
    ) -> None:
        """What fits, in the batch's order, is an order; the rest is GATE_DRIFT; the sale halts."""
        batch = [
            decision(sale, "p3", quantity=6),
            decision(sale, "p1", quantity=5),
            decision(sale, "p4", reason=Reason.SOLD_OUT.value),
            decision(sale, "p2", quantity=4),
            decision(sale, "p0"),
        ]
        standings = await database.orders.record(batch, epochs_of(sale))
        assert statuses(standings) == [CONFIRMED, DRIFT, SOLD_OUT, CONFIRMED, DRIFT]
        assert all(standing.is_new for standing in standings)
        after = await seen(database, sale)
        assert (after.available, after.sold, after.state) == (0, 10, SaleState.HALTED)
        again = await database.orders.record(batch, epochs_of(sale))
        assert statuses(again) == statuses(standings)

    async def test_what_drifted_is_told_as_rejected_and_never_as_created(
        self, database: Database, sale: Sale
    ) -> None:
        """One event a row, of what the row says."""
        batch = [decision(sale, "p1", quantity=10), decision(sale, "p2")]
        await database.orders.record(batch, epochs_of(sale))
        told = await told_events(database)
        assert len(told) == 2
        events = {event.purchase_id: event for event in told}
        assert events[PurchaseId("p1")].type is OrderEventType.ORDER_CREATED
        drifted = events[PurchaseId("p2")]
        assert drifted.type is OrderEventType.PURCHASE_REJECTED
        assert drifted.reason == Reason.GATE_DRIFT.value
        assert drifted.occurrence_id == occurrence_id(
            sale.sale_id, PurchaseId("p2"), OrderEventType.PURCHASE_REJECTED
        )

    async def test_one_sale_s_drift_leaves_its_neighbours_alone(
        self, database: Database, sale: Sale, other_sale: Sale
    ) -> None:
        """They share a batch, not a fault."""
        batch = [decision(sale, "p1", quantity=11), decision(other_sale, "p1", quantity=10)]
        standings = await database.orders.record(batch, epochs_of(sale, other_sale))
        assert statuses(standings) == [DRIFT, CONFIRMED]
        assert (await seen(database, sale)).state is SaleState.HALTED
        after = await seen(database, other_sale)
        assert (after.state, after.sold) == (SaleState.OPEN, 10)

    async def test_a_halted_sale_still_keeps_its_promises(
        self, database: Database, sale: Sale
    ) -> None:
        """Halted stops new promises; those that hold a unit become orders."""
        await database.orders.record([decision(sale, "p1", quantity=11)], epochs_of(sale))
        standings = await database.orders.record([decision(sale, "p2")], epochs_of(sale))
        assert statuses(standings) == [CONFIRMED]

    async def test_drift_does_not_bring_a_settled_sale_back(
        self, database: Database, sale: Sale
    ) -> None:
        """SETTLED is final: the item may have its next sale already."""
        await database.catalogue.change_state(
            sale.sale_id, SaleState.SETTLED, expected=[SaleState.OPEN]
        )
        await database.catalogue.create(ITEM, SaleTerms(units=1))
        late = decision(sale, "p1", quantity=11)
        assert statuses(await database.orders.record([late], epochs_of(sale))) == [DRIFT]
        assert (await seen(database, sale)).state is SaleState.SETTLED

    # ── unknown items ───────────────────────────────────────────────────────────────────────────

    async def test_a_request_for_an_unknown_item_is_rejected_under_round_zero(
        self, database: Database
    ) -> None:
        """It has a row and an event as every final answer has, and no sale."""
        [standing] = await database.orders.record([unknown_item("p1", "9")], {})
        assert (standing.sale_id, standing.reason) == (SaleId("9.0"), Reason.UNKNOWN_ITEM.value)
        [order] = await database.orders.find(PurchaseId("p1"))
        assert (order.item_id, order.unit_price_minor, order.accepted_at_ms) == ("9", None, 0)
        [event] = await told_events(database)
        assert event.type is OrderEventType.PURCHASE_REJECTED

    async def test_an_item_that_has_a_sale_is_never_recorded_as_unknown(
        self, database: Database, sale: Sale
    ) -> None:
        """Whoever believed so read an old list, and must look again."""
        batch = [decision(sale, "p1"), unknown_item("p2", ITEM)]
        with pytest.raises(StaleEpoch):
            await database.orders.record(batch, epochs_of(sale))
        assert await database.orders.find(PurchaseId("p1")) == []
        await database.catalogue.change_state(
            sale.sale_id, SaleState.SETTLED, expected=[SaleState.OPEN]
        )
        with pytest.raises(StaleEpoch):
            await database.orders.record([unknown_item("p2", ITEM)], {})

    async def test_a_repeat_of_an_unknown_item_is_answered_after_its_sale_was_made(
        self, database: Database
    ) -> None:
        """The row stands; only a new one would be wrong."""
        await database.orders.record([unknown_item("p1", ITEM)], {})
        await database.catalogue.create(ITEM, SaleTerms(units=1))
        [standing] = await database.orders.record([unknown_item("p1", ITEM)], {})
        assert (standing.reason, standing.is_new) == (Reason.UNKNOWN_ITEM.value, False)

    # ── looking up ──────────────────────────────────────────────────────────────────────────────

    async def test_a_purchase_is_found_in_named_sales_or_in_all(
        self, database: Database, sale: Sale, other_sale: Sale
    ) -> None:
        """A buyer may know the id alone."""
        batch = [decision(sale, "p1"), decision(other_sale, "p1"), unknown_item("p1")]
        await database.orders.record(batch, epochs_of(sale, other_sale))
        p1 = PurchaseId("p1")
        everywhere = await database.orders.find(p1)
        assert {one.sale_id for one in everywhere} == {one.sale_id for one in batch}
        [there] = await database.orders.find(p1, [sale.sale_id])
        assert there.sale_id == sale.sale_id
        assert await database.orders.find(p1, []) == []
        assert await database.orders.find(PurchaseId("p2")) == []

    async def test_standing_answers_in_order_with_none_where_no_row_is(
        self, database: Database, sale: Sale, other_sale: Sale
    ) -> None:
        """The sweeper asks for many at once."""
        batch = [decision(sale, "p1"), decision(sale, "p2", reason=Reason.SOLD_OUT.value)]
        await database.orders.record(batch, epochs_of(sale))
        p1, p2, p3 = map(PurchaseId, ("p1", "p2", "p3"))
        found = await database.orders.standing(
            [
                (sale.sale_id, p2),
                (other_sale.sale_id, p1),
                (sale.sale_id, p3),
                (sale.sale_id, p1),
                (sale.sale_id, p2),
            ]
        )
        assert [None if one is None else one.reason for one in found] == [
            Reason.SOLD_OUT.value,
            None,
            None,
            None,
            Reason.SOLD_OUT.value,
        ]
        assert [one is not None for one in found] == [True, False, False, True, True]
        assert await database.orders.standing([]) == []

    # ── many at once ────────────────────────────────────────────────────────────────────────────

    async def test_a_large_batch_is_one_batch(self, database: Database) -> None:
        """A worker drains thousands at a time, repeats among them."""
        sale = await database.catalogue.create(ITEM, SaleTerms(units=3_000))
        first = [decision(sale, f"p{number}") for number in range(0, 3_000, 3)]
        await database.orders.record(first, epochs_of(sale))
        batch = [decision(sale, f"p{number}") for number in range(3_000)]
        standings = await database.orders.record(batch, epochs_of(sale))
        assert sum(standing.is_new for standing in standings) == 2_000
        assert set(statuses(standings)) == {CONFIRMED}
        assert (await seen(database, sale)).available == 0
        assert await database.outbox.backlog() == 3_000

    async def test_batches_in_opposite_orders_record_each_purchase_once(
        self, database: Database
    ) -> None:
        """Two workers with the same messages neither deadlock nor take a unit twice."""
        sales = [
            await database.catalogue.create(ItemId(f"item-{number}"), SaleTerms(units=1_000))
            for number in range(2)
        ]
        for number in range(ROUNDS):
            batch = [decision(sale, f"r{number}-p{n}") for n in range(5) for sale in sales]
            answers = await _at_once(database, sales, [batch, batch[::-1], batch])
            new = [standing for standings in answers for standing in standings if standing.is_new]
            assert len(new) == len(batch)
        assert [(await seen(database, sale)).sold for sale in sales] == [ROUNDS * 5] * 2
        assert await database.outbox.backlog() == ROUNDS * 10

    async def test_batches_at_once_never_sell_more_than_there_is(self, database: Database) -> None:
        """The last units go to exactly as many as there are."""
        for number in range(ROUNDS):
            sale = await database.catalogue.create(ItemId(f"item-{number}"), SaleTerms(units=4))
            batches = [[decision(sale, f"b{b}-p{n}") for n in range(3)] for b in range(3)]
            answers = await _at_once(database, [sale], batches)
            outcomes = statuses(one for standings in answers for one in standings)
            assert sorted(outcomes) == sorted([CONFIRMED] * 4 + [DRIFT] * 5)
            assert (await seen(database, sale)).state is SaleState.HALTED


async def _at_once(
    database: Database, sales: Sequence[Sale], batches: Sequence[Sequence[Decision]]
) -> list[list[Standing]]:
    """Record all batches from one moment on."""
    barrier = asyncio.Barrier(len(batches))

    async def record(batch: Sequence[Decision]) -> list[Standing]:
        await barrier.wait()
        return await database.orders.record(batch, epochs_of(*sales))

    return await asyncio.gather(*map(record, batches))
