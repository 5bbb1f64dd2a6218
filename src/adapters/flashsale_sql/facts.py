"""Facts as the JSON that the outbox keeps: a person can read it, the relay makes events of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import Source

COLUMNS = ("occurrence_id", "fact")
"""What `rows_of` writes of each fact."""

_TYPES = {type_.value: type_ for type_ in OrderEventType}
_SOURCES = {source.value: source for source in Source}


def rows_of(events: Iterable[OrderEvent]) -> Sequence[tuple[str, str]]:
    """Write facts as rows of the outbox."""
    return [(event.occurrence_id, to_json(event)) for event in events]


def to_json(event: OrderEvent) -> str:
    """Write a fact as a JSON object, under the names of its fields.

    Spelled out: `json.dumps` makes an encoder for each call, and takes four times as long.
    """
    text = encode_basestring_ascii
    event_id, reason, trace = event.event_id, event.reason, event.traceparent
    return (
        f'{{"occurrence_id":"{event.occurrence_id}","type":"{event.type._value_}"'
        f',"purchase_id":{text(event.purchase_id)},"user_id":{text(event.user_id)}'
        f',"item_id":{text(event.item_id)},"sale_id":{text(event.sale_id)}'
        f',"quantity":{event.quantity:d},"source":"{event.source._value_}"'
        f',"requested_at_ms":{event.requested_at_ms:d},"occurred_at_ms":{event.occurred_at_ms:d}'
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
