"""Two thousand buyers for a hundred units, on real sockets, processes and servers."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import pytest

from tests.integration.engine import Engine, ask, buy_until_told, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

BUYERS, UNITS = 2_000, 100
SETTLED_S_MAX = 60


@pytest.fixture(params=["kafka", "rabbitmq"])
def stack(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
) -> Iterator[Engine]:
    """An engine of two APIs and two workers, ready to sell, on either bus."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    database = postgres_server.create_database()
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": database,
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        for kind in ("serve", "serve", "worker", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        yield ours
    postgres_server.drop_database(database)


def doors(ours: Engine) -> list[str]:
    """The APIs' addresses."""
    return [program.url for program in ours.programs if program.name.startswith("serve")]


async def crowd(
    urls: Sequence[str], purchases: Sequence[dict[str, object]]
) -> collections.Counter[int]:
    """Let every buyer come in the same second; count the final answers."""
    barrier = asyncio.Event()

    async def buyer(number: int, purchase: dict[str, object]) -> int:
        await barrier.wait()
        own = [*urls[number % len(urls) :], *urls[: number % len(urls)]]
        answer, _ = await buy_until_told(own, purchase)
        return answer.status

    tasks = [asyncio.create_task(buyer(n, purchase)) for n, purchase in enumerate(purchases)]
    barrier.set()
    return collections.Counter(await asyncio.gather(*tasks))


async def rows(database: str) -> collections.Counter[str]:
    """Count the orders by status."""
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        found = await connection.fetch("SELECT status, count(*) AS n FROM orders GROUP BY status")
        return collections.Counter({row["status"]: row["n"] for row in found})
    finally:
        await connection.close()


async def settled_rows(database: str, confirmed: int) -> collections.Counter[str]:
    """Wait until the workers are through."""
    until = time.monotonic() + SETTLED_S_MAX
    while (found := await rows(database))["CONFIRMED"] < confirmed and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return found


@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_two_thousand_buyers_get_a_hundred_units_and_a_clear_no(stack: Engine) -> None:
    """100 orders, no rejected row, and each buyer's final answer is 200 or 429."""
    urls = doors(stack)
    opened = ask("POST", f"{urls[0]}/purchase/init?productId=1&stock={UNITS}")
    assert opened.status == 200, opened
    purchases: list[dict[str, object]] = [
        {"userId": n, "productId": 1, "purchaseId": f"crowd-{n}"} for n in range(BUYERS)
    ]
    answers = await crowd(urls, purchases)
    assert answers == {200: UNITS, 429: BUYERS - UNITS}
    database = stack.settings["FLASHSALE_DATABASE_URL"]
    assert await settled_rows(database, UNITS) == {"CONFIRMED": UNITS}
    sale = ask("GET", f"{urls[1]}/sales/1.1").body
    assert _gate_is_quiet(urls[1]), sale


def _gate_is_quiet(url: str) -> bool:
    """Wait until the gate has followed every row."""
    until = time.monotonic() + SETTLED_S_MAX
    while time.monotonic() < until:
        gate = ask("GET", f"{url}/sales/1.1").body["gate"]
        if (gate["available"], gate["sold"], gate["journal"]) == (0, UNITS, 0):
            return True
        time.sleep(0.2)
    return False
