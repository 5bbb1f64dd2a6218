"""What is typed to name messages that were set aside, checked before anything is opened."""

from enum import StrEnum
from typing import Annotated

import attrs
from cyclopts import Parameter, validators

from flashsale.commands.ids import Identifier, SaleIdText
from flashsale.commands.moments import Moment
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.letters import Wanted
from flashsale_core.model import PurchaseId, SaleId

LIST_MAX = 500
"""In one go: a table that nobody reads to its end, and a second of the database's time at most."""
RATE_DEFAULT = 50
"""Letters a second: a worker replays some hundreds beside its own work, and buyers come first."""
RATE_MAX = 1_000
TEXT_MAX = 200


class Status(StrEnum):
    """A status, or any."""

    WAITING = "WAITING"
    RETRYING = "RETRYING"
    DEAD = "DEAD"
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"
    ANY = "ANY"


class Way(StrEnum):
    """Where a message came from."""

    REQUESTS = "requests"
    ACCEPTED = "accepted"


def _short(_: object, text: str | None) -> None:
    if text is not None and not 0 < len(text) <= TEXT_MAX:
        raise ValueError(f"must be 1 to {TEXT_MAX} characters")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Filter:
    """Which messages are meant."""

    status: Annotated[Status | None, Parameter(help="Only of this status; DEAD by itself.")] = None
    reason: Annotated[
        str | None, Parameter(help="Only set aside for this reason.", validator=_short)
    ] = None
    sale: Annotated[SaleIdText | None, Parameter(help="Only this sale's.")] = None
    purchase: Annotated[Identifier | None, Parameter(help="Only this purchase's.")] = None
    channel: Annotated[Way | None, Parameter(help="Only those that came by this way.")] = None
    holding: Annotated[
        bool, Parameter(negative="", show_default=False, help="Only those that hold a unit.")
    ] = False
    since: Annotated[Moment | None, Parameter(help="Only set aside then or later.")] = None
    until: Annotated[Moment | None, Parameter(help="Only set aside before then.")] = None

    @property
    def is_given(self) -> bool:
        """Say whether anything was asked for."""
        return self != Filter()

    def wanted(self) -> Wanted:
        """Write it as the core reads it."""
        status = self.status or Status.DEAD
        return Wanted(
            statuses=() if status is Status.ANY else (ParkedStatus(status.value),),
            reason=self.reason,
            sale_id=None if self.sale is None else SaleId(self.sale),
            purchase_id=None if self.purchase is None else PurchaseId(self.purchase),
            channel=None if self.channel is None else Channel(self.channel.value),
            holds_unit=True if self.holding else None,
            since_ms=self.since,
            until_ms=self.until,
        )


ANYTHING = Filter()
Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=LIST_MAX))]
LetterId = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=2**63 - 1))]
LetterIds = Annotated[LetterId, Parameter(name="ID", help="Their ids, as `list` shows them.")]
Everything = Annotated[
    bool, Parameter(name="--all", negative="", show_default=False, help="Every one that is DEAD.")
]
Reasoned = Annotated[str | None, Parameter(help="Why, for the trail.", validator=_short)]
DryRun = Annotated[
    bool,
    Parameter(
        name="--dry-run", negative="", show_default=False, help="Say what would be; change nothing."
    ),
]
Rate = Annotated[
    float,
    Parameter(validator=validators.Number(gt=0, lte=RATE_MAX), help="How many a second at most."),
]
