"""The values of a sale: frozen, always valid. One that breaks a rule cannot be built.

Times are integers of UTC milliseconds since 1970, as on the wire; money is integers of minor
units. Limits stand here once, each with its reason.
"""

import re
from enum import StrEnum
from typing import Any, NewType

import attrs

from flashsale_core.errors import Invalid, Violation

PurchaseId = NewType("PurchaseId", str)
UserId = NewType("UserId", str)
ItemId = NewType("ItemId", str)
SaleId = NewType("SaleId", str)
EventId = NewType("EventId", str)
Epoch = NewType("Epoch", int)

IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
"""Safe in Redis keys with hash tags, in URLs and in file names; 64 holds a UUID with a prefix."""
QUANTITY_MAX = 2**31 - 1
"""The wire's `int` (Avro, 32 bits)."""
UNITS_MAX = 1_000_000_000
"""A sale's stock; sums of it stay exact in Lua's doubles (2^53) whatever is added up."""
TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999, the end of what databases and ISO 8601 write."""
PRICE_MINOR_MAX = 10**12
"""Ten billion of a currency with cents; price times a quantity of millions stays inside 64 bits."""
PAYMENT_TOKEN_CHARS_MAX = 256
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
"""W3C Trace Context, version 00."""


class Source(StrEnum):
    """Where the buyer came from; the symbols of the wire's `SourceType`."""

    WEB = "WEB"
    MOBILE = "MOBILE"
    API = "API"


class Door(StrEnum):
    """By which way a claim reaches the gate; it decides what a taken unit promises."""

    HTTP = "http"
    """A buyer waits for the answer: a taken unit is RESERVED until it is known to be on the bus."""
    OUTSIDE = "outside"
    """A message that promises nothing: from another service, of an older epoch, or parked."""
    ACCEPTED = "accepted"
    """A message of the engine's own channel with the gate's epoch: a taken unit is QUEUED."""


class SaleState(StrEnum):
    """What a sale admits. SETTLED is final."""

    OPEN = "OPEN"
    PAUSED = "PAUSED"
    CLOSED = "CLOSED"
    HALTED = "HALTED"
    SETTLED = "SETTLED"


class PurchaseState(StrEnum):
    """Where the gate's record of a purchase stands. R, O and Q hold units; S and X are final."""

    RESERVED = "R"
    OUTSIDE = "O"
    QUEUED = "Q"
    SOLD = "S"
    ENDED = "X"

    @property
    def is_final(self) -> bool:
        """Say whether nothing can follow."""
        return self in (PurchaseState.SOLD, PurchaseState.ENDED)


class OrderStatus(StrEnum):
    """How the row in the database stands. PENDING_PAYMENT becomes one of the others."""

    PENDING_PAYMENT = "PENDING_PAYMENT"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"


class Reason(StrEnum):
    """Why a purchase ended REJECTED. Rules of the user's own add codes of theirs."""

    SOLD_OUT = "SOLD_OUT"
    LIMIT_REACHED = "LIMIT_REACHED"
    NOT_OPEN = "NOT_OPEN"
    CLOSED = "CLOSED"
    UNKNOWN_ITEM = "UNKNOWN_ITEM"
    GATE_DRIFT = "GATE_DRIFT"
    DISCARDED = "DISCARDED"
    """A named operator ended it."""
    PAYMENT_DECLINED = "PAYMENT_DECLINED"


def _fail(attribute: "attrs.Attribute[Any]", problem: str) -> Invalid:
    wire = attribute.metadata.get("wire", attribute.name)
    return Invalid([Violation(field=wire, problem=problem)])


def _identifier(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if type(value) is not str or not IDENTIFIER.fullmatch(value):
        raise _fail(attribute, "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")


def _between(low: int, high: int) -> Any:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _fail(attribute, f"must be an integer from {low} to {high}")

    return check


def _of(kind: type) -> Any:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if type(value) is not kind:
            raise _fail(attribute, f"must be a {kind.__name__}")

    return check


def _token(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    fits = type(value) is str and 0 < len(value) <= PAYMENT_TOKEN_CHARS_MAX
    if not fits or "\x00" in str(value):
        raise _fail(attribute, f"must be 1 to {PAYMENT_TOKEN_CHARS_MAX} characters without NUL")


def _traceparent(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if type(value) is not str or not TRACEPARENT.fullmatch(value):
        raise _fail(attribute, "must be a W3C traceparent")


_optional = attrs.validators.optional


@attrs.frozen(kw_only=True)
class PurchaseRequest:
    """What a buyer asks for. `purchase_id` is made before the first attempt and kept through all.

    `requested_at_ms`, `source` and `event_id` are the client's data: they travel, and decide
    nothing. `event_id` names the flash-sale event that the request belongs to.
    """

    purchase_id: PurchaseId = attrs.field(validator=_identifier, metadata={"wire": "purchaseId"})
    user_id: UserId = attrs.field(validator=_identifier, metadata={"wire": "userId"})
    item_id: ItemId = attrs.field(validator=_identifier, metadata={"wire": "itemId"})
    quantity: int = attrs.field(default=1, validator=_between(1, QUANTITY_MAX))
    requested_at_ms: int = attrs.field(
        validator=_between(0, TIME_MS_MAX), metadata={"wire": "requestedAt"}
    )
    source: Source = attrs.field(default=Source.API, validator=_of(Source))
    event_id: EventId | None = attrs.field(
        default=None, validator=_optional(_identifier), metadata={"wire": "eventId"}
    )
    payment_token: str | None = attrs.field(
        default=None, repr=False, validator=_optional(_token), metadata={"wire": "paymentToken"}
    )
    traceparent: str | None = attrs.field(default=None, validator=_optional(_traceparent))


def _currency(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if type(value) is not str or not re.fullmatch(r"[A-Z]{3}", value, re.ASCII):
        raise _fail(attribute, "must be three capital letters (ISO 4217)")


@attrs.frozen(kw_only=True)
class SaleTerms:
    """Under what terms an item is sold. None means no limit, no opening, no closing, no price."""

    units: int = attrs.field(validator=_between(1, UNITS_MAX), metadata={"wire": "stock"})
    per_user_limit: int | None = attrs.field(
        default=None, validator=_optional(_between(1, UNITS_MAX)), metadata={"wire": "maxPerUser"}
    )
    opens_at_ms: int | None = attrs.field(
        default=None, validator=_optional(_between(0, TIME_MS_MAX)), metadata={"wire": "opensAt"}
    )
    closes_at_ms: int | None = attrs.field(
        default=None, validator=_optional(_between(0, TIME_MS_MAX)), metadata={"wire": "closesAt"}
    )
    unit_price_minor: int | None = attrs.field(
        default=None,
        validator=_optional(_between(0, PRICE_MINOR_MAX)),
        metadata={"wire": "unitPriceMinor"},
    )
    currency: str | None = attrs.field(default=None, validator=_optional(_currency))

    def __attrs_post_init__(self) -> None:
        """Refuse a sale that closes before it opens, and half a price."""
        opens, closes = self.opens_at_ms, self.closes_at_ms
        if opens is not None and closes is not None and closes <= opens:
            raise Invalid([Violation(field="closesAt", problem="must be later than opensAt")])
        if (self.unit_price_minor is None) != (self.currency is None):
            raise Invalid(
                [Violation(field="currency", problem="goes with unitPriceMinor, both or neither")]
            )


@attrs.frozen(kw_only=True)
class Sale:
    """One round of selling an item, as the database has it; epochs start at 1, `armed_epoch` at 0.

    `initial = available + pending + sold` holds in the database whatever the gate says.
    """

    item_id: ItemId = attrs.field(validator=_identifier, metadata={"wire": "itemId"})
    round: int = attrs.field(validator=_between(1, 2**31 - 1))
    terms: SaleTerms
    state: SaleState
    epoch: Epoch
    armed_epoch: Epoch
    available: int
    pending: int
    sold: int

    @property
    def sale_id(self) -> SaleId:
        """Name the sale `item.round`; the round is the digits after the last dot."""
        return sale_id_of(self.item_id, self.round)


def sale_id_of(item_id: ItemId, round_: int) -> SaleId:
    """Name round `round_` of an item; round 0 is no sale: unknown items are filed there."""
    return SaleId(f"{item_id}.{round_}")


@attrs.frozen(kw_only=True)
class GateRecord:
    """What the gate keeps of a purchase: all that a message needs, until the purchase is final.

    At S and X the gate keeps state, quantity, user and reason; the other fields are then empty.
    """

    purchase_id: PurchaseId
    state: PurchaseState
    user_id: UserId
    quantity: int
    epoch: Epoch = Epoch(0)
    accepted_at_ms: int = 0
    requested_at_ms: int = 0
    source: Source = Source.API
    event_id: EventId | None = None
    payment_token: str | None = attrs.field(default=None, repr=False)
    traceparent: str | None = None
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Order:
    """The row that stands for a purchase; the truth after the sale."""

    sale_id: SaleId
    purchase_id: PurchaseId
    item_id: ItemId
    user_id: UserId
    quantity: int
    unit_price_minor: int | None
    currency: str | None
    source: Source
    event_id: EventId | None
    door: Door
    requested_at_ms: int
    accepted_at_ms: int
    recorded_at_ms: int
    status: OrderStatus
    reason: str | None
