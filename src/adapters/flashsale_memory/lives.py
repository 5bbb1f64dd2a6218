"""The lives of the memory gate's sales: loading, arming, ending, as in Redis's function memory."""

from collections.abc import Sequence
from itertools import count

import attrs

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.model import (
    Epoch,
    GateRecord,
    PurchaseState,
    SaleId,
    SaleState,
    SaleTerms,
)
from flashsale_core.ports import Clock, GateBooks
from flashsale_core.rates import RateLimits
from flashsale_memory.ledger import Ledger, books_of, cut
from flashsale_memory.rates import Window

RESERVED_DUE_MS = 10_000
"""A confirm is due within the promise's 0.8 s; ten seconds later the message is surely lost."""
QUEUED_DUE_MS = 600_000
"""A worker may lag behind by minutes in a sale's first rush without anything being wrong."""


class GateLives:
    """Which sales have books, and which of them are armed under which epoch."""

    def __init__(
        self,
        clock: Clock,
        *,
        reserved_due_ms: int,
        queued_due_ms: int,
        rates: RateLimits | None = None,
    ) -> None:
        """Start with no sale armed."""
        self.rates = rates if rates is not None and rates.are_on else None
        self._clock = clock
        self.reserved_due_ms = reserved_due_ms
        self.queued_due_ms = queued_due_ms
        self._ledgers: dict[SaleId, Ledger] = {}
        self._ended: dict[SaleId, Epoch] = {}
        self._armed: dict[SaleId, Epoch] = {}
        self._loading: dict[SaleId, tuple[Epoch, str]] = {}
        self._tokens = count(1)

    def _ledger(self, sale_id: SaleId, epoch: Epoch) -> Ledger | Unavailable:
        ledger = self._ledgers.get(sale_id)
        if ledger is None or not self._known(sale_id) == epoch == self._armed.get(sale_id):
            return Unavailable(Why.NOT_ARMED, f"{sale_id} epoch {epoch}")
        return ledger

    def _known(self, sale_id: SaleId) -> Epoch:
        """Tell the newest epoch that this gate heard of."""
        ledger = self._ledgers.get(sale_id)
        heard = ledger.epoch if ledger is not None else Epoch(0)
        return max(heard, self._ended.get(sale_id, Epoch(0)))

    def _delay_ms(self, state: PurchaseState) -> int:
        reserved = state is PurchaseState.RESERVED
        return self.reserved_due_ms if reserved else self.queued_due_ms

    async def begin_load(
        self, sale_id: SaleId, epoch: Epoch, terms: SaleTerms, state: SaleState
    ) -> str | None:
        """See `StockGate.begin_load`."""
        if not isinstance(self._ledger(sale_id, epoch), Unavailable):
            return None
        known = self._known(sale_id)
        if known > epoch:
            raise Unavailable(Why.NOT_ARMED, f"{sale_id} has epoch {known}, not {epoch}")
        token = str(next(self._tokens))
        self._armed.pop(sale_id, None)
        self._loading[sale_id] = (epoch, token)
        before = self._ledgers.get(sale_id)
        window = before.window if before is not None else None
        if window is None and self.rates is not None:
            window = Window(self.rates)
        self._ledgers[sale_id] = Ledger(
            epoch=epoch, terms=terms, state=state, available=terms.units, window=window
        )
        return token

    def _open_load(self, sale_id: SaleId, token: str) -> Ledger:
        epoch, current = self._loading.get(sale_id, (Epoch(0), ""))
        if current != token:
            raise Unavailable(Why.NOT_ARMED, f"no open load of {sale_id} with this token")
        ledger = self._ledgers.get(sale_id)
        if ledger is None or self._known(sale_id) != epoch:
            raise Unavailable(Why.NOT_ARMED, f"{sale_id} began another life during the load")
        return ledger

    async def load(self, sale_id: SaleId, token: str, records: Sequence[GateRecord]) -> None:
        """See `StockGate.load`."""
        ledger = self._open_load(sale_id, token)
        for record in records:
            if record.state.is_final:
                ledger.put(cut(record, record.state, record.reason), None)
            else:
                accepted_at_ms = record.accepted_at_ms or self._clock.now_ms()
                kept = attrs.evolve(
                    record, epoch=ledger.epoch, accepted_at_ms=accepted_at_ms, reason=None
                )
                ledger.put(kept, self._clock.now_ms() + self._delay_ms(record.state))

    async def arm(self, sale_id: SaleId, token: str, expected: GateBooks) -> None:
        """See `StockGate.arm`."""
        ledger = self._open_load(sale_id, token)
        seen = attrs.evolve(books_of(ledger), oldest_due_ms=expected.oldest_due_ms)
        if seen != expected:
            raise Corrupt("books-differ", f"{sale_id}: loaded {seen}, expected {expected}")
        del self._loading[sale_id]
        self._armed[sale_id] = ledger.epoch

    async def drop(self, sale_id: SaleId) -> None:
        """See `StockGate.drop`."""
        for shelf in (self._ledgers, self._ended, self._armed, self._loading):
            shelf.pop(sale_id, None)

    async def disarm(self, sales: Sequence[tuple[SaleId, Epoch]]) -> int:
        """See `StockGate.disarm`."""
        for sale_id, epoch in sales:
            if self._known(sale_id) < epoch:
                self._ended[sale_id] = epoch
                self._armed.pop(sale_id, None)
                self._loading.pop(sale_id, None)
        return 0

    async def survivors(self, sale_id: SaleId, *, skip: int, limit: int) -> list[GateRecord] | None:
        """See `StockGate.survivors`."""
        ledger = self._ledgers.get(sale_id)
        if ledger is None:
            return None
        oldest_first = sorted((at, purchase_id) for purchase_id, at in ledger.journal.items())
        ids = [purchase_id for _, purchase_id in oldest_first[skip : skip + limit]]
        if not ids:
            return None
        records = [ledger.records[purchase_id] for purchase_id in ids]
        return [record for record in records if record.state is PurchaseState.RESERVED]

    async def adopt(self, sales: Sequence[tuple[SaleId, Epoch]]) -> list[bool]:
        """See `StockGate.adopt`: this gate has one version, so there is nobody to adopt from."""
        return [not isinstance(self._ledger(*sale), Unavailable) for sale in sales]
