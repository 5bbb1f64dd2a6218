"""What breaks whoever built on one AsyncAPI document and meets an engine of the next.

Payloads are the schemas' matter (`flashsale schema check`); here it is where messages are, how they
are told apart, and what is always beside them. What is private to the engine is nobody else's.
"""

from collections.abc import Iterator
from typing import Any, Final

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
    for what in ("address", "exchange"):
        before, after = _where(then)[what], _where(now)[what]
        if before != after:
            yield f"{name}: {what} {before} became {after}"
    for operation, told in old["operations"].items():
        if told["channel"]["$ref"].endswith(f"/{name}") and operation not in new["operations"]:
            yield f"{name}: the engine does not {told['action']} any more"
    for message, reference in then["messages"].items():
        if message not in now["messages"]:
            yield f"{name}: {message} is gone"
        else:
            where = f"{name}: {message}"
            yield from _message(
                _found(old, reference), _found(new, now["messages"][message]), where
            )


def _where(channel: Json) -> Json:
    exchange = channel["bindings"].get("amqp", {}).get("exchange", {}).get("name")
    return {"address": channel["address"], "exchange": exchange}


def _message(then: Json, now: Json, place: str) -> Iterator[str]:
    if then["contentType"] != now["contentType"]:
        yield f"{place}: content type {then['contentType']} became {now['contentType']}"
    before, after = then.get("headers", {}), now.get("headers", {})
    for header in before.get("required", ()):
        if header not in after.get("required", ()):
            yield f"{place}: header {header} is not always there any more"
    if _key(then) and not _key(now):
        yield f"{place}: has no key any more"


def _key(message: Json) -> Any:
    return message.get("bindings", {}).get("kafka", {}).get("key")


def _found(document: Json, reference: Json) -> Json:
    found: Json = document["components"]["messages"][reference["$ref"].rpartition("/")[2]]
    return found
