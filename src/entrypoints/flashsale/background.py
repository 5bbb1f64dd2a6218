"""Work behind an answer: it goes on when the buyer has been told, and ends before the process."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog


class Background:
    """Runs coroutines of one event loop beside what is asked; each has deadlines of its own."""

    def __init__(self) -> None:
        """Begin with none."""
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let it go on by itself."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (wrong := task.exception()) is not None:
            structlog.get_logger("flashsale").error("work behind an answer failed", exc_info=wrong)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))
