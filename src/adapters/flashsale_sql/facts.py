"""Facts as the JSON that the outbox keeps: a person can read it, the relay makes events of it."""

from collections.abc import Iterable
from typing import Final

import msgspec

from flashsale_core.events import OrderEvent
from flashsale_core.occurrence import order_event
from flashsale_core.ports import Decision

COLUMNS = ("occurrence_id", "fact")
"""What `row_of` writes of each fact."""

_WRITER: Final = msgspec.json.Encoder()
_READER: Final = msgspec.json.Decoder(list[OrderEvent])


def row_of(decision: Decision, reason: str | None, occurred_at_ms: int) -> tuple[str, str]:
    """Write the fact of a new row (`flashsale_core.occurrence.order_event`) for the outbox."""
    event = order_event(decision, reason, occurred_at_ms)
    return event.occurrence_id, to_json(event)


def to_json(event: OrderEvent) -> str:
    """Write a fact as a JSON object, under the names of its fields."""
    return _WRITER.encode(event).decode()


def from_texts(facts: Iterable[str]) -> list[OrderEvent]:
    """Read facts that `to_json` wrote, in one go: a decoder's start costs as much as a fact."""
    return _READER.decode(f"[{','.join(facts)}]")
