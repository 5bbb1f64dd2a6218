"""The documents that others build against are committed, and are what the code says today."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale.asyncapi import document_of
from flashsale.asyncapi.page import page
from flashsale.commands.app import run_command
from flashsale.http.__main__ import document as openapi_document
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale_avro import AvroCodec, SchemaName, WireFormat, schema_texts
from flashsale_avro.codec import NAMES
from flashsale_core.events import Channel, OrderEvent
from flashsale_core.model import PurchaseRequest
from flashsale_core.testing.strategies import order_events, purchase_requests
from tests.unit.http_world import Shop

DOCS = Path(__file__).resolve().parents[2] / "docs"


def asyncapi(settings: Settings | None = None) -> dict[str, Any]:
    """Write the document."""
    return asyncio.run(document_of(settings or Settings()))


def as_file(document: object) -> str:
    """Write a document as its file is written."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


@pytest.mark.parametrize(
    ("name", "command", "written"),
    [
        ("asyncapi.json", "python -m flashsale.asyncapi", lambda: as_file(asyncapi())),
        ("events.md", "python -m flashsale.asyncapi.page", lambda: page(asyncapi())),
        ("openapi.json", "python -m flashsale.http", lambda: as_file(openapi_document())),
    ],
)
def test_the_committed_document_is_what_the_code_says(
    name: str, command: str, written: Callable[[], str]
) -> None:
    """A change of a contract is seen in its commit, by whoever reviews it."""
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == written(), f"if it is meant: {command} > docs/{name}"


async def test_the_committed_openapi_document_is_what_the_api_serves() -> None:
    """Whoever builds against the file meets a server of that shape."""
    served = (await Shop().ask("GET", "/openapi.json")).json
    assert served == json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))


def test_the_command_writes_the_document_of_this_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own names of topics and queues, its own brokers, and no password of theirs."""
    monkeypatch.setenv("FLASHSALE_GATE_URL", "redis://gate.example")
    monkeypatch.setenv("FLASHSALE_DATABASE_URL", "postgresql+asyncpg://db.example/flashsale")
    monkeypatch.setenv("FLASHSALE_BUS_URL", "amqps://shop:hunter2@mq.example")
    monkeypatch.setenv("FLASHSALE_REQUESTS_TOPIC", "shop.requests")
    monkeypatch.setenv("FLASHSALE_EXCHANGE", "shop")
    monkeypatch.setenv("FLASHSALE_PARTITIONS", "3")
    assert run_command(["schema", "asyncapi"]) == 0
    said = capsys.readouterr().out
    assert "hunter2" not in said
    document = json.loads(said)
    assert document["servers"]["rabbitmq"]["host"] == "mq.example:5671"
    assert document["servers"]["rabbitmq"]["protocol"] == "amqps"
    channels = document["channels"]
    assert channels["kafka-requests"]["address"] == "shop.requests"
    assert channels["kafka-deadLetters"]["address"] == "shop.requests-dlt"
    assert channels["rabbitmq-deadLetters"]["address"] == "shop.requests.dlq"
    assert channels["rabbitmq-orders"]["bindings"]["amqp"]["exchange"]["name"] == "shop"
    assert channels["kafka-accepted"]["bindings"]["kafka"]["partitions"] == 3
    assert channels["rabbitmq-accepted"]["parameters"]["partition"]["enum"] == ["0", "1", "2"]


def test_a_cluster_of_brokers_is_named_whole() -> None:
    """As a client is configured with it."""
    settings = attrs.evolve(Settings(), bus_url=Url("kafka://a:9092,b:9092"))
    assert asyncapi(settings)["servers"]["kafka"]["host"] == "a:9092,b:9092"


def test_every_record_that_may_travel_stands_in_the_document_with_its_schema() -> None:
    """On each channel that the codec allows it on, under either broker, and on no other."""
    document = asyncapi()
    schemas = document["components"]["schemas"]
    for name in SchemaName:
        short = name.rpartition(".")[2]
        assert schemas[short]["schema"] == json.loads(schema_texts()[name])
        for channel in (Channel.REQUESTS, Channel.ACCEPTED, Channel.ORDERS):
            for broker in ("kafka", "rabbitmq"):
                messages = document["channels"][f"{broker}-{channel.value}"]["messages"]
                assert (short in messages) == (name in NAMES[channel])


def test_headers_are_those_of_each_broker_s_binding() -> None:
    """CloudEvents in binary mode, and the trace context under W3C's own name."""
    messages = asyncapi()["components"]["messages"]
    attributes = ("specversion", "id", "type", "source", "subject", "time")
    for broker, prefix in (("kafka", "ce_"), ("rabbitmq", "cloudEvents_")):
        headers = messages[f"{broker}-OrderCreated"]["headers"]
        assert {f"{prefix}{name}" for name in attributes} <= set(headers["required"])
        assert "traceparent" in headers["properties"]
        assert "traceparent" not in headers["required"]
        letters = messages[f"{broker}-DeadLetter"]["headers"]
        assert {"flashsale-origin", "flashsale-reason"} <= set(letters["required"])


COMMITTED = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))
JSON_CODEC = AvroCodec(wire_format=WireFormat.JSON)


@settings(deadline=None)
@given(purchase_requests(payment_token=st.none()), order_events())
def test_what_is_written_as_json_fits_the_json_schema(
    request: PurchaseRequest, event: OrderEvent
) -> None:
    """The schema is made from Avro's; the codec writes the form itself."""
    for name, fact in (("PurchaseRequest", request), (event.type.value, event)):
        schema = COMMITTED["components"]["schemas"][f"{name}-json"]
        jsonschema_rs.validate(schema, json.loads(JSON_CODEC.encode(fact).body))
