"""Facts as the JSON that the outbox keeps: a person can read it, the relay makes events of it."""

import json
from collections.abc import Mapping
from typing import Any

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import EventId, ItemId, PurchaseId, SaleId, Source, UserId

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def to_json(event: OrderEvent) -> str:
    """Write a fact, under the names of its fields."""
    return _encode(
        {
            "occurrence_id": event.occurrence_id,
            "type": event.type,
            "purchase_id": event.purchase_id,
            "user_id": event.user_id,
            "item_id": event.item_id,
            "sale_id": event.sale_id,
            "quantity": event.quantity,
            "source": event.source,
            "requested_at_ms": event.requested_at_ms,
            "occurred_at_ms": event.occurred_at_ms,
            "event_id": event.event_id,
            "reason": event.reason,
            "traceparent": event.traceparent,
        }
    )


def from_json(fact: Mapping[str, Any]) -> OrderEvent:
    """Read a fact that `to_json` wrote."""
    event_id = fact["event_id"]
    return OrderEvent(
        occurrence_id=fact["occurrence_id"],
        type=OrderEventType(fact["type"]),
        purchase_id=PurchaseId(fact["purchase_id"]),
        user_id=UserId(fact["user_id"]),
        item_id=ItemId(fact["item_id"]),
        sale_id=SaleId(fact["sale_id"]),
        quantity=fact["quantity"],
        source=Source(fact["source"]),
        requested_at_ms=fact["requested_at_ms"],
        occurred_at_ms=fact["occurred_at_ms"],
        event_id=None if event_id is None else EventId(event_id),
        reason=fact["reason"],
        traceparent=fact["traceparent"],
    )
