"""The outside door with two workers: duplicates have one effect, whoever takes them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.crowds import connected, quiet_gate, settled_orders
from tests.integration.engine import Engine, ask, engine, own_names
from tests.integration.outside import Sent, sender
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

UNIQUE, DUPLICATES, UNITS = 700, 300, 500


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def stack(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
) -> Iterator[Engine]:
    """One door to watch by, and two workers."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        for kind in ("serve", "worker", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        yield ours


@pytest.mark.timeout(180)
async def test_a_third_of_duplicates_between_two_workers_changes_no_number(stack: Engine) -> None:
    """Every purchase has one row and one event, and the units are sold once."""
    [url] = stack.doors
    assert ask("POST", f"{url}/purchase/init?productId=1&stock={UNITS}").status == 200
    codec = AvroCodec()
    unique = [
        PurchaseRequest(
            purchase_id=PurchaseId(f"outside-{n}"),
            user_id=UserId(f"u{n}"),
            item_id=ItemId("1"),
            requested_at_ms=n,
        )
        for n in range(UNIQUE)
    ]
    dice = random.Random(7)
    wanted = unique + dice.choices(unique, k=DUPLICATES)
    dice.shuffle(wanted)
    async with sender(stack) as send:
        await send([Sent(one.purchase_id.encode(), codec.encode(one).body) for one in wanted])
    found = await settled_orders(stack, UNIQUE)
    assert found == {"CONFIRMED": UNITS, "REJECTED": UNIQUE - UNITS}
    gate = await quiet_gate(url)
    assert (gate["available"], gate["sold"]) == (0, UNITS)
    async with connected(stack) as database:
        assert await database.fetchval("SELECT available FROM sales") == 0
        reasons = await database.fetch("SELECT DISTINCT reason FROM orders WHERE reason <> ''")
        assert [row["reason"] for row in reasons] == ["SOLD_OUT"]
        assert await database.fetchval("SELECT count(*) FROM parked_messages") == 0
