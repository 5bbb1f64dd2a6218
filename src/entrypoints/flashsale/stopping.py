"""How a program ends: told once, in good order and within its time; told twice, now.

The order is: not ready any more, but serving; accept nothing; finish what is under way; tell what
is still to be told; leave and close. Whatever is cut off in between is safe: a promise is on the
bus before it is given, and everything else may be done again by another process.
"""

import asyncio
import os
import signal
import sys
import threading
from typing import Protocol

import structlog

from flashsale.readiness import Readiness
from flashsale.settings import Settings

API_STOP_S = 10.0
"""An API has nothing to lose but answers, each of which has its own deadline below a second."""
WORKER_STOP_S = 25.0
"""Below the 30 s after which orchestrators kill: a transaction may take 12 s, leaving 10."""
OVERDUE_MARGIN_S = 0.5
"""What is left for the end itself."""
CANCELLED_WAIT_S = 5.0
"""What a cancelled loop may take to give back what it holds."""
CLOSING_S = 3.0
"""Kept of the whole for closing what was opened."""
LOOKS_S = 0.5
"""An API's loops only look; nothing is lost when they are cut off."""


class Goodbye(Protocol):
    """A door that can tell those who are connected to come by another connection."""

    def say_goodbye(self) -> None:
        """Answer from now on as the last on each connection."""


def stop_s(*, is_worker: bool) -> float:
    """Say within how many seconds of its signal a program has ended."""
    return WORKER_STOP_S if is_worker else API_STOP_S


def lame_duck_s(settings: Settings) -> float:
    """Say how long a door serves on; with a gate in memory there is no other to go to."""
    return 0.0 if settings.gate_url.is_memory else settings.lame_duck_ms / 1_000


def door_drain_s(settings: Settings, *, is_worker: bool) -> float:
    """Say how long a door may finish what is under way, so that the whole stays within its time."""
    rest_s = stop_s(is_worker=is_worker) - CLOSING_S - lame_duck_s(settings) - LOOKS_S
    if is_worker:
        rest_s -= CANCELLED_WAIT_S
    return min(settings.drain_ms / 1_000, rest_s)


def loops_drain_s(settings: Settings, *, is_worker: bool) -> float:
    """Say how long loops may finish what is in hand before they are cut off."""
    if not is_worker:
        return LOOKS_S
    return min(settings.drain_ms / 1_000, WORKER_STOP_S - CANCELLED_WAIT_S - CLOSING_S)


async def until_stopped(loops: "asyncio.Task[None]", *, is_worker: bool) -> None:
    """Wait for SIGTERM or SIGINT, or for the loops to break.

    The next signal ends the process at once, and so does the end of its time.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
            # By the system itself: also while this loop hangs.
            signal.signal(number, signal.SIG_DFL)
        end_within(stop_s(is_worker=is_worker) - OVERDUE_MARGIN_S)
        stop.set()

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({loops, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    structlog.get_logger("flashsale").info("stopping")


def end_within(seconds: float) -> None:
    """End the process hard after this, from a thread of its own: the loop may hang by then."""
    overdue = threading.Timer(seconds, _end_overdue, [seconds])
    overdue.daemon = True
    overdue.start()


def _end_overdue(seconds: float) -> None:
    log = structlog.get_logger("flashsale")
    log.error("stop is overdue, ending hard: nothing promised is lost", seconds=seconds)
    sys.stderr.flush()
    os._exit(1)


async def go_lame(readiness: Readiness, door: Goodbye, settings: Settings) -> None:
    """Be ready no more and serve on, until whoever chooses by /readyz chooses another."""
    readiness.leave()
    door.say_goodbye()
    await asyncio.sleep(lame_duck_s(settings))
