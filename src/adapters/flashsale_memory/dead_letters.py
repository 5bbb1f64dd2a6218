"""The operator's side of the parked messages, in memory."""

from collections.abc import Sequence

import attrs

from flashsale_core.events import ParkedStatus
from flashsale_core.letters import (
    UNDONE,
    Act,
    DeadLetters,
    Letter,
    Signed,
    TrailEntry,
    Wanted,
)
from flashsale_memory.tables import ParkedRow, Tables


class MemoryDeadLetters:
    """The parked messages as an operator works with them, and the trail of what was done."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables

    async def matching(
        self, wanted: Wanted, limit: int, *, before: int | None = None
    ) -> list[Letter]:
        """List what is wanted, the newest first."""
        found = [_letter(row) for row in self._rows() if _is_wanted(row, wanted)]
        found.sort(key=lambda letter: letter.letter_id, reverse=True)
        return [one for one in found if before is None or one.letter_id < before][:limit]

    async def count(self, wanted: Wanted) -> int:
        """Count what is wanted."""
        return sum(_is_wanted(row, wanted) for row in self._rows())

    async def find(self, letter_id: int) -> Letter | None:
        """Find one by its id."""
        row = self._row(letter_id)
        return None if row is None else _letter(row)

    async def sign(self, letter_id: int, act: Act, signed: Signed) -> None:
        """Write into the trail who is about to do what."""
        entry = TrailEntry(act=act, signed=signed, at_ms=self._tables.clock.now_ms())
        self._tables.trail.setdefault(letter_id, []).append(entry)

    async def replay(self, letter_id: int, signed: Signed) -> ParkedStatus | None:
        """Let a DEAD one WAIT; answer what it was."""
        row = self._row(letter_id)
        if row is None:
            return None
        before = row.message.status
        if before is ParkedStatus.DEAD:
            await self.sign(letter_id, Act.REPLAY, signed)
            self._change(row, ParkedStatus.WAITING, attempts=0)
        return before

    async def discard(self, letter_id: int) -> ParkedStatus | None:
        """End an undone one; answer what it was."""
        row = self._row(letter_id)
        if row is None:
            return None
        before = row.message.status
        if before in UNDONE:
            self._change(row, ParkedStatus.DISCARDED, attempts=row.message.attempts)
        return before

    async def trail(self, letter_id: int) -> Sequence[TrailEntry]:
        """Tell what operators did with it."""
        return list(self._tables.trail.get(letter_id, ()))

    def _change(self, row: ParkedRow, status: ParkedStatus, *, attempts: int) -> None:
        row.message = attrs.evolve(row.message, status=status, attempts=attempts)
        row.due_at_ms = row.changed_at_ms = self._tables.clock.now_ms()

    def _rows(self) -> list[ParkedRow]:
        return list(self._tables.parked.values())

    def _row(self, letter_id: int) -> ParkedRow | None:
        return next((one for one in self._rows() if one.message.parked_id == letter_id), None)


def _letter(row: ParkedRow) -> Letter:
    return Letter(
        parked=row.message, parked_at_ms=row.parked_at_ms, changed_at_ms=row.changed_at_ms
    )


def _is_wanted(row: ParkedRow, wanted: Wanted) -> bool:
    one = row.message
    return (
        (not wanted.statuses or one.status in wanted.statuses)
        and wanted.reason in (None, one.reason)
        and wanted.sale_id in (None, one.sale_id)
        and wanted.purchase_id in (None, one.purchase_id)
        and wanted.channel in (None, one.message.channel)
        and wanted.holds_unit in (None, one.holds_unit)
        and (wanted.since_ms is None or row.parked_at_ms >= wanted.since_ms)
        and (wanted.until_ms is None or row.parked_at_ms < wanted.until_ms)
    )


_: type[DeadLetters] = MemoryDeadLetters
