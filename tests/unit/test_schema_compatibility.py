"""`flashsale schema check`: a schema that breaks a released promise is refused, by name."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fastavro
import pytest

from flashsale_avro import AvroCodec, SchemaName, known_schemas, schema_texts
from flashsale_avro.compatibility import Direction, breaches, schema_breaches
from flashsale_avro.framing import single_object_header
from flashsale_avro.schema_files import released_texts
from flashsale_core.events import Channel, Message, OrderEvent

ROOT = Path(__file__).resolve().parents[2]
ORDER_CREATED = str(SchemaName.ORDER_CREATED)
Json = dict[str, Any]
Change = Callable[[Json], object]
BACKWARD, FORWARD = Direction.BACKWARD, Direction.FORWARD


def test_no_released_promise_is_broken() -> None:
    """The build fails with the change and not with somebody's consumer."""
    assert schema_breaches() == []


def test_every_record_was_released() -> None:
    """A comparison with nothing would pass for ever."""
    *_, last = released_texts()
    assert set(released_texts()[last]) <= {str(name) for name in SchemaName}
    assert len(released_texts()["1.0.0"]) == 6


def changed(change: Change, record: str = ORDER_CREATED) -> list[tuple[Direction, str]]:
    """Change the released schema of a record; tell what that breaks."""
    released = schema_texts()[SchemaName(record)]
    schema = json.loads(released)
    change(schema)
    found = breaches({record: json.dumps(schema)}, {"1.0.0": {record: released}})
    assert all(one.record == record and one.release == "1.0.0" for one in found)
    return [(one.direction, one.problem) for one in found]


def field(schema: Json, name: str) -> Json:
    """Find a field."""
    [found] = [one for one in schema["fields"] if one["name"] == name]
    one: Json = found
    return one


def without(schema: Json, name: str) -> None:
    """Take a field away."""
    schema["fields"].remove(field(schema, name))


BREAKS: dict[str, tuple[Change, set[Direction], str]] = {
    "a field without a default is removed": (
        lambda s: without(s, "quantity"), {FORWARD}, "missing default value at quantity",
    ),
    "a field without a default is added": (
        lambda s: s["fields"].append({"name": "colour", "type": "string"}),
        {BACKWARD}, "missing default value at colour",
    ),
    "a field is renamed": (
        lambda s: field(s, "userId").update(name="buyerId"),
        {BACKWARD, FORWARD}, "missing default value",
    ),
    "a field's type is another": (
        lambda s: field(s, "quantity").update(type="string"),
        {BACKWARD, FORWARD}, "type mismatch at quantity",
    ),
    "a number is widened": (
        lambda s: field(s, "quantity").update(type="long"), {FORWARD}, "type mismatch at quantity",
    ),
    "a field may be null": (
        lambda s: field(s, "userId").update(type=["null", "string"], default=None),
        {FORWARD}, "type mismatch at userId",
    ),
    "a field may not be null any more": (
        lambda s: (field(s, "flashSaleEventId").update(type="string", default="")),
        {BACKWARD}, "type mismatch at flashSaleEventId",
    ),
    "a symbol is added": (
        lambda s: field(s, "source")["type"]["symbols"].append("KIOSK"),
        {FORWARD}, "missing enum symbols at source",
    ),
    "a symbol is removed": (
        lambda s: field(s, "source")["type"]["symbols"].remove("WEB"),
        {BACKWARD}, "missing enum symbols at source",
    ),
    "a time's unit is another": (
        lambda s: field(s, "occurredAt")["type"].update(logicalType="timestamp-micros"),
        {BACKWARD}, "occurredAt: timestamp-millis became timestamp-micros",
    ),
    "a time becomes a bare number": (
        lambda s: field(s, "occurredAt").update(type="long"),
        {BACKWARD}, "occurredAt: timestamp-millis became a plain number",
    ),
    "text gets a logical type": (
        lambda s: field(s, "eventId").update(type={"type": "string", "logicalType": "uuid"}),
        {BACKWARD}, "eventId: plain text became uuid",
    ),
    "text becomes bytes": (
        lambda s: field(s, "eventId").update(type="bytes"),
        {BACKWARD}, "eventId: plain text became plain bytes",
    ),
    "a symbol is removed, and the enum has a default": (
        lambda s: field(s, "source")["type"].update(symbols=["MOBILE", "API"], default="API"),
        {BACKWARD}, "source: gone WEB",
    ),
    "the namespace is another": (
        lambda s: s.update(namespace="com.example"),
        {FORWARD}, "its full name became com.example.OrderCreated",
    ),
    "the record is renamed inside its file": (
        lambda s: s.update(name="OrderMade"), {BACKWARD, FORWARD}, "name mismatch",
    ),
    "it is no schema": (
        lambda s: field(s, "quantity").update(type="integer"), {Direction.BROKEN}, "integer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_each_kind_of_breaking_change_is_refused_with_its_place(name: str) -> None:
    """Both ways: old readers meet new writers, and new readers meet what was written before."""
    change, directions, said = BREAKS[name]
    found = changed(change)
    assert {direction for direction, _ in found} == directions
    assert any(said in problem for _, problem in found), found


KEEPS: dict[str, Change] = {
    "nothing": lambda s: s,
    "a field with a default is added": lambda s: s["fields"].append(
        {"name": "colour", "type": ["null", "string"], "default": None}
    ),
    "a field with a default is removed": lambda s: without(s, "flashSaleEventId"),
    "fields are moved": lambda s: s["fields"].reverse(),
    "words": lambda s: s.update(doc="!"),
}


@pytest.mark.parametrize("name", KEEPS)
def test_a_change_that_both_sides_survive_passes(name: str) -> None:
    """What Avro was chosen for."""
    assert changed(KEEPS[name]) == []


def test_a_record_that_was_released_cannot_go() -> None:
    """Its messages lie in topics, and its readers wait for it."""
    [gone] = breaches({}, {"1.0.0": {ORDER_CREATED: schema_texts()[SchemaName.ORDER_CREATED]}})
    assert gone.direction is Direction.GONE
    assert str(gone) == f"{ORDER_CREATED}: this version has no such record, and 1.0.0 had"


def test_every_release_is_asked_and_not_the_last_alone() -> None:
    """A default that goes in two steps would pass between neighbours."""
    now = schema_texts()[SchemaName.ORDER_CREATED]
    first = json.loads(now)
    first["fields"].append({"name": "colour", "type": "string"})
    releases = {"1.0.0": {ORDER_CREATED: json.dumps(first)}, "1.1.0": {ORDER_CREATED: now}}
    assert {one.release for one in breaches({ORDER_CREATED: now}, releases)} == {"1.0.0"}


def test_a_new_record_breaks_nothing() -> None:
    """Nobody can have been promised anything about it."""
    assert breaches({ORDER_CREATED: "null", "ch.luimode.flashsale.New": "null"}, {}) == []


def check(package: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Type `flashsale schema check` where the package is another."""
    places = (package, ROOT / "src", ROOT / "src/adapters", ROOT / "src/entrypoints")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLASHSALE_")}
    return subprocess.run(
        [sys.executable, "-m", "flashsale", "schema", "check", *options],
        env={**kept, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_fails_with_the_place_and_passes_without_a_registry(tmp_path: Path) -> None:
    """Exit code 0 and 1, for a build; it needs no server."""
    package = tmp_path / "flashsale_avro"
    shutil.copytree(ROOT / "src/adapters/flashsale_avro", package)
    shutil.copytree(ROOT / "schemas", package / "schemas")
    good = check(tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert f"compatible with every release: {', '.join(released_texts())}" in good.stdout
    file = package / "schemas" / f"{ORDER_CREATED}.avsc"
    schema = json.loads(file.read_text())
    without(schema, "quantity")
    file.write_text(json.dumps(schema))
    bad = check(tmp_path)
    assert bad.returncode == 1
    assert bad.stderr.startswith(
        f"flashsale: {ORDER_CREATED}: 1.0.0 cannot read what this version writes: "
    )
    assert "quantity" in bad.stderr
    told = json.loads(check(tmp_path, "--json").stdout)
    assert told["releases"] == list(released_texts())
    assert len(told["broken"]) == len(told["releases"])
    assert told["registry"] is None


async def test_what_an_earlier_release_wrote_is_read_without_a_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fingerprint names the writer's schema, and this version knows those of all releases."""
    schema = json.loads(schema_texts()[SchemaName.ORDER_CREATED])
    without(schema, "flashSaleEventId")
    record = {
        "eventId": "00000000-0000-5000-8000-000000000001",
        **dict.fromkeys(("purchaseId", "userId", "itemId"), "x"),
        "saleId": "x.1",
        "quantity": 1,
        "source": "WEB",
        "requestedAt": 1,
        "occurredAt": 2,
    }
    body = io.BytesIO()
    body.write(single_object_header(schema))
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), record)
    message = Message(channel=Channel.ORDERS, body=body.getvalue(), origin="t:0:0")
    older = MappingProxyType({"0.9.0": {ORDER_CREATED: json.dumps(schema)}})
    monkeypatch.setattr(known_schemas, "released_texts", lambda: older)
    [decoded] = await AvroCodec().decode([message])
    assert isinstance(decoded, OrderEvent)
    assert decoded.event_id is None
