"""Keeps a process's loops alive: what is away is waited for, what breaks is begun again.

A loop is a step that is called again and again. A step that raises what `flashsale_core.retry`
says to wait for is called again after a wait that grows; so is one that raises anything else,
which is logged with its traceback. A loop that breaks FAILURES_MAX times without a quiet minute in
between is beyond mending from inside: the process ends non-zero, so that whoever runs it begins a
fresh one and a person sees it. A loop that ended in silence would look healthy and sell nothing.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import attrs
import structlog

from flashsale_core.retry import is_waited_for

Step = Callable[[], Awaitable[float]]
"""Does a bit of work; answers how many seconds to wait before the next."""

FAILURES_MAX = 10
"""With waits of up to 5 s in between, about half a minute of nothing but failure."""
QUIET_S = 60.0
"""After so long without a failure, earlier ones are forgotten."""


class LoopBroken(Exception):
    """A loop failed again and again for a reason that no wait mends."""


@attrs.define(kw_only=True)
class Backoff:
    """Waits that grow, each a random part of its bound (full jitter).

    So processes that lost the same server do not come back to it together.
    """

    initial_ms: int
    max_ms: int
    chance: Callable[[], float] = random.random
    _failures: int = attrs.field(default=0, init=False)

    def next_wait_s(self) -> float:
        """Say how long to wait after one more failure."""
        # Doubling for ever makes huge numbers, not longer waits.
        bound_ms = min(self.max_ms, self.initial_ms << min(self._failures, 32))
        self._failures += 1
        return bound_ms * self.chance() / 1_000

    def reset(self) -> None:
        """Begin again from the shortest, after a success."""
        self._failures = 0


class Loops:
    """The loops of one process, side by side."""

    def __init__(
        self, steps: dict[str, Step], *, stopping: asyncio.Event, backoff: Callable[[], Backoff]
    ) -> None:
        """Name the loops; they end soon after `stopping` is set."""
        self._steps = steps
        self._stopping = stopping
        self._backoff = backoff

    async def run(self) -> None:
        """Keep every loop going until the stop. Raises LoopBroken when one is beyond mending."""
        log, broken = structlog.get_logger("flashsale"), None
        try:
            async with asyncio.TaskGroup() as group:
                for name, step in self._steps.items():
                    group.create_task(self._keep(name, step, log), name=name)
        except* LoopBroken as several:
            broken = several.exceptions[0]
        if broken is not None:
            raise broken

    async def _keep(
        self, name: str, step: Step, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        backoff, failures, loop = self._backoff(), 0, asyncio.get_running_loop()
        waits_for: str | None = None
        while not self._stopping.is_set():
            began_s = loop.time()
            try:
                wait_s = await step()
            except Exception as error:
                if is_waited_for(error):
                    if waits_for is None:
                        log.warning("loop waits", loop=name, waits_for=str(error))
                    waits_for = str(error)
                    await pause(self._stopping, backoff.next_wait_s())
                    continue
                failures = 1 if loop.time() - began_s >= QUIET_S else failures + 1
                log.exception("loop failed", loop=name, failures=failures)
                if failures >= FAILURES_MAX:
                    raise LoopBroken(f"{name} failed {failures} times in a row") from error
                wait_s = backoff.next_wait_s()
            else:
                if waits_for is not None:
                    log.info("loop goes on", loop=name, waited_for=waits_for)
                failures, waits_for = 0, None
                backoff.reset()
            await pause(self._stopping, wait_s)


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but no longer than until the stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
