"""A change that breaks a neighbour on the bus fails the build; one that does not, passes."""

from pathlib import Path

import pytest

from tests.contracts.asyncapi_changes import breaking_changes
from tests.contracts.documents import Change, Json, after, committed, read, released


@pytest.fixture(scope="module")
def current() -> Json:
    """The document as it is committed."""
    return committed("asyncapi")


@pytest.mark.parametrize("promise", released("asyncapi"), ids=lambda file: file.stem)
def test_no_released_promise_of_the_bus_is_broken(promise: Path, current: Json) -> None:
    """Topics, queues, headers and keys stay where others look for them."""
    assert breaking_changes(read(promise), current) == []


def test_there_is_a_release_to_compare_with() -> None:
    """An empty folder would make the test above pass for ever."""
    assert released("asyncapi")


def channel(document: Json, name: str) -> Json:
    """Find a channel."""
    found: Json = document["channels"][name]
    return found


def message(document: Json, name: str) -> Json:
    """Find a message."""
    found: Json = document["components"]["messages"][name]
    return found


KIND_BECAME_ANOTHER = (
    "rabbitmq-orders: exchange's kind {'type': 'topic', 'durable': True, 'autoDelete': False}"
    " became {'type': 'direct'}"
)
BREAKS: dict[str, tuple[Change, str]] = {
    "a channel goes": (
        lambda d: d["channels"].pop("kafka-orders"),
        "kafka-orders: is gone",
    ),
    "a topic is renamed": (
        lambda d: channel(d, "kafka-orders").update(address="orders"),
        "kafka-orders: address flashsale.orders became orders",
    ),
    "an exchange is renamed": (
        lambda d: channel(d, "rabbitmq-requests")["bindings"]["amqp"]["exchange"].update(name="x"),
        "rabbitmq-requests: exchange flashsale became x",
    ),
    "a door is closed": (
        lambda d: d["operations"].pop("receive-kafka-requests"),
        "kafka-requests: the engine does not receive any more",
    ),
    "a message goes": (
        lambda d: channel(d, "kafka-orders")["messages"].pop("PurchaseRejected"),
        "kafka-orders: PurchaseRejected is gone",
    ),
    "a form of a message goes": (
        lambda d: channel(d, "rabbitmq-requests")["messages"].pop("PurchaseRequest-json"),
        "rabbitmq-requests: PurchaseRequest-json is gone",
    ),
    "a header goes": (
        lambda d: message(d, "kafka-OrderCreated")["headers"]["required"].remove("ce_id"),
        "kafka-orders: OrderCreated: header ce_id is not always there any more",
    ),
    "a key goes": (
        lambda d: message(d, "kafka-OrderCreated")["bindings"]["kafka"].pop("key"),
        "kafka-orders: OrderCreated: has no key any more",
    ),
    "a key is another": (
        lambda d: message(d, "kafka-OrderCreated")["bindings"]["kafka"]["key"].update(
            type="integer"
        ),
        "kafka-orders: OrderCreated: key {'type': 'string'} became {'type': 'integer'}",
    ),
    "a schema is found otherwise": (
        lambda d: message(d, "kafka-OrderCreated")["bindings"]["kafka"].update(
            schemaIdLocation="header"
        ),
        "kafka-orders: OrderCreated: schemaIdLocation payload became header",
    ),
    "a message is named otherwise": (
        lambda d: message(d, "kafka-OrderCreated").update(name="OrderMade"),
        "kafka-orders: OrderCreated: name ch.luimode.flashsale.OrderCreated became OrderMade",
    ),
    "a header's value is another": (
        lambda d: message(d, "kafka-OrderCreated")["headers"]["properties"][
            "ce_specversion"
        ].update(const="2.0"),
        "kafka-orders: OrderCreated: header.ce_specversion: 2.0 may come now",
    ),
    "a header that may be there never is": (
        lambda d: message(d, "rabbitmq-OrderCreated")["headers"]["properties"].pop("traceparent"),
        "rabbitmq-orders: OrderCreated: header.traceparent: is gone",
    ),
    "a sender must send a header": (
        lambda d: message(d, "kafka-PurchaseRequest")["headers"]["required"].append("shop"),
        "kafka-requests: PurchaseRequest: header.shop: is required now",
    ),
    "a door leads out": (
        lambda d: d["operations"]["receive-kafka-requests"].update(action="send"),
        "kafka-requests: the engine does not receive any more",
    ),
    "an exchange is of another kind": (
        lambda d: channel(d, "rabbitmq-orders")["bindings"]["amqp"].update(
            exchange={"name": "flashsale", "type": "direct"}
        ),
        KIND_BECAME_ANOTHER,
    ),
    "a channel becomes private": (
        lambda d: channel(d, "kafka-orders").update(tags=[{"name": "private to the engine"}]),
        "kafka-orders: is private now",
    ),
    "a field is written in JSON otherwise": (
        lambda d: d["components"]["schemas"]["OrderCreated-json"]["properties"]["quantity"].update(
            type="string"
        ),
        "rabbitmq-orders: OrderCreated-json: payload.quantity: integer became string",
    ),
    "a field in JSON must be sent": (
        lambda d: d["components"]["schemas"]["PurchaseRequest-json"]["required"].append("eventId"),
        "rabbitmq-requests: PurchaseRequest-json: payload.eventId: is required now",
    ),
    "a content type is another": (
        lambda d: message(d, "kafka-OrderCreated").update(contentType="avro/binary"),
        "kafka-orders: OrderCreated: content type application/avro became avro/binary",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_breaking_change_fails_the_build_and_names_its_place(name: str, current: Json) -> None:
    """Each kind by itself."""
    change, said = BREAKS[name]
    assert said in breaking_changes(current, after(change, current))


KEEPS: dict[str, Change] = {
    "a new message": lambda d: channel(d, "kafka-orders")["messages"].update(
        New={"$ref": "#/components/messages/kafka-New"}
    ),
    "a new header": lambda d: message(d, "kafka-OrderCreated")["headers"]["required"].append("new"),
    "what is private": lambda d: channel(d, "kafka-accepted").update(address="elsewhere"),
    "more partitions": lambda d: channel(d, "kafka-orders")["bindings"]["kafka"].update(
        partitions=64
    ),
    "a field in JSON is new": lambda d: d["components"]["schemas"]["OrderCreated-json"][
        "properties"
    ].update(colour={"type": "string"}),
    "other words": lambda d: channel(d, "kafka-orders").update(description="!"),
}


@pytest.mark.parametrize("name", KEEPS)
def test_a_change_that_nobody_else_feels_passes(name: str, current: Json) -> None:
    """A gate that refuses everything is taken out by the next who meets it."""
    assert breaking_changes(current, after(KEEPS[name], current)) == []
