"""A stop has an order and a time, whatever the settings say."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs
import pytest

from flashsale.http.server import KEEP_ALIVE_S
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale.stopping import (
    API_STOP_S,
    CANCELLED_WAIT_S,
    CLOSING_S,
    LOOKS_S,
    OVERDUE_MARGIN_S,
    WORKER_STOP_S,
    door_drain_s,
    go_lame,
    lame_duck_s,
    loops_drain_s,
)
from tests.unit.http_world import Shop, selling
from tests.unit.test_http_server import BUY, connected, running

HOT_PATH_S = 0.8
REDIS = Url("redis://localhost")


@pytest.mark.parametrize("lame_duck_ms", [0, 3_000, 5_000])
@pytest.mark.parametrize("drain_ms", [0, 1_000, 15_000, 20_000])
def test_all_parts_of_a_stop_fit_into_its_time(lame_duck_ms: int, drain_ms: int) -> None:
    """10 s for an API, 25 s for a worker and for both in one, with every setting there may be."""
    settings = attrs.evolve(
        Settings(), lame_duck_ms=lame_duck_ms, drain_ms=drain_ms, gate_url=REDIS
    )
    door_s = door_drain_s(settings, is_worker=False)
    api_s = lame_duck_s(settings) + door_s + loops_drain_s(settings, is_worker=False) + CLOSING_S
    assert api_s <= API_STOP_S
    worker_s = loops_drain_s(settings, is_worker=True) + CANCELLED_WAIT_S + CLOSING_S
    assert worker_s <= WORKER_STOP_S
    assert door_s >= min(HOT_PATH_S, drain_ms / 1_000), "what is under way is answered"
    assert LOOKS_S < 1


def test_with_a_gate_in_memory_nobody_waits_for_a_balancer() -> None:
    """Ctrl-C at `make run` ends it at once: there is no other process to send buyers to."""
    assert lame_duck_s(Settings()) == 0
    assert lame_duck_s(attrs.evolve(Settings(), gate_url=REDIS)) == 3.0


async def test_a_lame_door_says_503_serves_on_and_lets_connections_go() -> None:
    """Readiness is off first; whoever comes still is served, and told not to come back so."""

    class Told:
        has_left = False

        def leave(self) -> None:
            Told.has_left = True

    async with selling(Shop()) as shop, running(shop.app) as here:
        async with connected(here) as kept:
            await kept.send(BUY)
            assert (await kept.answer())[0] == 200
            settings = attrs.evolve(Settings(), gate_url=REDIS, lame_duck_ms=1_500)
            leaving = asyncio.create_task(
                go_lame(Told(), here, settings)  # type: ignore[arg-type]
            )
            await asyncio.sleep(0)
            assert Told.has_left
            await kept.send(BUY)
            assert (await kept.answer())[0] == 200
            async with asyncio.timeout(KEEP_ALIVE_S / 6):
                assert await kept.rest() == b"", "the server closed it after the answer"
        # Also after the second in which the server writes its headers anew.
        await asyncio.sleep(1.2)
        async with connected(here) as late:
            await late.send(BUY)
            assert (await late.answer())[0] == 200
            assert await late.rest() == b""
        assert not leaving.done()
        await leaving


HANGS = """
import asyncio, time
from flashsale import stopping
from flashsale.stopping import until_stopped

stopping.API_STOP_S = {stop_s}

async def main():
    loops = asyncio.create_task(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(lambda: print("up", flush=True))
    await until_stopped(loops, is_worker=False)
    print("told", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


@contextmanager
def _hanging(stop_s: float) -> "Iterator[subprocess.Popen[str]]":
    """Run a program whose loop hangs once it was told to stop; end it, whatever it does."""
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", HANGS.format(stop_s=stop_s)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def _ended(process: "subprocess.Popen[str]", within_s: float) -> int | None:
    """Wait for its end; None when there is none within the time."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(within_s)
    return None


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_second_signal_of_either_kind_ends_it_now(
    first: signal.Signals, second: signal.Signals
) -> None:
    """Also while the event loop hangs in a blocking call."""
    with _hanging(API_STOP_S) as process:
        process.send_signal(first)
        assert process.stdout is not None
        assert "told" in [process.stdout.readline().strip() for _ in range(2)]
        process.send_signal(second)
        assert _ended(process, 3) == -second


def test_an_end_that_takes_too_long_is_made_an_end() -> None:
    """By a thread of its own: the event loop may hang by then."""
    with _hanging(OVERDUE_MARGIN_S + 0.2) as process:
        process.send_signal(signal.SIGTERM)
        assert _ended(process, 5) == 1
        assert process.stdout is not None
        assert "stop is overdue" in process.stdout.read()
