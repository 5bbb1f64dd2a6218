"""Buyers, orders and quiet gates, as several tests need them."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.integration.engine import Engine, ask, buy_until_told

SETTLED_S_MAX = 60


def purchases(count: int, *, item: int = 1, prefix: str = "crowd") -> list[dict[str, object]]:
    """Make requests of as many buyers, each with an id of its own that it repeats."""
    return [{"userId": n, "productId": item, "purchaseId": f"{prefix}-{n}"} for n in range(count)]


async def crowd(
    urls: Sequence[str], wanted: Sequence[dict[str, object]], *, at_once: int = 2_000
) -> collections.Counter[int]:
    """Let every buyer come in the same second; count the final answers."""
    places = asyncio.Semaphore(at_once)

    async def buyer(number: int, purchase: dict[str, object]) -> int:
        own = [*urls[number % len(urls) :], *urls[: number % len(urls)]]
        async with places:
            answer, _ = await buy_until_told(own, purchase)
        return answer.status

    tasks = [asyncio.create_task(buyer(n, purchase)) for n, purchase in enumerate(wanted)]
    return collections.Counter(await asyncio.gather(*tasks))


@asynccontextmanager
async def connected(ours: Engine) -> AsyncIterator[Any]:
    """Look into the engine's database from beside it."""
    url = ours.settings["FLASHSALE_DATABASE_URL"]
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


async def orders(ours: Engine, sale_id: str = "1.1") -> collections.Counter[str]:
    """Count a sale's orders by status."""
    query = "SELECT status, count(*) AS n FROM orders WHERE sale_id = $1 GROUP BY status"
    async with connected(ours) as database:
        found = await database.fetch(query, sale_id)
    return collections.Counter({row["status"]: row["n"] for row in found})


async def settled_orders(
    ours: Engine, count: int, sale_id: str = "1.1"
) -> collections.Counter[str]:
    """Wait until the workers have made as many orders, and count what there is."""
    until = time.monotonic() + SETTLED_S_MAX
    found = await orders(ours, sale_id)
    while found.total() < count and time.monotonic() < until:
        await asyncio.sleep(0.2)
        found = await orders(ours, sale_id)
    return found


async def quiet_gate(url: str, sale_id: str = "1.1") -> dict[str, Any]:
    """Wait until the gate has followed every row: no purchase is open; answer its counts."""
    until = time.monotonic() + SETTLED_S_MAX
    gate: dict[str, Any] | None = None
    while time.monotonic() < until:
        answer = await asyncio.to_thread(ask, "GET", f"{url}/sales/{sale_id}")
        gate = answer.body.get("gate")
        if gate is not None and gate["journal"] == 0:
            return dict(gate)
        await asyncio.sleep(0.2)
    raise AssertionError(f"the gate of {sale_id} is not quiet: {gate}")
