"""A restart is nobody's failure, and an end is safe however it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import pytest

from tests.faults.buyers import now_ms
from tests.faults.restarts import API_STOP_S_MAX, ready, restarted
from tests.faults.stack import Stack, standing
from tests.integration.engine import Program, ask

RESTARTS = 2
RATE = 1_000.0
WORKER_STOP_S_MAX = 25.0
pytestmark = pytest.mark.timeout(400)


@pytest.mark.alone
async def test_restarts_behind_a_balancer_fail_nobody(tmp_path: Path) -> None:
    """Two APIs, 1,000 buyers a second who pick by /readyz and never ask twice: no failure.

    Each stop is within 10 s, and every purchase is an order. Twenty restarts: `make restarts`.
    """
    async with ready("rabbitmq", tmp_path) as ours:
        outcome = await restarted(ours, RESTARTS, RATE)
    assert outcome.failures == 0, (outcome.line(), outcome.wrong[:10])
    assert max(outcome.stops_s) <= API_STOP_S_MAX
    assert outcome.orders["CONFIRMED"] == outcome.answers["accepted"]


@contextlib.asynccontextmanager
async def hanging(stack: Stack, what: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Let one server hang."""
    server = {"gate": stack.redis, "bus": stack.broker, "database": stack.postgres}[what]
    await asyncio.to_thread(server.freeze)
    try:
        yield
    finally:
        await asyncio.to_thread(server.thaw)


async def stopped(program: Program) -> tuple[int, float]:
    """End it as an operator does; answer its code and how long it took."""
    began = time.monotonic()
    code = await asyncio.to_thread(program.stop)
    return code, time.monotonic() - began


@pytest.mark.long
@pytest.mark.parametrize("bus", ["kafka", "rabbitmq"])
async def test_a_stop_is_in_time_while_a_server_hangs_and_loses_nothing(
    tmp_path: Path, bus: str
) -> None:
    """API within 10 s, worker within 25 s, with gate, broker and database frozen in turn.

    Under load: afterwards every promise is an order, and nothing was sold twice.
    """
    async with standing(bus, tmp_path, 3) as stack:
        async with stack.under_load(40.0):
            began_ms = now_ms()
            for what in ("gate", "bus", "database"):
                await asyncio.sleep(1)
                api, worker = stack.running(workers=False)[0], stack.running(workers=True)[0]
                async with hanging(stack, what):
                    (api_code, api_s), (worker_code, worker_s) = await asyncio.gather(
                        stopped(api), stopped(worker)
                    )
                said = (
                    f"{what}: api {api_code} {api_s:.1f} s, worker {worker_code} {worker_s:.1f} s"
                )
                print(said)
                assert api_s <= API_STOP_S_MAX, said
                assert worker_s <= WORKER_STOP_S_MAX, said
                assert (api_code, worker_code) == (0, 0), said
                await stack.ready(await stack.start("serve"), await stack.start("worker"))
            stack.history.faults.append((began_ms, now_ms()))
        _, violations = await stack.judged()
    assert violations == []


async def test_a_second_signal_leaves_now_and_what_was_accepted_becomes_orders(
    tmp_path: Path,
) -> None:
    """API and worker are told twice under load; the judge finds every promise kept."""
    async with standing("kafka", tmp_path, 4) as stack:
        async with stack.under_load(60.0):
            began_ms = now_ms()
            await asyncio.sleep(2)
            for workers in (False, True):
                program = stack.running(workers=workers)[0]
                program.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                if program.process.poll() is None:
                    began = time.monotonic()
                    program.process.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(program.process.wait, 10) == -signal.SIGTERM
                    assert time.monotonic() - began < 1.0
                await stack.ready(await stack.start("worker" if workers else "serve"))
            stack.history.faults.append((began_ms, now_ms()))
        _, violations = await stack.judged()
    assert violations == []
    assert stack.load.accepted > 0


async def test_readiness_is_off_first_and_the_door_serves_on(tmp_path: Path) -> None:
    """A balancer that looks each second has time to go elsewhere; then nobody is let in."""
    async with ready("rabbitmq", tmp_path) as ours:
        api = await asyncio.to_thread(ours.start, "serve")
        await asyncio.to_thread(api.wait_until_ready)
        opened = f"{api.url}/purchase/init?productId=1&stock=100"
        assert (await asyncio.to_thread(ask, "POST", opened)).status == 200
        api.process.send_signal(signal.SIGTERM)
        began, bought = time.monotonic(), 0
        await asyncio.sleep(0.5)
        while time.monotonic() - began < 2.5:
            look = await asyncio.to_thread(ask, "GET", f"{api.url}/readyz")
            assert (look.status, look.body["stopping"]) == (503, True)
            body = {"userId": bought, "productId": 1}
            answer = await asyncio.to_thread(ask, "POST", f"{api.url}/purchase/buy", body)
            assert answer.status in (200, 503), answer
            bought += answer.status == 200
            await asyncio.sleep(0.1)
        assert bought > 0
        assert await asyncio.to_thread(api.process.wait, 10) == 0
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(ask, "GET", f"{api.url}/readyz")
