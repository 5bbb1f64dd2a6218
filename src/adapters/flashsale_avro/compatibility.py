"""Whether our schemas keep what was promised of the released ones.

The promise is Avro's FULL_TRANSITIVE within a major version, for every record: what any release
wrote is read by this one (messages wait in topics for days, and producers move at their own
pace), and what this one writes is read by any release (consumers move at their own pace, and
during a rolling upgrade old workers read what new processes write).

The rules are Apache's own (`avro.compatibility`), and ours for what those let pass: a logical type
that changes, text that becomes bytes, a record's namespace, and a symbol that goes where the enum
has a default, which our codec does not take in its place.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import parse

from flashsale_avro.schema_files import released_texts, schema_texts

_PLAIN: Final = {
    **dict.fromkeys(("int", "long"), "a plain number"),
    "string": "plain text",
    "bytes": "plain bytes",
}


class Direction(StrEnum):
    """Who could not read whom; the value is what a person is told."""

    BACKWARD = "this version cannot read what {release} wrote"
    FORWARD = "{release} cannot read what this version writes"
    GONE = "this version has no such record, and {release} had"
    BROKEN = "it is no Avro schema"


@attrs.frozen(kw_only=True)
class Breach:
    """One promise that a changed schema breaks."""

    record: str
    release: str
    direction: Direction
    problem: str = ""

    def __str__(self) -> str:
        """Say it as a person reads it."""
        told = self.direction.value.format(release=self.release)
        return f"{self.record}: {told}{': ' if self.problem else ''}{self.problem}"


def schema_breaches() -> list[Breach]:
    """Compare the schemas of this package with every release that it knows."""
    return breaches({str(name): text for name, text in schema_texts().items()}, released_texts())


def breaches(current: Mapping[str, str], released: Mapping[str, Mapping[str, str]]) -> list[Breach]:
    """Compare schemas by full name with those of every release; a new record breaks nothing."""
    found: list[Breach] = []
    for release, texts in released.items():
        for record, text in texts.items():
            if record in current:
                found += _compared(record, release, current[record], text)
            else:
                found.append(Breach(record=record, release=release, direction=Direction.GONE))
    return found


def _compared(record: str, release: str, current: str, released: str) -> Iterator[Breach]:
    try:
        ours, theirs = parse(current), parse(released)
    except (AvroException, ValueError) as broken:
        problem = str(broken)
        yield Breach(record=record, release=release, direction=Direction.BROKEN, problem=problem)
        return
    directions = {Direction.BACKWARD: (ours, theirs), Direction.FORWARD: (theirs, ours)}
    for direction, (reader, writer) in directions.items():
        for problem in _unreadable(reader, writer):
            yield Breach(record=record, release=release, direction=direction, problem=problem)
    unseen = [(Direction.FORWARD, problem) for problem in _misnamed(record, ours)]
    unseen += _unseen(json.loads(current), json.loads(released))
    for direction, problem in unseen:
        yield Breach(record=record, release=release, direction=direction, problem=problem)


def _unreadable(reader: Any, writer: Any) -> Iterator[str]:
    verdict = _checker().get_compatibility(reader, writer)
    if verdict.compatibility is SchemaCompatibilityType.compatible:
        return
    kinds = sorted({kind.value.replace("_", " ") for kind in verdict.incompatibilities})
    schema = reader.to_json()
    named = {_named(schema, place) for place in verdict.locations} - {""}
    # Inside a union the checker forgets where it is.
    places = sorted(named or _differing(reader, writer))
    yield f"{', '.join(kinds)} at {', '.join(places) or 'the record'} ({_listed(verdict.messages)})"


def _checker() -> Any:
    return ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]


def _differing(reader: Any, writer: Any) -> list[str]:
    written = {field.name: field.type for field in getattr(writer, "fields", ())}
    checker = _checker()
    return [
        field.name
        for field in getattr(reader, "fields", ())
        if field.name in written
        and checker.get_compatibility(field.type, written[field.name]).compatibility
        is not SchemaCompatibilityType.compatible
    ]


def _listed(messages: set[str]) -> str:
    return "; ".join(sorted(messages))


def _named(schema: Any, location: str) -> str:
    """Write a place such as `/fields/3/type` by the names of the reader's fields."""
    names: list[str] = []
    parts = iter(location.split("/"))
    for part in parts:
        if part == "fields":
            schema = schema["fields"][int(next(parts))]
            names.append(schema["name"])
        elif isinstance(schema, dict) and part in schema and part != "symbols":
            schema = schema[part]
    return ".".join(names)


def _misnamed(record: str, ours: Any) -> Iterator[str]:
    name = getattr(ours, "fullname", record)
    if name != record:
        # Apache's checker compares the name without its namespace; readers on the bus do not.
        yield f"its full name became {name}"


def _unseen(current: Any, released: Any) -> list[tuple[Direction, str]]:
    """Compare what Apache's checker does not look at, of the fields that both have."""
    now, then = _leaves(current), _leaves(released)
    found: list[tuple[Direction, str]] = []
    for place in (place for place in now if place in then):
        kinds, before = now[place].kinds, then[place].kinds
        if kinds and before and kinds != before:
            found.append((Direction.BACKWARD, f"{place}: {_told(before)} became {_told(kinds)}"))
        symbols, earlier = now[place].symbols, then[place].symbols
        for direction, odd in (
            (Direction.BACKWARD, earlier - symbols),
            (Direction.FORWARD, symbols - earlier),
        ):
            if odd:
                verb = "gone" if direction is Direction.BACKWARD else "new"
                found.append((direction, f"{place}: {verb} {', '.join(sorted(odd))}"))
    return found


def _told(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds))


@attrs.define
class _Leaf:
    """What stands at one place of a schema, in any branch of a union."""

    kinds: set[str] = attrs.field(factory=set)
    """Logical types, and the kinds of what has none; a number's width is Apache's matter."""
    symbols: set[str] = attrs.field(factory=set)


def _leaves(schema: Any) -> dict[str, _Leaf]:
    found: dict[str, _Leaf] = defaultdict(_Leaf)
    _walk(schema, "", found)
    return found


def _walk(schema: Any, place: str, found: dict[str, _Leaf]) -> None:
    match schema:
        case str() if schema in _PLAIN:
            found[place].kinds.add(_PLAIN[schema])
        case list():
            for branch in schema:
                _walk(branch, place, found)
        case {"type": str(kind)} if kind in _PLAIN:
            found[place].kinds.add(schema.get("logicalType", _PLAIN[kind]))
        case {"type": "enum", "symbols": symbols}:
            found[place].symbols.update(symbols)
        case {"type": "record", "fields": fields}:
            for field in fields:
                name = f"{place}.{field['name']}" if place else field["name"]
                _walk(field["type"], name, found)
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            _walk(inner, f"{place}[]", found)
        case _:
            pass
