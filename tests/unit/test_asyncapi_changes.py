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
    "other words": lambda d: channel(d, "kafka-orders").update(description="!"),
}


@pytest.mark.parametrize("name", KEEPS)
def test_a_change_that_nobody_else_feels_passes(name: str, current: Json) -> None:
    """A gate that refuses everything is taken out by the next who meets it."""
    assert breaking_changes(current, after(KEEPS[name], current)) == []
