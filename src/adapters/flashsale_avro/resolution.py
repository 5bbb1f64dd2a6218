"""Whether what one schema wrote can be read by another, decided once and not message by message.

The rules are Avro's schema resolution, as far as our own schemas need them. Two are stricter: a
time must be milliseconds (Avro ignores the logical type, and microseconds would be read as the
year 57,000), and a union must be readable whichever branch was written.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from flashsale_avro.plain_schema import PlainSchema
from flashsale_core.errors import Corrupt

_PRIMITIVES: Final[Mapping[str, tuple[str, ...]]] = {
    "null": ("null",),
    "string": ("string", "bytes"),
    "int": ("int",),
    "long": ("int", "long"),
}
"""Which written primitives a primitive of ours can be read from."""
_TIME: Final = "timestamp-millis"


def resolve(writer: PlainSchema, reader: PlainSchema) -> tuple[str, ...]:
    """Check that the reader can read whatever the writer writes; return the writer's enum symbols.

    Raises Corrupt("schema-refused") with the field that does not fit.
    """
    walk = _Walk(writer, reader)
    walk.type(writer.type, reader.type, "")
    return walk.symbols


def kind_of(schema: Any) -> str:
    """Tell the Avro type of a schema in plain form."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def simple_name(schema: Mapping[str, Any]) -> str:
    """Tell a named type's name without its namespace; Avro resolves by that."""
    return str(schema["name"]).rpartition(".")[2]


@attrs.define
class _Walk:
    writer: PlainSchema
    reader: PlainSchema
    symbols: tuple[str, ...] = ()

    def type(self, written: Any, read: Any, path: str) -> None:
        written, read = self.writer.resolve(written), self.reader.resolve(read)
        if isinstance(written, list):
            for branch in written:
                self.type(branch, read, path)
            return
        match kind_of(read):
            case "union":
                self._any_branch(written, read, path)
            case "record":
                self._record(written, read, path)
            case "enum":
                self._enum(written, read, path)
            case "array":
                self._demand(kind_of(written) == "array", written, read, path)
                self.type(written["items"], read["items"], f"{path}[]")
            case primitive:
                self._demand(kind_of(written) in _PRIMITIVES[primitive], written, read, path)
                self._time(written, read, path)

    def _any_branch(self, written: Any, branches: list[Any], path: str) -> None:
        for branch in branches:
            try:
                return self.type(written, branch, path)
            except Corrupt:
                continue
        self._demand(False, written, branches, path)  # noqa: FBT003 - no branch fits
        return None

    def _record(self, written: Any, read: Any, path: str) -> None:
        fits = kind_of(written) == "record" and simple_name(written) == simple_name(read)
        self._demand(fits, written, read, path)
        fields = {field["name"]: field["type"] for field in written["fields"]}
        for field in read["fields"]:
            name = f"{path}.{field['name']}" if path else field["name"]
            if field["name"] in fields:
                self.type(fields[field["name"]], field["type"], name)
            elif "default" not in field:
                raise Corrupt("schema-refused", f"the writer's schema has no field {name}")

    def _enum(self, written: Any, read: Any, path: str) -> None:
        fits = kind_of(written) == "enum" and simple_name(written) == simple_name(read)
        self._demand(fits, written, read, path)
        symbols = tuple(written["symbols"])
        # An index is read without its type's name, so two enums in one place cannot be told apart.
        self._demand(self.symbols in ((), symbols), written, read, path)
        self.symbols = symbols

    def _time(self, written: Any, read: Any, path: str) -> None:
        if isinstance(read, dict) and isinstance(written, dict):
            self._demand(written.get("logicalType") == _TIME, written, read, path)

    def _demand(self, fits: bool, written: Any, read: Any, path: str) -> None:
        if not fits:
            raise Corrupt(
                "schema-refused",
                f"{path or 'the record'}: {_shown(read)} cannot be read from {_shown(written)}",
            )


def _shown(schema: Any) -> str:
    if isinstance(schema, list):
        return f"a union of {', '.join(_shown(branch) for branch in schema)}"
    if isinstance(schema, dict):
        named = f"{schema['type']} {schema.get('name', '')}".strip()
        return str(schema.get("logicalType", named))
    return str(schema)
