"""The operator's side of the parked messages: what may be asked of them, and who did what."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import attrs

from flashsale_core.events import Channel, ParkedMessage, ParkedStatus
from flashsale_core.model import PurchaseId, SaleId

UNDONE = (ParkedStatus.WAITING, ParkedStatus.RETRYING, ParkedStatus.DEAD)
"""What is not ended yet."""


class Act(StrEnum):
    """What an operator may do with a parked message."""

    REPLAY = "replay"
    DISCARD = "discard"


@attrs.frozen(kw_only=True)
class Signed:
    """Who does it, and why: free text, kept as it is."""

    who: str
    why: str = ""


@attrs.frozen(kw_only=True)
class TrailEntry:
    """One act of an operator on one parked message."""

    act: Act
    signed: Signed
    at_ms: int


@attrs.frozen(kw_only=True)
class Letter:
    """A parked message, and when it was parked and last changed."""

    parked: ParkedMessage
    parked_at_ms: int
    changed_at_ms: int

    @property
    def letter_id(self) -> int:
        """Its number, by which everybody names it."""
        if self.parked.parked_id is None:
            raise AssertionError("a stored message has a number")
        return self.parked.parked_id


@attrs.frozen(kw_only=True)
class Wanted:
    """Which parked messages are meant; what is None or empty does not matter."""

    statuses: tuple[ParkedStatus, ...] = (ParkedStatus.DEAD,)
    reason: str | None = None
    sale_id: SaleId | None = None
    purchase_id: PurchaseId | None = None
    channel: Channel | None = None
    since_ms: int | None = None
    """Parked at this moment or later."""
    until_ms: int | None = None
    """Parked before this moment."""
    holds_unit: bool | None = None


class DeadLetters(Protocol):
    """The parked messages as an operator works with them, and the trail of what was done."""

    async def matching(
        self, wanted: Wanted, limit: int, *, before: int | None = None
    ) -> list[Letter]:
        """List what is wanted, the newest first; `before` goes on below that id."""

    async def count(self, wanted: Wanted) -> int:
        """Count what is wanted."""

    async def find(self, letter_id: int) -> Letter | None:
        """Find one by its id, whatever became of it."""

    async def sign(self, letter_id: int, act: Act, signed: Signed) -> None:
        """Write into the trail who is about to do what."""

    async def replay(self, letter_id: int, signed: Signed) -> ParkedStatus | None:
        """Let a DEAD one WAIT, due at once and with no attempts counted; answer what it was.

        The trail is written in the same transaction. Any other status stays as it is, without an
        entry; None where there is none of this id.
        """

    async def discard(self, letter_id: int) -> ParkedStatus | None:
        """End an undone one as DISCARDED; answer what it was. What has ended stays as it is."""

    async def trail(self, letter_id: int) -> Sequence[TrailEntry]:
        """Tell what operators did with it, the oldest first."""
