"""What breaks whoever built on one AsyncAPI document and meets an engine of the next.

Avro payloads are the schemas' matter (`flashsale schema check`); here it is where messages are, how
they are told apart, what is beside them, and their form in JSON. What is private to the engine is
nobody else's.
"""

from collections.abc import Iterator
from typing import Any, Final

from tests.contracts.openapi_changes import schema_changes

Json = dict[str, Any]
PRIVATE: Final = "private to the engine"


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Say each way in which the new document breaks a promise of the old one."""
    return [
        problem
        for name, channel in old["channels"].items()
        if {"name": PRIVATE} not in channel["tags"]
        for problem in _channel(old, new, name)
    ]


def _channel(old: Json, new: Json, name: str) -> Iterator[str]:
    then, now = old["channels"][name], new["channels"].get(name)
    if now is None:
        yield f"{name}: is gone"
        return
    if {"name": PRIVATE} in now["tags"]:
        yield f"{name}: is private now"
    for what, before in _where(then).items():
        after = _where(now)[what]
        if before != after:
            yield f"{name}: {what} {before} became {after}"
    actions = _actions(old, name)
    for action in sorted(actions - _actions(new, name)):
        yield f"{name}: the engine does not {action} any more"
    for message, reference in then["messages"].items():
        if message not in now["messages"]:
            yield f"{name}: {message} is gone"
        else:
            where = f"{name}: {message}"
            before, after = _found(old, reference), _found(new, now["messages"][message])
            is_ours = "send" in actions
            yield from _message(before, after, where, is_ours=is_ours)
            yield from _payload(_schema(old, before), _schema(new, after), where, is_ours=is_ours)


def _actions(document: Json, channel: str) -> set[str]:
    return {
        one["action"]
        for one in document["operations"].values()
        if one["channel"]["$ref"].endswith(f"/{channel}")
    }


def _where(channel: Json) -> Json:
    amqp = channel["bindings"].get("amqp", {})
    exchange = amqp.get("exchange", {})
    return {
        "address": channel["address"],
        "exchange": exchange.get("name"),
        "exchange's kind": {name: exchange[name] for name in exchange if name != "name"},
        "queue": amqp.get("x-queue"),
    }


def _message(then: Json, now: Json, place: str, *, is_ours: bool) -> Iterator[str]:
    for what, key in (("content type", "contentType"), ("name", "name")):
        if then[key] != now[key]:
            yield f"{place}: {what} {then[key]} became {now[key]}"
    before, after = then.get("headers", {}), now.get("headers", {})
    for header in before.get("required", ()) if is_ours else ():
        if header not in after.get("required", ()):
            yield f"{place}: header {header} is not always there any more"
    yield from schema_changes(before, after, f"{place}: header", is_answer=is_ours)
    binding, other = _binding(then), _binding(now)
    for what in sorted(set(binding) | set(other)):
        if binding.get(what) == other.get(what):
            continue
        if what == "key" and what not in other:
            yield f"{place}: has no key any more"
        else:
            yield f"{place}: {what} {binding.get(what)} became {other.get(what)}"


def _binding(message: Json) -> Json:
    """Say how Kafka carries it, without words about it."""
    binding = message.get("bindings", {}).get("kafka", {})
    key = binding.get("key", {})
    told = {"key": {name: key[name] for name in key if name != "description"}} if key else {}
    return {**{name: binding[name] for name in binding if name.startswith("schema")}, **told}


def _payload(then: Json, now: Json, place: str, *, is_ours: bool) -> Iterator[str]:
    """Compare what is no Avro. Readers of JSON are upgraded before a field is added."""
    if "schema" in then and "schema" in now:
        if then["schema"]["name"] != now["schema"]["name"]:
            yield f"{place}: {then['schema']['name']} became {now['schema']['name']}"
        return
    if is_ours:
        then = {key: value for key, value in then.items() if key != "additionalProperties"}
    yield from schema_changes(then, now, f"{place}: payload", is_answer=is_ours)


def _schema(document: Json, message: Json) -> Json:
    payload: Json = message["payload"]
    if "$ref" not in payload:
        return payload
    found: Json = document["components"]["schemas"][payload["$ref"].rpartition("/")[2]]
    return found


def _found(document: Json, reference: Json) -> Json:
    found: Json = document["components"]["messages"][reference["$ref"].rpartition("/")[2]]
    return found
