"""What each field of the engine's own messages must hold; the limits are the domain's.

A purchase request is judged by the domain itself (`flashsale_core.validation.well_formed`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from flashsale_core.errors import Violation
from flashsale_core.model import (
    IDENTIFIER,
    PAYMENT_TOKEN_CHARS_MAX,
    QUANTITY_MAX,
    TIME_MS_MAX,
    TRACEPARENT,
    Source,
)

EPOCH_MAX: Final = 2**63 - 1
"""The wire's `long`."""
NAME_CHARS_MAX: Final = 64
"""A field's name is repeated in a problem's text no longer than this."""
SOURCES: Final[Mapping[object, Source]] = {source.value: source for source in Source}

_IS_ID: Final = IDENTIFIER.fullmatch
_SALE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\.(0|[1-9][0-9]{0,9})", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)


@attrs.frozen
class Rule:
    """One field: its name on the wire and in the domain, what fits, and what to say otherwise."""

    wire: str
    attribute: str
    fits: Callable[[Any], bool]
    problem: str
    is_optional: bool = False


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and pattern.fullmatch(value) is not None


def _between(low: int, high: int) -> Callable[[Any], bool]:
    # `type is`, because True is an int to isinstance.
    return lambda value: type(value) is int and low <= value <= high


def is_token(value: object) -> bool:
    """Say whether a payment token fits: short, without NUL, and writable as UTF-8."""
    if type(value) is not str or not 0 < len(value) <= PAYMENT_TOKEN_CHARS_MAX:
        return False
    return "\x00" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


is_identifier: Final = _matches(IDENTIFIER)
is_quantity: Final = _between(1, QUANTITY_MAX)
is_time: Final = _between(0, TIME_MS_MAX)
is_traceparent: Final = _matches(TRACEPARENT)

_ID: Final = (is_identifier, "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
_SALE: Final = (_matches(_SALE_ID), "must be an item, a dot and a round")
_EPOCH: Final = (_between(0, EPOCH_MAX), f"must be an integer from 0 to {EPOCH_MAX}")
_QUANTITY: Final = (is_quantity, f"must be an integer from 1 to {QUANTITY_MAX}")
_TIME: Final = (is_time, f"must be an integer from 0 to {TIME_MS_MAX}")
_LIST: Final = (lambda value: type(value) is list, "must be a list")


def not_a_source(value: object) -> str:
    """Say what is wrong with a source; an enum symbol that the writer knows and we do not."""
    return f"{str(value)[:NAME_CHARS_MAX]} is not one of {', '.join(Source)}"


def _is_source(value: Any) -> bool:
    return type(value) is str and value in SOURCES


_SOURCE: Final = (_is_source, "")

PURCHASES_ACCEPTED: Final = (
    Rule("saleId", "sale_id", *_SALE),
    Rule("epoch", "epoch", *_EPOCH),
    Rule(
        "purchases",
        "purchases",
        lambda value: type(value) is list and len(value) > 0,
        "must be a list of at least one",
    ),
)
PURCHASE_ACCEPTED: Final = (
    Rule("purchaseId", "purchase_id", *_ID),
    Rule("userId", "user_id", *_ID),
    Rule("quantity", "quantity", *_QUANTITY),
    Rule("acceptedAt", "accepted_at_ms", *_TIME),
    Rule("requestedAt", "requested_at_ms", *_TIME),
    Rule("source", "source", *_SOURCE),
    Rule("eventId", "event_id", *_ID, is_optional=True),
    Rule(
        "paymentToken",
        "payment_token",
        is_token,
        f"must be 1 to {PAYMENT_TOKEN_CHARS_MAX} characters without NUL",
        is_optional=True,
    ),
    Rule(
        "traceparent", "traceparent", is_traceparent, "must be a W3C traceparent", is_optional=True
    ),
)
BARRIER: Final = (Rule("rebuildId", "rebuild_id", *_ID), Rule("epochs", "epochs", *_LIST))
SALE_EPOCH: Final = (Rule("saleId", "sale_id", *_SALE), Rule("epoch", "epoch", *_EPOCH))
ORDER_CREATED: Final = (
    Rule("eventId", "occurrence_id", _matches(_UUID), "must be a UUID in small letters"),
    Rule("purchaseId", "purchase_id", *_ID),
    Rule("userId", "user_id", *_ID),
    Rule("itemId", "item_id", *_ID),
    Rule("saleId", "sale_id", *_SALE),
    Rule("quantity", "quantity", *_QUANTITY),
    Rule("source", "source", *_SOURCE),
    Rule("requestedAt", "requested_at_ms", *_TIME),
    Rule("occurredAt", "occurred_at_ms", *_TIME),
    Rule("flashSaleEventId", "event_id", *_ID, is_optional=True),
)
PURCHASE_REJECTED: Final = (
    *ORDER_CREATED,
    Rule("reason", "reason", _matches(_REASON), "must be 1 to 64 characters of A-Z 0-9 _"),
)

_ACCEPTED_FIELDS: Final = len(PURCHASE_ACCEPTED)


def is_right_at_a_glance(record: Mapping[str, Any]) -> bool:
    """Say whether an accepted purchase surely keeps PURCHASE_ACCEPTED; False decides nothing.

    The same rules spelled out, for a record with every field there: a worker reads thousands of
    purchases a second, and the table costs it three times as much.
    """
    try:
        quantity, accepted = record["quantity"], record["acceptedAt"]
        requested, event = record["requestedAt"], record["eventId"]
        token, trace = record["paymentToken"], record["traceparent"]
        return (
            len(record) == _ACCEPTED_FIELDS
            and type(quantity) is type(accepted) is type(requested) is int
            and 1 <= quantity <= QUANTITY_MAX
            and 0 <= accepted <= TIME_MS_MAX
            and 0 <= requested <= TIME_MS_MAX
            and record["source"] in SOURCES
            and _IS_ID(record["purchaseId"]) is not None
            and _IS_ID(record["userId"]) is not None
            and (event is None or _IS_ID(event) is not None)
            and (trace is None or TRACEPARENT.fullmatch(trace) is not None)
            and (token is None or is_token(token))
        )
    except (KeyError, TypeError):
        return False


def values_of(
    rules: tuple[Rule, ...], record: object, place: str, wrong: list[Violation]
) -> dict[str, Any]:
    """Take a record's values by attribute name; what breaks a rule is added to `wrong`.

    Demands every field that is not optional and refuses the ones that no rule names.
    """
    if type(record) is not dict:
        wrong.append(Violation(field=place or "message", problem="must be an object"))
        return {}
    values: dict[str, Any] = {}
    known = 0
    for rule in rules:
        value = record.get(rule.wire)
        known += rule.wire in record
        if value is None and rule.is_optional:
            pass
        elif rule.wire not in record:
            wrong.append(Violation(field=place + rule.wire, problem="is missing"))
        elif not rule.fits(value):
            problem = rule.problem or not_a_source(value)
            wrong.append(Violation(field=place + rule.wire, problem=problem))
        values[rule.attribute] = value
    if known < len(record):
        names = {rule.wire for rule in rules}
        wrong.extend(
            Violation(field=place + name[:NAME_CHARS_MAX], problem="is not known")
            for name in record
            if name not in names
        )
    return values
