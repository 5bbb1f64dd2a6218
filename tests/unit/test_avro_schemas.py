"""Which writer's schemas are admitted, how their messages are read, and which are refused."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse as parse_by_apache
from fastavro.utils import generate_one
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flashsale_avro import AvroCodec, SchemaName, schema_texts
from flashsale_avro.framing import confluent_header
from flashsale_avro.plain_schema import SCHEMA_CHARS_MAX
from flashsale_avro.record_form import admit
from flashsale_core.errors import Corrupt
from flashsale_core.events import Channel, Message
from flashsale_core.model import PurchaseRequest, Source
from flashsale_core.ports import Decoded
from tests.unit.test_avro_codec import RegistryOfOurs

ROOT = Path(__file__).resolve().parents[2]
VALUES = {
    "purchaseId": "p-1",
    "userId": "u-1",
    "itemId": "shoe",
    "quantity": 2,
    "requestedAt": 1_764_000_000_000,
    "source": "MOBILE",
}
RECURSIVE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": "Node"}]}
FOREIGN_ID = 7


def request_schema(**types: Any) -> dict[str, Any]:
    """Take the outside door's schema; a field may get another type, None takes it away."""
    schema: dict[str, Any] = json.loads(schema_texts()[SchemaName.PURCHASE_REQUEST])
    fields = {field["name"]: field for field in schema["fields"]}
    for name, kind in types.items():
        fields[name] = {"name": name, "type": kind}
        if kind is None:
            del fields[name]
    return {**schema, "fields": list(fields.values())}


def write(schema: Any, record: dict[str, Any]) -> bytes:
    """Write a message as a service with its own schema does."""
    target = io.BytesIO()
    target.write(confluent_header(FOREIGN_ID))
    fastavro.schemaless_writer(target, fastavro.parse_schema(schema), record)
    return target.getvalue()


async def read(schema: Any, body: bytes) -> Decoded | Corrupt:
    """Read a message whose writer's schema is in the registry."""
    codec = AvroCodec(RegistryOfOurs({FOREIGN_ID: json.dumps(schema)}))
    message = Message(channel=Channel.REQUESTS, body=body, origin="t:0:0")
    (decoded,) = await codec.decode([message])
    return decoded


# ── the files ───────────────────────────────────────────────────────────────────────────────────


def test_the_outside_door_s_schemas_are_the_ones_that_others_write() -> None:
    """Field by field, in this order: services have them compiled in."""
    seven = [
        {"name": "eventId", "type": "string"},
        {"name": "purchaseId", "type": "string"},
        {"name": "userId", "type": "string"},
        {"name": "itemId", "type": "string"},
        {"name": "quantity", "type": "int"},
        {"name": "requestedAt", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "source",
            "type": {"type": "enum", "name": "SourceType", "symbols": ["WEB", "MOBILE", "API"]},
        },
    ]
    for name, fields in (("PurchaseRequest", seven[1:]), ("AvroPurchaseRequest", seven)):
        assert json.loads(schema_texts()[SchemaName(f"ch.luimode.flashsale.{name}")]) == {
            "type": "record",
            "name": name,
            "namespace": "ch.luimode.flashsale",
            "fields": fields,
        }


@pytest.mark.parametrize("name", list(SchemaName)[2:])
def test_our_own_schemas_explain_every_field(name: SchemaName) -> None:
    """Whoever generates code from them gets documented code."""

    def undocumented(schema: Any, place: str) -> list[str]:
        if isinstance(schema, list):
            return [missing for one in schema for missing in undocumented(one, place)]
        if not isinstance(schema, dict):
            return []
        own = [] if schema["type"] not in ("record", "enum") or "doc" in schema else [place]
        for field in schema.get("fields", []):
            inner = f"{place}.{field['name']}"
            own += [] if "doc" in field else [inner]
            own += undocumented(field["type"], inner)
        return own + undocumented(schema.get("items"), place)

    schema = json.loads(schema_texts()[name])
    assert undocumented(schema, name) == []
    assert f"{schema['namespace']}.{schema['name']}" == name


def test_every_schema_file_is_one_that_the_codec_knows() -> None:
    """A file that nothing reads would be a promise that nothing keeps."""
    files = {path.name for path in (ROOT / "schemas").iterdir() if path.is_file()}
    assert files == {f"{name}.avsc" for name in SchemaName}


def test_an_installed_package_reads_the_schemas_inside_it(tmp_path: Path) -> None:
    """As a wheel lays them out; a checkout that happens to be around is not asked."""
    package = tmp_path / "flashsale_avro"
    shutil.copytree(ROOT / "src/adapters/flashsale_avro", package)
    shutil.copytree(ROOT / "schemas", package / "schemas")
    changed = package / "schemas" / f"{SchemaName.BARRIER}.avsc"
    changed.write_text(changed.read_text().replace("rebuild that waits", "rebuild that WAITS"))
    program = "import flashsale_avro; print(*flashsale_avro.schema_texts().values())"
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rebuild that WAITS" in said.stdout


# ── admitted ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("types", "more"),
    [
        ({"colour": ["null", "string"]}, {"colour": None}),
        ({"colour": ["null", "string"]}, {"colour": "red"}),
        ({"tags": {"type": "array", "items": "string"}}, {"tags": ["a", "b"]}),
        ({"tags": {"type": "map", "values": ["null", "long"]}}, {"tags": {"a": None, "b": 7}}),
        ({"shop": {"type": "fixed", "name": "Hash", "size": 4}}, {"shop": b"abcd"}),
        ({"kind": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}}, {"kind": "B"}),
        ({"amount": "double", "flag": "boolean", "raw": "bytes"},
         {"amount": 1.5, "flag": True, "raw": b"\x00"}),
        ({"userId": {"type": "string", "avro.java.string": "String"}}, {}),
        ({"userId": {"type": "string", "logicalType": "uuid"}}, {}),
        ({"requestedAt": "long"}, {}),
        ({"requestedAt": "int"}, {"requestedAt": 7}),
        ({"userId": "bytes"}, {"userId": b"u-1"}),
        ({"userId": ["string"]}, {}),
        ({"quantity": ["int"]}, {}),
    ],
)  # fmt: skip
async def test_a_writer_may_know_more_than_we_do(
    types: dict[str, Any], more: dict[str, Any]
) -> None:
    """Added fields of any type are read over; what Avro promotes is promoted."""
    schema = request_schema(**types)
    decoded = await read(schema, write(schema, {**VALUES, **more}))
    assert isinstance(decoded, PurchaseRequest)
    assert (decoded.user_id, decoded.quantity, decoded.source) == ("u-1", 2, Source.MOBILE)
    assert decoded.requested_at_ms == more.get("requestedAt", VALUES["requestedAt"])
    assert decoded.event_id is None


async def test_fields_may_come_in_another_order() -> None:
    """Avro resolves by name."""
    schema = request_schema()
    schema["fields"].reverse()
    assert isinstance(await read(schema, write(schema, VALUES)), PurchaseRequest)


@pytest.mark.parametrize("record", ["PurchaseRequest", "AvroPurchaseRequest"])
@pytest.mark.parametrize(
    ("kind", "value"), [("string", "e"), (["null", "string"], "e"), (["string", "null"], None)]
)
async def test_the_event_id_may_be_there_or_not_under_either_name(
    record: str, kind: Any, value: str | None
) -> None:
    """Services move from one record to the other at their own pace."""
    schema = {**request_schema(eventId=kind), "name": record}
    decoded = await read(schema, write(schema, {**VALUES, "eventId": value}))
    assert isinstance(decoded, PurchaseRequest)
    assert decoded.event_id == value


async def test_a_writer_may_add_a_symbol_and_using_it_is_the_message_s_fault() -> None:
    """The schema is admitted; only the message that uses the symbol is refused, by its name."""
    symbols = ["LUNAR", "WEB", "API", "MOBILE"]
    schema = request_schema(source={"type": "enum", "name": "SourceType", "symbols": symbols})
    decoded = await read(schema, write(schema, VALUES))
    assert isinstance(decoded, PurchaseRequest)
    assert decoded.source is Source.MOBILE
    refused = await read(schema, write(schema, {**VALUES, "source": "LUNAR"}))
    assert isinstance(refused, Corrupt)
    assert refused.detail == "source: LUNAR is not one of WEB, MOBILE, API"


async def test_a_named_type_may_be_used_twice() -> None:
    """A later field refers to the enum by its name."""
    schema = request_schema(lastSource="SourceType")
    decoded = await read(schema, write(schema, {**VALUES, "lastSource": "API"}))
    assert isinstance(decoded, PurchaseRequest)
    assert decoded.source is Source.MOBILE


# ── refused ─────────────────────────────────────────────────────────────────────────────────────


def doubling(levels: int) -> dict[str, Any]:
    """Make a type that holds 2^levels values of no bytes in a few hundred characters."""
    kind: Any = "null"
    for level in range(levels):
        pair = [{"name": "a", "type": kind}, {"name": "b", "type": kind}]
        if level:
            pair[1]["type"] = f"L{level - 1}"
        kind = {"type": "record", "name": f"L{level}", "fields": pair}
    return {"type": "record", "name": "All", "fields": [{"name": "x", "type": kind}]}


def nested(kind: str, inner: str, levels: int) -> Any:
    """Make a type of many levels."""
    made: Any = "int"
    for _ in range(levels):
        made = {"type": kind, inner: made}
    return made


def chain(links: int) -> dict[str, Any]:
    """Make fields of which each holds the one before: shallow to look at, deep to read."""
    kind: Any = "int"
    fields = {}
    for link in range(links):
        inner = [{"name": "x", "type": kind}]
        fields[f"f{link}"] = {"type": "record", "name": f"C{link}", "fields": inner}
        kind = f"C{link}"
    return fields


def wide(count: int) -> dict[str, Any]:
    """Make a record of many values without bytes, and one byte so that it may be repeated."""
    fields = [{"name": f"n{n}", "type": "null"} for n in range(count)]
    return {"type": "record", "name": "Wide", "fields": [*fields, {"name": "b", "type": "boolean"}]}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"x": RECURSIVE}, "recursive"),
        ({"x": ["null", {**RECURSIVE, "fields": [{"name": "n", "type": ["null", "Node"]}]}]},
         "recursive"),
        ({"x": {"type": "record", "name": "Node", "fields": [
            {"name": "n", "type": {"type": "array", "items": "Node"}}]}}, "recursive"),
        ({"x": {"type": "map", "values": "PurchaseRequest"}}, "recursive"),
        ({"x": ["null", "ch.luimode.flashsale.PurchaseRequest"]}, "recursive"),
        ({"x": {"type": "array", "items": "null"}}, "unbounded"),
        ({"x": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}}, "unbounded"),
        ({"x": {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}},
         "unbounded"),
        ({"x": {"type": "array", "items": wide(200)}}, "unbounded"),
        ({"x": {"type": "map", "values": wide(200)}}, "unbounded"),
        ({"x": doubling(12)}, "larger than"),
        ({"x": wide(600)}, "larger than"),
        (chain(20), "larger than"),
        ({"x": nested("array", "items", 17)}, "nested deeper"),
        ({"x": nested("map", "values", 300)}, "nested deeper"),
        ({"x": {"type": "fixed", "name": "F", "size": 2**31}}, "broken"),
        ({"x": {"type": "fixed", "name": "F", "size": -1}}, "broken"),
        ({"x": {"type": "fixed", "name": "F", "size": True}}, "broken"),
        ({"x": {"type": "enum", "name": "SourceType", "symbols": ["A"]}}, "defined twice"),
        ({"x": {"type": "enum", "name": "E", "symbols": "AB"}}, "broken"),
        ({"x": {"type": "record", "name": "string", "fields": [], "namespace": ""}}, "broken"),
        ({"x": "Nobody"}, "not defined"),
        ({"x": []}, "without branches"),
        ({"x": {"type": "array"}}, "not an Avro schema"),
        ({"x": 7}, "not an Avro schema"),
        ({"x": {"type": {"type": {"type": 7}}}}, "not an Avro schema"),
        ({"x": {"type": "record", "name": 7, "fields": []}}, "without a name"),
        ({"userId": None}, "has no field userId"),
        ({"userId": "int"}, "userId: string cannot be read from int"),
        ({"userId": ["null", "string"]}, "userId: string cannot be read from null"),
        ({"quantity": "long"}, "quantity: int cannot be read from long"),
        ({"quantity": "string"}, "quantity: int cannot be read from string"),
        ({"requestedAt": {"type": "long", "logicalType": "timestamp-micros"}},
         "requestedAt: timestamp-millis cannot be read from timestamp-micros"),
        ({"requestedAt": {"type": "int", "logicalType": "date"}}, "cannot be read from date"),
        ({"requestedAt": "double"}, "requestedAt: timestamp-millis cannot be read from double"),
        ({"source": "string"}, "cannot be read from string"),
        ({"source": {"type": "enum", "name": "Colour", "symbols": ["WEB"]}},
         "source: enum ch.luimode.flashsale.SourceType cannot be read from enum"),
        ({"source": [{"type": "enum", "name": "SourceType", "symbols": ["WEB"]},
                     {"type": "enum", "name": "o.SourceType", "symbols": ["API"]}]},
         "cannot be read from"),
        ({"eventId": "int"}, "eventId: a union of null, string cannot be read from int"),
    ],
)  # fmt: skip
async def test_a_schema_that_could_hurt_or_mislead_is_refused(
    more: dict[str, Any], why: str
) -> None:
    """At once, before any byte under it is looked at; a decoder would hang, die, or misread."""
    begun = time.monotonic()
    decoded = await read(request_schema(**more), confluent_header(FOREIGN_ID) + bytes(64))
    assert isinstance(decoded, Corrupt)
    assert decoded.code == "schema-refused"
    assert why in decoded.detail
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (json.dumps({**request_schema(), "namespace": "com.example"}), "unexpected-type"),
        (json.dumps({**request_schema(), "name": "Order"}), "unexpected-type"),
        (json.dumps({"type": "record", "name": "Barrier", "fields": []}), "unexpected-type"),
        (json.dumps([request_schema()]), "schema-refused"),
        ('"string"', "schema-refused"),
        ("{}", "schema-refused"),
        ("null", "schema-refused"),
        ("{", "schema-refused"),
        ("[" * 60_000, "schema-refused"),
        (json.dumps({**request_schema(), "doc": "x" * SCHEMA_CHARS_MAX}), "schema-refused"),
    ],
)
def test_what_is_not_one_of_our_records_is_refused(text: str, code: str) -> None:
    """By full name: an equal shape under another name means something else."""
    with pytest.raises(Corrupt) as refused:
        admit(text)
    assert refused.value.code == code


# ── against Apache's own rules, and at large ────────────────────────────────────────────────────

SOME_TYPES: list[Any] = [
    "null",
    "string",
    "bytes",
    "int",
    "long",
    "double",
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "enum", "name": "SourceType", "symbols": ["API", "WEB"]},
    {"type": "enum", "name": "Colour", "symbols": ["WEB"]},
    {"type": "array", "items": "string"},
    ["string"],
    ["null", "string"],
    ["int", "long"],
]


@settings(deadline=None, max_examples=300)
@given(
    types=st.dictionaries(
        st.sampled_from([*VALUES, "eventId", "colour"]),
        st.none() | st.sampled_from(SOME_TYPES),
        max_size=3,
    )
)
def test_resolution_agrees_with_apache_s(types: dict[str, Any]) -> None:
    """Whether a schema resolves into ours is Avro's question, and Avro's answer."""
    types = {name: kind for name, kind in types.items() if name in VALUES or kind is not None}
    sources = [kind for kind in types.values() if "SourceType" in json.dumps(kind)]
    colours = [kind for kind in types.values() if "Colour" in json.dumps(kind)]
    assume(len(sources) + ("source" not in types) <= 1)
    assume(len(colours) <= 1)
    writer = json.dumps(request_schema(**types))
    reader = json.dumps(request_schema(eventId=["null", "string"])).replace(
        '"eventId",', '"eventId", "default": null,'
    )
    try:
        admit(writer)
        is_admitted = True
    except Corrupt:
        is_admitted = False
    checker: Any = ReaderWriterCompatibilityChecker  # it has half of its types
    answer = checker().get_compatibility(
        reader=parse_by_apache(reader), writer=parse_by_apache(writer)
    )
    assert is_admitted == (answer.compatibility is SchemaCompatibilityType.compatible)


AVRO_WORDS = st.sampled_from(
    ["type", "name", "fields", "items", "values", "symbols", "size", "namespace", "logicalType"]
)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 9)
    | st.text(max_size=4)
    | st.sampled_from(["record", "array", "map", "enum", "fixed", "int", "string", "R", "null"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(AVRO_WORDS, inner, min_size=1, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=500)
@given(kind=ANY_JSON)
def test_no_schema_breaks_the_judge(kind: Any) -> None:
    """Whatever JSON somebody registered: admitted, or Corrupt."""
    for schema in (kind, request_schema(x=kind), request_schema(source=kind)):
        with contextlib.suppress(Corrupt):
            admit(json.dumps(schema))


ANY_TYPE = st.recursive(
    st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"]),
    lambda inner: st.one_of(
        inner.map(lambda kind: {"type": "array", "items": kind}),
        inner.map(lambda kind: {"type": "map", "values": kind}),
        inner.map(lambda kind: ["null", {"type": "map", "values": kind}]),
        st.lists(inner, max_size=3).map(
            lambda kinds: {
                "type": "record",
                "name": "R",
                "fields": [{"name": f"f{n}", "type": kind} for n, kind in enumerate(kinds)],
            }
        ),
    ),
    max_leaves=6,
)


def distinct(schema: Any, names: Any) -> Any:
    """Give every record a name of its own."""
    if isinstance(schema, list):
        return [distinct(one, names) for one in schema]
    if isinstance(schema, dict):
        made = {key: distinct(value, names) for key, value in schema.items()}
        return {**made, "name": f"R{next(names)}"} if schema.get("name") == "R" else made
    return schema


@settings(deadline=None)
@given(kind=ANY_TYPE, noise=st.binary(max_size=200))
async def test_whatever_a_writer_adds_is_read_over_or_refused(kind: Any, noise: bytes) -> None:
    """An added field of any shape leaves the request what it was; noise in it is Corrupt."""
    schema = request_schema(x=distinct(kind, iter(range(1000))))
    body = write(schema, {**VALUES, "x": generate_one(fastavro.parse_schema(schema))["x"]})
    decoded = await read(schema, body)
    if isinstance(decoded, Corrupt):
        assert decoded.code == "schema-refused"
        assert "unbounded" in decoded.detail
    else:
        assert isinstance(decoded, PurchaseRequest)
        assert decoded.user_id == "u-1"
    assert isinstance(await read(schema, body[:40] + noise), PurchaseRequest | Corrupt)
