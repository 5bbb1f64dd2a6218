"""AMQP messages to the engine's and back: bytes, headers, origin. Nothing is decoded here."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiormq.abc import DeliveredMessage

from flashsale_core.deliveries import ATTRIBUTE_PREFIX
from flashsale_core.events import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Channel,
    Message,
    ParkedMessage,
)
from flashsale_core.ports import Encoded
from flashsale_rabbitmq.envelope import WRAPPED_NAME, read_envelope

BROKERS_OWN_HEADERS = frozenset({"x-delivery-count"})
"""The broker counts deliveries here; a message delivered again must look the same."""
ATTRIBUTE_HEADERS = "cloudEvents_"
"""What CloudEvents' AMQP binding puts before an attribute's name; JMS takes no colon there."""
PURCHASE_HEADER = "flashsale-purchase-id"
"""Which purchase a message is about; AMQP's message id must be new with every attempt."""
DLT_QUEUE_HEADER = "flashsale-original-queue"
DLT_DETAIL_HEADER = "flashsale-detail"
DLT_TIME_HEADER = "flashsale-dead-at"
DLT_CUT_HEADER = "flashsale-headers-left-out"
ORIGINAL_HEADERS_BYTES_MAX = 64 * 1024
"""All headers travel in one frame of at most 128 KiB; beyond it the broker ends the connection."""
DETAIL_CHARS_MAX = 1_000
ORIGIN_DIGEST_BYTES = 16

AmqpHeaders = dict[str, Any]


def message_from(
    delivered: DeliveredMessage, channel: Channel, queue: str, partition: int
) -> Message:
    """Read what came over a reading connection, bytes untouched; no key, because AMQP has none."""
    wrapped = (delivered.header.properties.headers or {}).get(WRAPPED_NAME, b"")
    envelope = read_envelope(wrapped if isinstance(wrapped, (bytes, bytearray)) else b"")
    return Message(
        channel=channel,
        body=delivered.body,
        headers=tuple(
            (name, value) for name, value in envelope.headers if name not in BROKERS_OWN_HEADERS
        ),
        content_type=envelope.content_type,
        origin=origin_of(queue, envelope.message_id, delivered.body),
        partition=partition,
    )


def origin_of(queue: str, message_id: bytes, body: bytes) -> str:
    """Name a message for good: a digest of its message id, if it has one, and its body.

    RabbitMQ numbers nothing, so two equal messages without ids are one.
    """
    digest = hashlib.blake2b(digest_size=ORIGIN_DIGEST_BYTES)
    digest.update(len(message_id).to_bytes(2, "big") + message_id + body)
    return f"{queue}:{digest.hexdigest()}"


def amqp_headers(headers: Sequence[tuple[str, bytes]]) -> AmqpHeaders:
    """Write header bytes as AMQP strings where they are UTF-8, else as byte arrays."""
    table: AmqpHeaders = {}
    for name, value in headers:
        try:
            table[name] = value.decode()
        except UnicodeDecodeError:
            table[name] = bytearray(value)
    return table


def fact_headers(encoded: Encoded, purchase_id: str | None = None) -> AmqpHeaders:
    """List the headers of a fact's message, and the purchase that it is about."""
    try:
        headers = {_BOUND[name]: value.decode() for name, value in encoded.headers}
    except (KeyError, UnicodeDecodeError):
        # Not our codec's: whatever it says is kept.
        headers = amqp_headers([(_bound(name), value) for name, value in encoded.headers])
    if purchase_id is not None:
        headers[PURCHASE_HEADER] = purchase_id
    return headers


def _bound(name: str) -> str:
    """Name a header as CloudEvents' AMQP binding does; what is no attribute keeps its name."""
    if not name.startswith(ATTRIBUTE_PREFIX):
        return name
    return ATTRIBUTE_HEADERS + name.removeprefix(ATTRIBUTE_PREFIX)


_ATTRIBUTES = ("specversion", "id", "type", "source", "subject", "time")
_BOUND = {
    name: _bound(name)
    for name in (*(ATTRIBUTE_PREFIX + attribute for attribute in _ATTRIBUTES), "traceparent")
}
"""Of the headers that each event has: made once, because a drain writes thousands a second."""


def dead_letter_headers(letter: ParkedMessage, queue: str, now: datetime) -> AmqpHeaders:
    """Keep the original headers and add, as strings, from where, why and when.

    Headers so large that ours would not fit beside them are left out, and a header says so: the
    parked message in the database has them.
    """
    headers = letter.message.headers
    size = sum(len(name.encode()) + len(value) for name, value in headers)
    fits = size <= ORIGINAL_HEADERS_BYTES_MAX
    table = amqp_headers(headers) if fits else {DLT_CUT_HEADER: f"{size} bytes"}
    table[ORIGIN_HEADER] = letter.message.origin
    table[REASON_HEADER] = letter.reason
    table[DLT_QUEUE_HEADER] = queue
    table[DLT_DETAIL_HEADER] = letter.detail[:DETAIL_CHARS_MAX]
    table[DLT_TIME_HEADER] = now.astimezone(UTC).isoformat(timespec="milliseconds")
    if letter.purchase_id is not None:
        table[PURCHASE_HEADER] = letter.purchase_id
    return table
