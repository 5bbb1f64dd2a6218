"""The tables of a database inside one process.

Between two awaits nobody else runs, so a method that awaits nothing is a transaction.
"""

import attrs

from flashsale_core.charges import Charge
from flashsale_core.events import OrderEvent, ParkedMessage
from flashsale_core.letters import TrailEntry
from flashsale_core.model import Order, PurchaseId, Sale, SaleId
from flashsale_core.ports import Clock

Key = tuple[SaleId, PurchaseId]


@attrs.define(eq=False)
class WaitingFact:
    """A fact of the outbox; claimed while somebody is telling it."""

    event: OrderEvent
    is_claimed: bool = False
    written_at_ms: int = 0


@attrs.define(eq=False)
class ParkedRow:
    """A parked message, and from when on it may be claimed."""

    message: ParkedMessage
    due_at_ms: int
    parked_at_ms: int = 0
    changed_at_ms: int = 0


@attrs.define(eq=False)
class PaymentRow:
    """A charge that is not final, its lease, and when it is due."""

    charge: Charge
    traceparent: str | None
    due_at_ms: int
    made_at_ms: int
    attempt: int = 0
    asked_since_ms: int | None = None
    leased_until_ms: int = 0
    is_flagged: bool = False
    detail: str = ""


@attrs.define(eq=False)
class Tables:
    """All that the ports share."""

    clock: Clock
    sales: dict[SaleId, Sale] = attrs.field(factory=dict)
    state_since: dict[SaleId, int] = attrs.field(factory=dict)
    orders: dict[Key, Order] = attrs.field(factory=dict)
    outbox: list[WaitingFact] = attrs.field(factory=list)
    payments: dict[Key, PaymentRow] = attrs.field(factory=dict)
    parked: dict[tuple[str, str], ParkedRow] = attrs.field(factory=dict)
    barriers: set[tuple[str, int]] = attrs.field(factory=set)
    trail: dict[int, list[TrailEntry]] = attrs.field(factory=dict)
    notes: dict[str, set[str]] = attrs.field(factory=dict)
