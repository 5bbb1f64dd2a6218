"""The page of all messages, `docs/events.md`, written from the AsyncAPI document.

python -m flashsale.asyncapi.page > docs/events.md
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from flashsale.asyncapi.document import document_of
from flashsale.asyncapi.messages import FRAMING, docs_of
from flashsale.settings import Settings
from flashsale_avro import SchemaName

HEAD: Final = """\
# Events

Every message on the bus, written from the schemas, the adapters and the settings
(`python -m flashsale.asyncapi.page`). The same for programs is [asyncapi.json](asyncapi.json);
[contracts.md](contracts.md) says what is promised of it. Names of topics, queues, exchange and
groups are [settings](settings.md); these are the defaults.
"""
BROKERS: Final = ("kafka", "rabbitmq")
_LINE: Final = 100

Json = dict[str, Any]


def page(document: Json) -> str:
    """Write the page."""
    return "\n".join([HEAD, "\n".join(_lines(document)).rstrip(), ""])


def _lines(document: Json) -> Iterator[str]:
    yield from _wrapped(FRAMING)
    yield "On RabbitMQ some messages may be JSON too, told by their content type."
    yield ""
    names = [name.partition("-")[2] for name in document["channels"] if name.startswith("kafka-")]
    for name in names:
        yield from _channel(document, name)


def _channel(document: Json, name: str) -> Iterator[str]:
    by_broker = {broker: document["channels"][f"{broker}-{name}"] for broker in BROKERS}
    kafka, rabbitmq = by_broker["kafka"], by_broker["rabbitmq"]
    [tag] = kafka["tags"]
    yield f"## {kafka['title']}"
    yield ""
    yield from _wrapped(f"{kafka['description']} {tag['name'].capitalize()}.")
    exchange = rabbitmq["bindings"]["amqp"]["exchange"]["name"]
    yield f"- Kafka: topic `{kafka['address']}`"
    yield f"- RabbitMQ: exchange `{exchange}`, routing key and queue `{rabbitmq['address']}`"
    for action in ("receive", "send"):
        operation = document["operations"].get(f"{action}-kafka-{name}")
        if operation is not None:
            verb = "reads it" if action == "receive" else "writes it"
            yield f"- The engine {verb}: {_uncapitalised(operation['summary'])}"
    yield ""
    for message in rabbitmq["messages"]:
        if not message.endswith("-json"):
            yield from _message(
                document, message, has_json=f"{message}-json" in rabbitmq["messages"]
            )


def _message(document: Json, name: str, *, has_json: bool) -> Iterator[str]:
    messages = document["components"]["messages"]
    kafka, rabbitmq = (messages[f"{broker}-{name}"] for broker in BROKERS)
    yield f"### {name}"
    yield ""
    said = kafka["summary"]
    if has_json:
        said += " On RabbitMQ also as JSON."
    key = kafka.get("bindings", {}).get("kafka", {}).get("key")
    if key is not None:
        said += f" Kafka's key: {_uncapitalised(key['description'])}"
    yield from _wrapped(said)
    yield from _headers(kafka.get("headers"), rabbitmq.get("headers"))
    if "$ref" in kafka["payload"]:
        yield from _fields(document, name)
    else:
        yield "The payload is the original's, byte by byte."
        yield ""
    [example] = kafka["examples"]
    shown = {part: example[part] for part in ("headers", "payload") if part in example}
    yield "```json"
    yield json.dumps(shown, indent=2, ensure_ascii=False)
    yield "```"
    yield ""


def _headers(kafka: Json | None, rabbitmq: Json | None) -> Iterator[str]:
    rows: dict[str, list[str]] = {}
    for at, headers in enumerate((kafka, rabbitmq)):
        for name, header in (headers or {}).get("properties", {}).items():
            row = rows.setdefault(header["description"], ["", "", ""])
            row[at] = f"`{name}`"
            row[2] = "always" if name in headers["required"] else ""  # type: ignore[index]
    if not rows:
        return
    yield "| header on Kafka | header on RabbitMQ | | what it is |"
    yield "|---|---|---|---|"
    for description, (of_kafka, of_rabbitmq, always) in rows.items():
        yield f"| {of_kafka} | {of_rabbitmq} | {always} | {description} |"
    yield ""


def _fields(document: Json, name: str) -> Iterator[str]:
    schema = document["components"]["schemas"][name]["schema"]
    docs = docs_of(SchemaName(f"{schema['namespace']}.{schema['name']}"))
    yield "| field | type | what it is |"
    yield "|---|---|---|"
    for field in schema["fields"]:
        yield f"| `{field['name']}` | {_type(field['type'])} | {docs[field['name']]} |"
        for inner in _inner_fields(field["type"]):
            yield (
                f"| `{field['name']}[].{inner['name']}` | {_type(inner['type'])} | {inner['doc']} |"
            )
    yield ""


def _inner_fields(kind: Any) -> list[Json]:
    if isinstance(kind, dict) and kind["type"] == "array":
        fields: list[Json] = kind["items"]["fields"]
        return fields
    return []


def _type(kind: Any) -> str:
    match kind:
        case ["null", one]:
            return f"{_type(one)} or null"
        case {"logicalType": logical}:
            return str(logical)
        case {"type": "enum", "symbols": symbols}:
            return " · ".join(symbols)
        case {"type": "array", "items": items}:
            return f"array of {items['name']}"
        case {"type": inner}:
            return str(inner)
        case _:
            return str(kind)


def _uncapitalised(text: str) -> str:
    return text[0].lower() + text[1:]


def _wrapped(text: str) -> Iterator[str]:
    """Break a paragraph into lines, and end it."""
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > _LINE:
            yield line
            line = word
        else:
            line = f"{line} {word}".lstrip()
    yield line
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page(asyncio.run(document_of(Settings()))))
