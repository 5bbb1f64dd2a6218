"""What follows from a purchase (its fact, its charge) under one id however often it is told."""

from hashlib import sha1
from uuid import UUID

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import Order, PurchaseId, SaleId
from flashsale_core.ports import Decision

NAMESPACE = UUID("8d47389d-d88b-499d-9cec-868b7aea4985")
"""Ours alone and never to change: consumers drop repeats by ids that are made from it."""
_NAMESPACE_BYTES = NAMESPACE.bytes
_VARIANT = {f"{digit:x}": f"{digit & 0x3 | 0x8:x}" for digit in range(16)}
"""A UUID's seventeenth digit says by its first two bits that it is one of RFC 4122's."""


def occurrence_id(sale_id: SaleId, purchase_id: PurchaseId, type_: OrderEventType) -> str:
    """Name what happened to a purchase, as a UUIDv5.

    Written out because the standard library takes thrice as long, for each order.
    """
    return _uuid5(f"{sale_id}/{purchase_id}/{type_}")


def payment_key(sale_id: SaleId, purchase_id: PurchaseId) -> str:
    """Name the one charge of a purchase, as a UUIDv5: who asks again charges nobody twice."""
    return _uuid5(f"{sale_id}/{purchase_id}/payment")


def _uuid5(name: str) -> str:
    hexa = sha1(_NAMESPACE_BYTES + name.encode(), usedforsecurity=False).hexdigest()
    return f"{hexa[:8]}-{hexa[8:12]}-5{hexa[13:16]}-{_VARIANT[hexa[16]]}{hexa[17:20]}-{hexa[20:32]}"


def payment_event(
    order: Order, reason: str | None, occurred_at_ms: int, traceparent: str | None
) -> OrderEvent:
    """Make the fact of a row that is final now that its payment is."""
    decision = Decision(
        sale_id=order.sale_id,
        item_id=order.item_id,
        purchase_id=order.purchase_id,
        user_id=order.user_id,
        quantity=order.quantity,
        source=order.source,
        event_id=order.event_id,
        door=order.door,
        requested_at_ms=order.requested_at_ms,
        accepted_at_ms=order.accepted_at_ms,
        reason=reason,
        traceparent=traceparent,
    )
    return order_event(decision, reason, occurred_at_ms)


def event_type(reason: str | None) -> OrderEventType:
    """Say which fact a final row makes, by its reason."""
    return OrderEventType.ORDER_CREATED if reason is None else OrderEventType.PURCHASE_REJECTED


def order_event(decision: Decision, reason: str | None, occurred_at_ms: int) -> OrderEvent:
    """Make the fact of a new row; `reason` is the row's, which the database may have decided."""
    type_ = event_type(reason)
    return OrderEvent(
        occurrence_id=occurrence_id(decision.sale_id, decision.purchase_id, type_),
        type=type_,
        purchase_id=decision.purchase_id,
        user_id=decision.user_id,
        item_id=decision.item_id,
        sale_id=decision.sale_id,
        quantity=decision.quantity,
        source=decision.source,
        requested_at_ms=decision.requested_at_ms,
        occurred_at_ms=occurred_at_ms,
        event_id=decision.event_id,
        reason=reason,
        traceparent=decision.traceparent,
    )
