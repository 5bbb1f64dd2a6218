"""Loops wait for what is away, begin again after what breaks, and never end in silence."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from flashsale.supervision import FAILURES_MAX, Backoff, LoopBroken, Loops, Step, pause
from flashsale_core.errors import StaleEpoch, Unavailable, Why


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep log lines in memory: unconfigured, each traceback is drawn for a second."""
    with capture_logs():
        yield


def _loops(stopping: asyncio.Event, **steps: Step) -> Loops:
    return Loops(steps, stopping=stopping, backoff=lambda: Backoff(initial_ms=1, max_ms=1))


@given(
    initial_ms=st.integers(1, 1_000),
    max_ms=st.integers(1, 60_000),
    chance=st.floats(0, 1),
    failures=st.integers(1, 100),
)
def test_a_wait_is_a_random_part_of_a_bound_that_doubles_up_to_the_longest(
    initial_ms: int, max_ms: int, chance: float, failures: int
) -> None:
    """Full jitter: nobody comes back together, and nobody waits longer than the setting."""
    backoff = Backoff(initial_ms=initial_ms, max_ms=max_ms, chance=lambda: chance)
    waits_s = [backoff.next_wait_s() for _ in range(failures)]
    bounds_ms = [min(max_ms, initial_ms * 2**n) for n in range(failures)]
    assert waits_s == [bound * chance / 1_000 for bound in bounds_ms]
    backoff.reset()
    assert backoff.next_wait_s() == waits_s[0]


@pytest.mark.parametrize("away", [Unavailable(Why.DATABASE_AWAY), StaleEpoch("1.1")])
async def test_what_is_away_is_waited_for_without_end(away: Exception) -> None:
    """However often it fails: an outage of hours ends no worker."""
    stopping, tries = asyncio.Event(), itertools.count(1)

    async def step() -> float:
        if next(tries) <= 3 * FAILURES_MAX:
            raise away
        stopping.set()
        return 0.0

    await asyncio.wait_for(_loops(stopping, step=step).run(), 10)
    assert next(tries) > 3 * FAILURES_MAX


async def test_a_loop_that_breaks_is_begun_again() -> None:
    """One surprise is logged and survived."""
    stopping, tries = asyncio.Event(), itertools.count(1)

    async def step() -> float:
        if next(tries) < FAILURES_MAX:
            raise ZeroDivisionError
        stopping.set()
        return 0.0

    await asyncio.wait_for(_loops(stopping, step=step).run(), 10)


async def test_a_success_in_between_forgets_earlier_failures() -> None:
    """Only a loop that does nothing but fail is beyond mending."""
    stopping, tries = asyncio.Event(), itertools.count(1)

    async def step() -> float:
        number = next(tries)
        if number == 4 * FAILURES_MAX:
            stopping.set()
        if number % 2:
            raise ZeroDivisionError
        return 0.0

    await asyncio.wait_for(_loops(stopping, step=step).run(), 10)


async def test_a_loop_that_does_nothing_but_break_ends_the_process() -> None:
    """It ends in an error that names the loop, and takes its neighbours along."""
    stopping = asyncio.Event()
    left = asyncio.Event()

    async def broken() -> float:
        raise ZeroDivisionError

    async def neighbour() -> float:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return 0.0

    with pytest.raises(LoopBroken, match=f"relay failed {FAILURES_MAX} times") as raised:
        await asyncio.wait_for(_loops(stopping, relay=broken, neighbour=neighbour).run(), 10)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert left.is_set()


async def test_the_stop_interrupts_a_wait() -> None:
    """No loop sleeps through it."""
    stopping = asyncio.Event()

    async def step() -> float:
        stopping.set()
        return 3_600.0

    await asyncio.wait_for(_loops(stopping, step=step).run(), 10)
    await asyncio.wait_for(pause(stopping, 3_600), 10)
