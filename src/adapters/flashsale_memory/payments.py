"""The charges of PENDING_PAYMENT rows, in memory."""

import attrs

from flashsale_core.charges import Charged, Declined, DuePayment, FlaggedPayment, PaymentCounts
from flashsale_core.model import OrderStatus, PurchaseId, Reason, SaleId
from flashsale_core.occurrence import payment_event
from flashsale_core.ports import Payments, Settled, Standing
from flashsale_memory.tables import Key, PaymentRow, Tables, WaitingFact


class MemoryPayments:
    """The charges of PENDING_PAYMENT rows; one that is final is forgotten, token and all."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePayment]:
        """Take due payments, the oldest first."""
        now_ms = self._tables.clock.now_ms()
        due = [
            row
            for row in self._tables.payments.values()
            if not row.is_flagged and max(row.due_at_ms, row.leased_until_ms) <= now_ms
        ]
        due = sorted(due, key=lambda row: row.due_at_ms)[:limit]
        for row in due:
            row.attempt += 1
            row.leased_until_ms = now_ms + lease_ms
            row.asked_since_ms = now_ms if row.asked_since_ms is None else row.asked_since_ms
        return [
            DuePayment(
                charge=row.charge,
                attempt=row.attempt,
                asked_for_ms=now_ms - (row.asked_since_ms or now_ms),
                traceparent=row.traceparent,
            )
            for row in due
        ]

    async def settle(self, due: DuePayment, end: Charged | Declined) -> Settled | None:
        """End it: row, event and units in one step."""
        row = self._held(due)
        if row is None:
            return None
        key, now_ms = _key_of(due), self._tables.clock.now_ms()
        is_sold = isinstance(end, Charged)
        reason = None if is_sold else Reason.PAYMENT_DECLINED.value
        order = attrs.evolve(
            self._tables.orders[key],
            status=OrderStatus.CONFIRMED if is_sold else OrderStatus.REJECTED,
            reason=reason,
        )
        sale = self._tables.sales[order.sale_id]
        self._tables.orders[key] = order
        fact = payment_event(order, reason, now_ms, row.traceparent)
        self._tables.outbox.append(WaitingFact(fact, written_at_ms=now_ms))
        self._tables.sales[order.sale_id] = attrs.evolve(
            sale,
            pending=sale.pending - order.quantity,
            available=sale.available + (0 if is_sold else order.quantity),
            sold=sale.sold + (order.quantity if is_sold else 0),
        )
        del self._tables.payments[key]
        standing = Standing(
            sale_id=order.sale_id,
            purchase_id=order.purchase_id,
            status=order.status,
            reason=reason,
            is_new=True,
        )
        return Settled(standing=standing, epoch=sale.epoch)

    async def postpone(self, due: DuePayment, retry_in_ms: int, detail: str) -> bool:
        """Give it back, due again later."""
        row = self._held(due)
        if row is None:
            return False
        row.leased_until_ms, row.detail = 0, detail
        row.due_at_ms = self._tables.clock.now_ms() + retry_in_ms
        return True

    async def flag(self, due: DuePayment, detail: str) -> bool:
        """Leave it to a person."""
        row = self._held(due)
        if row is None:
            return False
        row.leased_until_ms, row.detail, row.is_flagged = 0, detail, True
        return True

    async def flagged(self, limit: int) -> list[FlaggedPayment]:
        """List what waits for a person, the oldest first."""
        rows = [row for row in self._tables.payments.values() if row.is_flagged]
        return [
            FlaggedPayment(
                sale_id=row.charge.sale_id,
                purchase_id=row.charge.purchase_id,
                key=row.charge.key,
                amount_minor=row.charge.amount_minor,
                currency=row.charge.currency,
                attempt=row.attempt,
                detail=row.detail,
            )
            for row in rows[:limit]
        ]

    async def resume(self, sale_id: SaleId, purchase_id: PurchaseId) -> bool:
        """Make a flagged payment due at once."""
        row = self._tables.payments.get((sale_id, purchase_id))
        if row is None or not row.is_flagged:
            return False
        row.is_flagged, row.due_at_ms = False, self._tables.clock.now_ms()
        return True

    async def counts(self) -> PaymentCounts:
        """Count what is not final."""
        rows = self._tables.payments.values()
        flagged, now_ms = sum(row.is_flagged for row in rows), self._tables.clock.now_ms()
        oldest_ms = max((now_ms - row.made_at_ms for row in rows), default=0)
        return PaymentCounts(pending=len(rows) - flagged, flagged=flagged, oldest_ms=oldest_ms)

    def _held(self, due: DuePayment) -> PaymentRow | None:
        row = self._tables.payments.get(_key_of(due))
        if row is None or row.is_flagged or row.attempt != due.attempt:
            return None
        return row if row.leased_until_ms > self._tables.clock.now_ms() else None


def _key_of(due: DuePayment) -> Key:
    return due.charge.sale_id, due.charge.purchase_id


_: type[Payments] = MemoryPayments
