"""Keeps the list of sales that a process answers from as young as a rebuild expects it to be."""

import asyncio
import contextlib

import structlog

from flashsale_core.board import REFRESH_MS, SaleBoard
from flashsale_core.errors import Unavailable

DOUBT_PAUSE_S = 0.1
"""A doubt is looked into at most ten times a second, whatever a crowd of buyers doubts."""


class BoardKeeper:
    """Reads the list again every REFRESH_MS, and at once when somebody doubts it."""

    def __init__(self, board: SaleBoard, doubt: asyncio.Event) -> None:
        """Share `doubt` with the board, whose `doubt()` sets it."""
        self._board = board
        self._doubt = doubt
        self._log = structlog.get_logger("flashsale").bind()
        self._is_stale = False

    async def step(self) -> float:
        """Read the list once, then wait for a doubt or the time, whichever is first.

        With the database away it goes on with the list it has, and never waits longer than
        REFRESH_MS before it asks again: a rebuild of the gate counts on that.
        """
        self._doubt.clear()
        try:
            await self._board.refresh()
        except Unavailable as away:
            if not self._is_stale:
                self._log.warning("the list of sales cannot be read again", error=str(away))
            self._is_stale = True
        else:
            self._is_stale = False
        await asyncio.sleep(DOUBT_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_MS / 1_000 - DOUBT_PAUSE_S):
                await self._doubt.wait()
        return 0.0
