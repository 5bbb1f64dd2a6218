"""The drills that every run of the tests has: each point once by kill -9, and what dies besides.

`make faults` draws from all of them, on both buses, for as long as one likes.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from pathlib import Path

import aiosqlite
import pytest

from flashsale.fault_points import Point
from tests.faults.buyers import Item, Load, now_ms
from tests.faults.checker import check
from tests.faults.history import Books, Gate, History, Row, Sale
from tests.faults.kinds import AT_THE_DOOR, break_at, kinds_for
from tests.faults.stack import QUICK, RECOVERY_S_MAX, standing
from tests.integration.engine import Program, ask, engine

RATE = 60.0
"""Enough that every point is passed within a second, on two cores that do all the rest too."""
SEED = 1
LOAD_S = 5
EVERY_POINT = {point.site.name for point in Point}
QUIET_S_MAX = 60
pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]


POINTS = [*AT_THE_DOOR, *(point for point in Point if point not in AT_THE_DOOR)]
KINDS = [
    "broker-killed",
    "database-killed",
    "api-killed",
    "worker-killed",
    "gate-frozen",
    "gate-wire-swallows",
]


async def test_deaths_at_every_point_and_of_every_server_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    """Each process that passes a point dies there by kill -9, while buyers go on coming.

    Then broker, database, API and worker die and come back, Redis hangs, and its replies are lost.
    """
    async with standing("kafka", tmp_path, SEED) as stack:
        async with stack.under_load(RATE):
            for point in POINTS:
                await break_at(stack, point, "kill", is_relieved=point is POINTS[-1])
            for name in KINDS:
                await kinds_for("kafka")[name](stack)
            stack.history.fault_ended_ms = now_ms()
            assert await stack.recovered() < RECOVERY_S_MAX
        _, violations = await stack.judged()
    assert violations == []
    assert set(stack.points_hit) == EVERY_POINT


SINGLE = Item("drill", units=2_000, share=1.0, users=900, per_user_limit=2)


@pytest.mark.parametrize("action", ["delay:300@0.3", "error@0.1"])
async def test_delays_and_errors_at_every_point_of_one_process_lose_and_double_nothing(
    tmp_path: Path, action: str
) -> None:
    """`flashsale run` on memory, where every point is armed at once and strikes by chance."""
    plan = ";".join(f"{point.site.name}={action}" for point in Point)
    armed = {"FLASHSALE_FAULTS": f"{plan};seed={SEED}", "FLASHSALE_FAULTS_ALLOWED": "yes"}
    history = History()
    with engine(tmp_path, {**QUICK, "FLASHSALE_LOG_LEVEL": "warning"}) as ours:
        program = ours.start("run", **armed)
        await asyncio.to_thread(program.wait_until_ready)
        await _open(program)
        load = Load(history, [SINGLE], lambda: [program.url], random.Random(SEED), "buyer")
        stop = asyncio.Event()
        coming = asyncio.create_task(load.come(20.0, stop))
        await asyncio.sleep(LOAD_S)
        until = time.monotonic() + QUIET_S_MAX
        while _struck(program) != EVERY_POINT:
            if time.monotonic() > until:
                break  # What was not passed is named below.
            await asyncio.sleep(0.5)
        stop.set()
        await coming
        history.fault_ended_ms = now_ms()
        await load.all_told()
        gate = await _quiet(program)
        assert program.stop() == 0
        struck = _struck(program)
    books = await _books(tmp_path / "data" / "flashsale.db", gate)
    assert check(history, books) == []
    assert load.accepted > 0
    assert struck == EVERY_POINT


def _struck(program: Program) -> set[str]:
    return set(re.findall(r'"point": "([a-z-]+)"', program.log.read_text()))


async def _open(program: Program) -> None:
    query = f"productId={SINGLE.item_id}&stock={SINGLE.units}&maxPerUser={SINGLE.per_user_limit}"
    until = time.monotonic() + QUIET_S_MAX
    while True:
        url = f"{program.url}/purchase/init?{query}"
        answer = await asyncio.to_thread(ask, "POST", url)
        if answer.status == 200:
            return
        assert time.monotonic() < until, answer


async def _quiet(program: Program) -> Gate:
    """Wait until the gate has followed every row and nothing is left to tell."""
    until = time.monotonic() + QUIET_S_MAX
    while True:
        answer = await asyncio.to_thread(ask, "GET", f"{program.url}/sales/{SINGLE.sale_id}")
        seen = answer.body.get("gate") or {}
        if seen.get("journal") == 0:
            return Gate(
                SINGLE.sale_id,
                initial=seen["initial"],
                available=seen["available"],
                reserved=seen["reserved"],
                outside=seen["outside"],
                queued=seen["queued"],
                sold=seen["sold"],
            )
        assert time.monotonic() < until, answer
        await asyncio.sleep(0.2)


async def _books(path: Path, gate: Gate) -> Books:
    async with aiosqlite.connect(path) as database:
        sales = await database.execute_fetchall(
            "SELECT sale_id, initial, available, sold, pending, per_user_limit, state FROM sales"
        )
        rows = await database.execute_fetchall(
            "SELECT sale_id, purchase_id, user_id, quantity, status, reason, recorded_at "
            "FROM orders"
        )
    return Books(
        sales=[Sale(*one) for one in sales],
        rows=[Row(*one) for one in rows],
        gates=[gate],
        were_events_heard=False,
    )
