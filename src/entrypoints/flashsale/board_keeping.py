"""Keeps the list of sales that a process answers from as young as a rebuild expects it to be."""

import asyncio

import structlog

from flashsale.supervision import pause
from flashsale_core.board import REFRESH_MS, SaleBoard
from flashsale_core.errors import Unavailable

DOUBT_PAUSE_S = 0.1
"""A doubt is looked into at most ten times a second, whatever a crowd of buyers doubts."""


class BoardKeeper:
    """Reads the list again every REFRESH_MS, and at once when somebody doubts it."""

    def __init__(self, board: SaleBoard, doubt: asyncio.Event, stopping: asyncio.Event) -> None:
        """Share `doubt` with the board, whose `doubt()` sets it; `stopping` ends every wait."""
        self._board = board
        self._doubt = doubt
        self._stopping = stopping
        self._log = structlog.get_logger("flashsale").bind()
        self._is_stale = False

    async def step(self) -> float:
        """Read the list once, then wait for a doubt, the time or the stop, whichever is first.

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
        await pause(self._stopping, DOUBT_PAUSE_S)
        woken = [asyncio.create_task(one.wait()) for one in (self._doubt, self._stopping)]
        try:
            await asyncio.wait(
                woken,
                timeout=REFRESH_MS / 1_000 - DOUBT_PAUSE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for one in woken:
                one.cancel()
        return 0.0
