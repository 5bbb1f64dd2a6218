"""How the records of one schema are read and written.

Two steps of the decoder's own are taken away from it, because it does not check them: enums are
read as the integers that they are on the wire (an index of -1 would count from the end), and
times as their milliseconds.
"""

import io
import json
from typing import Any, Final, cast

import attrs
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from flashsale_avro.plain_schema import SCHEMA_CHARS_MAX, PlainSchema, plain
from flashsale_avro.resolution import kind_of, resolve
from flashsale_avro.schema_files import SchemaName, schema_texts
from flashsale_core.errors import Corrupt

_REQUESTS: Final = (SchemaName.PURCHASE_REQUEST, SchemaName.AVRO_PURCHASE_REQUEST)
_EVENT_ID: Final = {"name": "eventId", "type": ["null", "string"], "default": None}


@attrs.frozen
class RecordForm:
    """A schema that was admitted once, parsed, so that a message costs no look at it."""

    name: SchemaName
    symbols: tuple[str, ...]
    """The writer's symbols of `SourceType`, in the writer's order."""
    _writer: Any = attrs.field(repr=False)
    _reader: Any = attrs.field(repr=False)

    def read(self, body: bytes, start: int) -> dict[str, Any]:
        """Read the record that begins at `start` and ends with the body; an enum is an index.

        Raises Corrupt for bytes that are no such record, and for any that are left.
        """
        rest = io.BytesIO(body)
        rest.seek(start)
        try:
            record = schemaless_reader(rest, self._writer, self._reader)
        except Exception as broken:
            # All of them: it raises half a dozen types that have nothing in common.
            problem = f"{type(broken).__name__} at byte {rest.tell()} of {len(body)}"
            raise Corrupt("bad-record", f"not a {self.name}: {problem}") from broken
        if rest.tell() != len(body):
            raise Corrupt("trailing-bytes", f"{len(body) - rest.tell()} bytes behind the record")
        return cast("dict[str, Any]", record)

    def write(self, header: bytes, record: dict[str, Any]) -> bytes:
        """Write a record of one of our own schemas behind its header; an enum is an index."""
        target = io.BytesIO()
        target.write(header)
        schemaless_writer(target, self._writer, record)
        return target.getvalue()

    def symbol(self, index: int) -> str:
        """Name the enum symbol of an index; one out of range gets a name that no symbol has."""
        return self.symbols[index] if 0 <= index < len(self.symbols) else f"index {index}"


def own_form(name: SchemaName) -> RecordForm:
    """Prepare one of the schemas of this package for reading and writing."""
    schema = plain(json.loads(schema_texts()[name]))
    return RecordForm(name, resolve(schema, schema), parse_schema(_bare(schema)), None)


def admit(text: str) -> RecordForm:
    """Admit a writer's schema, or raise Corrupt with what is wrong with it.

    Its full name must be one we know, and it must resolve into ours by Avro's rules: fields may
    be added, moved, and left out where ours has a default. Enum symbols may be added; using one
    is the message's fault, not the schema's.
    """
    if len(text) > SCHEMA_CHARS_MAX:
        raise Corrupt("schema-refused", f"{len(text)} characters, at most {SCHEMA_CHARS_MAX}")
    try:
        writer = plain(json.loads(text))
    except (ValueError, RecursionError) as broken:
        raise Corrupt("schema-refused", "the writer's schema is not JSON") from broken
    name = _known_name(writer)
    reader = _reading_schema(name)
    symbols = resolve(writer, reader)
    parsed = parse_schema(_bare(writer))
    return RecordForm(name, symbols, parsed, parse_schema(_bare(reader, with_defaults=True)))


def _known_name(schema: PlainSchema) -> SchemaName:
    if kind_of(schema.type) != "record":
        raise Corrupt("schema-refused", f"the writer's schema is a {kind_of(schema.type)}")
    try:
        return SchemaName(schema.type["name"])
    except ValueError:
        raise Corrupt(
            "unexpected-type", f"{schema.type['name']} is no record of this bus"
        ) from None


def _reading_schema(name: SchemaName) -> PlainSchema:
    """Tell into what a writer's record is resolved: our schema, with `eventId` optional."""
    schema = json.loads(schema_texts()[name])
    if name in _REQUESTS:
        others = [field for field in schema["fields"] if field["name"] != "eventId"]
        schema["fields"] = [_EVENT_ID, *others]
    return plain(schema)


def _bare(schema: PlainSchema, *, with_defaults: bool = False) -> Any:
    """Reduce a schema to what is on the wire: enums are ints there, times longs."""

    def bare(part: Any) -> Any:
        kind = kind_of(schema.resolve(part))
        result = part
        match kind:
            case "enum":
                result = "int"
            case "union":
                result = [bare(branch) for branch in part]
            case "record" | "fixed" if isinstance(part, str):
                pass
            case "record":
                result = {**part, "fields": [field(one) for one in part["fields"]]}
            case "array":
                result = {"type": "array", "items": bare(part["items"])}
            case "map":
                result = {"type": "map", "values": bare(part["values"])}
            case "fixed":
                pass
            case primitive:
                result = primitive
        return result

    def field(one: dict[str, Any]) -> dict[str, Any]:
        kept = {"name": one["name"], "type": bare(one["type"])}
        return {**kept, "default": None} if with_defaults and "default" in one else kept

    return bare(schema.type)
