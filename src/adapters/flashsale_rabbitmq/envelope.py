"""What outsiders write around a message, kept from the driver's decoder and read here, totally.

pamqp ends the CONNECTION at a timestamp of the year 55840, a name that is not UTF-8, or tables in
tables in tables. The broker carries all of those, so one such message on an open queue would take
the connection at every delivery, and with it the deliveries of its neighbours, until they all
reach the delivery limit. So a reading connection hands the driver each message with its properties
wrapped up as bytes, and without exchange and routing key, which outsiders choose too.

Each frame is: kind (1 byte), channel (2), size (4), payload (size), end (1).
"""

import asyncio
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aio_pika
import attrs
from aiormq.connection import TransportFactory
from pamqp import decode
from yarl import URL

HEAD = struct.Struct(">BHI")
HEAD_BYTES = HEAD.size
METHOD_FRAME, HEADER_FRAME = 1, 2
DELIVER = b"\x00\x3c\x00\x3c"
"""basic.deliver: then consumer tag (short string), delivery tag (8), redelivered (1), and last
exchange and routing key (short strings)."""
DELIVER_FIXED_BYTES = 9
FIXED_BYTES = 12
"""A content header's class, weight and body size; its flags and properties follow."""
WRAPPED_NAME = "envelope"
ONLY_HEADERS = b"\x20\x00"
BUFFER_BYTES = 256 * 1024
"""Two of the largest frames that RabbitMQ sends."""

UNREADABLE = "flashsale-unreadable-headers"
"""The header under which a table that cannot be read is kept, byte by byte."""
CONTENT_TYPE, HEADERS, MESSAGE_ID = 0x8000, 0x2000, 0x0080


class EnvelopeReader(asyncio.StreamReader):
    """A stream of AMQP frames in which foreign properties are wrapped up."""

    _frame = b""
    _at = 0

    async def readexactly(self, n: int) -> bytes:
        """Read from the frame in hand; take the next from the socket when that one is used up."""
        if self._at == len(self._frame):
            self._frame, self._at = await self._next_frame(), 0
        start, self._at = self._at, self._at + n
        return self._frame[start : self._at]

    async def _next_frame(self) -> bytes:
        head = await super().readexactly(HEAD_BYTES)
        if head.startswith(b"AMQP"):
            # The broker speaks another version; the driver says so.
            return head
        kind, channel, size = HEAD.unpack(head)
        rest = await super().readexactly(size + 1)
        if kind == HEADER_FRAME:
            return _framed(kind, channel, _wrapped(rest[:-1]), rest[-1:])
        if kind == METHOD_FRAME and rest.startswith(DELIVER):
            return _framed(kind, channel, _without_route(rest), rest[-1:])
        return head + rest


def _framed(kind: int, channel: int, payload: bytes, end: bytes) -> bytes:
    return HEAD.pack(kind, channel, len(payload)) + payload + end


def _wrapped(payload: bytes) -> bytes:
    envelope = payload[FIXED_BYTES:]
    name = WRAPPED_NAME.encode()
    entry = bytes([len(name)]) + name + b"x" + len(envelope).to_bytes(4, "big") + envelope
    return payload[:FIXED_BYTES] + ONLY_HEADERS + len(entry).to_bytes(4, "big") + entry


def _without_route(rest: bytes) -> bytes:
    tag_bytes = rest[len(DELIVER)]
    return rest[: len(DELIVER) + 1 + tag_bytes + DELIVER_FIXED_BYTES] + b"\x00\x00"


class EnvelopeTransport(TransportFactory):
    """Opens the socket, with the driver's reader replaced."""

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with TLS where the URL wants it."""
        provider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = EnvelopeReader(limit=BUFFER_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(
            lambda: protocol, url.host or "", url.port or 0, ssl=context, **kwargs
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class ReadingConnection(aio_pika.Connection):
    """A connection that survives whatever properties a message has."""

    def __init__(self, url: URL, **kwargs: Any) -> None:
        """Replace the transport, which aio-pika hands on to aiormq."""
        super().__init__(url, **kwargs)
        self.kwargs["transport_factory"] = EnvelopeTransport()


@attrs.frozen(kw_only=True)
class Envelope:
    """The properties that the engine wants of a message."""

    content_type: str | None = None
    message_id: bytes = b""
    headers: tuple[tuple[str, bytes], ...] = ()


def read_envelope(raw: bytes | bytearray) -> Envelope:
    """Read flags and properties as they came from the wire; never raises.

    A table that cannot be read is kept as one header of its bytes, and the rest is read all the
    same; where the properties end too early, what is missing is absent.
    """
    flags = int.from_bytes(raw[:2], "big")
    found: dict[int, bytes | bytearray] = {}
    at = 2
    for flag, ending in LAYOUT:
        if flags & flag:
            start, at = ending(raw, at)
            found[flag] = raw[start:at]
    content_type = found.get(CONTENT_TYPE)
    return Envelope(
        content_type=None if content_type is None else content_type.decode("utf-8", "replace"),
        message_id=bytes(found.get(MESSAGE_ID, b"")),
        headers=_read_table(bytes(found.get(HEADERS, b""))),
    )


def _read_table(table: bytes) -> tuple[tuple[str, bytes], ...]:
    if not table:
        return ()
    try:
        _, read = decode.field_table(len(table).to_bytes(4, "big") + table)
        return tuple((name, header_bytes(value)) for name, value in read.items())
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, struct.error):
        return ((UNREADABLE, table),)


def header_bytes(value: object) -> bytes:
    """Write any AMQP header value as bytes, always the same: text as UTF-8, the rest as JSON."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if value is None:
        return b""
    if isinstance(value, (datetime, Decimal)):
        return _plain(value).encode()
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)


_Span = tuple[int, int]
_Raw = bytes | bytearray


def _short_string(raw: _Raw, at: int) -> _Span:
    return at + 1, at + 1 + int.from_bytes(raw[at : at + 1], "big")


def _table(raw: _Raw, at: int) -> _Span:
    return at + 4, at + 4 + int.from_bytes(raw[at : at + 4], "big")


def _octet(_: _Raw, at: int) -> _Span:
    return at, at + 1


LAYOUT: tuple[tuple[int, Callable[[_Raw, int], _Span]], ...] = (
    (CONTENT_TYPE, _short_string),
    (0x4000, _short_string),  # content encoding
    (HEADERS, _table),
    (0x1000, _octet),  # delivery mode
    (0x0800, _octet),  # priority
    (0x0400, _short_string),  # correlation id
    (0x0200, _short_string),  # reply to
    (0x0100, _short_string),  # expiration
    (MESSAGE_ID, _short_string),
)
"""A message's properties in the order of the wire; those behind the message id are not wanted."""
