"""What a batch wants recorded of a purchase, and how its row stands."""

import attrs

from flashsale_core.model import (
    Door,
    Epoch,
    EventId,
    ItemId,
    OrderStatus,
    PurchaseId,
    SaleId,
    Source,
    UserId,
)


@attrs.frozen(kw_only=True)
class Decision:
    """What a batch wants recorded of one purchase.

    REJECTED with a reason; without one PENDING_PAYMENT if it `awaits_payment`, else CONFIRMED.
    """

    sale_id: SaleId
    item_id: ItemId
    purchase_id: PurchaseId
    user_id: UserId
    quantity: int
    source: Source
    event_id: EventId | None
    door: Door
    requested_at_ms: int
    accepted_at_ms: int
    reason: str | None = None
    traceparent: str | None = None
    awaits_payment: bool = False
    payment_token: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Standing:
    """The row that stands for a purchase, whoever wrote it; `is_new` when this call did."""

    sale_id: SaleId
    purchase_id: PurchaseId
    status: OrderStatus
    reason: str | None
    is_new: bool
    traceparent: str | None = attrs.field(default=None, eq=False)
    """Of the request that wrote the row, for the log alone; the use case fills it in."""


@attrs.frozen(kw_only=True)
class Settled:
    """A payment's end: the row as it stands now, and the sale's epoch in that transaction."""

    standing: Standing
    epoch: Epoch
