"""One sale's books in memory: what Redis keeps under one hash tag."""

import attrs

from flashsale_core.errors import Corrupt
from flashsale_core.model import (
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.ports import GateBooks
from flashsale_memory.rates import Window


@attrs.define(kw_only=True)
class Ledger:
    """One sale's books."""

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
    window: Window | None = None
    """No part of the books: it outlives them when they are loaded again."""

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
        if self.terms.per_user_limit is not None:
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


def cut(record: GateRecord, state: PurchaseState, reason: str | None) -> GateRecord:
    """Forget what only a message needed; a final record keeps what a retry is compared with."""
    return GateRecord(
        purchase_id=record.purchase_id,
        state=state,
        user_id=record.user_id,
        quantity=record.quantity,
        reason=reason if state is PurchaseState.ENDED else None,
        source=Source.API,
    )


def books_of(ledger: Ledger, *, ages: bool = False) -> GateBooks:
    """Count."""
    accepted = (ledger.records[one].accepted_at_ms for one in ledger.journal if ages)
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
        oldest_accepted_ms=min((at for at in accepted if at), default=None),
    )
