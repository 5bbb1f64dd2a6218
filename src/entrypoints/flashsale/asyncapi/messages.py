"""The messages: payloads from the schemas, headers from the adapters, examples from the codec."""

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from flashsale.asyncapi.brokers import Broker, Part
from flashsale.asyncapi.examples import EXAMPLES, PURCHASE, TRACEPARENT, dead_letter, payload_of
from flashsale.asyncapi.headers import example_of, schema_of
from flashsale.asyncapi.json_schema import json_schema_of
from flashsale_avro import SchemaName, schema_texts
from flashsale_avro.codec import AVRO, NAMES
from flashsale_avro.facts import Fact
from flashsale_avro.json_form import CONTENT_TYPE as JSON
from flashsale_core.events import Channel, OrderEvent
from flashsale_core.ports import Codec, Encoded

AVRO_FORMAT: Final = "application/vnd.apache.avro;version=1.9.0"
FRAMING: Final = (
    "Avro, in one of two framings that say which schema wrote it: with a schema registry "
    "Confluent's (00, then the schema's id as 4 bytes, big endian), without one Avro's "
    "single-object encoding (C3 01, then the schema's fingerprint as 8 bytes, little endian). "
    "Every reader here takes both."
)
SUMMARIES: Final[Mapping[SchemaName, str]] = {
    SchemaName.PURCHASE_REQUEST: "Somebody wants to buy; nothing is promised.",
    SchemaName.AVRO_PURCHASE_REQUEST: "The same, with the id of the flash-sale event.",
    SchemaName.PURCHASES_ACCEPTED: "What one call of the gate accepted for one sale.",
    SchemaName.BARRIER: "A marker on every partition, while a gate is rebuilt.",
    SchemaName.ORDER_CREATED: "An order stands CONFIRMED.",
    SchemaName.PURCHASE_REJECTED: "A purchase ended without an order.",
}
REQUEST_DOCS: Final[Mapping[str, str]] = {
    "eventId": "The flash-sale event, kept in the order and told in what follows.",
    "purchaseId": "Made by the sender, unique in the sale. The same id again, with the same user "
    "and quantity, has no second effect.",
    "userId": "The buyer.",
    "itemId": "What is asked for; the request goes to the item's current sale.",
    "quantity": "Units, at least 1; all or nothing.",
    "requestedAt": "The sender's own time, in ms since 1970, UTC; it decides nothing.",
    "source": "Where the buyer came from.",
}
"""The outside door's schemas are compiled into other services, without a word beside the fields."""
JSON_RECORDS: Final = frozenset(
    {
        SchemaName.AVRO_PURCHASE_REQUEST,
        SchemaName.ORDER_CREATED,
        SchemaName.PURCHASE_REJECTED,
    }
)
"""Whose JSON form others meet; `eventId` may be left out, so one form serves both requests."""


def record_of(name: SchemaName) -> dict[str, Any]:
    """Read a schema."""
    schema: dict[str, Any] = json.loads(schema_texts()[name])
    return schema


def docs_of(name: SchemaName) -> dict[str, str]:
    """Say what each field is."""
    fields = record_of(name)["fields"]
    return {field["name"]: field.get("doc") or REQUEST_DOCS[field["name"]] for field in fields}


def short(name: SchemaName) -> str:
    """Name a record without its namespace."""
    return name.rpartition(".")[2]


def schemas() -> Part:
    """List the payloads: each record in Avro, and in JSON those that others meet as JSON."""
    avro = {
        short(name): {"schemaFormat": AVRO_FORMAT, "schema": record_of(name)} for name in SchemaName
    }
    return {**avro, **{_json_name(name): _json_schema(name) for name in sorted(JSON_RECORDS)}}


def _json_name(name: SchemaName) -> str:
    if name is SchemaName.AVRO_PURCHASE_REQUEST:
        name = SchemaName.PURCHASE_REQUEST
    return f"{short(name)}-json"


def _json_schema(name: SchemaName) -> Part:
    schema = json_schema_of(record_of(name), docs_of(name))
    if name is SchemaName.AVRO_PURCHASE_REQUEST:
        schema["required"].remove("eventId")
    return schema


@attrs.frozen
class Messages:
    """Writes the messages of one broker."""

    broker: Broker
    codec: Codec

    def of(self, channel: Channel) -> dict[str, Part]:
        """List a channel's messages by their name in it."""
        if channel is Channel.DEAD_LETTERS:
            return {"DeadLetter": self._dead_letter()}
        # In the order of the schemas' own list, so that the document is the same each time.
        names = [name for name in SchemaName if name in NAMES[channel]]
        found = {short(name): self._avro(channel, name) for name in names}
        if self.broker.writes_json:
            for name in names:
                if name in JSON_RECORDS:
                    found[_json_name(name)] = self._json(channel, name)
        return found

    def _avro(self, channel: Channel, name: SchemaName) -> Part:
        fact = EXAMPLES[name]
        said = record_of(name).get("doc")
        return {
            "name": name,
            "title": short(name),
            "summary": SUMMARIES[name],
            "description": f"{said} {FRAMING}" if said else FRAMING,
            "contentType": AVRO,
            **self._headers(channel, fact),
            "payload": {"$ref": f"#/components/schemas/{short(name)}"},
            **self._bindings(channel),
            "examples": [self._example(channel, fact, payload_of(fact))],
        }

    def _json(self, channel: Channel, name: SchemaName) -> Part:
        fact = EXAMPLES[name]
        payload = {field: value for field, value in payload_of(fact).items() if value is not None}
        told = (
            "The content type is what tells it from Avro."
            if channel is Channel.REQUESTS
            else "Written instead of Avro where FLASHSALE_WIRE_FORMAT is json."
        )
        return {
            "name": name,
            "title": f"{_json_name(name).removesuffix('-json')} as JSON",
            "summary": SUMMARIES[name],
            "description": f"{told} A field without a value is left out.",
            "contentType": JSON,
            **self._headers(channel, fact),
            "payload": {"$ref": f"#/components/schemas/{_json_name(name)}"},
            **self._bindings(channel),
            "examples": [self._example(channel, fact, payload)],
        }

    def _bindings(self, channel: Channel) -> Part:
        bindings = self.broker.message(channel)
        return {"bindings": bindings} if bindings else {}

    def _headers(self, channel: Channel, fact: Fact) -> Part:
        if channel is Channel.REQUESTS:
            return {"headers": schema_of({"traceparent": ""}, {}, self.broker.attribute_prefix)}
        written = self._written(fact)
        if not written:
            return {}
        always = self._written(_untraced(fact))
        return {"headers": schema_of(written, always, self.broker.attribute_prefix)}

    def _written(self, fact: Fact) -> Mapping[str, str | bytes]:
        return self.broker.headers(self._encoded(fact), _about(fact))

    def _encoded(self, fact: Fact) -> Encoded:
        return self.codec.encode(fact)

    def _example(self, channel: Channel, fact: Fact, payload: dict[str, Any]) -> Part:
        headers: Mapping[str, str | bytes] = self._written(fact)
        if channel is Channel.REQUESTS:
            headers = {"traceparent": TRACEPARENT}
        return {
            "name": "one",
            **({"headers": example_of(headers)} if headers else {}),
            "payload": payload,
        }

    def _dead_letter(self) -> Part:
        origin = f"{self.broker.address(Channel.REQUESTS)}:3:4711"
        headers = self.broker.dead_letter_headers(dead_letter(origin))
        always = {name: "" for name in headers if name not in _WHERE_KNOWN}
        described = {**headers, **dict.fromkeys(self.broker.seldom, "")}
        return {
            "name": "DeadLetter",
            "title": "A copy of what never can succeed",
            "summary": "The original's bytes, key and headers, and why it was set aside.",
            "description": "For other tools: the engine does not read it. Whoever operates a sale "
            "works with `flashsale dead-letters`. Beside the headers here it has those of the "
            "original.",
            "contentType": "application/octet-stream",
            "headers": schema_of(described, always, self.broker.attribute_prefix),
            "payload": {"type": "string", "format": "binary"},
            **self._bindings(Channel.DEAD_LETTERS),
            "examples": [{"name": "one", "headers": example_of(headers)}],
        }


_WHERE_KNOWN: Final = frozenset(
    {
        *(f"kafka_dlt-original-{fact}" for fact in ("topic", "partition", "offset", "timestamp")),
        "flashsale-purchase-id",
    }
)
"""Headers of a dead letter that are left out where the fact is not known."""


def _about(fact: Fact) -> str | None:
    return PURCHASE if isinstance(fact, OrderEvent) else None


def _untraced(fact: Fact) -> Fact:
    return attrs.evolve(fact, traceparent=None) if isinstance(fact, OrderEvent) else fact
