"""A gate that lost its memory is rebuilt while everything goes on, and sells no unit twice."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis as RedisClient

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.crowds import connected, orders, quiet_gate, settled_orders
from tests.integration.engine import Answer, Engine, ask, engine, own_names
from tests.integration.outside import Sent, sender
from tests.servers import Kafka, Postgres, RabbitMQ, Redis
from tests.servers.redis import running_redis

HOLDS_S_MAX = 60
UNITS = 6


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """Have a Redis that may be killed and emptied."""
    with running_redis(ours=True) as redis:
        yield redis


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def stack(
    request: pytest.FixtureRequest, tmp_path: Path, own_redis: Redis, postgres_server: Postgres
) -> Iterator[Engine]:
    """One API and one worker that sell a few units, on either bus."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": own_redis.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_BACKOFF_MAX_MS": "500",
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        begin(ours)
        [url] = ours.doors
        assert ask("POST", f"{url}/purchase/init?productId=1&stock={UNITS}").status == 200
        yield ours


def begin(ours: Engine) -> None:
    """Start an API and a worker."""
    ours.programs.clear()
    for kind in ("serve", "worker"):
        ours.start(kind)
    for program in ours.programs:
        program.wait_until_ready()


def buy(ours: Engine, purchase: str) -> Answer:
    """Buy one unit over HTTP."""
    [url] = ours.doors
    body = {"userId": purchase, "productId": 1, "purchaseId": purchase}
    return ask("POST", f"{url}/purchase/buy", body)


async def ask_from_outside(ours: Engine, *purchases: str) -> None:
    """Ask for one unit each as another service does."""
    codec = AvroCodec()
    wanted = [
        PurchaseRequest(
            purchase_id=PurchaseId(purchase),
            user_id=UserId(purchase),
            item_id=ItemId("1"),
            requested_at_ms=1,
        )
        for purchase in purchases
    ]
    async with sender(ours) as send:
        await send([Sent(one.purchase_id.encode(), codec.encode(one).body) for one in wanted])


async def parked(ours: Engine) -> dict[str, str]:
    """Tell what is parked: the status of each purchase."""
    async with connected(ours) as database:
        rows = await database.fetch("SELECT purchase_id, status FROM parked_messages")
    return {row["purchase_id"]: row["status"] for row in rows}


async def parked_as(ours: Engine, expected: dict[str, str]) -> None:
    """Wait until exactly this is parked."""
    until = time.monotonic() + HOLDS_S_MAX
    while (found := await parked(ours)) != expected:
        assert time.monotonic() < until, found
        await asyncio.sleep(0.1)


async def empty(redis: Redis) -> None:
    """Let an operator's slip delete every key; the functions and their memory stay."""
    async with RedisClient.from_url(redis.url) as client:
        await client.flushall()


async def bought(ours: Engine, purchase: str) -> Answer:
    """Buy as a buyer does: a 503 is asked again, with the same id, until there is an answer."""
    until = time.monotonic() + HOLDS_S_MAX
    while (answer := buy(ours, purchase)).status == 503:
        assert time.monotonic() < until, answer
        await asyncio.sleep(0.1)
    return answer


@pytest.mark.timeout(300)
async def test_a_restarted_and_an_emptied_redis_are_rebuilt_and_nothing_is_lost_or_sold_twice(
    stack: Engine, own_redis: Redis
) -> None:
    """Nobody does anything: promises are kept, buyers hear 503 for some seconds, all end."""
    assert buy(stack, "http-1").status == 200
    _, worker = stack.programs
    assert await settled_orders(stack, 1) == {"CONFIRMED": 1}
    # A promise on its way when the memory goes.
    worker.process.send_signal(signal.SIGSTOP)
    assert buy(stack, "http-2").status == 200
    own_redis.kill()
    own_redis.start()
    refused = buy(stack, "http-3")
    # Not armed, or not asked again yet since it was silent.
    assert refused.status == 503
    assert refused.body["reason"] in ("not-armed", "gate-away")
    assert int(refused.headers["retry-after"]) >= 1
    worker.process.send_signal(signal.SIGCONT)
    await ask_from_outside(stack, "outside-1", "outside-2")
    assert (await bought(stack, "http-3")).status == 200
    assert await settled_orders(stack, 5) == {"CONFIRMED": 5}
    # Whoever was promised a unit in the lost life hears so again, and takes no second one.
    assert [buy(stack, one).status for one in ("http-1", "http-2")] == [200, 200]

    await quiet_gate(stack.doors[0])
    await empty(own_redis)
    assert buy(stack, "http-4").status == 503
    assert (await bought(stack, "http-4")).status == 200
    assert (await bought(stack, "http-5")).status == 429
    gate = await quiet_gate(stack.doors[0])
    assert (gate["available"], gate["sold"]) == (0, UNITS)
    assert set((await parked(stack)).values()) <= {"REPLAYED"}


@pytest.mark.timeout(180)
async def test_an_init_after_the_keys_are_gone_waits_for_the_rebuild(
    stack: Engine, own_redis: Redis
) -> None:
    """An operator's reflex: the sale is not begun anew, and what was sold stays sold."""
    assert buy(stack, "http-1").status == 200
    assert await settled_orders(stack, 1) == {"CONFIRMED": 1}
    await empty(own_redis)
    [url] = stack.doors
    again = ask("POST", f"{url}/purchase/init?productId=1&stock={UNITS}")
    assert again.status == 200
    assert again.body["gate"]["available"] == UNITS - 1
    assert again.body["epoch"] == 2


@pytest.mark.timeout(180)
async def test_requests_from_outside_wait_while_the_gate_is_lost(
    stack: Engine, own_redis: Redis
) -> None:
    """They are parked, not refused, and go through the new gate."""
    _, worker = stack.programs
    await empty(own_redis)
    await ask_from_outside(stack, "outside-1", "outside-2")
    assert await settled_orders(stack, 2) == {"CONFIRMED": 2}
    assert worker.process.poll() is None
    # Its row says so a moment after the bus has it again.
    until = time.monotonic() + HOLDS_S_MAX
    while not set((found := await parked(stack)).values()) <= {"REPLAYED"}:
        assert time.monotonic() < until, found
        await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_a_redis_that_is_away_parks_nothing_and_the_requests_wait_on_the_bus(
    stack: Engine, own_redis: Redis
) -> None:
    """A dependency that is down pauses the consumers; nobody's message is anybody's fault."""
    door, worker = stack.programs
    own_redis.stop()
    await ask_from_outside(stack, "outside-1")
    await worker.says("delivery waits", "gate-away")
    at_door = await door.ready_as(503)
    assert [(one["name"], one["ok"]) for one in at_door] == [("gate", False), ("bus", True)]
    assert "gate-away" in at_door[0]["lastError"]
    at_worker = await worker.ready_as(503)
    assert {name: one["up"] for name, one in at_worker.items()} == {
        "gate": False,
        "bus": True,
        "database": True,
    }
    assert "gate-away" in at_worker["gate"]["error"]
    assert await parked(stack) == {}
    assert await orders(stack) == {}
    own_redis.start()
    # It lost its memory with the stop, which is another kind of trouble, and mended by itself.
    assert await settled_orders(stack, 1) == {"CONFIRMED": 1}
    assert "gate-away" in (await door.ready_as(200))[0]["lastError"]
