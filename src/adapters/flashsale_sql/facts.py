"""Facts as the JSON that the outbox keeps: a person can read it, the relay makes events of it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import EventId, ItemId, PurchaseId, SaleId, Source, UserId


def to_json(events: Iterable[OrderEvent]) -> str:
    """Write facts as one document, under the names of their fields.

    One for a batch, because an encoder's start costs as much as a fact.
    """
    return json.dumps([_fields(event) for event in events], separators=(",", ":"))


def _fields(event: OrderEvent) -> dict[str, object]:
    return {
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


def from_json(fact: Mapping[str, Any]) -> OrderEvent:
    """Read one of the facts that `to_json` wrote."""
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
