"""Facts as JSON, for brokers whose users read their messages; stricter than the usual decoder."""

import json
from collections.abc import Mapping
from typing import Any, Final

from flashsale_avro.facts import Record
from flashsale_avro.schema_files import SchemaName
from flashsale_core.errors import Corrupt
from flashsale_core.model import Source

CONTENT_TYPE: Final = "application/json"
SYMBOLS: Final[Mapping[Source, object]] = {source: source.value for source in Source}
ID_NUMBER_MAX: Final = 2**63 - 1
"""A number as an id is somebody's 64-bit key; 101 and "101" are one user."""

_REQUEST_IDS: Final = ("purchaseId", "userId", "itemId", "eventId")


def is_json(content_type: str | None) -> bool:
    """Say whether a message declares itself JSON; nothing is guessed from its bytes."""
    if content_type is None:
        return False
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def write_json(record: Record) -> bytes:
    """Write a record, fields without a value left out."""
    return json.dumps(_present(record), ensure_ascii=False, separators=(",", ":")).encode()


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_present(one) for one in value]
    return value


def read_json(body: bytes) -> tuple[SchemaName, Record]:
    """Read one JSON object, and tell by its fields which record it is.

    Raises Corrupt("bad-json") for anything else, an object with a field twice among it. How deep
    it may be nested is bounded by the decoder, how long by the caller.
    """
    try:
        document = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except RecursionError as broken:
        raise Corrupt("bad-json", "nested too deeply") from broken
    except ValueError as broken:
        raise Corrupt("bad-json", f"not a JSON document ({type(broken).__name__})") from broken
    if type(document) is not dict:
        raise Corrupt("bad-json", f"an object is expected, not {type(document).__name__}")
    name = _name_of(document)
    if name is SchemaName.PURCHASE_REQUEST:
        for field in _REQUEST_IDS:
            value = document.get(field)
            if type(value) is int and 0 <= value <= ID_NUMBER_MAX:
                document[field] = str(value)
    return name, document


def _name_of(document: Record) -> SchemaName:
    if "purchases" in document:
        return SchemaName.PURCHASES_ACCEPTED
    if "rebuildId" in document:
        return SchemaName.BARRIER
    if "occurredAt" in document:
        is_rejected = "reason" in document
        return SchemaName.PURCHASE_REJECTED if is_rejected else SchemaName.ORDER_CREATED
    return SchemaName.PURCHASE_REQUEST


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Record:
    record: Record = {}
    for name, value in pairs:
        if name in record:
            raise Corrupt("bad-json", f"the field {name[:64]!r} stands there twice")
        record[name] = value
    return record


def _refuse_constant(text: str) -> Any:
    raise Corrupt("bad-json", f"{text} is not JSON")
