"""What every Payments must do. Subclass the contract and give it a `database` fixture."""

import asyncio

import pytest

from flashsale_core.charges import Charged, Declined, DuePayment, PaymentCounts
from flashsale_core.events import OrderEventType
from flashsale_core.model import ItemId, OrderStatus, PurchaseId, Reason, Sale, SaleId, SaleTerms
from flashsale_core.occurrence import occurrence_id
from flashsale_core.opening import Database
from flashsale_core.testing.order_repository import epochs_of, seen, told_events
from flashsale_core.testing.payment_claims import (
    CHARGED,
    DECLINED,
    HOUR_MS,
    PRICE_MINOR,
    ROUNDS,
    TOKEN,
    PaymentClaimsContract,
    claimed,
    unpaid,
)


class PaymentsContract(PaymentClaimsContract):
    """A row is pending until its payment is final; both end in one transaction, once."""

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
                database.catalogue.read_books(sale.sale_id),
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
