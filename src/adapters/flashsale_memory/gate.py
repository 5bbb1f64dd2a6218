"""A StockGate inside one process: the embedded default's, and the meaning that Redis must match."""

from collections.abc import Callable, Sequence
from itertools import count

import attrs

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.idempotency import is_same_purchase
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.outcomes import GateAnswer, KeyReused, Replayed, Reserved, reason_of
from flashsale_core.ports import (
    Claim,
    ClaimBatch,
    Clock,
    FollowBatch,
    GateBooks,
    GateReply,
    Overdue,
    StockGate,
)
from flashsale_core.validation import Admission

RESERVED_DUE_MS = 10_000
"""A confirm is due within the promise's 0.8 s; ten seconds later the message is surely lost."""
QUEUED_DUE_MS = 600_000
"""A worker may lag behind by minutes in a sale's first rush without anything being wrong."""

_STATE_AT = {
    Door.HTTP: PurchaseState.RESERVED,
    Door.OUTSIDE: PurchaseState.OUTSIDE,
    Door.ACCEPTED: PurchaseState.QUEUED,
}
_LIFTABLE = (PurchaseState.RESERVED, PurchaseState.OUTSIDE)


@attrs.define(kw_only=True)
class _Ledger:
    """One sale's books: what Redis keeps under one hash tag."""

    epoch: Epoch
    terms: SaleTerms
    state: SaleState
    available: int = 0
    units: dict[PurchaseState, int] = attrs.field(
        factory=lambda: dict.fromkeys((s for s in PurchaseState if s is not PurchaseState.ENDED), 0)
    )
    records: dict[PurchaseId, GateRecord] = attrs.field(factory=dict)
    users: dict[UserId, int] = attrs.field(factory=dict)
    journal: dict[PurchaseId, int] = attrs.field(factory=dict)

    def put(self, record: GateRecord, due_ms: int | None) -> None:
        """Set a record, moving its units and the user's from the old state to the new."""
        old = self.records.get(record.purchase_id)
        before = old.quantity if old and old.state is not PurchaseState.ENDED else 0
        after = record.quantity if record.state is not PurchaseState.ENDED else 0
        if old and old.state is not PurchaseState.ENDED:
            self.units[old.state] -= old.quantity
        if record.state is not PurchaseState.ENDED:
            self.units[record.state] += record.quantity
        self.available += before - after
        held = self.users.pop(record.user_id, 0) + after - before
        if held:
            self.users[record.user_id] = held
        self.records[record.purchase_id] = record
        if due_ms is None:
            self.journal.pop(record.purchase_id, None)
        else:
            self.journal[record.purchase_id] = due_ms
        self.assert_conserved()

    def assert_conserved(self) -> None:
        """Halt when a unit has come or gone."""
        if self.terms.units != self.available + sum(self.units.values()):
            self.state = SaleState.HALTED
            raise Corrupt("not-conserved", f"{self.units} and {self.available} available")


class MemoryStockGate:
    """Everything between two awaits is one step, so every method is atomic."""

    def __init__(
        self,
        clock: Clock,
        *,
        reserved_due_ms: int = RESERVED_DUE_MS,
        queued_due_ms: int = QUEUED_DUE_MS,
    ) -> None:
        """Start with no sale armed."""
        self._clock = clock
        self.reserved_due_ms = reserved_due_ms
        self.queued_due_ms = queued_due_ms
        self._ledgers: dict[SaleId, _Ledger] = {}
        self._armed: dict[SaleId, Epoch] = {}
        self._loading: dict[SaleId, tuple[Epoch, str]] = {}
        self._tokens = count(1)

    def _ledger(self, sale_id: SaleId, epoch: Epoch) -> _Ledger | Unavailable:
        ledger = self._ledgers.get(sale_id)
        if ledger is None or not ledger.epoch == epoch == self._armed.get(sale_id):
            return Unavailable(Why.NOT_ARMED, f"{sale_id} epoch {epoch}")
        return ledger

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """See `StockGate.reserve`."""
        return [self._reserve(batch) for batch in batches]

    def _reserve(self, batch: ClaimBatch) -> GateReply | Unavailable:
        ledger = self._ledger(batch.sale_id, batch.epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        self._mark(ledger, batch.queued)
        return [self._claim(ledger, batch.door, claim) for claim in batch.claims]

    def _claim(self, ledger: _Ledger, door: Door, claim: Claim) -> GateAnswer | Unavailable:
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

    def _delay_ms(self, state: PurchaseState) -> int:
        reserved = state is PurchaseState.RESERVED
        return self.reserved_due_ms if reserved else self.queued_due_ms

    def _burn(self, ledger: _Ledger, claim: Claim, reason: str) -> None:
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

    def _mark(self, ledger: _Ledger, purchase_ids: Sequence[PurchaseId]) -> None:
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
                ledger.put(_cut(record, PurchaseState.SOLD, None), None)
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
                ledger.put(_cut(record, PurchaseState.ENDED, reason), None)
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

    async def books(self, sales: Sequence[tuple[SaleId, Epoch]]) -> list[GateBooks | Unavailable]:
        """See `StockGate.books`."""
        return [
            ledger
            if isinstance(ledger := self._ledger(sale_id, epoch), Unavailable)
            else _books(ledger)
            for sale_id, epoch in sales
        ]

    async def set_state(
        self, sale_id: SaleId, epoch: Epoch, state: SaleState
    ) -> Unavailable | None:
        """See `StockGate.set_state`."""
        ledger = self._ledger(sale_id, epoch)
        if isinstance(ledger, Unavailable):
            return ledger
        ledger.state = state
        return None

    async def begin_load(
        self, sale_id: SaleId, epoch: Epoch, terms: SaleTerms, state: SaleState
    ) -> str | None:
        """See `StockGate.begin_load`."""
        if not isinstance(self._ledger(sale_id, epoch), Unavailable):
            return None
        known = self._ledgers.get(sale_id)
        if known is not None and known.epoch > epoch:
            raise Unavailable(Why.NOT_ARMED, f"{sale_id} has epoch {known.epoch}, not {epoch}")
        token = str(next(self._tokens))
        self._armed.pop(sale_id, None)
        self._loading[sale_id] = (epoch, token)
        self._ledgers[sale_id] = _Ledger(
            epoch=epoch, terms=terms, state=state, available=terms.units
        )
        return token

    def _open_load(self, sale_id: SaleId, token: str) -> _Ledger:
        epoch, current = self._loading.get(sale_id, (Epoch(0), ""))
        if current != token:
            raise Unavailable(Why.NOT_ARMED, f"no open load of {sale_id} with this token")
        ledger = self._ledgers[sale_id]
        if ledger.epoch != epoch:
            raise Unavailable(Why.NOT_ARMED, f"{sale_id} was emptied during the load")
        return ledger

    async def load(self, sale_id: SaleId, token: str, records: Sequence[GateRecord]) -> None:
        """See `StockGate.load`."""
        ledger = self._open_load(sale_id, token)
        for record in records:
            if record.state.is_final:
                ledger.put(_cut(record, record.state, record.reason), None)
            else:
                accepted_at_ms = record.accepted_at_ms or self._clock.now_ms()
                kept = attrs.evolve(
                    record, epoch=ledger.epoch, accepted_at_ms=accepted_at_ms, reason=None
                )
                ledger.put(kept, self._clock.now_ms() + self._delay_ms(record.state))

    async def arm(self, sale_id: SaleId, token: str, expected: GateBooks) -> None:
        """See `StockGate.arm`."""
        ledger = self._open_load(sale_id, token)
        seen = attrs.evolve(_books(ledger), oldest_due_ms=expected.oldest_due_ms)
        if seen != expected:
            raise Corrupt("books-differ", f"{sale_id}: loaded {seen}, expected {expected}")
        del self._loading[sale_id]
        self._armed[sale_id] = ledger.epoch

    async def drop(self, sale_id: SaleId) -> None:
        """See `StockGate.drop`."""
        for shelf in (self._ledgers, self._armed, self._loading):
            shelf.pop(sale_id, None)

    async def check(self) -> None:
        """Answer that the gate is there: it is this process."""


def _cut(record: GateRecord, state: PurchaseState, reason: str | None) -> GateRecord:
    """Forget what only a message needed; a final record keeps what a retry is compared with."""
    return GateRecord(
        purchase_id=record.purchase_id,
        state=state,
        user_id=record.user_id,
        quantity=record.quantity,
        reason=reason if state is PurchaseState.ENDED else None,
        source=Source.API,
    )


def _books(ledger: _Ledger) -> GateBooks:
    return GateBooks(
        state=ledger.state,
        initial=ledger.terms.units,
        available=ledger.available,
        reserved=ledger.units[PurchaseState.RESERVED],
        outside=ledger.units[PurchaseState.OUTSIDE],
        queued=ledger.units[PurchaseState.QUEUED],
        sold=ledger.units[PurchaseState.SOLD],
        records=len(ledger.records),
        users=len(ledger.users),
        journal=len(ledger.journal),
        oldest_due_ms=min(ledger.journal.values(), default=None),
    )


_: Callable[[Clock], StockGate] = MemoryStockGate
