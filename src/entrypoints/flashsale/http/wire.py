"""What requests bring, as frozen structs: their limits are enforced and documented at once."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from flashsale_core.model import (
    PAYMENT_TOKEN_CHARS_MAX,
    PRICE_MINOR_MAX,
    QUANTITY_MAX,
    UNITS_MAX,
    Source,
)

ID_PATTERN = "^[A-Za-z0-9_.-]{1,64}$"
SALE_ID_PATTERN = r"^[A-Za-z0-9_.-]{1,64}\.[0-9]{1,10}$"
LETTER_ID_MAX = 2**63 - 1
"""A parked message's number, as databases count."""
NUMBER_ID_MAX = 2**63 - 1
"""A JSON number as an id becomes its decimal string; 64 bits hold every database's own ids."""

ID_RULE = "must be 1 to 64 characters of A-Z a-z 0-9 _ . -"
JSON_ID_RULE = f"{ID_RULE}, or an integer from 0 to {NUMBER_ID_MAX}"

TextId = Annotated[str, Meta(pattern=ID_PATTERN)]
NumberId = Annotated[int, Meta(ge=0, le=NUMBER_ID_MAX)]


def _id(description: str, *examples: str | int) -> Meta:
    return Meta(description=description, examples=list(examples), extra={"rule": JSON_ID_RULE})


def _rule(text: str, **schema: Any) -> Meta:
    description = schema.pop("description", None)
    return Meta(
        description=description,
        examples=schema.pop("examples", None),
        extra={"rule": text},
        extra_json_schema=schema or None,
    )


def _range(low: int, high: int) -> str:
    return f"must be an integer from {low} to {high}"


class BuyBody(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """What a buyer asks for. Unknown fields are refused."""

    user_id: Annotated[
        TextId | NumberId, _id('Who buys. 101 and "101" are one user.', 101, "alice")
    ]
    product_id: Annotated[TextId | NumberId, _id("What is bought.", 1, "ticket")]
    quantity: Annotated[
        Annotated[int, Meta(ge=1, le=QUANTITY_MAX)] | UnsetType,
        _rule(
            _range(1, QUANTITY_MAX),
            description="How many units, all or nothing.",
            examples=[1],
            default=1,
        ),
    ] = UNSET
    purchase_id: Annotated[
        TextId | NumberId | UnsetType,
        _id(
            "Names this purchase, so that it can be asked again and never bought twice. May come "
            "as the header Idempotency-Key instead; without either the server makes one.",
            "0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d",
        ),
    ] = UNSET
    source: Annotated[
        Source | UnsetType,
        _rule(
            "must be WEB, MOBILE or API",
            description="Where the buyer came from.",
            examples=["WEB"],
            default="API",
        ),
    ] = UNSET
    payment_token: Annotated[
        Annotated[str, Meta(min_length=1, max_length=PAYMENT_TOKEN_CHARS_MAX)] | UnsetType,
        _rule(
            f"must be 1 to {PAYMENT_TOKEN_CHARS_MAX} characters without NUL",
            description="Opaque, for the payment gateway; erased when the purchase ends.",
            examples=["tok_1f2e3d"],
        ),
    ] = UNSET


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A query without fields."""


class FindQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which of several purchases of one id is meant."""

    product_id: Annotated[
        Annotated[str, Meta(pattern=ID_PATTERN)] | UnsetType,
        _rule(ID_RULE, description="Only purchases of this item.", examples=["1"]),
    ] = UNSET
    sale_id: Annotated[
        Annotated[str, Meta(pattern=SALE_ID_PATTERN)] | UnsetType,
        _rule("must be item.round", description="Only this sale's purchase.", examples=["1.1"]),
    ] = UNSET


_UNITS = Annotated[int, Meta(ge=1, le=UNITS_MAX)]
_TIME_NOTE = "RFC 3339 with its offset, or milliseconds since 1970."


class InitQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """An item's next sale and its terms."""

    product_id: Annotated[
        Annotated[str, Meta(pattern=ID_PATTERN)],
        _rule(ID_RULE, description="The item to be sold.", examples=["1"]),
    ]
    stock: Annotated[
        _UNITS, _rule(_range(1, UNITS_MAX), description="Units for sale.", examples=[1000])
    ]
    max_per_user: Annotated[
        _UNITS | UnsetType,
        _rule(
            _range(1, UNITS_MAX),
            description="Units that one user may hold over the whole sale; no limit without it.",
            examples=[2],
        ),
    ] = UNSET
    opens_at: Annotated[
        Annotated[str, Meta(max_length=40)] | UnsetType,
        _rule(
            "",
            description=f"When the sale opens: {_TIME_NOTE} At once without it.",
            examples=["2026-11-27T18:00:00Z"],
        ),
    ] = UNSET
    closes_at: Annotated[
        Annotated[str, Meta(max_length=40)] | UnsetType,
        _rule(
            "",
            description=f"When the sale closes by itself: {_TIME_NOTE} Never without it.",
            examples=["2026-11-27T20:00:00Z"],
        ),
    ] = UNSET
    unit_price_minor: Annotated[
        Annotated[int, Meta(ge=0, le=PRICE_MINOR_MAX)] | UnsetType,
        _rule(
            _range(0, PRICE_MINOR_MAX),
            description="Price of one unit in minor units (cents); goes with `currency`.",
            examples=[4990],
        ),
    ] = UNSET
    currency: Annotated[
        Annotated[str, Meta(pattern="^[A-Z]{3}$")] | UnsetType,
        _rule(
            "must be three capital letters (ISO 4217)",
            description="ISO 4217; goes with `unitPriceMinor`.",
            examples=["CHF"],
        ),
    ] = UNSET
