"""Ports whose every call may be its caller's last, may fail, or may lose its reply.

Whatever runs is a coroutine that is driven by hand: it stops before each call of a port, and the
world decides who goes on. So all orders of calls can come about, and the same seed brings the same.
"""

from __future__ import annotations

import asyncio
import random
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any, TypeVar

import attrs

from flashsale_core.errors import Unavailable, Why

T = TypeVar("T")


class Crash(BaseException):
    """The actor is gone: nothing in it may catch this."""


class Fate(Enum):
    """What becomes of one call."""

    FINE = auto()
    CRASH_BEFORE = auto()
    CRASH_AFTER = auto()
    AWAY = auto()
    """Nothing was sent."""
    REPLY_LOST = auto()
    """It is done, and the caller hears that perhaps it is."""


@attrs.define
class Dice:
    """All chance of one episode, and how cruel it is."""

    random: random.Random
    crash: float = 0.0
    away: float = 0.0
    lost: float = 0.0
    calls: int = 0

    def fate(self) -> Fate:
        """Roll for one call."""
        self.calls += 1
        rolled = self.random.random()
        for fate, share in (
            (Fate.CRASH_BEFORE, self.crash / 2),
            (Fate.CRASH_AFTER, self.crash / 2),
            (Fate.AWAY, self.away),
            (Fate.REPLY_LOST, self.lost),
        ):
            if rolled < share:
                return fate
            rolled -= share
        return Fate.FINE

    def calm(self) -> None:
        """Break nothing any more."""
        self.crash = self.away = self.lost = 0.0


@types.coroutine
def turn() -> Generator[None, None, None]:
    """Let the world decide who goes on."""
    yield


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise AssertionError("a memory adapter waited")


@attrs.frozen
class Runner:
    """How a port's own coroutine is run to its end, in one step of the world."""

    loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it; nobody else runs meanwhile."""
        return at_once(work) if self.loop is None else self.loop.run_until_complete(work)


NEVER_RAISES = ("mark_queued",)


class Chancy:
    """A port as one that is far away and not to be trusted."""

    def __init__(
        self, inner: Any, why: Why, dice: Dice, run: Runner, trace: Callable[[str], None]
    ) -> None:
        """Stand before a port; `why` is what its failures are called."""
        self._inner, self._why, self._dice, self._run, self._trace = inner, why, dice, run, trace

    def __getattr__(self, name: str) -> Any:
        """Answer the port's method, at arm's length."""
        method = getattr(self._inner, name)
        if not callable(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            await turn()
            fate = self._dice.fate()
            self._trace(f"    {name}: {fate.name}")
            if fate is Fate.CRASH_BEFORE:
                raise Crash
            if fate is Fate.AWAY:
                return self._fail(name, may_have_happened=False)
            result = self._run(method(*args, **kwargs))
            if fate is Fate.CRASH_AFTER:
                raise Crash
            if fate is Fate.REPLY_LOST:
                return self._fail(name, may_have_happened=True)
            return result

        return call

    def _fail(self, name: str, *, may_have_happened: bool) -> Unavailable:
        away = Unavailable(self._why, "by chance", may_have_happened=may_have_happened)
        if name in NEVER_RAISES:
            return away
        raise away


TOGETHER = 0.2
"""A rebuild whose database connection is gone believes that it is alone, and is not."""


class ChancyRebuilds(Chancy):
    """What rebuilds agree on, where being alone is a courtesy that is not always kept."""

    def __init__(self, *given: Any) -> None:
        """Begin with nobody at work."""
        super().__init__(*given)
        self._is_taken = False

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Enter as the only rebuild, or almost."""
        await turn()
        if self._is_taken and self._dice.random.random() < TOGETHER:
            yield True
            return
        if self._is_taken:
            yield False
            return
        self._is_taken = True
        try:
            yield True
        finally:
            self._is_taken = False


class WrittenClock:
    """A clock that only the world turns."""

    def __init__(self, ms: int) -> None:
        """Begin at a time."""
        self.ms = ms

    def now_ms(self) -> int:
        """Tell UTC."""
        return self.ms

    def monotonic_ms(self) -> float:
        """Tell the same: nothing steps here."""
        return float(self.ms)
