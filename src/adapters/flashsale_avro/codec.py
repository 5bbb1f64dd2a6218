"""Facts to bytes and back: Avro in two framings, JSON where a message declares it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, assert_never

import attrs

from flashsale_avro import json_form
from flashsale_avro.facts import Fact, fact_from, record_of
from flashsale_avro.field_rules import is_traceparent
from flashsale_avro.framing import header_of
from flashsale_avro.known_schemas import KnownSchemas, Verdict
from flashsale_avro.record_form import RecordForm
from flashsale_avro.registration import own_ids
from flashsale_avro.schema_files import SchemaName, schema_texts
from flashsale_avro.schema_registry import RegistryConfig, SchemaRegistry, open_registry
from flashsale_core.errors import Corrupt
from flashsale_core.events import Barrier, Channel, Message, OrderEvent, PurchasesAccepted
from flashsale_core.model import PurchaseRequest, Source
from flashsale_core.ports import Codec, Decoded, Encoded

AVRO: Final = "application/avro"
REQUEST_BYTES_MAX: Final = 64 * 1024
"""A request has seven short fields; a foreign schema may add a few of its own."""
ACCEPTED_BYTES_MAX: Final = 1024 * 1024
"""What brokers take by default; some 800 purchases with the longest of everything."""

BYTES_MAX: Final[Mapping[Channel, int]] = {
    Channel.REQUESTS: REQUEST_BYTES_MAX,
    Channel.ACCEPTED: ACCEPTED_BYTES_MAX,
    Channel.ORDERS: REQUEST_BYTES_MAX,
    Channel.DEAD_LETTERS: ACCEPTED_BYTES_MAX,
}
NAMES: Final[Mapping[Channel, frozenset[SchemaName]]] = {
    Channel.REQUESTS: frozenset({SchemaName.PURCHASE_REQUEST, SchemaName.AVRO_PURCHASE_REQUEST}),
    Channel.ACCEPTED: frozenset({SchemaName.PURCHASES_ACCEPTED, SchemaName.BARRIER}),
    Channel.ORDERS: frozenset({SchemaName.ORDER_CREATED, SchemaName.PURCHASE_REJECTED}),
    # Copies of what could not be read elsewhere.
    Channel.DEAD_LETTERS: frozenset(SchemaName),
}
_NOT_YET: Final = Corrupt("unknown-schema-id", "not asked for yet")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class WireFormat(StrEnum):
    """In which form facts are written; both are always read."""

    AVRO = "avro"
    JSON = "json"


@attrs.frozen(kw_only=True)
class AvroConfig:
    """How to write, and where the registry is; without one, single-object encoding is written."""

    wire_format: WireFormat = WireFormat.AVRO
    registry: RegistryConfig | None = None
    event_source: str = "/flashsale"
    """Who tells the events: CloudEvents' `source`, a URI reference."""


class AvroCodec:
    """The `Codec` port by fastavro; stateless but for the schemas that it has come to know.

    Reads Confluent framing and single-object encoding, and JSON where the content type says so.
    Writes what `wire_format` says: Avro in Confluent framing for the records whose ids are given,
    in single-object encoding otherwise.
    """

    def __init__(
        self,
        registry: SchemaRegistry | None = None,
        *,
        wire_format: WireFormat = WireFormat.AVRO,
        own_ids: Mapping[SchemaName, int] | None = None,
        event_source: str = "/flashsale",
    ) -> None:
        """Know our own schemas; `own_ids` are the registry's numbers of them (`open_codec`)."""
        self._schemas: Final = KnownSchemas(registry, own_ids or {})
        self._writes_json: Final = wire_format is WireFormat.JSON
        self._event_source: Final = event_source.encode()
        symbols = self._schemas.own[SchemaName.PURCHASE_REQUEST].symbols
        # On the wire an enum is the index of its symbol.
        self._indices: Final = {source: symbols.index(source) for source in Source}

    def encode(self, fact: PurchaseRequest | PurchasesAccepted | Barrier | OrderEvent) -> Encoded:
        """Write in the configured form. Raises Corrupt for what the reader would refuse."""
        if self._writes_json:
            name, record = record_of(fact, json_form.SYMBOLS)
            body, content_type = json_form.write_json(record), json_form.CONTENT_TYPE
        else:
            name, record = record_of(fact, self._indices)
            try:
                body = self._schemas.own[name].write(self._schemas.headers[name], record)
            except (TypeError, ValueError) as exc:
                raise Corrupt("not-writable", f"{name}: {exc}") from exc
            content_type = AVRO
        self._check_written(name, body)
        headers = self._headers(name, fact)
        return Encoded(body=body, content_type=content_type, headers=headers)

    async def decode(self, messages: Sequence[Message]) -> list[Decoded | Corrupt]:
        """Read each; one's fault is not another's.

        Raises Unavailable(REGISTRY_AWAY) when a schema id never seen before must be asked for.
        """
        decoded: list[Decoded | Corrupt] = []
        unseen: dict[int, bytes] = {}
        for place, message in enumerate(messages):
            result = self._decode(message)
            if isinstance(result, bytes):
                unseen[place] = result
                result = _NOT_YET
            decoded.append(result)
        if unseen:
            verdicts = await self._schemas.learn(sorted(set(unseen.values())))
            for place, header in unseen.items():
                decoded[place] = _read_with(messages[place], header, verdicts[header])
        return decoded

    def _decode(self, message: Message) -> Decoded | Corrupt | bytes:
        """Read one, or return the header whose schema must be asked for."""
        try:
            body = _bounded(message)
            if json_form.is_json(message.content_type):
                return _read_json(message, body)
            header = header_of(body)
            verdict = self._schemas.verdict(header)
            return header if verdict is None else _read(message, body, header, verdict)
        except Corrupt as corrupt:
            return corrupt

    def _check_written(self, name: SchemaName, body: bytes) -> None:
        most = ACCEPTED_BYTES_MAX if name in NAMES[Channel.ACCEPTED] else REQUEST_BYTES_MAX
        if len(body) > most:
            raise Corrupt("too-large", f"{name}: {len(body)} bytes, at most {most}")

    def _headers(self, name: SchemaName, fact: Fact) -> tuple[tuple[str, bytes], ...]:
        """Add CloudEvents' metadata; the engine's private messages go without, for their cost."""
        match fact:
            case OrderEvent():
                told, at_ms = fact.occurrence_id, fact.occurred_at_ms
            case PurchaseRequest():
                told, at_ms = fact.purchase_id, fact.requested_at_ms
            case PurchasesAccepted() | Barrier():
                return ()
            case _:
                assert_never(fact)
        headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", told.encode()),
            ("ce_type", name.encode()),
            ("ce_source", self._event_source),
            ("ce_subject", fact.purchase_id.encode()),
            ("ce_time", _rfc3339(at_ms)),
        )
        if fact.traceparent is None:
            return headers
        return (*headers, ("traceparent", fact.traceparent.encode()))


def _bounded(message: Message) -> bytes:
    if not message.body:
        raise Corrupt("empty", "no value" if message.body is None else "no bytes")
    most = BYTES_MAX[message.channel]
    if len(message.body) > most:
        raise Corrupt("too-large", f"{len(message.body)} bytes, at most {most}")
    return message.body


def _read(message: Message, body: bytes, header: bytes, verdict: Verdict) -> Decoded:
    if isinstance(verdict, Corrupt):
        raise verdict
    _expect(message.channel, verdict.name)
    record = verdict.read(body, len(header))
    _name_symbols(record, verdict)
    return fact_from(verdict.name, record, _traceparent(message))


def _read_with(message: Message, header: bytes, verdict: Verdict) -> Decoded | Corrupt:
    try:
        return _read(message, _bounded(message), header, verdict)
    except Corrupt as corrupt:
        return corrupt


def _name_symbols(record: dict[str, Any], form: RecordForm) -> None:
    """Put symbols in the place of the indices that the wire carries."""
    if "source" in record:
        record["source"] = form.symbol(record["source"])
    elif "purchases" in record:
        for purchase in record["purchases"]:
            purchase["source"] = form.symbol(purchase["source"])


def _read_json(message: Message, body: bytes) -> Decoded:
    name, record = json_form.read_json(body)
    _expect(message.channel, name)
    return fact_from(name, record, _traceparent(message))


def _expect(channel: Channel, name: SchemaName) -> None:
    if name not in NAMES[channel]:
        raise Corrupt("unexpected-type", f"{name} does not belong on {channel.value}")


def _traceparent(message: Message) -> str | None:
    """Take the trace context from the headers; a malformed one begins a new trace, as W3C says."""
    for name, value in message.headers:
        if name == "traceparent":
            text = value.decode("ascii", "replace")
            return text if is_traceparent(text) else None
    return None


@lru_cache(maxsize=256)
def _rfc3339(time_ms: int) -> bytes:
    """Write a moment; a batch's facts have the same one."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


@asynccontextmanager
async def open_codec(config: AvroConfig) -> AsyncIterator[AvroCodec]:
    """Open a codec; with a registry, look our schemas' ids up once and register nothing.

    Raises Unavailable(REGISTRY_AWAY) when the registry is away or refuses the credentials,
    Conflict("schema-not-registered") when our schemas are not there, ImportError that names a
    missing extra.
    """
    # In a thread: the files are read once, and a loop must not stand still for a disk.
    await asyncio.to_thread(schema_texts)
    async with AsyncExitStack() as stack:
        registry, ids = None, None
        if config.registry is not None:
            registry = await stack.enter_async_context(open_registry(config.registry))
            if config.wire_format is WireFormat.AVRO:
                ids = await own_ids(registry)
        yield AvroCodec(
            registry,
            wire_format=config.wire_format,
            own_ids=ids,
            event_source=config.event_source,
        )


_: type[Codec] = AvroCodec
