"""Records of texts and numbers are written as fastavro writes them, or left to it."""

import io
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import example, given
from hypothesis import strategies as st

from flashsale_avro.flat_form import flat_writer

SCHEMA = {
    "type": "record",
    "name": "Flat",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": "int"},
        {"name": "at", "type": "long"},
        {"name": "note", "type": ["null", "string"]},
    ],
}
PARSED = parse_schema(SCHEMA)
RECORD: dict[str, Any] = {"id": "p", "count": 1, "at": 2, "note": None}


@given(
    text=st.text(st.characters(codec="ascii"), max_size=200),
    count=st.integers(-(2**31), 2**31 - 1),
    at=st.integers(-(2**63), 2**63 - 1),
    note=st.none() | st.text(st.characters(codec="ascii")),
)
@example(text="x" * 64, count=-1, at=-(2**63), note="")
def test_what_is_simply_right_is_written_as_fastavro_would(
    text: str, count: int, at: int, note: str | None
) -> None:
    """Byte for byte: any other reader takes them."""
    record = {"id": text, "count": count, "at": at, "note": note}
    expected = io.BytesIO(b"head")
    expected.seek(4)
    schemaless_writer(expected, PARSED, record)
    write = flat_writer(SCHEMA)
    assert write is not None
    assert write(b"head", record) == expected.getvalue()


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"id": 7},
        {"id": "ü"},
        {"note": 7},
        {"count": True},
        {"count": 2**31},
        {"at": -(2**63) - 1},
        {"at": "2"},
    ],
)
def test_whatever_is_not_is_left_to_fastavro(wrong: dict[str, Any]) -> None:
    """Which writes it, or says what is wrong with it."""
    write = flat_writer(SCHEMA)
    assert write is not None
    assert write(b"", {**RECORD, **wrong}) is None


@pytest.mark.parametrize("kind", [{"type": "array", "items": "long"}, ["null", "long"], "double"])
def test_a_schema_with_anything_else_is_left_to_fastavro(kind: Any) -> None:
    """Lists, records, other unions."""
    fields = [*SCHEMA["fields"], {"name": "more", "type": kind}]
    assert flat_writer({**SCHEMA, "fields": fields}) is None
