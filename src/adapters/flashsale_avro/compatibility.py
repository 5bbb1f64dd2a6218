"""Whether our schemas keep what was promised of the released ones.

The promise is Avro's FULL_TRANSITIVE within a major version, for every record: what any release
wrote is read by this one (messages wait in topics for days, and producers move at their own
pace), and what this one writes is read by any release (consumers move at their own pace, and
during a rolling upgrade old workers read what new processes write).

The rules are Apache's own (`avro.compatibility`), and one of ours: Avro lets a time's unit change
unseen, because it ignores logical types.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import attrs
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import parse

from flashsale_avro.schema_files import released_texts, schema_texts


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
    for problem in _retimed(json.loads(current), json.loads(released)):
        yield Breach(record=record, release=release, direction=Direction.BACKWARD, problem=problem)


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


def _retimed(current: Any, released: Any) -> list[str]:
    """Compare the logical types of the fields that both have."""
    now, then = dict(_logical_types(current, "")), dict(_logical_types(released, ""))
    return [
        f"{place}: {then[place] or 'a plain number'} became {now[place] or 'a plain number'}"
        for place in now
        if place in then and now[place] != then[place]
    ]


def _logical_types(schema: Any, place: str) -> Iterator[tuple[str, str | None]]:
    match schema:
        case "int" | "long":
            yield place, None
        case list():
            for branch in schema:
                yield from _logical_types(branch, place)
        case {"type": "int" | "long"}:
            yield place, schema.get("logicalType")
        case {"type": "record", "fields": fields}:
            for field in fields:
                name = f"{place}.{field['name']}" if place else field["name"]
                yield from _logical_types(field["type"], name)
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            yield from _logical_types(inner, f"{place}[]")
        case _:
            pass
