"""What an operator does with parked messages: look at them, and send them on again."""

from collections.abc import Sequence

import attrs

from flashsale_core.errors import Conflict
from flashsale_core.events import ParkedStatus
from flashsale_core.letters import DeadLetters, Letter, Signed, TrailEntry, Wanted


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one message by an operator's act."""

    letter_id: int
    status: ParkedStatus
    """As it is now; after a dry run, as it would be."""
    is_changed: bool
    """False where there was nothing to do: it was done already, or it is on its way."""
    detail: str = ""
    """What a person should know, in a sentence."""


class LetterDesk:
    """Looks, and replays. Every step may be repeated, by two operators and after a crash."""

    def __init__(self, letters: DeadLetters) -> None:
        """Take the table."""
        self._letters = letters

    async def matching(
        self, wanted: Wanted, limit: int, *, before: int | None = None
    ) -> list[Letter]:
        """List what is wanted, the newest first; `before` goes on below that id."""
        return await self._letters.matching(wanted, limit, before=before)

    async def count(self, wanted: Wanted) -> int:
        """Count what is wanted."""
        return await self._letters.count(wanted)

    async def show(self, letter_id: int) -> tuple[Letter, Sequence[TrailEntry]]:
        """Show one, and what operators did with it. Raises Conflict("unknown-letter")."""
        return await found(self._letters, letter_id), await self._letters.trail(letter_id)

    async def replay(self, letter_id: int, signed: Signed, *, is_dry: bool = False) -> Outcome:
        """Send a dead letter through the normal gate again; a worker does so within a second.

        It ends REPLAYED, or DEAD again with its new reason. What waits, is tried again or was
        replayed is left alone. Raises Conflict("unknown-letter" or "letter-discarded").
        """
        status = (await found(self._letters, letter_id)).parked.status
        if not is_dry and status is ParkedStatus.DEAD:
            # What somebody else did since is what counts.
            status = await self._letters.replay(letter_id, signed) or status
        match status:
            case ParkedStatus.DEAD:
                return Outcome(letter_id=letter_id, status=ParkedStatus.WAITING, is_changed=True)
            case ParkedStatus.DISCARDED:
                raise Conflict(
                    "letter-discarded", f"{letter_id} was discarded: its purchase has ended"
                )
            case ParkedStatus.REPLAYED:
                said = "it was replayed already"
            case _:
                said = "it is on its way already"
        return Outcome(letter_id=letter_id, status=status, is_changed=False, detail=said)


async def found(letters: DeadLetters, letter_id: int) -> Letter:
    """Find one. Raises Conflict("unknown-letter")."""
    letter = await letters.find(letter_id)
    if letter is None:
        raise Conflict("unknown-letter", f"no message was ever parked under {letter_id}")
    return letter
