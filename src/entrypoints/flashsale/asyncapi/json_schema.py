"""A record's JSON form as JSON Schema, made from its Avro schema."""

from typing import Any, Final

from flashsale_avro.json_form import ID_NUMBER_MAX
from flashsale_core.model import IDENTIFIER, QUANTITY_MAX, TIME_MS_MAX

REQUEST_IDS: Final = ("purchaseId", "userId", "itemId", "eventId")
_ID: Final = {"type": "string", "pattern": f"^{IDENTIFIER.pattern}$"}
_ID_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": ID_NUMBER_MAX}
_TIME: Final = {"type": "integer", "minimum": 0, "maximum": TIME_MS_MAX}
_LIMITS: Final[dict[str, dict[str, Any]]] = {
    "quantity": {"type": "integer", "minimum": 1, "maximum": QUANTITY_MAX},
    "requestedAt": _TIME,
    "occurredAt": _TIME,
    **dict.fromkeys(("purchaseId", "userId", "itemId", "eventId", "flashSaleEventId"), _ID),
}
"""What a field's type does not say; the domain's own limits."""


def json_schema_of(record: dict[str, Any], docs: dict[str, str]) -> dict[str, Any]:
    """Describe the JSON form of a record with simple fields; unknown fields are refused."""
    fields = record["fields"]
    of_request = "Request" in record["name"]
    properties = {
        field["name"]: {
            **_value(field, numeric_ids=of_request),
            "description": docs[field["name"]],
        }
        for field in fields
    }
    required = [field["name"] for field in fields if "default" not in field]
    return {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


def _value(field: dict[str, Any], *, numeric_ids: bool) -> dict[str, Any]:
    name, kind = field["name"], field["type"]
    if isinstance(kind, dict) and kind["type"] == "enum":
        return {"type": "string", "enum": kind["symbols"]}
    if numeric_ids and name in REQUEST_IDS:
        # A number as an id is somebody's 64-bit key.
        return {"oneOf": [_ID, _ID_NUMBER]}
    return _LIMITS.get(name, {"type": "string"})
