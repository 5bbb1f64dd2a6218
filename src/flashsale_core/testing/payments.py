"""What every Payments must do. Subclass the contract and give it a `database` fixture."""

import asyncio
from collections import Counter

import attrs
import pytest

from flashsale_core.charges import Charged, Declined, DuePayment, PaymentCounts
from flashsale_core.events import OrderEventType
from flashsale_core.model import (
    ItemId,
    OrderStatus,
    PurchaseId,
    PurchaseState,
    Reason,
    Sale,
    SaleId,
    SaleTerms,
)
from flashsale_core.occurrence import occurrence_id, payment_key
from flashsale_core.opening import Database
from flashsale_core.ports import Decision
from flashsale_core.testing.order_repository import decision, epochs_of, seen, told_events

PRICE_MINOR = 4_990
HOUR_MS = 3_600_000
ROUNDS = 10
"""How often a race is run: one that goes wrong does so within the first few."""
TOKEN = "tok-of-the-buyer"  # noqa: S105 - opaque, and nobody's
CHARGED = Charged(reference="ch_1")
DECLINED = Declined(reason="card-declined")


def unpaid(sale: Sale, purchase: str, *, quantity: int = 1) -> Decision:
    """Decide about a purchase that must be paid for."""
    return attrs.evolve(
        decision(sale, purchase, quantity=quantity), awaits_payment=True, payment_token=TOKEN
    )


async def claimed(database: Database, lease_ms: int = HOUR_MS) -> list[DuePayment]:
    """Claim all that is due."""
    return await database.payments.claim_due(1_000, lease_ms)


class PaymentsContract:
    """A row is pending until its payment is final; both end in one transaction, once."""

    @pytest.fixture
    async def sale(self, database: Database) -> Sale:
        """Open a sale of ten units that cost something."""
        terms = SaleTerms(units=10, unit_price_minor=PRICE_MINOR, currency="CHF")
        return await database.catalogue.create(ItemId("shoe"), terms)

    async def one_due(
        self, database: Database, sale: Sale, quantity: int = 1, lease_ms: int = HOUR_MS
    ) -> DuePayment:
        """Record one purchase and claim its payment."""
        await database.orders.record([unpaid(sale, "p1", quantity=quantity)], epochs_of(sale))
        [due] = await claimed(database, lease_ms)
        return due

    async def status(self, database: Database, purchase: str = "p1") -> tuple[str, str | None]:
        """Say how the row stands."""
        [order] = await database.orders.find(PurchaseId(purchase))
        return order.status.value, order.reason

    # ── recording what must be paid ─────────────────────────────────────────────────────────────

    async def test_an_unpaid_row_holds_its_units_and_tells_nothing(
        self, database: Database, sale: Sale
    ) -> None:
        """Its units leave `available` for `pending`; no event is told before the end."""
        batch = [unpaid(sale, "p1", quantity=3), decision(sale, "p2")]
        standings = await database.orders.record(batch, epochs_of(sale))
        assert [one.status for one in standings] == [
            OrderStatus.PENDING_PAYMENT,
            OrderStatus.CONFIRMED,
        ]
        after = await seen(database, sale)
        assert (after.available, after.pending, after.sold) == (6, 3, 1)
        [event] = await told_events(database)
        assert event.purchase_id == "p2"

    async def test_the_same_batch_again_files_no_second_payment(
        self, database: Database, sale: Sale
    ) -> None:
        """Messages come at least once; the pending row stands."""
        for _ in range(2):
            [standing] = await database.orders.record([unpaid(sale, "p1")], epochs_of(sale))
            assert standing.status is OrderStatus.PENDING_PAYMENT
        assert len(await claimed(database)) == 1
        assert (await seen(database, sale)).pending == 1

    async def test_what_drifted_is_never_charged(self, database: Database, sale: Sale) -> None:
        """Units that are not there are not paid for: REJECTED(GATE_DRIFT), and no payment."""
        batch = [unpaid(sale, "p1", quantity=10), unpaid(sale, "p2")]
        standings = await database.orders.record(batch, epochs_of(sale))
        assert [one.reason for one in standings] == [None, Reason.GATE_DRIFT.value]
        assert [one.charge.purchase_id for one in await claimed(database)] == ["p1"]
        [event] = await told_events(database)
        assert (event.purchase_id, event.reason) == ("p2", Reason.GATE_DRIFT.value)

    async def test_a_gate_is_loaded_with_pending_rows_as_queued(
        self, database: Database, sale: Sale
    ) -> None:
        """They hold their units through a rebuild, until the payment is final."""
        await database.orders.record([unpaid(sale, "p1", quantity=2)], epochs_of(sale))
        [record] = (await database.catalogue.books(sale.sale_id)).records
        assert (record.state, record.quantity) == (PurchaseState.QUEUED, 2)

    # ── claiming ────────────────────────────────────────────────────────────────────────────────

    async def test_what_is_charged_is_price_times_quantity_under_the_purchase_s_key(
        self, database: Database, sale: Sale
    ) -> None:
        """All of it frozen into the row; the key is the same for ever."""
        due = await self.one_due(database, sale, quantity=3)
        charge = due.charge
        assert (charge.amount_minor, charge.currency) == (3 * PRICE_MINOR, "CHF")
        assert charge.payment_token == TOKEN
        assert charge.key == payment_key(sale.sale_id, PurchaseId("p1"))
        assert due.attempt == 1
        assert 0 <= due.asked_for_ms < HOUR_MS
        assert due.traceparent == decision(sale, "p1").traceparent
        assert TOKEN not in repr(due)

    async def test_a_claimed_payment_is_nobody_else_s_until_its_lease_ends(
        self, database: Database, sale: Sale
    ) -> None:
        """A worker that died gives it free by time alone."""
        await self.one_due(database, sale)
        assert await claimed(database) == []

    async def test_a_claim_that_ran_out_is_taken_again_and_counted(
        self, database: Database, sale: Sale
    ) -> None:
        """The second claimer knows that the gateway may have been asked."""
        await self.one_due(database, sale, lease_ms=0)
        [again] = await claimed(database)
        assert again.attempt == 2

    async def test_no_more_are_claimed_than_wanted(self, database: Database, sale: Sale) -> None:
        """Each in hand is one call of the gateway."""
        batch = [unpaid(sale, f"p{n}") for n in range(5)]
        await database.orders.record(batch, epochs_of(sale))
        assert len(await database.payments.claim_due(2, HOUR_MS)) == 2
        assert len(await claimed(database)) == 3

    async def test_claimers_at_once_take_different_payments(self, database: Database) -> None:
        """Two workers side by side ask the gateway once each."""
        terms = SaleTerms(units=1_000, unit_price_minor=1, currency="CHF")
        sale = await database.catalogue.create(ItemId("hat"), terms)
        for number in range(ROUNDS):
            batch = [unpaid(sale, f"r{number}-p{n}") for n in range(20)]
            await database.orders.record(batch, epochs_of(sale))
            barrier = asyncio.Barrier(4)

            async def claim(meeting: asyncio.Barrier = barrier) -> list[DuePayment]:
                await meeting.wait()
                return await database.payments.claim_due(20, HOUR_MS)

            claims = await asyncio.gather(*(claim() for _ in range(4)))
            late = await claimed(database)
            taken = Counter(one.charge.purchase_id for part in (*claims, late) for one in part)
            assert set(taken.values()) == {1}
            assert len(taken) == 20

    # ── ends ────────────────────────────────────────────────────────────────────────────────────

    async def test_a_charged_payment_makes_the_order(self, database: Database, sale: Sale) -> None:
        """CONFIRMED, `pending` → `sold`, OrderCreated: one transaction."""
        due = await self.one_due(database, sale, quantity=2)
        settled = await database.payments.settle(due, CHARGED)
        assert settled is not None
        assert settled.standing.status is OrderStatus.CONFIRMED
        assert settled.epoch == sale.epoch
        assert await self.status(database) == ("CONFIRMED", None)
        after = await seen(database, sale)
        assert (after.available, after.pending, after.sold) == (8, 0, 2)
        [event] = await told_events(database)
        assert event.type is OrderEventType.ORDER_CREATED
        assert event.occurrence_id == occurrence_id(
            sale.sale_id, PurchaseId("p1"), OrderEventType.ORDER_CREATED
        )
        assert (event.quantity, event.traceparent) == (2, due.traceparent)

    async def test_a_declined_payment_gives_the_units_back(
        self, database: Database, sale: Sale
    ) -> None:
        """REJECTED(PAYMENT_DECLINED), `pending` → `available`, PurchaseRejected: the same."""
        due = await self.one_due(database, sale, quantity=2)
        settled = await database.payments.settle(due, DECLINED)
        assert settled is not None
        assert await self.status(database) == ("REJECTED", Reason.PAYMENT_DECLINED.value)
        after = await seen(database, sale)
        assert (after.available, after.pending, after.sold) == (10, 0, 0)
        [event] = await told_events(database)
        assert event.type is OrderEventType.PURCHASE_REJECTED
        assert event.reason == Reason.PAYMENT_DECLINED.value

    @pytest.mark.parametrize("later", [CHARGED, DECLINED])
    async def test_an_end_is_stored_once(
        self, database: Database, sale: Sale, later: Charged | Declined
    ) -> None:
        """Whatever comes second changes neither row nor units, and tells nothing."""
        due = await self.one_due(database, sale)
        assert await database.payments.settle(due, DECLINED) is not None
        assert await database.payments.settle(due, later) is None
        assert await self.status(database) == ("REJECTED", Reason.PAYMENT_DECLINED.value)
        assert (await seen(database, sale)).available == 10
        assert await database.outbox.backlog() == 1
        assert await claimed(database, 0) == []

    async def test_a_worker_whose_lease_passed_on_stores_nothing(
        self, database: Database, sale: Sale
    ) -> None:
        """The later claim alone may say how it ended."""
        old = await self.one_due(database, sale, lease_ms=0)
        [mine] = await claimed(database)
        assert await database.payments.settle(old, DECLINED) is None
        assert not await database.payments.postpone(old, 0, "late")
        assert not await database.payments.flag(old, "late")
        assert await self.status(database) == ("PENDING_PAYMENT", None)
        assert await database.payments.settle(mine, CHARGED) is not None

    async def test_a_worker_whose_lease_ended_stores_nothing(
        self, database: Database, sale: Sale
    ) -> None:
        """Also while nobody else has claimed it: somebody may at any moment."""
        late = await self.one_due(database, sale, lease_ms=0)
        assert await database.payments.settle(late, CHARGED) is None
        assert not await database.payments.postpone(late, 0, "late")
        assert await database.outbox.backlog() == 0

    async def test_ends_at_once_are_stored_once(self, database: Database) -> None:
        """Of racing results exactly one wins, and the units move once."""
        terms = SaleTerms(units=100, unit_price_minor=1, currency="CHF")
        sale = await database.catalogue.create(ItemId("hat"), terms)
        for number in range(ROUNDS):
            await database.orders.record([unpaid(sale, f"p{number}")], epochs_of(sale))
            [due] = await claimed(database)
            barrier = asyncio.Barrier(3)

            async def end(
                meeting: asyncio.Barrier = barrier, mine: DuePayment = due
            ) -> object | None:
                await meeting.wait()
                return await database.payments.settle(mine, CHARGED)

            ends = await asyncio.gather(*(end() for _ in range(3)))
            assert sum(one is not None for one in ends) == 1
        after = await seen(database, sale)
        assert (after.pending, after.sold) == (0, ROUNDS)
        assert await database.outbox.backlog() == ROUNDS

    async def test_ends_batches_and_rebuilds_at_once_keep_the_units(
        self, database: Database
    ) -> None:
        """They meet at the sale's row and at the same orders: no deadlock, no unit lost."""
        terms = SaleTerms(units=1_000, unit_price_minor=1, currency="CHF")
        sale = await database.catalogue.create(ItemId("hat"), terms)
        for number in range(ROUNDS):
            batch = [unpaid(sale, f"r{number}-p{n}") for n in range(6)]
            more = [unpaid(sale, f"r{number}-q{n}") for n in range(6)]
            await database.orders.record(batch, epochs_of(sale))
            held = await claimed(database)
            mine = [one for one in held if one.charge.purchase_id.startswith(f"r{number}-p")]
            await asyncio.gather(
                *(
                    database.payments.settle(one, CHARGED if n % 2 else DECLINED)
                    for n, one in enumerate(mine)
                ),
                database.orders.record([*more, *batch], epochs_of(sale)),
                database.orders.record([*batch, *more], epochs_of(sale)),
                database.catalogue.books(sale.sale_id),
            )
        after = await seen(database, sale)
        assert (after.sold, after.pending) == (3 * ROUNDS, 6 * ROUNDS)
        assert after.available == 1_000 - 9 * ROUNDS
        assert await database.outbox.backlog() == 6 * ROUNDS

    # ── not yet ─────────────────────────────────────────────────────────────────────────────────

    async def test_a_postponed_payment_comes_again_when_it_is_due(
        self, database: Database, sale: Sale
    ) -> None:
        """Never released meanwhile: its units stay pending."""
        due = await self.one_due(database, sale)
        assert await database.payments.postpone(due, HOUR_MS, "no answer")
        assert await claimed(database) == []
        assert (await seen(database, sale)).pending == 1

    async def test_a_payment_postponed_by_nothing_is_due_at_once(
        self, database: Database, sale: Sale
    ) -> None:
        """With its key and its token, for the same question again."""
        due = await self.one_due(database, sale)
        await database.payments.postpone(due, 0, "no answer")
        [again] = await claimed(database)
        assert again.charge == due.charge
        assert again.attempt == 2

    async def test_a_flagged_payment_waits_for_a_person(
        self, database: Database, sale: Sale
    ) -> None:
        """It is claimed no more, holds its units, and is listed without its token."""
        due = await self.one_due(database, sale, quantity=2)
        assert await database.payments.flag(due, "answered 401")
        assert await claimed(database) == []
        [flagged] = await database.payments.flagged(10)
        assert (flagged.sale_id, flagged.purchase_id) == (sale.sale_id, "p1")
        assert (flagged.amount_minor, flagged.currency) == (2 * PRICE_MINOR, "CHF")
        assert (flagged.key, flagged.detail) == (due.charge.key, "answered 401")
        assert TOKEN not in repr(flagged)
        assert await self.status(database) == ("PENDING_PAYMENT", None)
        assert (await seen(database, sale)).pending == 2

    async def test_a_resumed_payment_is_looked_up_again(
        self, database: Database, sale: Sale
    ) -> None:
        """By its next claim, which counts on; only what is flagged can be resumed."""
        p1 = PurchaseId("p1")
        due = await self.one_due(database, sale)
        assert not await database.payments.resume(sale.sale_id, p1)
        await database.payments.flag(due, "answered 401")
        assert await database.payments.resume(sale.sale_id, p1)
        [again] = await claimed(database)
        assert again.attempt == 2
        assert not await database.payments.resume(SaleId("ghost.1"), p1)

    async def test_what_is_not_final_is_counted(self, database: Database, sale: Sale) -> None:
        """By whether a person must look, with the age of the oldest."""
        nothing = PaymentCounts(pending=0, flagged=0, oldest_ms=0)
        assert await database.payments.counts() == nothing
        batch = [unpaid(sale, f"p{n}") for n in range(3)]
        await database.orders.record(batch, epochs_of(sale))
        [first, second, _] = await claimed(database)
        await database.payments.flag(first, "x")
        await database.payments.settle(second, CHARGED)
        counts = await database.payments.counts()
        assert (counts.pending, counts.flagged) == (1, 1)
        assert 0 <= counts.oldest_ms < HOUR_MS
