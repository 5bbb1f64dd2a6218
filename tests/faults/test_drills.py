"""The drills of one process that every run of the tests has: delays and errors at every point."""

from __future__ import annotations

import asyncio
import random
import re
import time
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from flashsale.fault_points import Point
from tests.faults.books import charges_of
from tests.faults.buyers import Item, Load, now_ms
from tests.faults.checker import check
from tests.faults.history import Books, Gate, History, Row, Sale
from tests.faults.kinds import IN_A_REBUILD, LOST_AGAIN_S
from tests.faults.stack import QUICK
from tests.integration.engine import Program, ask, engine
from tests.servers.provider import running_provider

SEED = 1
EVERY_POINT = {point.site.name for point in Point}
QUIET_S_MAX = 90
pytestmark = pytest.mark.timeout(600)

SINGLE = Item("drill", units=2_000, share=1.0, users=900, per_user_limit=2, price_minor=100)


@pytest.mark.parametrize("action", ["delay:100", "error"])
async def test_delays_and_errors_at_every_point_of_one_process_lose_and_double_nothing(
    tmp_path: Path, action: str
) -> None:
    """`flashsale run` on memory, where every point is armed at once and strikes by chance.

    Its sale is paid for, and its gate is lost again and again, as by a rebuild that died.
    """
    often = f"{action}@{0.3 if action == 'delay:100' else 0.1}"
    # The first to be loaded is the demo's sale, without which the process would not start.
    plan = ";".join(
        f"{point.site.name}={f'{action}@2' if point in IN_A_REBUILD else often}" for point in Point
    )
    armed = {"FLASHSALE_FAULTS": f"{plan};seed={SEED}", "FLASHSALE_FAULTS_ALLOWED": "yes"}
    history, path = History(), tmp_path / "data" / "flashsale.db"
    with running_provider(drops_one_in=3) as provider, engine(tmp_path, QUICK) as ours:
        program = ours.start("run", FLASHSALE_PAYMENT_URL=provider.url, **armed)
        await asyncio.to_thread(program.wait_until_ready)
        began_ms = now_ms()
        await _open(program)
        load = Load(history, [SINGLE], lambda: [program.url], random.Random(SEED), "buyer")
        stop = asyncio.Event()
        coming = asyncio.create_task(load.come(20.0, stop))
        until = time.monotonic() + QUIET_S_MAX
        # What was not passed in that time is named below.
        while _struck(program) != EVERY_POINT and time.monotonic() < until:
            if await _end_the_life(path):
                history.freed += len(load.tasks) + 1
                await _lives_again(path, until)
                # Each life has this long to sell in, however long the machine took to begin it.
                await asyncio.sleep(LOST_AGAIN_S)
        stop.set()
        await coming
        history.faults.append((began_ms, now_ms()))
        await load.all_told()
        gate = await _quiet(program, path)
        assert program.stop() == 0
        struck = _struck(program)
        books = await _books(path, gate, provider.ledger())
    assert check(history, books) == []
    assert load.accepted > 0
    assert struck == EVERY_POINT


async def _end_the_life(path: Path) -> bool:
    """Begin the next life in the database alone, as a rebuild does that dies at once."""
    async with aiosqlite.connect(path, timeout=10) as database:
        ended = await database.execute(
            "UPDATE sales SET epoch = epoch + 1 WHERE epoch = armed_epoch"
        )
        await database.commit()
        return ended.rowcount > 0


async def _lives_again(path: Path, until: float) -> None:
    async with aiosqlite.connect(path, timeout=10) as database:
        while time.monotonic() < until:
            query = "SELECT count(*) FROM sales WHERE epoch <> armed_epoch"
            [[dead]] = await database.execute_fetchall(query)
            if not dead:
                return
            await asyncio.sleep(0.2)


def _struck(program: Program) -> set[str]:
    return set(re.findall(r'"point": "([a-z-]+)"', program.log.read_text()))


async def _open(program: Program) -> None:
    price = f"unitPriceMinor={SINGLE.price_minor}&currency=CHF"
    query = (
        f"productId={SINGLE.item_id}&stock={SINGLE.units}&maxPerUser={SINGLE.per_user_limit}"
        f"&{price}"
    )
    until = time.monotonic() + QUIET_S_MAX
    while True:
        url = f"{program.url}/purchase/init?{query}"
        answer = await asyncio.to_thread(ask, "POST", url)
        if answer.status == 200:
            return
        assert time.monotonic() < until, answer


async def _pending(path: Path) -> int:
    query = "SELECT count(*) FROM orders WHERE status = 'PENDING_PAYMENT'"
    async with aiosqlite.connect(path, timeout=10) as database:
        [[count]] = await database.execute_fetchall(query)
    return int(count)


async def _quiet(program: Program, path: Path) -> Gate:
    """Wait until the gate has followed every row and nothing is left to tell."""
    until = time.monotonic() + QUIET_S_MAX
    while True:
        answer = await asyncio.to_thread(ask, "GET", f"{program.url}/sales/{SINGLE.sale_id}")
        seen = answer.body.get("gate") or {}
        if seen.get("journal") == 0 and not await _pending(path):
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


async def _books(path: Path, gate: Gate, ledger: list[dict[str, Any]]) -> Books:
    async with aiosqlite.connect(path) as database:
        sales = await database.execute_fetchall(
            "SELECT sale_id, initial, available, sold, pending, per_user_limit, state, "
            "unit_price_minor FROM sales WHERE item_id = 'drill'"
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
        charges=charges_of(ledger),
    )
