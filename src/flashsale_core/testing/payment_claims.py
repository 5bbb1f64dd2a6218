"""The first half of `PaymentsContract`: how payments are filed and claimed."""

import asyncio
from collections import Counter

import attrs
import pytest

from flashsale_core.charges import Charged, Declined, DuePayment
from flashsale_core.model import (
    ItemId,
    OrderStatus,
    PurchaseId,
    PurchaseState,
    Reason,
    Sale,
    SaleTerms,
)
from flashsale_core.occurrence import payment_key
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


class PaymentClaimsContract:
    """What must be paid for is pending, and one worker at a time holds it."""

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
        [record] = (await database.catalogue.read_books(sale.sale_id)).records
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
