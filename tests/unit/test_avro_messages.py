"""What the codec makes of single messages: the ones that are read, and every way to be wrong."""

import io
import json
import struct
from datetime import UTC, datetime
from typing import Any

import attrs
import avro.io as avro_io
import avro.schema as avro_schema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale_avro import (
    ACCEPTED_BYTES_MAX,
    REQUEST_BYTES_MAX,
    AvroCodec,
    SchemaName,
    WireFormat,
    schema_texts,
)
from flashsale_avro.field_rules import PURCHASE_ACCEPTED, is_right_at_a_glance, values_of
from flashsale_core.errors import Corrupt, Invalid, Violation
from flashsale_core.events import (
    Barrier,
    Channel,
    Message,
    OrderEvent,
    OrderEventType,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import (
    TIME_MS_MAX,
    Epoch,
    EventId,
    ItemId,
    PurchaseId,
    PurchaseRequest,
    SaleId,
    Source,
    UserId,
)
from flashsale_core.ports import Decoded

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = PurchaseRequest(
    purchase_id=PurchaseId("p-1"),
    user_id=UserId("u-1"),
    item_id=ItemId("shoe"),
    quantity=2,
    requested_at_ms=1_764_000_000_000,
    source=Source.MOBILE,
)
EVENT = OrderEvent(
    occurrence_id="00000000-0000-5000-8000-000000000001",
    type=OrderEventType.PURCHASE_REJECTED,
    purchase_id=PurchaseId("p-1"),
    user_id=UserId("u-1"),
    item_id=ItemId("shoe"),
    sale_id=SaleId("shoe.1"),
    quantity=2,
    source=Source.MOBILE,
    requested_at_ms=1_764_000_000_000,
    occurred_at_ms=1_764_000_001_007,
    reason="SOLD_OUT",
    traceparent=TRACEPARENT,
)
ACCEPTED = PurchaseAccepted(
    purchase_id=PurchaseId("p-1"),
    user_id=UserId("u-1"),
    quantity=2,
    accepted_at_ms=1,
    requested_at_ms=0,
    source=Source.WEB,
)


def varint(number: int) -> bytes:
    """Write an Avro int or long; any size, as only a broken writer does."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def text(value: bytes) -> bytes:
    """Write an Avro string."""
    return varint(len(value)) + value


def raw_request(**parts: bytes) -> bytes:
    """Write a request in single-object encoding by hand, some fields as the caller has them."""
    fields = {
        "purchaseId": text(b"p-1"),
        "userId": text(b"u-1"),
        "itemId": text(b"shoe"),
        "quantity": varint(2),
        "requestedAt": varint(1_764_000_000_000),
        "source": varint(1),
    }
    return AvroCodec().encode(REQUEST).body[:10] + b"".join({**fields, **parts}.values())


async def read(
    body: bytes | None, channel: Channel = Channel.REQUESTS, content_type: str | None = None
) -> Decoded | Corrupt:
    """Decode one message without a registry."""
    message = Message(channel=channel, body=body, content_type=content_type, origin="t:0:0")
    (decoded,) = await AvroCodec().decode([message])
    return decoded


async def read_json(document: Any, channel: Channel = Channel.REQUESTS) -> Decoded | Corrupt:
    """Decode one JSON message."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await read(body, channel, "application/json")


def corrupt(decoded: Decoded | Corrupt) -> tuple[str, str]:
    """Tell code and detail of what must be Corrupt."""
    assert isinstance(decoded, Corrupt), decoded
    return decoded.code, decoded.detail


async def test_a_request_written_by_hand_is_read() -> None:
    """The helper of this module writes what the schema says."""
    assert await read(raw_request()) == REQUEST


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        (None, "empty", "no value"),
        (b"", "empty", "no bytes"),
        (b"\x00\x00\x00\x01", "bad-framing", "4 bytes end inside the schema id"),
        (b"\xc3\x01\x00\x00", "bad-framing", "4 bytes end inside the fingerprint"),
        (b"\x01\x00\x00\x00\x01\x02", "bad-framing", "begins with 0100"),
        (b'{"purchaseId":"p-1"}', "bad-framing", "begins with 7b22"),
        (b"\xc3\x01" + bytes(8) + b"\x02", "unknown-fingerprint", "0000000000000000"),
        (b"\x00\x00\x00\x00\x07\x02", "unknown-schema-id", "7, and no registry is configured"),
    ],
)
async def test_bytes_that_name_no_schema_say_what_is_wrong(
    body: bytes | None, code: str, detail: str
) -> None:
    """Whoever reads the parked message sees what the producer did."""
    said = corrupt(await read(body))
    assert said[0] == code
    assert detail in said[1]


@pytest.mark.parametrize(
    ("parts", "field", "problem"),
    [
        ({"quantity": varint(0)}, "quantity", "must be an integer from 1 to 2147483647"),
        ({"quantity": varint(-1)}, "quantity", "must be an integer from 1 to 2147483647"),
        ({"quantity": varint(2**31)}, "quantity", "must be an integer from 1 to 2147483647"),
        ({"requestedAt": varint(-1)}, "requestedAt", "must be an integer from 0 to"),
        ({"requestedAt": varint(2**62)}, "requestedAt", "must be an integer from 0 to"),
        ({"source": varint(-1)}, "source", "index -1 is not one of WEB, MOBILE, API"),
        ({"source": varint(3)}, "source", "index 3 is not one of WEB, MOBILE, API"),
        ({"userId": text(b"a\x00b")}, "userId", "must be 1 to 64 characters"),
        ({"userId": text(b"")}, "userId", "must be 1 to 64 characters"),
        ({"itemId": text(b"{shoe}")}, "itemId", "must be 1 to 64 characters"),
        ({"purchaseId": text(b"p" * 65)}, "purchaseId", "must be 1 to 64 characters"),
    ],
)
async def test_a_field_out_of_its_range_is_named(
    parts: dict[str, bytes], field: str, problem: str
) -> None:
    """The decoder itself lets all of these pass."""
    decoded = await read(raw_request(**parts))
    assert isinstance(decoded, Invalid)
    (violation,) = decoded.violations
    assert violation.field == field
    assert problem in violation.problem


async def test_every_wrong_field_is_named_at_once() -> None:
    """A sender mends a message once and not field by field."""
    body = raw_request(userId=text(b""), quantity=varint(0), source=varint(9))
    decoded = await read(body)
    assert isinstance(decoded, Invalid)
    assert {violation.field for violation in decoded.violations} == {"userId", "quantity", "source"}


@pytest.mark.parametrize(
    "parts",
    [
        {"userId": text(b"\xff\xfe")},
        {"userId": varint(-5)},
        {"userId": varint(2**40)},
        {"source": b"\xff" * 200},
    ],
)
async def test_bytes_that_are_no_record_are_corrupt(parts: dict[str, bytes]) -> None:
    """Invalid UTF-8, negative and huge lengths, and numbers without end."""
    decoded = await read(raw_request(**parts))
    assert isinstance(decoded, Corrupt)


async def test_a_message_over_the_channel_s_limit_is_not_looked_at() -> None:
    """The limit stands before the decoder, which would read whatever length it is told."""
    for channel, most in (
        (Channel.REQUESTS, REQUEST_BYTES_MAX),
        (Channel.ACCEPTED, ACCEPTED_BYTES_MAX),
        (Channel.ORDERS, REQUEST_BYTES_MAX),
    ):
        for content_type in (None, "application/json"):
            code, _ = corrupt(await read(b" " * (most + 1), channel, content_type))
            assert code == "too-large"
            code, _ = corrupt(await read(b" " * most, channel, content_type))
            assert code != "too-large"


async def test_the_id_of_the_flash_sale_event_is_kept() -> None:
    """The deployed variant carries it, and it goes on into orders and events."""
    with_event = PurchaseRequest(
        purchase_id=PurchaseId("p-1"),
        user_id=UserId("u-1"),
        item_id=ItemId("shoe"),
        requested_at_ms=1,
        event_id=EventId("black-friday"),
    )
    body = AvroCodec().encode(with_event).body
    assert body[:10] != AvroCodec().encode(REQUEST).body[:10]
    assert await read(body) == with_event


@pytest.mark.parametrize(
    ("value", "kept"),
    [(TRACEPARENT.encode(), TRACEPARENT), (b"00-zz", None), (b"\xff\xff", None), (b"", None)],
)
async def test_the_trace_context_is_taken_from_the_headers(value: bytes, kept: str | None) -> None:
    """A malformed one begins a new trace; it never costs the message."""
    message = Message(
        channel=Channel.REQUESTS,
        body=raw_request(),
        headers=(("other", b"x"), ("traceparent", value)),
        origin="t:0:0",
    )
    (decoded,) = await AvroCodec().decode([message])
    assert isinstance(decoded, PurchaseRequest)
    assert decoded.traceparent == kept


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────

DOCUMENT = {
    "purchaseId": "p-1",
    "userId": "u-1",
    "itemId": "shoe",
    "quantity": 2,
    "requestedAt": 1_764_000_000_000,
    "source": "MOBILE",
}


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json;"]
)
async def test_json_is_read_where_the_content_type_says_so(content_type: str) -> None:
    """The Avro field names, the time in integer milliseconds."""
    body = json.dumps(DOCUMENT).encode()
    assert await read(body, content_type=content_type) == REQUEST
    assert corrupt(await read(body, content_type="text/json"))[0] == "bad-framing"


async def test_a_number_as_an_id_is_its_decimal_string() -> None:
    """101 and "101" are one user."""
    decoded = await read_json({**DOCUMENT, "userId": 101, "itemId": 2**63 - 1, "eventId": 0})
    assert isinstance(decoded, PurchaseRequest)
    assert decoded.user_id == "101"
    assert decoded.item_id == "9223372036854775807"
    assert decoded.event_id == "0"


async def test_null_stands_for_an_optional_field_alone() -> None:
    """A required one that is null is as wrong as a missing one."""
    assert await read_json({**DOCUMENT, "eventId": None}) == REQUEST
    assert "quantity" in corrupt(await read_json({**DOCUMENT, "quantity": None}))[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 1.5}, "quantity"),
        ({"quantity": 1.0}, "quantity"),
        ({"quantity": "1"}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": 2**31}, "quantity"),
        ({"quantity": 10**400}, "quantity"),
        ({"requestedAt": "2026-11-22T00:00:00Z"}, "requestedAt"),
        ({"userId": -5}, "userId"),
        ({"userId": 1.0}, "userId"),
        ({"userId": 2**200}, "userId"),
        ({"userId": 2**63}, "userId"),
        ({"userId": True}, "userId"),
        ({"userId": ["u-1"]}, "userId"),
        ({"userId": "\ud800"}, "userId"),
        ({"source": "LUNAR"}, "source"),
        ({"source": 1}, "source"),
        ({"source": []}, "source"),
        ({"eventId": ""}, "eventId"),
        ({"colour": "red"}, "colour"),
        ({"x" * 1000: 1}, "x" * 64),
    ],
)
async def test_json_of_the_wrong_type_or_range_names_the_field(
    change: dict[str, Any], field: str
) -> None:
    """Nothing is converted, rounded or ignored."""
    decoded = await read_json({**DOCUMENT, **change})
    assert isinstance(decoded, Invalid)
    assert [violation.field for violation in decoded.violations] == [field]


@pytest.mark.parametrize("name", DOCUMENT)
async def test_a_missing_json_field_is_named(name: str) -> None:
    """The domain's defaults are for its own doors; a message says everything."""
    document = {key: value for key, value in DOCUMENT.items() if key != name}
    decoded = await read_json(document)
    assert isinstance(decoded, Invalid)
    assert decoded.violations == (Violation(field=name, problem="is missing"),)


async def test_an_unknown_source_is_named_with_the_known_ones() -> None:
    """The reason that an operator reads."""
    _, detail = corrupt(await read_json({**DOCUMENT, "source": "LUNAR"}))
    assert detail == "source: LUNAR is not one of WEB, MOBILE, API"


@pytest.mark.parametrize(
    "body",
    [
        b'{"quantity": 1, "quantity": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"quantity": NaN}',
        b'{"quantity": Infinity}',
        b"{}{}",
        b"[]",
        b'"p-1"',
        b"7",
        b"null",
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"userId": "\xff"}',
        b"\x00",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"quantity": ' + b"9" * 5_000 + b"}",
    ],
    ids=repr,
)
async def test_what_is_not_one_plain_json_object_is_corrupt(body: bytes) -> None:
    """Duplicate fields, other constants, two documents, other types, bad encoding, great depth."""
    assert corrupt(await read_json(body))[0] == "bad-json"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"saleId": "s.1", "epoch": 1, "purchases": []}, "purchases: must be a list of at least"),
        ({"saleId": "s.1", "epoch": 1, "purchases": [7]}, "purchases[0].: must be an object"),
        ({"saleId": "s", "epoch": 1, "purchases": [{}]}, "saleId: must be an item, a dot"),
        ({"saleId": "s.1", "epoch": 2**63, "purchases": [{}]}, "epoch: must be an integer"),
        ({"saleId": "s.1", "epoch": 1, "purchases": [{}]}, "purchases[0].purchaseId: is missing"),
        ({"rebuildId": "r", "epochs": [{"saleId": "s.1"}]}, "epochs[0].epoch: is missing"),
        ({"rebuildId": "r", "epochs": {}}, "epochs: must be a list"),
        ({"rebuildId": "r", "epochs": [], "why": 1}, "why: is not known"),
    ],
)
async def test_the_engine_s_own_messages_are_believed_no_more(
    document: dict[str, Any], problem: str
) -> None:
    """A broker's rights may be wrong; what is recorded must be true."""
    assert problem in corrupt(await read_json(document, Channel.ACCEPTED))[1]


@pytest.mark.parametrize("token", ["", "x" * 257, "a\x00b", "\ud800", 7])
async def test_a_token_that_no_database_could_keep_is_refused(token: Any) -> None:
    """NUL, half a surrogate pair, too long, or no text."""
    purchase = {
        "purchaseId": "p",
        "userId": "u",
        "quantity": 1,
        "acceptedAt": 0,
        "requestedAt": 0,
        "source": "API",
        "paymentToken": token,
    }
    document = {"saleId": "s.1", "epoch": 1, "purchases": [purchase]}
    decoded = await read_json(document, Channel.ACCEPTED)
    assert isinstance(decoded, Invalid)
    assert [violation.field for violation in decoded.violations] == ["purchases[0].paymentToken"]


BROKEN_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=70),
    st.sampled_from(["WEB", "p-1", TRACEPARENT, "a\x00b", "\ud800", "x" * 257, [], {}]),
)


RIGHT: dict[str, Any] = {
    "purchaseId": "p",
    "userId": "u",
    "quantity": 1,
    "acceptedAt": 0,
    "requestedAt": 0,
    "source": "API",
    "eventId": None,
    "paymentToken": "tok",
    "traceparent": None,
}


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [("quantity", 1, 2**31 - 1), ("acceptedAt", 0, TIME_MS_MAX), ("requestedAt", 0, TIME_MS_MAX)],
)
def test_the_quick_look_knows_the_same_limits(field: str, low: int, high: int) -> None:
    """The last number that fits, and the first that does not."""
    for value, fits in ((low - 1, False), (low, True), (high, True), (high + 1, False)):
        assert is_right_at_a_glance({**RIGHT, field: value}) is fits


@settings(deadline=None, max_examples=300)
@given(
    changes=st.dictionaries(
        st.sampled_from([*[rule.wire for rule in PURCHASE_ACCEPTED], "more"]), BROKEN_VALUES
    ),
    left_out=st.none() | st.sampled_from([rule.wire for rule in PURCHASE_ACCEPTED]),
)
def test_the_quick_look_lets_nothing_pass_that_the_rules_refuse(
    changes: dict[str, Any], left_out: str | None
) -> None:
    """The rules are spelled out a second time for speed; both must say the same."""
    record = {**RIGHT, **changes}
    record.pop(left_out or "", None)
    wrong: list[Violation] = []
    values_of(PURCHASE_ACCEPTED, record, "", wrong)
    if is_right_at_a_glance(record):
        assert wrong == []
    elif len(record) == len(PURCHASE_ACCEPTED) and "more" not in record:
        assert wrong != []


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def test_an_event_carries_cloudevents_metadata() -> None:
    """Tools route and trace by headers, without a schema."""
    encoded = AvroCodec(event_source="/shop").encode(EVENT)
    assert dict(encoded.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": EVENT.occurrence_id.encode(),
        "ce_type": b"ch.luimode.flashsale.PurchaseRejected",
        "ce_source": b"/shop",
        "ce_subject": b"p-1",
        "ce_time": b"2025-11-24T16:00:01.007Z",
        "traceparent": TRACEPARENT.encode(),
    }
    assert encoded.content_type == "application/avro"


def test_the_engine_s_private_messages_have_no_headers() -> None:
    """They are the hot path: every header costs both ends."""
    accepted = PurchasesAccepted(sale_id=SaleId("s.1"), epoch=Epoch(1), purchases=(ACCEPTED,))
    barrier = Barrier(rebuild_id="r", epochs=((SaleId("s.1"), Epoch(2)),))
    for wire_format in WireFormat:
        codec = AvroCodec(wire_format=wire_format)
        assert codec.encode(accepted).headers == codec.encode(barrier).headers == ()


def test_json_is_what_a_person_expects() -> None:
    """Field names of the schema, times as integers, nothing that is not there."""
    encoded = AvroCodec(wire_format=WireFormat.JSON).encode(REQUEST)
    assert json.loads(encoded.body) == DOCUMENT
    assert encoded.content_type == "application/json"


@pytest.mark.parametrize("wire_format", WireFormat)
def test_what_no_reader_would_take_is_not_written(wire_format: WireFormat) -> None:
    """The writer asserts what the reader demands."""
    codec = AvroCodec(wire_format=wire_format)
    token = PurchaseAccepted(
        purchase_id=PurchaseId("p-1"),
        user_id=UserId("u-1"),
        quantity=2,
        accepted_at_ms=1,
        requested_at_ms=0,
        source=Source.WEB,
        payment_token="x" * 256,
    )
    sale = SaleId("s.1")
    too_many = PurchasesAccepted(sale_id=sale, epoch=Epoch(1), purchases=(token,) * 4_000)
    with pytest.raises(Corrupt, match="too-large"):
        codec.encode(too_many)
    with pytest.raises(Invalid, match="purchases: must be at least one"):
        codec.encode(PurchasesAccepted(sale_id=sale, epoch=Epoch(1), purchases=()))
    paying = PurchaseRequest(
        purchase_id=PurchaseId("p-1"),
        user_id=UserId("u-1"),
        item_id=ItemId("shoe"),
        requested_at_ms=1,
        payment_token="tok",
    )
    with pytest.raises(Invalid, match="paymentToken"):
        codec.encode(paying)


def test_the_longest_purchases_of_one_call_fit_in_one_message() -> None:
    """512 purchases with the longest of everything stay under the limit of ACCEPTED."""
    longest = PurchaseAccepted(
        purchase_id=PurchaseId("p" * 64),
        user_id=UserId("u" * 64),
        quantity=2**31 - 1,
        accepted_at_ms=253_402_300_799_999,
        requested_at_ms=253_402_300_799_999,
        source=Source.MOBILE,
        event_id=EventId("e" * 64),
        payment_token="\U0001f600" * 256,
        traceparent=TRACEPARENT,
    )
    fact = PurchasesAccepted(sale_id=SaleId("s.1"), epoch=Epoch(1), purchases=(longest,) * 512)
    for wire_format in WireFormat:
        assert len(AvroCodec(wire_format=wire_format).encode(fact).body) <= ACCEPTED_BYTES_MAX


# ── an independent reader and writer ────────────────────────────────────────────────────────────


def by_apache(name: SchemaName) -> Any:
    """Parse one of our schemas by Apache's own library."""
    return avro_schema.parse(schema_texts()[name])


def test_apache_s_reader_reads_what_we_write() -> None:
    """Another implementation finds every field, the times as times."""
    encoded = AvroCodec().encode(EVENT)
    schema = by_apache(SchemaName.PURCHASE_REJECTED)
    record: Any = avro_io.DatumReader(schema).read(
        avro_io.BinaryDecoder(io.BytesIO(encoded.body[10:]))
    )
    assert record["purchaseId"] == "p-1"
    assert record["source"] == "MOBILE"
    assert record["reason"] == "SOLD_OUT"
    assert record["occurredAt"].isoformat() == "2025-11-24T16:00:01.007000+00:00"


async def test_we_read_what_apache_s_writer_writes() -> None:
    """Another implementation's bytes are a request."""
    schema = by_apache(SchemaName.AVRO_PURCHASE_REQUEST)
    target = io.BytesIO()
    target.write(AvroCodec().encode(attrs.evolve(REQUEST, event_id=EventId("e"))).body[:10])
    moment = datetime(2026, 11, 22, 12, 0, 0, 7_000, tzinfo=UTC)
    record = {**DOCUMENT, "eventId": "black-friday", "requestedAt": moment}
    avro_io.DatumWriter(schema).write(record, avro_io.BinaryEncoder(target))
    decoded = await read(target.getvalue())
    assert isinstance(decoded, PurchaseRequest)
    assert decoded.event_id == "black-friday"
    assert decoded.requested_at_ms == 1_795_348_800_007


def test_the_fingerprint_is_the_one_that_apache_computes() -> None:
    """Of a schema without times: there Apache's Python library departs from the specification."""
    barrier = Barrier(rebuild_id="r", epochs=())
    expected = by_apache(SchemaName.BARRIER).fingerprint("CRC-64-AVRO")
    assert AvroCodec().encode(barrier).body[:10] == b"\xc3\x01" + expected


def test_the_registry_s_framing_is_a_zero_and_a_big_endian_id() -> None:
    """As every serializer on such a topic writes it."""
    own_ids = {SchemaName.PURCHASE_REQUEST: 0x01020304}
    codec = AvroCodec(own_ids=own_ids)
    assert codec.encode(REQUEST).body[:5] == struct.pack(">bI", 0, 0x01020304)
    assert codec.encode(EVENT).body[:2] == b"\xc3\x01"
