"""Which messages somebody has in hand; in memory, where no death is survived."""

from collections.abc import Sequence

from flashsale_core.handling import HandlingNotes
from flashsale_memory.tables import Tables


class MemoryHandlingNotes:
    """The lives that have a message in hand, by its key."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._notes = tables.notes

    async def note(self, keys: Sequence[str], life: str) -> None:
        """Note that this life takes them in hand."""
        for key in keys:
            self._notes.setdefault(key, set()).add(life)

    async def deaths(self, keys: Sequence[str], life: str) -> list[int]:
        """Count the other lives that noted each."""
        return [len(self._notes.get(key, set()) - {life}) for key in keys]

    async def take_back(self, keys: Sequence[str], life: str) -> None:
        """Forget this life's note of each."""
        for key in keys:
            self._notes.get(key, set()).discard(life)
            if not self._notes.get(key):
                self._notes.pop(key, None)

    async def clear(self, keys: Sequence[str]) -> None:
        """Forget every note of each."""
        for key in keys:
            self._notes.pop(key, None)


_: type[HandlingNotes] = MemoryHandlingNotes
