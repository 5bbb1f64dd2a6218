"""Facts as the JSON that the outbox keeps: a person can read it, the relay makes events of it."""

import json
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import Source
from flashsale_core.occurrence import event_type, occurrence_id
from flashsale_core.ports import Decision

COLUMNS = ("occurrence_id", "fact")
"""What `row_of` writes of each fact."""

_TYPES = {type_.value: type_ for type_ in OrderEventType}
_SOURCES = {source.value: source for source in Source}


def row_of(decision: Decision, reason: str | None, occurred_at_ms: int) -> tuple[str, str]:
    """Write the fact of a new row (`flashsale_core.occurrence.order_event`) for the outbox.

    Without making it first: a worker does so for each order.
    """
    type_ = event_type(reason)
    told = occurrence_id(decision.sale_id, decision.purchase_id, type_)
    return told, _written(decision, told, type_, reason, occurred_at_ms)


def to_json(event: OrderEvent) -> str:
    """Write a fact as a JSON object, under the names of its fields."""
    return _written(event, event.occurrence_id, event.type, event.reason, event.occurred_at_ms)


def _written(
    one: OrderEvent | Decision,
    told: str,
    type_: OrderEventType,
    reason: str | None,
    occurred_at_ms: int,
) -> str:
    # Spelled out: `json.dumps` makes an encoder for each call, and takes four times as long.
    text = encode_basestring_ascii
    event_id, trace = one.event_id, one.traceparent
    return (
        f'{{"occurrence_id":"{told}","type":"{type_._value_}"'
        f',"purchase_id":{text(one.purchase_id)},"user_id":{text(one.user_id)}'
        f',"item_id":{text(one.item_id)},"sale_id":{text(one.sale_id)}'
        f',"quantity":{one.quantity:d},"source":"{one.source._value_}"'
        f',"requested_at_ms":{one.requested_at_ms:d},"occurred_at_ms":{occurred_at_ms:d}'
        f',"event_id":{"null" if event_id is None else text(event_id)}'
        f',"reason":{"null" if reason is None else text(reason)}'
        f',"traceparent":{"null" if trace is None else text(trace)}}}'
    )


def from_texts(facts: Iterable[str]) -> list[OrderEvent]:
    """Read facts that `to_json` wrote, in one go: a decoder's start costs as much as a fact."""
    return [_event(fact) for fact in json.loads(f"[{','.join(facts)}]")]


def _event(fact: Mapping[str, Any]) -> OrderEvent:
    return OrderEvent(
        occurrence_id=fact["occurrence_id"],
        type=_TYPES[fact["type"]],
        purchase_id=fact["purchase_id"],
        user_id=fact["user_id"],
        item_id=fact["item_id"],
        sale_id=fact["sale_id"],
        quantity=fact["quantity"],
        source=_SOURCES[fact["source"]],
        requested_at_ms=fact["requested_at_ms"],
        occurred_at_ms=fact["occurred_at_ms"],
        event_id=fact["event_id"],
        reason=fact["reason"],
        traceparent=fact["traceparent"],
    )
