"""Two thousand buyers for a hundred units, on real sockets, processes and servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.crowds import crowd, orders, purchases, quiet_gate, settled_orders
from tests.integration.engine import Engine, Program, ask, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis
from tests.servers.launch import wait_until

BUYERS, UNITS = 2_000, 100
DRIFT_SEEN_S_MAX = 30


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
        # Gate and database are compared all the while: what is in flight is no drift.
        "FLASHSALE_RECONCILE_INTERVAL_MS": "100",
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        for kind in ("serve", "serve", "worker", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        yield ours
    postgres_server.drop_database(database)


@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_two_thousand_buyers_get_a_hundred_units_and_a_clear_no(stack: Engine) -> None:
    """100 orders, no rejected row, and each buyer's final answer is 200 or 429."""
    urls = stack.doors
    opened = ask("POST", f"{urls[0]}/purchase/init?productId=1&stock={UNITS}")
    assert opened.status == 200, opened
    answers = await crowd(urls, purchases(BUYERS))
    assert answers == {200: UNITS, 429: BUYERS - UNITS}
    assert await settled_orders(stack, UNITS) == {"CONFIRMED": UNITS}
    gate = await quiet_gate(urls[1])
    assert (gate["available"], gate["sold"]) == (0, UNITS)
    assert await orders(stack) == {"CONFIRMED": UNITS}
    for worker in stack.programs[2:]:
        assert "books-drift" not in worker.log.read_text()
        assert 'flashsale_drift_purchases{sale="1.1"} 0.0' in _metrics_with_drift(worker)


def _metrics_with_drift(worker: Program) -> str:
    """Read a worker's metrics once it has looked for drift, in an interval of its own."""

    def metrics() -> str:
        page: str = ask("GET", f"{worker.url}/metrics").body["text"]
        return page

    sample = '\nflashsale_drift_purchases{sale="1.1"} '
    wait_until(lambda: sample in metrics(), "a look for drift", DRIFT_SEEN_S_MAX)
    return metrics()


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_two_thousand_buyers_at_the_embedded_engine(tmp_path: Path) -> None:
    """One process, memory and SQLite: the same promise."""
    with engine(tmp_path, {}) as ours:
        run = ours.start("run")
        run.wait_until_ready()
        opened = ask("POST", f"{run.url}/purchase/init?productId=77&stock={UNITS}")
        assert opened.status == 200, opened
        answers = await crowd([run.url], purchases(BUYERS, item=77))
        assert answers == {200: UNITS, 429: BUYERS - UNITS}
        sale = ask("GET", f"{run.url}/sales/77.1").body
        assert (sale["available"], sale["sold"]) == (0, UNITS)
        gate = await quiet_gate(run.url, "77.1")
        assert (gate["available"], gate["sold"]) == (0, UNITS)
