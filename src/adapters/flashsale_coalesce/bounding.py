"""A wait that ends when its time is over, whatever hangs below it."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from flashsale_core.errors import Unavailable, Why

T = TypeVar("T")


class Bounds:
    """Bounds waits of one event loop.

    What is given up is cancelled and left: ending a call of a server that hangs may itself take
    seconds (a driver says goodbye first), and whoever asked must not wait for that too.
    """

    def __init__(self) -> None:
        """Begin with nothing left behind."""
        # asyncio itself keeps no task alive.
        self._left: set[asyncio.Future[Any]] = set()

    async def within(self, work: Awaitable[T], milliseconds: float, why: Why) -> T:
        """Await it for so long at most. Raises Unavailable(why) later; it may have happened."""
        task = asyncio.ensure_future(work)
        if await self.first_of(task, seconds=milliseconds / 1_000):
            return task.result()
        detail = f"no answer within {milliseconds:.0f} ms"
        raise Unavailable(why, detail, may_have_happened=True)

    async def first_of(
        self,
        work: "asyncio.Future[Any]",
        *signs: "asyncio.Future[Any]",
        seconds: float,
    ) -> bool:
        """Wait for the work, or for a sign that it goes well; False: it was given up."""
        try:
            done, _ = await asyncio.wait(
                {work, *signs}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            self._give_up(work)
            raise
        if not done:
            self._give_up(work)
        return bool(done)

    def _give_up(self, work: "asyncio.Future[Any]") -> None:
        if work.cancel():
            self._left.add(work)
            work.add_done_callback(self._ended)

    def _ended(self, work: "asyncio.Future[Any]") -> None:
        self._left.discard(work)
        if not work.cancelled():
            # Nobody asks any more; unread, asyncio would complain of it.
            work.exception()
