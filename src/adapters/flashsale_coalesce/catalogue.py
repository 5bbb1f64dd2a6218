"""Many questions for the list of sales, one query: at most ten a second, however many ask."""

import asyncio
from collections.abc import Callable
from typing import Any

from flashsale_core.model import Sale
from flashsale_core.ports import SaleCatalogue

APART_S = 0.1
"""A crowd that asks for an item nobody sells costs the database ten queries a second."""


class CoalescingCatalogue:
    """Shares `current` among those who wait; every answer was read after its asker had asked."""

    def __init__(self, catalogue: SaleCatalogue, *, apart_s: float = APART_S) -> None:
        """Stand in front of a catalogue, in one event loop."""
        self._catalogue = catalogue
        self._apart_s = apart_s
        self._next: asyncio.Task[list[Sale]] | None = None
        self._last_s = float("-inf")

    def __getattr__(self, name: str) -> Any:
        """Pass on the rest: get, create, change_state, raise_epoch, books."""
        return getattr(self._catalogue, name)

    async def current(self) -> list[Sale]:
        """Read the list, together with whoever else waits for it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._read())
        # Shielded: one who leaves must not take the answer from the others.
        return await asyncio.shield(self._next)

    async def _read(self) -> list[Sale]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._last_s + self._apart_s - loop.time()))
        # Whoever asks from here on must see what is written from here on.
        self._next = None
        self._last_s = loop.time()
        return await self._catalogue.current()


_: Callable[[SaleCatalogue], SaleCatalogue] = CoalescingCatalogue
