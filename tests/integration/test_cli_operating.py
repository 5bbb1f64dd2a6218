"""An operator's day on the command line: real gate, bus and database, processes of their own."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis as RedisClient

from flashsale.commands.app import run_command
from tests.integration.engine import Engine, ask, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis
from tests.servers.launch import free_port
from tests.servers.redis import running_redis

BUSES = ("kafka_server", pytest.param("rabbitmq_server", marks=pytest.mark.long))
HOLDS_S_MAX = 40
"""A worker joins its group within a rebalance or two, on a busy machine."""
CONFIRMED = "--yes-processes-are-stopped"


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """Have a Redis that may forget its functions' memory, as a restart makes it do."""
    with running_redis(ours=True) as redis:
        yield redis


@attrs.frozen
class Operator:
    """Somebody who types commands; in this process, because each start costs a second of CPU."""

    processes: Engine
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def type_in(self, *args: str, **settings: str) -> tuple[int, str, str]:
        """Run a command; answer its exit code and what it wrote on both streams."""
        with self.monkeypatch.context() as patch:
            for name, value in (self.processes.settings | settings).items():
                patch.setenv(name, value)
            code = run_command(args)
        written = self.capsys.readouterr()
        return code, written.out, written.err

    def must(self, *args: str) -> str:
        """Run a command that must succeed."""
        code, out, err = self.type_in(*args)
        assert (code, err) == (0, ""), (args, out, err)
        return out

    def told(self, *args: str) -> Any:
        """Run a command that answers JSON."""
        return json.loads(self.must(*args, "--json"))

    def refused(self, *args: str) -> str:
        """Run a command that cannot be done; answer its one line."""
        code, out, err = self.type_in(*args)
        assert (code, out) == (1, ""), (args, out, err)
        assert err.startswith("flashsale: ")
        [line] = err.splitlines()
        return line


@pytest.fixture
def operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Operator]:
    """Have an operator without any settings."""
    for variable in list(os.environ):
        if variable.startswith("FLASHSALE_") and not variable.startswith("FLASHSALE_TEST_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    with engine(tmp_path, {}) as processes:
        yield Operator(processes, monkeypatch, capsys)


@pytest.fixture(params=BUSES)
def operated(
    request: pytest.FixtureRequest,
    operator: Operator,
    own_redis: Redis,
    postgres_server: Postgres,
) -> Operator:
    """Have an operator of an engine whose servers are prepared, on each bus."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(request.param)
    operator.processes.settings |= own_names() | {
        "FLASHSALE_GATE_URL": own_redis.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    for command in ("db upgrade", "topics ensure", "gate install"):
        operator.must(*command.split())
    return operator


def forget(redis: Redis) -> None:
    """Take the functions' own memory away, which says what is armed."""

    async def run() -> None:
        async with RedisClient.from_url(redis.url) as client:
            source = await client.function_list(withcode=True)
            [library] = [_fields(one) for one in source]
            await client.function_load(library["library_code"], replace=True)

    asyncio.run(run())


def _fields(one: Any) -> dict[str, Any]:
    pairs = one.items() if isinstance(one, dict) else zip(*[iter(one)] * 2, strict=True)
    return {_text(key): value for key, value in pairs}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_preparing_twice_changes_nothing(operated: Operator) -> None:
    """A deployment runs the same commands each time."""
    assert "nothing to do" in operated.must("topics", "ensure")
    assert "nothing to do" in operated.must("gate", "install")
    assert "nothing to do" in operated.must("db", "upgrade")
    assert operated.told("topics", "ensure") == {"made": []}
    code, _, err = operated.type_in("topics", "ensure", FLASHSALE_PARTITIONS="3")
    assert code == 1
    assert "wanted" in err


def test_a_sale_is_led_through_its_life(operated: Operator) -> None:
    """Create, look, pause, resume, close, settle, and the item's next round."""
    create = ("sale", "create", "--item", "7", "--stock", "5", "--max-per-user", "2")
    made = operated.told(*create, "--opens-at", "2020-01-01T00:00:00Z")
    assert (made["saleId"], made["state"], made["gate"]["available"]) == ("7.1", "OPEN", 5)
    assert (made["maxPerUser"], made["opensAt"]) == (2, "2020-01-01T00:00:00.000Z")
    assert operated.told(*create, "--opens-at", "2020-01-01T00:00:00Z") == made
    assert "other terms" in operated.refused("sale", "create", "--item", "7", "--stock", "6")
    assert [one["saleId"] for one in operated.told("sale", "list")["sales"]] == ["7.1"]
    assert "waits for: close" in operated.refused("sale", "settle", "7.1")
    for verb, state in (("pause", "PAUSED"), ("resume", "OPEN"), ("close", "CLOSED")):
        moved = operated.told("sale", verb, "7.1")
        assert (moved["state"], moved["gate"]["state"]) == (state, state)
    assert operated.told("sale", "settle", "7.1")["state"] == "SETTLED"
    assert operated.told("sale", "create", "--item", "7", "--stock", "6")["saleId"] == "7.2"
    assert "no sale 8.1" in operated.refused("sale", "show", "8.1")
    assert "no purchase nobody" in operated.refused("purchase", "show", "nobody")
    table = operated.must("sale", "list")
    assert table.splitlines()[0].split()[:3] == ["sale", "state", "stock"]
    assert "7.2" in table


def test_the_same_commands_go_over_http(operated: Operator) -> None:
    """With --url they ask a running process, and print the same JSON."""
    operated.must("sale", "create", "--item", "1", "--stock", "3")
    door, worker = operated.processes.start("serve"), operated.processes.start("worker")
    door.wait_until_ready()
    worker.wait_until_ready()
    bought = operated.told("buy", "--user", "101", "--item", "1", "--url", door.url)
    assert bought["status"] == "ACCEPTED"
    show = ("purchase", "show", bought["purchaseId"])
    _until(lambda: operated.told(*show)["status"] == "CONFIRMED")
    assert operated.told(*show) == operated.told(*show, "--url", door.url)
    of_sale = ("sale", "show", "1.1")
    assert operated.told(*of_sale) == operated.told(*of_sale, "--url", door.url)
    assert "(409)" in operated.refused("sale", "settle", "1.1", "--url", door.url)
    for expected in (200, 200, 429):
        answer = ask("POST", f"{door.url}/purchase/buy", {"userId": 1, "productId": 1})
        assert answer.status == expected
    sold_out = operated.refused("buy", "--user", "1", "--item", "1", "--url", door.url)
    assert "Sold out" in sold_out


def _until(holds: Callable[[], bool]) -> None:
    """Look again until it holds."""
    until = time.monotonic() + HOLDS_S_MAX
    while not holds():
        assert time.monotonic() < until, "it never held"
        time.sleep(0.1)


def _verified(operated: Operator) -> Any:
    [sale] = operated.told("gate", "verify", "--pause-ms", "10")["sales"]
    return sale


async def delete(redis: Redis, key: str, field: str) -> None:
    """Take one record out, as nobody should."""
    async with RedisClient.from_url(redis.url) as client:
        assert await client.hdel(key, field) == 1


def test_books_that_differ_are_named_and_put_right(operated: Operator, own_redis: Redis) -> None:
    """Somebody deleted a record by hand: the unit could be sold again, and sums still agree."""
    operated.must("sale", "create", "--item", "1", "--stock", "10")
    worker = operated.processes.start("worker", FLASHSALE_RECONCILE_INTERVAL_MS="200")
    door = operated.processes.start("serve")
    for program in (worker, door):
        program.wait_until_ready()
    for number in (1, 2):
        body = {"userId": number, "productId": 1, "purchaseId": f"p{number}"}
        assert ask("POST", f"{door.url}/purchase/buy", body).status == 200
    _until(lambda: _verified(operated)["soldInDatabase"] == 2)
    assert operated.told("gate", "verify")["drifts"] == []
    namespace = operated.processes.settings["FLASHSALE_NAMESPACE"]
    asyncio.run(delete(own_redis, f"{namespace}:{{1.1}}:purchases", "p1"))
    code, told, _ = operated.type_in("gate", "verify", "--json")
    assert code == 1
    [drift] = json.loads(told)["drifts"]
    assert (drift["purchaseId"], drift["kind"], drift["units"]) == ("p1", "unknown-to-gate", 1)
    metric = 'flashsale_drift_purchases{sale="1.1"}'
    _until(lambda: f"{metric} 1.0" in ask("GET", f"{worker.url}/metrics").body["text"])
    assert '"alarm": "books-drift"' in worker.log.read_text()
    operated.must("gate", "rebuild", "1.1")
    assert operated.told("gate", "verify")["drifts"] == []
    _until(lambda: f"{metric} 0.0" in ask("GET", f"{worker.url}/metrics").body["text"])


def test_a_rebuild_by_hand_loses_no_promise_with_workers_or_without(
    operated: Operator, own_redis: Redis
) -> None:
    """While workers run it goes on beside them; without any it refuses what it could lose."""
    operated.must("sale", "create", "--item", "1", "--stock", "10")
    door = operated.processes.start("serve")
    door.wait_until_ready()
    body = {"userId": 1, "productId": 1, "quantity": 3, "purchaseId": "p1"}
    assert ask("POST", f"{door.url}/purchase/buy", body).status == 200
    door.stop()
    forget(own_redis)
    assert operated.type_in("gate", "show")[0] == 1
    assert "no worker takes from" in operated.refused("gate", "rebuild")
    assert "1 message waits" in operated.refused("gate", "rebuild", CONFIRMED)
    worker = operated.processes.start("worker")
    worker.wait_until_ready()
    # The worker finds the lost gate by itself, and the promise is in the new books.
    _until(lambda: operated.type_in("gate", "show")[0] == 0)
    assert "nothing to do" in operated.must("gate", "rebuild")
    [expected] = operated.told("gate", "rebuild", "1.1", "--dry-run")["sales"]
    assert (expected["epoch"], expected["available"], expected["sold"]) == (2, 7, 3)
    assert "still subscribed" in operated.refused("gate", "rebuild", CONFIRMED)
    [by_hand] = operated.told("gate", "rebuild", "1.1")["sales"]
    assert (by_hand["epoch"], by_hand["gate"]["available"], by_hand["gate"]["sold"]) == (3, 7, 3)
    assert "no unsettled sale 2.1" in operated.refused("gate", "rebuild", "2.1")
    assert worker.stop() == 0
    assert "nothing to do" in operated.must("gate", "rebuild", CONFIRMED)
    [again] = operated.told("gate", "rebuild", "1.1", CONFIRMED)["sales"]
    assert again["epoch"] == 4
    assert "no unsettled sale 2.1" in operated.refused("gate", "rebuild", "2.1", CONFIRMED)


@pytest.mark.parametrize(
    ("setting", "scheme", "typed"),
    [
        ("FLASHSALE_GATE_URL", "redis", "gate install"),
        ("FLASHSALE_BUS_URL", "kafka", "topics ensure"),
        ("FLASHSALE_BUS_URL", "amqp", "topics ensure"),
        ("FLASHSALE_DATABASE_URL", "postgresql+asyncpg", "db upgrade"),
        ("FLASHSALE_DATABASE_URL", "postgresql+asyncpg", "sale list"),
        ("FLASHSALE_SCHEMA_REGISTRY_URL", "http", "schema register"),
    ],
)
def test_what_is_away_is_said_in_one_line(
    operator: Operator, setting: str, scheme: str, typed: str
) -> None:
    """Exit code 1, and no traceback of any driver."""
    operator.processes.settings |= {
        "FLASHSALE_GATE_URL": "redis://127.0.0.1:1",
        "FLASHSALE_BUS_URL": "amqp://127.0.0.1:1",
        setting: f"{scheme}://127.0.0.1:{free_port()}",
    }
    operator.refused(*typed.split())
