"""Which messages that were set aside a request means, and who wants what done with them."""

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from flashsale.http.problems import ProblemRaised, invalid
from flashsale.http.times import RULE, read
from flashsale.http.wire import ID_PATTERN, ID_RULE, LETTER_ID_MAX, SALE_ID_PATTERN
from flashsale_core.errors import Violation
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.letters import Wanted
from flashsale_core.model import PurchaseId, SaleId

LETTERS_MAX = 500
"""In one request: a tenth of a second of the database's time for a list, seconds for an act."""
_TEXT_MAX = 200


class StatusFilter(StrEnum):
    """A status, or any."""

    WAITING = "WAITING"
    RETRYING = "RETRYING"
    DEAD = "DEAD"
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"
    ANY = "ANY"


class ChannelFilter(StrEnum):
    """Where a message came from."""

    REQUESTS = "requests"
    ACCEPTED = "accepted"


class Flag(StrEnum):
    """A yes or no of a query."""

    TRUE = "true"
    FALSE = "false"


def _meta(rule: str, description: str, example: Any) -> Meta:
    return Meta(description=description, examples=[example], extra={"rule": rule})


_STATUS = Annotated[
    StatusFilter | UnsetType,
    _meta(
        f"must be one of {', '.join(StatusFilter)}",
        "Only those of this status; DEAD without it.",
        "DEAD",
    ),
]
_REASON = Annotated[
    Annotated[str, Meta(min_length=1, max_length=_TEXT_MAX)] | UnsetType,
    _meta(
        f"must be 1 to {_TEXT_MAX} characters",
        "Only those that were set aside for this reason.",
        "bad-framing",
    ),
]
_SALE = Annotated[
    Annotated[str, Meta(pattern=SALE_ID_PATTERN)] | UnsetType,
    _meta("must be item.round", "Only this sale's.", "1.1"),
]
_PURCHASE = Annotated[
    Annotated[str, Meta(pattern=ID_PATTERN)] | UnsetType,
    _meta(ID_RULE, "Only this purchase's.", "0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d"),
]
_CHANNEL = Annotated[
    ChannelFilter | UnsetType,
    _meta("must be requests or accepted", "Only those that came by this way.", "accepted"),
]
_HOLDS = Annotated[
    Flag | UnsetType, _meta("must be true or false", "Only those that hold a unit, or not.", "true")
]


_TIME = "2026-11-27T18:00:00Z"
_SINCE = Annotated[
    Annotated[str, Meta(max_length=40)] | UnsetType,
    _meta("", "Only those set aside at this time or later.", _TIME),
]
_UNTIL = Annotated[
    Annotated[str, Meta(max_length=40)] | UnsetType,
    _meta("", "Only those set aside before this time.", _TIME),
]
_LIMIT = Annotated[
    Annotated[int, Meta(ge=1, le=LETTERS_MAX)] | UnsetType,
    _meta(f"must be an integer from 1 to {LETTERS_MAX}", "How many at most.", 50),
]
_BEFORE = Annotated[
    Annotated[int, Meta(ge=1, le=LETTER_ID_MAX)] | UnsetType,
    _meta("must be an id", "Only those with a smaller id.", 1000),
]
_WHO = Annotated[
    Annotated[str, Meta(min_length=1, max_length=_TEXT_MAX)] | UnsetType,
    _meta(
        f"must be 1 to {_TEXT_MAX} characters",
        "Who does it, for the trail; it is written as `admin:` and this.",
        "ann",
    ),
]
_WHY = Annotated[
    Annotated[str, Meta(min_length=1, max_length=_TEXT_MAX)] | UnsetType,
    _meta(f"must be 1 to {_TEXT_MAX} characters", "Why, for the trail.", "schema mended"),
]
_DRY = Annotated[
    Flag | UnsetType,
    _meta("must be true or false", "Say what would become of it, and change nothing.", "true"),
]


class _Filter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    status: _STATUS = UNSET
    reason: _REASON = UNSET
    sale_id: _SALE = UNSET
    purchase_id: _PURCHASE = UNSET
    channel: _CHANNEL = UNSET
    holds_unit: _HOLDS = UNSET
    since: _SINCE = UNSET
    until: _UNTIL = UNSET
    limit: _LIMIT = UNSET
    before: _BEFORE = UNSET


class LettersQuery(_Filter, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which messages are listed."""


class ActQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Who does it, why, and whether it is only asked for."""

    who: _WHO = UNSET
    why: _WHY = UNSET
    dry_run: _DRY = UNSET

    @property
    def is_dry(self) -> bool:
        """Say whether nothing may change."""
        return self.dry_run is Flag.TRUE


class EndQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Who ends a purchase, and why."""

    who: _WHO = UNSET
    why: _WHY = UNSET


class FilterActQuery(
    _Filter, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """On which messages it is done, by whom and why."""

    who: _WHO = UNSET
    why: _WHY = UNSET
    dry_run: _DRY = UNSET

    @property
    def is_dry(self) -> bool:
        """Say whether nothing may change."""
        return self.dry_run is Flag.TRUE


def wanted_of(query: _Filter) -> Wanted:
    """Read a filter. Raises ProblemRaised where a time is none."""
    status = StatusFilter.DEAD if query.status is UNSET else query.status
    return Wanted(
        statuses=() if status is StatusFilter.ANY else (ParkedStatus(status.value),),
        reason=None if query.reason is UNSET else query.reason,
        sale_id=None if query.sale_id is UNSET else SaleId(query.sale_id),
        purchase_id=None if query.purchase_id is UNSET else PurchaseId(query.purchase_id),
        channel=None if query.channel is UNSET else Channel(query.channel.value),
        holds_unit=None if query.holds_unit is UNSET else query.holds_unit is Flag.TRUE,
        since_ms=_time("since", query.since),
        until_ms=_time("until", query.until),
    )


def _time(field: str, text: str | UnsetType) -> int | None:
    if text is UNSET:
        return None
    milliseconds = read(text)
    if milliseconds is None:
        raise ProblemRaised(invalid(Violation(field=field, problem=RULE)))
    return milliseconds
