"""A StockGate inside one process: the embedded default's, and the meaning that Redis must match."""

from collections.abc import Callable, Sequence
from itertools import islice

import attrs

from flashsale_core.errors import Unavailable, Why
from flashsale_core.idempotency import is_same_purchase
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    SaleId,
    SaleState,
    UserId,
)
from flashsale_core.outcomes import GateAnswer, KeyReused, Replayed, Reserved, reason_of
from flashsale_core.ports import (
    Claim,
    ClaimBatch,
    Clock,
    FollowBatch,
    GateBooks,
    GatePage,
    GateReply,
    Overdue,
    StockGate,
)
from flashsale_core.rates import RateLimits
from flashsale_core.validation import Admission
from flashsale_memory.ledger import Ledger, books_of, cut
from flashsale_memory.lives import QUEUED_DUE_MS, RESERVED_DUE_MS, GateLives

_STATE_AT = {
    Door.HTTP: PurchaseState.RESERVED,
    Door.OUTSIDE: PurchaseState.OUTSIDE,
    Door.ACCEPTED: PurchaseState.QUEUED,
}
_LIFTABLE = (PurchaseState.RESERVED, PurchaseState.OUTSIDE)


class MemoryStockGate(GateLives):
    """Everything between two awaits is one step, so every method is atomic."""

    def __init__(
        self,
        clock: Clock,
        *,
        reserved_due_ms: int = RESERVED_DUE_MS,
        queued_due_ms: int = QUEUED_DUE_MS,
        rates: RateLimits | None = None,
    ) -> None:
        """Start with no sale armed."""
        super().__init__(
            clock, reserved_due_ms=reserved_due_ms, queued_due_ms=queued_due_ms, rates=rates
        )

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """See `StockGate.reserve`."""
        return [self._reserve(batch) for batch in batches]

    def _reserve(self, batch: ClaimBatch) -> GateReply | Unavailable:
        ledger = self._ledger(batch.sale_id, batch.epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        self._mark(ledger, batch.queued)
        return [self._claim(ledger, batch.door, claim) for claim in batch.claims]

    def _claim(self, ledger: Ledger, door: Door, claim: Claim) -> GateAnswer | Unavailable:
        request = claim.request
        known = ledger.records.get(request.purchase_id)
        if known is not None:
            if not is_same_purchase(known, request):
                return KeyReused()
            if door is Door.ACCEPTED:
                self._mark(ledger, [request.purchase_id])
            return Replayed(record=ledger.records[request.purchase_id])
        if ledger.state in (SaleState.PAUSED, SaleState.HALTED):
            return Unavailable(Why.PAUSED if ledger.state is SaleState.PAUSED else Why.HALTED)
        now_ms = self._clock.now_ms()
        if ledger.window is not None and door is Door.HTTP:
            limited = ledger.window.refuse(claim, now_ms)
            if limited is not None:
                return limited
        refusal = Admission(
            terms=ledger.terms,
            state=ledger.state,
            now_ms=now_ms,
            available=ledger.available,
            held=ledger.users.get(request.user_id, 0),
        ).refuse(request.quantity, claim.refused)
        if refusal is not None:
            if door is not Door.HTTP:
                self._burn(ledger, claim, reason_of(refusal))
            return refusal
        record = GateRecord(
            purchase_id=request.purchase_id,
            state=_STATE_AT[door],
            user_id=request.user_id,
            quantity=request.quantity,
            epoch=ledger.epoch,
            accepted_at_ms=now_ms,
            requested_at_ms=request.requested_at_ms,
            source=request.source,
            event_id=request.event_id,
            payment_token=request.payment_token,
            traceparent=request.traceparent,
        )
        ledger.put(record, now_ms + self._delay_ms(record.state))
        return Reserved(record=record)

    def _burn(self, ledger: Ledger, claim: Claim, reason: str) -> None:
        request = claim.request
        ledger.put(
            GateRecord(
                purchase_id=request.purchase_id,
                state=PurchaseState.ENDED,
                user_id=request.user_id,
                quantity=request.quantity,
                reason=reason,
            ),
            None,
        )

    def _mark(self, ledger: Ledger, purchase_ids: Sequence[PurchaseId]) -> None:
        for purchase_id in purchase_ids:
            record = ledger.records.get(purchase_id)
            if record is not None and record.state in _LIFTABLE:
                queued = attrs.evolve(record, state=PurchaseState.QUEUED)
                ledger.put(queued, self._clock.now_ms() + self.queued_due_ms)

    async def mark_queued(
        self, sale_id: SaleId, epoch: Epoch, purchase_ids: Sequence[PurchaseId]
    ) -> Unavailable | None:
        """See `StockGate.mark_queued`."""
        ledger = self._ledger(sale_id, epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        self._mark(ledger, purchase_ids)
        return None

    async def follow(self, batches: Sequence[FollowBatch]) -> list[int | Unavailable]:
        """See `StockGate.follow`."""
        return [self._follow(batch) for batch in batches]

    def _follow(self, batch: FollowBatch) -> int | Unavailable:
        ledger = self._ledger(batch.sale_id, batch.epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        misfits = 0
        for purchase_id in batch.sold:
            record = ledger.records.get(purchase_id)
            if record is None or record.state is PurchaseState.ENDED:
                misfits += 1
            elif record.state is not PurchaseState.SOLD:
                ledger.put(cut(record, PurchaseState.SOLD, None), None)
        for purchase_id, reason in batch.released:
            record = ledger.records.get(purchase_id) or GateRecord(
                purchase_id=purchase_id,
                state=PurchaseState.ENDED,
                user_id=UserId(""),
                quantity=0,
                reason=reason,
            )
            if record.state is PurchaseState.SOLD:
                misfits += 1
            elif record.state is not PurchaseState.ENDED:
                ledger.put(cut(record, PurchaseState.ENDED, reason), None)
            else:
                ledger.records.setdefault(purchase_id, record)
        return misfits

    async def find(
        self, sales: Sequence[tuple[SaleId, Epoch]], purchase_id: PurchaseId
    ) -> list[GateRecord | Unavailable | None]:
        """See `StockGate.find`."""
        return [
            ledger
            if isinstance(ledger := self._ledger(sale_id, epoch), Unavailable)
            else ledger.records.get(purchase_id)
            for sale_id, epoch in sales
        ]

    async def overdue(
        self, sale_id: SaleId, epoch: Epoch, limit: int
    ) -> list[Overdue] | Unavailable:
        """See `StockGate.overdue`."""
        ledger = self._ledger(sale_id, epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        now_ms = self._clock.now_ms()
        due = sorted((at, one) for one, at in ledger.journal.items() if at <= now_ms)[:limit]
        entries = [Overdue(sale_id=sale_id, record=ledger.records[one]) for _, one in due]
        for entry in entries:
            ledger.journal[entry.record.purchase_id] = now_ms + self._next_delay_ms(
                entry.record, now_ms
            )
        return entries

    def _next_delay_ms(self, record: GateRecord, now_ms: int) -> int:
        """Wait a fixed time for R; for O and Q as long as the purchase is old, which doubles it."""
        if record.state is PurchaseState.RESERVED:
            return self.reserved_due_ms
        return max(self.queued_due_ms, now_ms - record.accepted_at_ms)

    async def books(
        self, sales: Sequence[tuple[SaleId, Epoch]], *, ages: bool = False
    ) -> list[GateBooks | Unavailable]:
        """See `StockGate.books`."""
        return [
            ledger
            if isinstance(ledger := self._ledger(sale_id, epoch), Unavailable)
            else books_of(ledger, ages=ages)
            for sale_id, epoch in sales
        ]

    async def records(
        self, sale_id: SaleId, epoch: Epoch, *, cursor: str, limit: int
    ) -> GatePage | Unavailable:
        """See `StockGate.records`."""
        ledger = self._ledger(sale_id, epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        # Nothing is ever taken out of a sale's records, so a place stays what it was.
        begin = int(cursor or 0)
        page = tuple(islice(ledger.records.values(), begin, begin + limit))
        is_last = begin + len(page) >= len(ledger.records)
        return GatePage(records=page, next_cursor=None if is_last else str(begin + len(page)))

    async def set_state(
        self, sale_id: SaleId, epoch: Epoch, state: SaleState
    ) -> Unavailable | None:
        """See `StockGate.set_state`."""
        ledger = self._ledger(sale_id, epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        ledger.state = state
        return None

    async def check(self) -> None:
        """Answer that the gate is there: it is this process."""


_: Callable[[Clock], StockGate] = MemoryStockGate
