"""The follow-up fact of a recorded purchase, under one id however often it is told."""

from hashlib import sha1
from uuid import UUID

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.ports import Decision

NAMESPACE = UUID("8d47389d-d88b-499d-9cec-868b7aea4985")
"""Ours alone and never to change: consumers drop repeats by ids that are made from it."""
_NAMESPACE_BYTES = NAMESPACE.bytes


def occurrence_id(sale_id: SaleId, purchase_id: PurchaseId, type_: OrderEventType) -> str:
    """Name what happened to a purchase, as a UUIDv5.

    Written out because the standard library takes thrice as long, for each order.
    """
    name = f"{sale_id}/{purchase_id}/{type_}".encode()
    digest = bytearray(sha1(_NAMESPACE_BYTES + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    hexa = digest.hex()
    return f"{hexa[:8]}-{hexa[8:12]}-{hexa[12:16]}-{hexa[16:20]}-{hexa[20:]}"


def order_event(decision: Decision, reason: str | None, occurred_at_ms: int) -> OrderEvent:
    """Make the fact of a new row; `reason` is the row's, which the database may have decided."""
    type_ = OrderEventType.ORDER_CREATED if reason is None else OrderEventType.PURCHASE_REJECTED
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
