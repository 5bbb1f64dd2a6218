"""Money on real servers: whatever breaks, one charge, one order or one unit back, one event."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.asyncio

from flashsale_core.events import OrderEventType
from tests.integration.crowds import connected, crowd, quiet_gate
from tests.integration.engine import ask, buy_until_told
from tests.integration.paying import AUTH, Shop, as_installed, shop
from tests.servers import Kafka, Postgres, RabbitMQ, Redis
from tests.servers.provider import Provider, running_provider

PURCHASES = 200
DECLINED = 20
# Whichever test comes first starts a broker and several processes.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def bus(request: pytest.FixtureRequest) -> Kafka | RabbitMQ:
    """Have each broker in turn."""
    server: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Have a provider that charges and drops one reply in three."""
    with running_provider(drops_one_in=3) as running:
        yield running


def wanted(count: int) -> list[dict[str, object]]:
    """Make purchases; every tenth is declined, some take their time."""
    kinds = collections.defaultdict(lambda: "tok", {0: "declined", 3: "slow", 7: "unavailable"})
    return [
        {
            "userId": n,
            "productId": 1,
            "purchaseId": f"paid-{n}",
            "paymentToken": f"{kinds[n % 10]}-secret-{n}",
        }
        for n in range(count)
    ]


def assert_charged_once(shop: Shop) -> None:
    """No key was charged twice; those that were not declined were charged."""
    ledger = shop.provider.ledger()
    assert len(ledger) == PURCHASES
    assert {entry["charges"] for entry in ledger if entry["state"] == "charged"} == {1}
    states = collections.Counter(entry["state"] for entry in ledger)
    assert states == {"charged": PURCHASES - DECLINED, "declined": DECLINED}
    assert {entry["authorization"] for entry in ledger} == {f"Bearer {AUTH}"}


async def assert_told_once(shop: Shop) -> bytes:
    """One kind of event a purchase, of what its row says; answer all bytes that were told."""
    events, raw = await shop.told(PURCHASES)
    assert len(events) == PURCHASES
    created = {one.purchase_id for one in events if one.type is OrderEventType.ORDER_CREATED}
    rows = await shop.rows()
    assert created == {name for name, (status, _) in rows.items() if status == "CONFIRMED"}
    assert {reason for status, reason in rows.values() if status == "REJECTED"} == {
        "PAYMENT_DECLINED"
    }
    return raw


async def assert_no_token(shop: Shop, told: bytes) -> None:
    """Not in a line, a page, an event, a row or the gate."""
    for program in shop.engine.programs:
        text = program.log.read_text()
        assert "secret-" not in text, program.name
        assert AUTH not in text, program.name
        if program.process.poll() is None:
            page = await asyncio.to_thread(ask, "GET", f"{program.url}/metrics")
            assert "flashsale_payments_total" in page.body["text"]
            assert "secret-" not in page.body["text"]
    assert b"secret-" not in told
    async with connected(shop.engine) as database:
        for table in ("payments", "orders", "outbox", "parked_messages"):
            rows = await database.fetch(f"SELECT t::text FROM {table} t")
            assert not any("secret-" in row[0] for row in rows), table
    async with redis.asyncio.from_url(shop.engine.settings["FLASHSALE_GATE_URL"]) as gate:
        name = f"{shop.engine.settings['FLASHSALE_NAMESPACE']}:{{1.1}}:purchases"
        records = await gate.hgetall(name)
    assert len(records) == PURCHASES
    assert not any(b"secret-" in record for record in records.values())


async def test_every_purchase_is_charged_once_though_replies_drop_and_workers_die(
    bus: Kafka | RabbitMQ,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    provider: Provider,
) -> None:
    """200 purchases, one reply in three dropped, the worker killed twice with -9."""
    with shop(tmp_path, bus, redis_server, postgres_server, provider, "serve", "worker") as ours:
        ours.open(PURCHASES)
        buying = asyncio.create_task(crowd([ours.door], wanted(PURCHASES), at_once=50))
        for after in (10, 90):
            await ours.settled(after)
            ours.worker.kill()
            ours.engine.start("worker")
        assert await buying == {200: PURCHASES}
        statuses = await ours.settled(PURCHASES)
        assert statuses == {"CONFIRMED": PURCHASES - DECLINED, "REJECTED": DECLINED}
        assert_charged_once(ours)
        gate = await quiet_gate(ours.door)
        assert (gate["available"], gate["queued"]) == (DECLINED, 0)
        assert gate["sold"] == PURCHASES - DECLINED
        sale = await ours.sale()
        assert (sale["available"], sale["pending"]) == (DECLINED, 0)
        assert sale["sold"] == PURCHASES - DECLINED
        await assert_no_token(ours, await assert_told_once(ours))
        again = {"userId": "late", "productId": 1, "purchaseId": "late", "quantity": DECLINED}
        answer, _ = await buy_until_told([ours.door], {**again, "paymentToken": "tok"})
        assert answer.status == 200
        await ours.settled(PURCHASES + 1)
        answer, _ = await buy_until_told(
            [ours.door], {"userId": 1, "productId": 1, "paymentToken": "tok"}
        )
        assert answer.status == 429


@pytest.fixture
def polite() -> Iterator[Provider]:
    """Have a provider that loses no reply."""
    with running_provider() as running:
        yield running


@pytest.mark.long
async def test_two_workers_side_by_side_ask_for_each_charge_once(
    kafka_server: Kafka,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    polite: Provider,
) -> None:
    """Where no reply is lost, not even the same key is posted twice."""
    programs = ("serve", "worker", "worker")
    with shop(tmp_path, kafka_server, redis_server, postgres_server, polite, *programs) as ours:
        ours.open(100)
        purchases = [{**one, "paymentToken": "tok"} for one in wanted(100)]
        assert await crowd([ours.door], purchases) == {200: 100}
        assert await ours.settled(100) == {"CONFIRMED": 100}
        ledger = ours.provider.ledger()
        assert {(entry["charges"], entry["posts"]) for entry in ledger} == {(1, 1)}
        took = [
            sum("CONFIRMED" in line for line in program.log.read_text().splitlines())
            for program in ours.engine.programs
            if program.is_worker
        ]
        assert sum(took) == 100
        assert min(took) > 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_provider_that_is_down_for_a_while_releases_and_loses_nothing(
    how: str,
    kafka_server: Kafka,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    polite: Provider,
) -> None:
    """Buyers are told ACCEPTED, their units stay held, and all are orders when it is back."""
    programs = ("serve", "worker")
    with shop(tmp_path, kafka_server, redis_server, postgres_server, polite, *programs) as ours:
        ours.open(30)
        getattr(polite, how)()
        purchases = [{**one, "paymentToken": "tok"} for one in wanted(30)]
        assert await crowd([ours.door], purchases) == {200: 30}
        await ours.pending(30)
        # Long enough for several claims of each, and for leases to end.
        await asyncio.sleep(3)
        seen = await asyncio.to_thread(ask, "GET", f"{ours.door}/purchase/paid-1")
        assert seen.body["status"] == "PENDING_PAYMENT"
        repeat, _ = await buy_until_told([ours.door], purchases[1])
        assert (repeat.status, repeat.body["status"]) == (200, "ACCEPTED")
        sale = await ours.sale()
        assert (sale["available"], sale["pending"], sale["sold"]) == (0, 30, 0)
        assert (sale["gate"]["available"], sale["gate"]["queued"]) == (0, 30)
        closed = await asyncio.to_thread(ask, "POST", f"{ours.door}/sales/1.1/close")
        assert closed.status == 200
        waits = await asyncio.to_thread(ask, "POST", f"{ours.door}/sales/1.1/settle")
        assert "30 units pending payment" in waits.body["detail"]
        if how == "kill":
            polite.start()
        else:
            polite.thaw()
        assert await ours.settled(30) == {"CONFIRMED": 30}
        assert {entry["charges"] for entry in ours.provider.ledger()} == {1}
        assert (await quiet_gate(ours.door))["sold"] == 30


@pytest.mark.long
async def test_what_is_configured_wrong_is_said_clearly(
    kafka_server: Kafka,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    polite: Provider,
) -> None:
    """No price, no token, a question that the provider refuses: 422, and a person is told."""
    programs = ("serve", "worker")
    with shop(tmp_path, kafka_server, redis_server, postgres_server, polite, *programs) as ours:
        unpriced = ask("POST", f"{ours.door}/purchase/init?productId=1&stock=5")
        assert unpriced.status == 422
        fields = [one["field"] for one in unpriced.body["violations"]]
        assert fields == ["unitPriceMinor", "currency"]
        command = ours.engine.command("sale", "create", "--item", "1", "--stock", "5")
        assert command.returncode != 0
        assert "unitPriceMinor" in command.stderr
        ours.open(5)
        no_token = ask("POST", f"{ours.door}/purchase/buy", {"userId": 1, "productId": 1})
        assert (no_token.status, no_token.body["code"]) == (422, "PAYMENT_TOKEN_MISSING")
        assert "paymentToken" in no_token.body["detail"]
        broken = {"userId": 1, "productId": 1, "purchaseId": "b", "paymentToken": "broken-secret-1"}
        assert ask("POST", f"{ours.door}/purchase/buy", broken).status == 200
        await ours.worker.says("payment-flagged", '"purchase_id": "b"')
        assert "secret-1" not in ours.worker.log.read_text()
        sale = await ours.sale()
        assert (sale["available"], sale["pending"]) == (4, 1)


@pytest.mark.long
async def test_after_20_hours_nothing_is_charged_and_a_person_is_told(
    kafka_server: Kafka,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    polite: Provider,
) -> None:
    """The provider is looked up alone; a person sees what it never heard of, and resumes it."""
    programs = ("serve", "worker")
    with shop(tmp_path, kafka_server, redis_server, postgres_server, polite, *programs) as ours:
        assert "the gateway answers a look-up" in ours.engine.command("doctor").stdout
        ours.open(5)
        polite.kill()
        assert await crowd([ours.door], [{**wanted(1)[0], "paymentToken": "tok"}]) == {200: 1}
        await ours.pending(1)
        async with connected(ours.engine) as database:
            while not await database.fetchval("SELECT attempt FROM payments"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await database.execute(
                "UPDATE payments SET asked_since = asked_since - interval '20 hours'"
            )
        polite.start()
        await ours.worker.says("payment-flagged", "paid-0")
        assert ours.provider.ledger() == []
        assert (await ours.sale())["pending"] == 1
        assert "paid-0" in ours.engine.must("payments", "list")
        async with connected(ours.engine) as database:
            await database.execute("UPDATE payments SET asked_since = now()")
        ours.engine.must("payments", "resume", "1.1", "paid-0")
        assert await ours.settled(1) == {"CONFIRMED": 1}
        assert "no payment waits" in ours.engine.must("payments", "list")
        assert ours.engine.command("payments", "resume", "1.1", "paid-0").returncode != 0


@pytest.mark.long
async def test_a_rebuilt_gate_holds_what_is_pending(
    kafka_server: Kafka,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    polite: Provider,
) -> None:
    """A gate that was lost meanwhile is loaded with it, and follows the row under its new epoch."""
    programs = ("serve", "worker")
    with shop(tmp_path, kafka_server, redis_server, postgres_server, polite, *programs) as ours:
        ours.open(10)
        polite.kill()
        purchases = [
            {**one, "paymentToken": token}
            for one, token in zip(wanted(4), ("tok", "tok", "declined", "tok"), strict=True)
        ]
        assert await crowd([ours.door], purchases) == {200: 4}
        await ours.pending(4)
        for program in ours.engine.programs:
            program.stop()
        ours.engine.must("gate", "rebuild", "--yes-processes-are-stopped")
        polite.start()
        door, worker = ours.engine.start("serve"), ours.engine.start("worker")
        for program in (door, worker):
            program.wait_until_ready()
        assert await ours.settled(4) == {"CONFIRMED": 3, "REJECTED": 1}
        gate = await quiet_gate(door.url)
        assert (gate["available"], gate["sold"], gate["queued"]) == (7, 3, 0)


def test_the_adapter_is_found_as_an_installed_package(tmp_path: Path) -> None:
    """Whether the environment was made before or after it was added."""
    assert "adapters" in as_installed(tmp_path)
