"""A writer's schema in plain form, admitted only when no message under it can hurt the reader.

The decoder trusts its schema: under a recursive one a short message ends the process, and an
array whose items take no bytes lets five bytes keep it busy for years. So everything that could
grow beyond the message's own size is refused here, once per schema, and never looked for again.

Plain form: full names, no docs, aliases or defaults but null; `logicalType` is kept for checks.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from flashsale_core.errors import Corrupt

SCHEMA_CHARS_MAX: Final = 64 * 1024
"""A hundred times what a purchase request needs."""
DEPTH_MAX: Final = 16
"""The decoder calls itself once a level; ours have three."""
PARTS_MAX: Final = 512
"""How many values one record may hold, named types counted wherever they are used."""
PARTS_PER_BYTE_MAX: Final = 64
"""How many values a byte may stand for where it can be repeated; 64 KiB are then 50 ms at worst."""
FIXED_BYTES_MAX: Final = 64 * 1024
"""No message is read that could hold a larger one."""

_LEAST_BYTES: Final[Mapping[str, int]] = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}


@attrs.frozen
class _Extent:
    """What one value of a type takes: levels of calls, values in all, bytes at the least."""

    depth: int
    parts: int
    least_bytes: int


@attrs.frozen
class PlainSchema:
    """A schema in plain form, with its named types by full name."""

    type: Any
    named: Mapping[str, Any]

    def resolve(self, schema: Any) -> Any:
        """Follow a reference to the type it names."""
        return self.named.get(schema, schema) if isinstance(schema, str) else schema


def plain(schema: Any) -> PlainSchema:
    """Bring a schema into plain form. Raises Corrupt("schema-refused")."""
    visit = _Visit()
    try:
        written, _ = visit.type(schema, "", 0)
    except (AttributeError, KeyError, TypeError) as broken:
        raise _refused(f"not an Avro schema ({broken!r})") from broken
    return PlainSchema(written, visit.named)


def _refused(problem: str) -> Corrupt:
    return Corrupt("schema-refused", f"the writer's schema is {problem}")


class _Visit:
    """One walk through a schema, with what was defined on the way."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self._extents: dict[str, _Extent] = {}
        self._open: set[str] = set()

    def type(self, schema: Any, namespace: str, level: int) -> tuple[Any, _Extent]:
        if level > DEPTH_MAX:
            raise _refused(f"nested deeper than {DEPTH_MAX} levels")
        if isinstance(schema, str):
            return self._reference(schema, namespace)
        if isinstance(schema, list):
            written, extent = self._union(schema, namespace, level)
        else:
            written, extent = self._complex(schema, namespace, level)
        if extent.depth > DEPTH_MAX or extent.parts > PARTS_MAX:
            raise _refused(
                f"larger than {DEPTH_MAX} levels or {PARTS_MAX} values, named types counted in full"
            )
        return written, extent

    def _reference(self, name: str, namespace: str) -> tuple[Any, _Extent]:
        if name in _LEAST_BYTES:
            return name, _Extent(1, 1, _LEAST_BYTES[name])
        full = _full_name(name, namespace)
        if full in self._open:
            raise _refused(f"recursive: {full} holds itself")
        if full not in self.named:
            raise _refused(f"incomplete: {full} is not defined before it is used")
        return full, self._extents[full]

    def _union(self, branches: list[Any], namespace: str, level: int) -> tuple[Any, _Extent]:
        if not branches:
            raise _refused("broken: a union without branches")
        seen = [self.type(branch, namespace, level + 1) for branch in branches]
        extents = [extent for _, extent in seen]
        return [written for written, _ in seen], _Extent(
            1 + max(extent.depth for extent in extents),
            1 + max(extent.parts for extent in extents),
            1 + min(extent.least_bytes for extent in extents),
        )

    def _complex(self, schema: dict[str, Any], namespace: str, level: int) -> tuple[Any, _Extent]:
        kind = schema["type"]
        match kind:
            case "record" | "enum" | "fixed":
                return self._named(kind, schema, namespace, level)
            case "array":
                items, extent = self.type(schema["items"], namespace, level + 1)
                return {"type": "array", "items": items}, _repeated(extent, key_bytes=0)
            case "map":
                values, extent = self.type(schema["values"], namespace, level + 1)
                return {"type": "map", "values": values}, _repeated(extent, key_bytes=1)
            case _:
                return self._annotated(schema, namespace, level)

    def _annotated(self, schema: dict[str, Any], namespace: str, level: int) -> tuple[Any, _Extent]:
        written, extent = self.type(schema["type"], namespace, level + 1)
        logical = schema.get("logicalType")
        if isinstance(logical, str) and isinstance(written, str):
            written = {"type": written, "logicalType": logical}
        return written, extent

    def _named(
        self, kind: str, schema: dict[str, Any], namespace: str, level: int
    ) -> tuple[Any, _Extent]:
        full = _full_name(schema["name"], schema.get("namespace", namespace))
        if full in self.named or full in self._open or full in _LEAST_BYTES:
            raise _refused(f"broken: {full} is defined twice")
        written: dict[str, Any] = {"type": kind, "name": full}
        if kind == "record":
            self._open.add(full)
            written["fields"], extent = self._fields(schema["fields"], full, level)
            self._open.discard(full)
        elif kind == "enum":
            written["symbols"] = _symbols(schema["symbols"], full)
            extent = _Extent(1, 1, 1)
        else:
            written["size"] = _size(schema["size"], full)
            extent = _Extent(1, 1, written["size"])
        self.named[full], self._extents[full] = written, extent
        return written, extent

    def _fields(
        self, fields: list[dict[str, Any]], full: str, level: int
    ) -> tuple[list[dict[str, Any]], _Extent]:
        namespace = full.rpartition(".")[0]
        written: dict[str, Any] = {}
        depth, parts, least_bytes = 0, 1, 0
        for field in fields:
            name = field["name"]
            if type(name) is not str or name in written:
                raise _refused(f"broken: {full} has the field {name!r} twice or without a name")
            kind, extent = self.type(field["type"], namespace, level + 1)
            written[name] = {"name": name, "type": kind}
            if "default" in field and field["default"] is None:
                written[name]["default"] = None
            depth = max(depth, extent.depth)
            parts += extent.parts
            least_bytes += extent.least_bytes
        return list(written.values()), _Extent(1 + depth, parts, least_bytes)


def _repeated(item: _Extent, *, key_bytes: int) -> _Extent:
    """Measure an array or a map; its own least is the one byte that ends it."""
    if item.parts > PARTS_PER_BYTE_MAX * (item.least_bytes + key_bytes):
        raise _refused(f"unbounded: an item of {item.parts} values in {item.least_bytes} bytes")
    return _Extent(1 + item.depth, 1 + item.parts, 1)


def _full_name(name: Any, namespace: Any) -> str:
    if type(name) is not str or type(namespace) is not str:
        raise _refused("broken: a type without a name")
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _symbols(symbols: Any, full: str) -> list[str]:
    if type(symbols) is not list or not all(type(symbol) is str for symbol in symbols):
        raise _refused(f"broken: the symbols of {full} are not a list of strings")
    return symbols


def _size(size: Any, full: str) -> int:
    if type(size) is not int or not 0 <= size <= FIXED_BYTES_MAX:
        raise _refused(f"broken: {full} has no size from 0 to {FIXED_BYTES_MAX}")
    return size
