"""What goes wrong, as RFC 9457 problem details: one table of stable types, and their form.

A type is a URN: it means the same on every host and under every path prefix, and clients compare
it as text. `GET /problems` serves this table to people.
"""

from typing import Any, NamedTuple

import attrs
import msgspec

from flashsale.http.parts import RawHeaders
from flashsale_core.errors import Invalid, Violation

TYPE_PREFIX = "urn:flashsale:problem:"
MEDIA_TYPE = "application/problem+json"
_FIELD_HERE = {"itemId": "productId"}


@attrs.frozen
class Kind:
    """One type of problem: always the same status and title; `meaning` is for people."""

    code: str
    status: int
    title: str
    meaning: str

    @property
    def type(self) -> str:
        """Name the type as it stands in an answer."""
        return TYPE_PREFIX + self.code


MALFORMED = Kind(
    "malformed", 400, "Not exactly one JSON object", "Mend the syntax; nothing was taken."
)
BAD_REQUEST = Kind(
    "bad-request", 400, "Not a valid HTTP request", "Mend the request; nothing was taken."
)
UNAUTHORIZED = Kind(
    "unauthorized", 401, "Not authorized", "Send `Authorization: Bearer` with the admin token."
)
NOT_FOUND = Kind("not-found", 404, "No such route", "The path names nothing that is served here.")
UNKNOWN_ITEM = Kind("unknown-item", 404, "Unknown item", "No sale was ever made for the item.")
UNKNOWN_PURCHASE = Kind(
    "unknown-purchase", 404, "Unknown purchase", "Nothing is known under this purchase id."
)
UNKNOWN_SALE = Kind("unknown-sale", 404, "Unknown sale", "No such sale was ever made.")
UNKNOWN_LETTER = Kind(
    "unknown-letter", 404, "Unknown message", "No message was ever set aside under this id."
)
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed", 405, "Method not allowed", "The header Allow names what is allowed."
)
REQUEST_TIMEOUT = Kind(
    "request-timeout", 408, "The body did not arrive", "Send it again; nothing was taken."
)
LIMIT_REACHED = Kind(
    "limit-reached",
    409,
    "Limit per user reached",
    "The user would hold more units than the sale allows: `limit`, and `held` already.",
)
PURCHASE_ENDED = Kind(
    "purchase-ended",
    409,
    "The purchase ended without an order",
    "`reason` says why. A new try takes a new purchase id.",
)
AMBIGUOUS = Kind(
    "ambiguous", 409, "Known in several sales", "Name one of them by `saleId` or `productId`."
)
OTHER_TERMS = Kind(
    "other-terms",
    409,
    "The item is on sale under other terms",
    "Close and settle that sale first, or ask for its own terms.",
)
WRONG_STATE = Kind(
    "wrong-state", 409, "The sale's state does not allow this", "`detail` names the state."
)
NOT_SETTLED_YET = Kind(
    "not-settled-yet", 409, "The sale cannot be settled yet", "`detail` says what it waits for."
)
LETTER_DISCARDED = Kind(
    "letter-discarded",
    409,
    "The message was discarded",
    "Its purchase has ended. A buyer tries again with a new purchase id.",
)
LETTER_REPLAYED = Kind(
    "letter-replayed", 409, "The message was replayed", "It is done: there is nothing to end."
)
CLOSED = Kind("closed", 410, "The sale is closed", "It takes no more purchases.")
TOO_LARGE = Kind("too-large", 413, "The body is too large", "A purchase fits into 4 KiB.")
URL_TOO_LONG = Kind(
    "url-too-long", 414, "The path or query is too long", "No route here needs 4 KiB of it."
)
UNSUPPORTED_MEDIA_TYPE = Kind(
    "unsupported-media-type",
    415,
    "Unsupported media type",
    "Send `Content-Type: application/json`, in UTF-8 and without a content coding.",
)
INVALID = Kind(
    "invalid", 422, "The request breaks a rule", "`violations` lists every field that does."
)
KEY_REUSED = Kind(
    "key-reused",
    422,
    "The purchase id was used for another purchase",
    "The same id must come with the same user and quantity. Another purchase takes another id.",
)
REFUSED = Kind("refused", 422, "Refused by a rule of the seller", "`code` names the rule.")
NOT_OPEN = Kind(
    "not-open", 425, "The sale is not open yet", "`opensAt` says when it opens, by the server."
)
SOLD_OUT = Kind(
    "sold-out",
    429,
    "Sold out",
    "Fewer units are left than were asked for; `available` says how many.",
)
RATE_LIMITED = Kind(
    "rate-limited",
    429,
    "Too many requests",
    "This user or this address asked too often just now; nothing was taken. Try again, with the "
    "same purchase id, after the seconds in Retry-After.",
)
HEAD_TOO_LARGE = Kind(
    "head-too-large", 431, "The request's head is too large", "Send fewer or shorter headers."
)
INTERNAL = Kind("internal", 500, "An error of the server", "It was logged; it is not your fault.")
UNAVAILABLE = Kind(
    "unavailable",
    503,
    "Unavailable for now",
    "Nothing was taken. Try again after the seconds in Retry-After; `reason` says what is away.",
)
OUTCOME_UNKNOWN = Kind(
    "outcome-unknown",
    503,
    "The outcome is not known yet",
    "It may still go through. Ask again with the same `purchaseId`: that never buys twice.",
)

KINDS: tuple[Kind, ...] = tuple(value for value in globals().values() if isinstance(value, Kind))
BY_CODE = {kind.code: kind for kind in KINDS}


class Answer(NamedTuple):
    """A whole answer, ready to be sent; `code` is what an observer is told of it."""

    status: int
    headers: RawHeaders
    body: bytes
    code: str


class ProblemRaised(Exception):
    """Ends a request with a problem, from wherever it is found."""

    def __init__(self, answer: Answer) -> None:
        """Carry the finished answer."""
        super().__init__(answer.status)
        self.answer = answer


def problem(
    kind: Kind,
    detail: str | None = None,
    *,
    headers: RawHeaders | None = None,
    **members: Any,
) -> Answer:
    """Write a problem; `members` are RFC 9457 extension members by their name on the wire."""
    body = msgspec.json.encode(
        {
            "type": kind.type,
            "title": kind.title,
            "status": kind.status,
            "detail": detail if detail is not None else kind.meaning,
            **members,
        }
    )
    return Answer(
        kind.status,
        [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            *(headers or ()),
        ],
        body,
        kind.code,
    )


def invalid(*violations: Violation) -> Answer:
    """Write what is wrong, field by field; nothing of the request's own text comes back."""
    return problem(
        INVALID,
        "; ".join(f"{violation.field}: {violation.problem}" for violation in violations),
        violations=[
            {"field": violation.field, "problem": violation.problem} for violation in violations
        ],
    )


def as_http(wrong: Invalid) -> list[Violation]:
    """Name the fields as this door does: the core's item is its product."""
    return [
        Violation(field=_FIELD_HERE.get(one.field, one.field), problem=one.problem)
        for one in wrong.violations
    ]


def retry_after(milliseconds: int) -> RawHeaders:
    """Say when to come back, in whole seconds, never sooner than asked."""
    return [(b"retry-after", b"%d" % max(1, -(-milliseconds // 1000)))]
