"""With a server dead a buyer hears soon, nobody queues behind it, and it is not hammered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from flashsale_core.purchase import PROMISE_MS
from tests.faults.outages import (
    AMPLIFICATION_MAX,
    HEARS_MS,
    LOOK_UP_MS,
    RATE,
    WAYS,
    Place,
    look_up_outage,
    outage,
    placed,
    steady_outage,
    worker_outage,
)
from tests.integration.engine import ask

TEN_TIMES = 10
"""The promised values are measured by `python -m tests.faults.outages`; a busy machine is slower.
"""
CROWD = 500
TOGETHER_S = 5.0
MEMORY_MB_MAX = 50.0
pytestmark = pytest.mark.timeout(400)


@pytest_asyncio.fixture(
    params=["rabbitmq", pytest.param("kafka", marks=pytest.mark.long)], loop_scope="function"
)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """One API and one worker on real servers, each on wires that count."""
    async with placed(request.param, tmp_path) as placed_here:
        yield placed_here


@pytest.mark.alone
async def test_a_buyer_hears_in_time_whatever_is_dead_and_however_it_died(place: Place) -> None:
    """Stopped, killed, frozen, or at the end of a wire that swallows everything.

    A crowd comes at once and hears as one does: no queue builds up whose end waits. Nothing is
    asked of the dead server more often than buyers came, and it sells again by itself.
    """
    for what, hears_ms in HEARS_MS.items():
        for way in WAYS:
            found = await outage(place, what, way, CROWD)
            said = found.line()
            assert max(found.crowd_ms) <= TEN_TIMES * hears_ms, said
            assert max(found.steady_ms) <= TEN_TIMES * hears_ms, said
            assert set(found.answers) <= {"unavailable", "outcome-unknown"}, said
            assert found.amplification <= AMPLIFICATION_MAX, said
            assert found.memory_mb <= MEMORY_MB_MAX, said
            metrics = ask("GET", f"{place.api.url}/metrics").body["text"]
            opened = f'flashsale_breaker_openings_total{{name="{what}"}} '
            assert float(metrics.partition(opened)[2].split("\n")[0]) >= 1, said
            assert f'flashsale_breaker_open{{name="{what}"}} 0.0' in metrics, said


async def test_a_dead_server_is_asked_no_more_often_than_there_is_work(place: Place) -> None:
    """PostgreSQL by buyers who look up; gate and PostgreSQL by a worker whose messages wait."""
    found = await look_up_outage(place, 50)
    assert found.amplification <= AMPLIFICATION_MAX, found.line()
    assert set(found.answers) == {"503"}, found.line()
    assert max(found.steady_ms) <= TEN_TIMES * LOOK_UP_MS, found.line()
    assert max(found.crowd_ms) <= TEN_TIMES * PROMISE_MS, found.line()
    for what in ("gate", "database"):
        found = await worker_outage(place, what, 100)
        assert found.amplification <= AMPLIFICATION_MAX, found.line()


async def test_api_and_worker_together_ask_a_dead_server_less_often_than_buyers_come(
    place: Place,
) -> None:
    """The worker tells facts, copies letters, sweeps, fetches and looks: all of it counts."""
    for what in ("bus", "database", "gate"):
        found = await steady_outage(place, what, "frozen", TOGETHER_S)
        assert found.asked >= TOGETHER_S * RATE / 2, found.line()
        assert found.amplification <= AMPLIFICATION_MAX, found.line()
