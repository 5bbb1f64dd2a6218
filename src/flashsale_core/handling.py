"""Messages that kill: what was in hand when a worker died is taken up with care.

Undecodable bytes are an answer of the codec's; bytes that end the process answer nothing, and come
again to the next worker, and end that one too. So a delivery that may have been in hand when a
worker died is noted in the database BEFORE it is decoded. Whatever else happens, the note is taken
back; only a death leaves it. What was noted and not taken back by another life of a worker is
then taken one message at a time in the whole process, so that none stands by while another one
kills; and after DEATHS_MAX deaths not at all.

Every other delivery costs nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import groupby
from typing import Protocol, TypeVar

from flashsale_core.errors import Unavailable
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.retry import DEATHS_MAX

T = TypeVar("T")

KILLED_ITS_WORKER = "killed-its-worker"
"""Reason of a dead letter that was never decoded: workers died with it in hand."""


class HandlingNotes(Protocol):
    """Which messages somebody has in hand, kept where a death does not reach."""

    async def note(self, keys: Sequence[str], life: str) -> None:
        """Note in ONE transaction that this life of a worker takes them in hand.

        Once a life: noting again what this life has noted changes nothing.
        """

    async def deaths(self, keys: Sequence[str], life: str) -> list[int]:
        """Count, for each, the OTHER lives that noted it and never took that back."""

    async def take_back(self, keys: Sequence[str], life: str) -> None:
        """Say that this life has them no longer, and nothing was done: its note goes."""

    async def clear(self, keys: Sequence[str]) -> None:
        """Say that they are done: every life's note goes."""


class Handling:
    """Takes up, with care, what may have been in hand when a worker died."""

    def __init__(
        self, notes: HandlingNotes, life: str, *, alone: AbstractAsyncContextManager[object]
    ) -> None:
        """`life` names this process's run, and no other's; `alone` lets in one at a time."""
        self._notes = notes
        self._life = life
        self._alone = alone

    async def carefully(
        self,
        taken: Sequence[T],
        *,
        key_of: Callable[[T], str],
        work: Callable[[Sequence[T]], Awaitable[None]],
        quarantine: Callable[[T], Awaitable[None]],
    ) -> None:
        """Do the work in order: the unsuspected together, the suspected alone, the proven never.

        Raises what the work raises; what was not reached comes again.
        """
        deaths = await self._notes.deaths([key_of(one) for one in taken], self._life)
        for count, group in _groups(taken, deaths):
            if count >= DEATHS_MAX:
                for one in group:
                    await quarantine(one)
                await self._notes.clear([key_of(one) for one in group])
                continue
            if count == 0:
                await self._noted([key_of(one) for one in group], group, work)
                continue
            for one in group:
                async with self._alone:
                    await self._noted([key_of(one)], [one], work)

    async def _noted(
        self, keys: Sequence[str], part: Sequence[T], work: Callable[[Sequence[T]], Awaitable[None]]
    ) -> None:
        await self._notes.note(keys, self._life)
        try:
            await work(part)
        except BaseException:
            # Whatever it was, nobody died of it. While the database is away the note stays: it
            # is this life's, and counts for others alone.
            with suppress(Unavailable):
                await self._notes.take_back(keys, self._life)
            raise
        await self._notes.clear(keys)


def _groups(taken: Iterable[T], deaths: Iterable[int]) -> list[tuple[int, list[T]]]:
    """Cut into runs of equally suspected neighbours, in order."""
    pairs = zip(taken, deaths, strict=True)
    return [
        (count, [one for one, _ in run]) for count, run in groupby(pairs, key=lambda pair: pair[1])
    ]


def key_of_message(message: Message) -> str:
    """Name a message as it is noted: by where it came from."""
    return message.origin


def key_of_parked(parked: ParkedMessage) -> str:
    """Name a parked message as it is noted when it is taken up again."""
    return f"parked:{parked.parked_id}"


def quarantined(message: Message) -> ParkedMessage:
    """Set a message aside undecoded.

    What it holds nobody can say without decoding it. One of the engine's own channel was promised
    units, so a person must look.
    """
    return ParkedMessage(
        message=message,
        status=ParkedStatus.DEAD,
        reason=KILLED_ITS_WORKER,
        detail=f"{DEATHS_MAX} workers died with it in hand; it was not decoded again",
        holds_unit=message.channel is Channel.ACCEPTED,
        attempts=DEATHS_MAX,
    )
