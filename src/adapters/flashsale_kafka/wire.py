"""Records to messages and back."""

import struct

from aiokafka.structs import ConsumerRecord

from flashsale_core.events import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Channel,
    Message,
    ParkedMessage,
)
from flashsale_core.ports import Encoded

CONTENT_TYPE_HEADER = "content-type"
"""CloudEvents' name for it in Kafka's binary mode."""
UNREADABLE_HEADER = "flashsale-unreadable"
"""On a message whose record the driver cannot read: the driver's error. It has no body."""
EXCEPTION_NAME = "flashsale_core.errors.Corrupt"
"""Spring's tools show the class of the exception; this is the engine's."""

Headers = tuple[tuple[str, bytes], ...]


def message_of(record: ConsumerRecord, channel: Channel) -> Message:
    """Turn a record into a message; a header without a value becomes an empty one."""
    found: tuple[tuple[str, bytes | None], ...] = record.headers
    content_type = None
    for name, value in found:
        if value is not None and content_type is None and name.lower() == CONTENT_TYPE_HEADER:
            content_type = value.decode("utf-8", "replace")
    return Message(
        channel=channel,
        body=record.value,
        key=record.key,
        headers=tuple((name, value or b"") for name, value in found),
        content_type=content_type,
        origin=f"{record.topic}:{record.partition}:{record.offset}",
        partition=record.partition,
        written_at_ms=record.timestamp if record.timestamp >= 0 else None,
    )


def unreadable(topic: str, partition: int, offset: int, fault: Exception) -> ConsumerRecord:
    """Stand in for a record that the driver cannot read, so that it is parked and not lost."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=-1,
        timestamp_type=0,
        key=None,
        value=None,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=((UNREADABLE_HEADER, repr(fault).encode()),),
    )


def record_headers(encoded: Encoded) -> list[tuple[str, bytes]]:
    """List the headers of a fact's record, its content type among them."""
    content_type = (CONTENT_TYPE_HEADER, encoded.content_type.encode())
    return [*encoded.headers, content_type]


def dead_letter_headers(letter: ParkedMessage) -> list[tuple[str, bytes]]:
    """List the original headers untouched, then ours, then those that Spring's tools read.

    Spring Kafka writes numbers as Java does: partition int32, offset and timestamp int64, all big
    endian; text as UTF-8. What the message does not know is left out.
    """
    message = letter.message
    said = f"{letter.reason}: {letter.detail}" if letter.detail else letter.reason
    headers = [
        *message.headers,
        (ORIGIN_HEADER, message.origin.encode()),
        (REASON_HEADER, letter.reason.encode()),
        ("kafka_dlt-exception-fqcn", EXCEPTION_NAME.encode()),
        ("kafka_dlt-exception-message", said.encode()),
    ]
    place = place_of(message.origin)
    if place is not None:
        topic, partition, offset = place
        headers += [
            ("kafka_dlt-original-topic", topic.encode()),
            ("kafka_dlt-original-partition", struct.pack(">i", partition)),
            ("kafka_dlt-original-offset", struct.pack(">q", offset)),
        ]
    if message.written_at_ms is not None:
        written = struct.pack(">q", message.written_at_ms)
        headers.append(("kafka_dlt-original-timestamp", written))
    return headers


def place_of(origin: str) -> tuple[str, int, int] | None:
    """Read topic, partition and offset from an origin of Kafka's form."""
    topic, *numbers = origin.rsplit(":", 2)
    try:
        partition, offset = (int(number) for number in numbers)
        struct.pack(">iq", partition, offset)
    except (ValueError, struct.error):
        return None
    return topic, partition, offset
