"""The headers of a message as JSON Schema; their names come from what the adapters write."""

from collections.abc import Mapping
from typing import Any, Final

ATTRIBUTES: Final[Mapping[str, str]] = {
    "specversion": "CloudEvents' version.",
    "id": "Of this event. The same fact told again has the same id; drop repeats by it.",
    "type": "The record's Avro full name.",
    "source": "Who tells it: CloudEvents' `source`, a URI reference.",
    "subject": "The purchase id.",
    "time": "When the row was written that this event tells of: RFC 3339, UTC, milliseconds.",
}
"""CloudEvents' attributes, without the prefix that a broker's binding puts before them."""
OTHERS: Final[Mapping[str, str]] = {
    "content-type": "CloudEvents' `datacontenttype`.",
    "traceparent": "W3C trace context. Where a request brought one, what follows from it carries "
    "it on.",
    "flashsale-purchase-id": "Which purchase the message is about.",
    "flashsale-origin": "Where the message came from, the same whenever it is delivered: on Kafka "
    "`topic:partition:offset`, on RabbitMQ the queue and a digest.",
    "flashsale-reason": "Why it never can succeed, as a code.",
    "flashsale-original-queue": "The queue that it came from.",
    "flashsale-detail": "Why, in words.",
    "flashsale-dead-at": "When it was set aside: ISO 8601, UTC.",
    "flashsale-headers-left-out": "Instead of the original's headers, where they would not fit: "
    "their size. The parked message has them.",
    "flashsale-unreadable": "The driver's error, of a record that it cannot read; such a copy has "
    "no body.",
    "flashsale-unreadable-headers": "The original's headers, byte by byte, where AMQP cannot be "
    "read from them.",
    "kafka_dlt-exception-fqcn": "Class of the error, for Spring's tools.",
    "kafka_dlt-exception-message": "Why, as a code and in words.",
    "kafka_dlt-original-topic": "The topic that it came from.",
    "kafka_dlt-original-partition": "Its partition: int32, big endian.",
    "kafka_dlt-original-offset": "Its offset: int64, big endian.",
    "kafka_dlt-original-timestamp": "When it was written, in ms since 1970: int64, big endian.",
}
BINARY: Final = frozenset(
    f"kafka_dlt-original-{fact}" for fact in ("partition", "offset", "timestamp")
)
"""Numbers as Java writes them, and no text."""

Headers = Mapping[str, str | bytes]


def schema_of(headers: Headers, always: Headers, prefix: str) -> dict[str, Any]:
    """Describe the headers of a message; `always` holds those that no message lacks."""
    return {
        "type": "object",
        "required": [name for name in headers if name in always],
        "properties": {name: _header(name, prefix) for name in headers},
    }


def _header(name: str, prefix: str) -> dict[str, Any]:
    attribute = name.removeprefix(prefix) if name.startswith(prefix) else None
    description = OTHERS[name] if attribute is None else ATTRIBUTES[attribute]
    kind = {"format": "binary"} if name in BINARY else {}
    fixed = {"const": "1.0"} if attribute == "specversion" else {}
    return {"type": "string", "description": description, **kind, **fixed}


def example_of(headers: Headers) -> dict[str, str]:
    """Write the headers that are text."""
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in headers.items()
        if name not in BINARY
    }
