"""The engine under the users of docs/security.md: all that it does, and nothing that it need not.

One engine on Kafka and one on RabbitMQ, with a Redis and a PostgreSQL of their own, whose users the
page's own commands have made. No process has a right that the page does not give it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import aio_pika
import attrs
import pytest
import redis
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from aiormq.exceptions import ChannelAccessRefused

from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.engine import Answer, Engine, Program, ask, engine
from tests.integration.granted import (
    KAFKA_USERS,
    PASSWORDS,
    as_user,
    grant_kafka,
    grant_postgres,
    grant_rabbitmq,
    grant_redis,
    grant_tables,
    kafka_login,
)
from tests.servers import (
    Kafka,
    RabbitMQ,
    running_kafka,
    running_postgres,
    running_rabbitmq,
    running_redis,
)

pytestmark = pytest.mark.timeout(300)
WAIT_S = 40.0
REQUESTS = "flashsale.purchase.requests"
ACCEPTED = "flashsale.purchase.accepted"
REFUSED = (
    "NoPermission",
    "NOPERM",
    "permission denied",
    "lacks a right",
    "uthorization",
    "ACCESS_REFUSED",
)
"""How servers say that a right is missing."""

Put = Callable[[str, bytes], Any]


@attrs.define
class Guarded:
    """An engine under least privilege, and another service at its broker."""

    engine: Engine
    database: str
    gate_url: str
    of: Mapping[str, Mapping[str, str]]
    stranger: Mapping[str, str]
    put: Put

    @property
    def is_kafka(self) -> bool:
        """Say which of the buses it is on."""
        return "FLASHSALE_KAFKA_USERNAME" in self.stranger

    @property
    def door(self) -> str:
        """Name the API."""
        return self.engine.doors[0]

    def admin(self, method: str, path: str, **query: object) -> Answer:
        """Ask as the operator."""
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return ask(method, f"{self.door}{path}?{text}" if text else f"{self.door}{path}")

    def is_confirmed(self, purchase: str) -> bool:
        """Say whether a purchase is an order."""
        found: object = self.admin("GET", f"/purchase/{purchase}").body.get("status")
        return found == "CONFIRMED"

    def said(self) -> str:
        """Read what all processes wrote."""
        return "".join(program.log.read_text() for program in self.engine.programs)


@pytest.fixture(scope="module", params=["kafka", "rabbitmq"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """Servers of our own, so that their users are ours alone; the page makes them."""
    starting: Any = (
        running_kafka(sasl=True, users=KAFKA_USERS)
        if request.param == "kafka"
        else running_rabbitmq(ours=True)
    )
    with running_redis(ours=True) as gate, running_postgres(ours=True) as server, starting as bus:
        database = server.create_database()
        grant_redis(gate)
        grant_postgres(server, database)
        users = _users(bus)
        settings = {
            "FLASHSALE_GATE_URL": as_user(gate.url, "flashsale-worker", PASSWORDS["WORKER"]),
            "FLASHSALE_DATABASE_URL": as_user(database, "flashsale_owner", PASSWORDS["OWNER"]),
            "FLASHSALE_PARTITIONS": "4",
            **users["operator"],
        }
        with engine(tmp_path_factory.mktemp("engine"), settings) as ours:
            ours.prepare()
            grant_tables(database)
            of = {
                kind: {
                    "FLASHSALE_GATE_URL": as_user(gate.url, f"flashsale-{kind}", password),
                    "FLASHSALE_DATABASE_URL": as_user(database, f"flashsale_{kind}", password),
                    **users[kind],
                }
                for kind, password in (("api", PASSWORDS["API"]), ("worker", PASSWORDS["WORKER"]))
            }
            programs: list[Program] = [
                ours.start("serve", **of["api"]),
                ours.start("worker", **of["worker"]),
            ]
            for program in programs:
                program.wait_until_ready()
            put = _put_to_kafka(bus) if isinstance(bus, Kafka) else _put_to_rabbitmq(bus)
            yield Guarded(ours, database, gate.url, of, users["stranger"], put)


def _users(bus: Kafka | RabbitMQ) -> dict[str, Mapping[str, str]]:
    """Make the bus's users; answer their logins as settings."""
    kinds = {"api": "API", "worker": "WORKER", "operator": "OPERATOR"}
    if isinstance(bus, Kafka):
        grant_kafka(bus)
        logins = {kind: kafka_login(bus, f"flashsale-{kind}") for kind in kinds}
        return {**logins, "stranger": kafka_login(bus, "another-service")}
    grant_rabbitmq(bus)
    stranger = as_user(bus.url, "another-service", PASSWORDS["ANOTHER"])
    urls = {
        kind: {"FLASHSALE_BUS_URL": as_user(bus.url, f"flashsale-{kind}", PASSWORDS[name])}
        for kind, name in kinds.items()
    }
    return {**urls, "stranger": {"FLASHSALE_BUS_URL": stranger}}


def _put_to_kafka(bus: Kafka) -> Put:
    async def put(channel: str, body: bytes) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=bus.bootstrap,
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_plain_username="another-service",
            sasl_plain_password=PASSWORDS["ANOTHER"],
            ssl_context=ssl.create_default_context(cafile=str(bus.ca)),
        )
        await producer.start()
        try:
            await producer.send_and_wait(channel, body)
        finally:
            await producer.stop()

    return put


def _put_to_rabbitmq(bus: RabbitMQ) -> Put:
    async def put(channel: str, body: bytes) -> None:
        key = f"{channel}.0" if channel == ACCEPTED else channel
        url = as_user(bus.url, "another-service", PASSWORDS["ANOTHER"])
        async with await aio_pika.connect(url) as connection:
            opened = await connection.channel(on_return_raises=True)
            exchange = await opened.get_exchange("flashsale", ensure=False)
            message = aio_pika.Message(body, content_type="application/avro")
            await exchange.publish(message, routing_key=key)

    return put


async def until(look: Callable[[], bool], what: object = "") -> None:
    """Look until it is so."""
    ends = time.monotonic() + WAIT_S
    while not await asyncio.to_thread(look):
        assert time.monotonic() < ends, what
        await asyncio.sleep(0.1)


async def test_the_whole_engine_works_and_lacks_no_right(guarded: Guarded) -> None:
    """Both doors, every admin route, dead letters, a lost gate's rebuild, and the settling."""
    opened = guarded.admin("POST", "/purchase/init", productId=1, stock=50, maxPerUser=2)
    assert opened.status == 200, opened
    buy = f"{guarded.door}/purchase/buy"
    for number in range(5):
        body = {"userId": number, "productId": 1, "purchaseId": f"p{number}"}
        assert ask("POST", buy, body).status == 200
    await guarded.put(REQUESTS, _wanted("from-outside"))
    await guarded.put(REQUESTS, b"no message of ours")
    for name in ("p0", "p4", "from-outside"):
        await until(partial(guarded.is_confirmed, name), guarded.said)
    await until(lambda: guarded.admin("GET", "/dead-letters").body["count"] == 1)
    [letter] = guarded.admin("GET", "/dead-letters").body["letters"]
    for path in (f"/dead-letters/{letter['id']}", "/sales", "/sales/1.1"):
        assert guarded.admin("GET", path).status == 200
    replay = guarded.admin("POST", f"/dead-letters/{letter['id']}/replay", who="ann", why="test")
    assert replay.status == 200, replay
    assert guarded.admin("POST", "/sales/1.1/pause").status == 200
    await guarded.put(REQUESTS, _wanted("while-paused"))
    waiting = {"status": "ANY", "purchaseId": "while-paused"}
    await until(lambda: guarded.admin("GET", "/dead-letters", **waiting).body["count"] == 1)
    both = guarded.admin("GET", "/dead-letters", status="ANY").body["letters"]
    for one in both:
        discard = guarded.admin("POST", f"/dead-letters/{one['id']}/discard", who="ann", why="test")
        assert discard.status == 200, discard
    ended = guarded.admin("GET", "/purchase/while-paused").body
    assert (ended["status"], ended["reason"]) == ("REJECTED", "DISCARDED")
    assert guarded.admin("POST", "/sales/1.1/resume").status == 200
    with redis.Redis.from_url(guarded.gate_url) as emptied:
        emptied.flushall()
    await until(lambda: ask("POST", buy, {"userId": 9, "productId": 1}).status == 200)
    assert guarded.admin("POST", "/sales/1.1/close").status == 200
    await until(lambda: guarded.admin("POST", "/sales/1.1/settle").status == 200, guarded.said)
    assert guarded.admin("GET", "/sales/1.1").body["sold"] == 7
    assert not [sign for sign in REFUSED if sign in guarded.said()], guarded.said()


def _wanted(purchase: str) -> bytes:
    request = PurchaseRequest(
        purchase_id=PurchaseId(purchase),
        user_id=UserId("102"),
        item_id=ItemId("1"),
        requested_at_ms=1_700_000_000_000,
    )
    return AvroCodec().encode(request).body


async def test_another_service_cannot_write_promises(guarded: Guarded) -> None:
    """It may ask for units, and is refused where units are promised, and where orders are told."""
    await guarded.put(REQUESTS, _wanted(f"late-{uuid.uuid4().hex[:8]}"))
    for channel in (ACCEPTED, "flashsale.orders"):
        with pytest.raises((TopicAuthorizationFailedError, ChannelAccessRefused)):
            await guarded.put(channel, _wanted("stolen"))


def test_the_api_can_neither_run_scripts_nor_load_functions_nor_reach_other_keys(
    guarded: Guarded,
) -> None:
    """Nor can the worker run scripts."""
    for kind in ("api", "worker"):
        forbidden: list[tuple[str, ...]] = [
            ("EVAL", "return 1", "0"),
            ("GET", "somebody-elses"),
            ("HGET", "somebody-elses", "f"),
            ("FLUSHALL",),
            ("CONFIG", "SET", "appendonly", "no"),
            ("ACL", "LIST"),
        ]
        if kind == "api":
            forbidden.append(("FUNCTION", "LOAD", "#!lua name=x\n"))
        with redis.Redis.from_url(guarded.of[kind]["FLASHSALE_GATE_URL"]) as client:
            for command in forbidden:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("api", "DELETE FROM orders"),
        ("api", "DELETE FROM sales"),
        ("api", "UPDATE payments SET detail = 'mine'"),
        ("api", "CREATE TABLE mine (a int)"),
        ("api", "UPDATE flashsale_revision SET version_num = '0'"),
        ("worker", "DELETE FROM sales"),
        ("worker", "TRUNCATE orders"),
        ("worker", "DROP TABLE orders"),
        ("worker", "CREATE TABLE mine (a int)"),
    ],
)
def test_a_process_changes_no_more_than_its_work(
    guarded: Guarded, kind: str, statement: str
) -> None:
    """Whoever takes a process over gets that process's rights."""
    dsn = guarded.of[kind]["FLASHSALE_DATABASE_URL"].replace("+asyncpg", "")
    done = subprocess.run(
        ["psql", "-X", "-c", statement, dsn], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "permission denied" in done.stderr or "must be owner" in done.stderr


def doctor(guarded: Guarded, **settings: str) -> list[dict[str, Any]]:
    """Run `flashsale doctor`; answer what it found wrong."""
    done = guarded.engine.command("doctor", "--json", **settings)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return findings


@pytest.mark.parametrize("kind", ["api", "worker"])
def test_the_doctor_finds_nothing_wrong_with_the_rights_that_the_page_gives(
    guarded: Guarded, kind: str
) -> None:
    """All that a process needs is within them."""
    found = {one["name"]: one for one in doctor(guarded, **guarded.of[kind])}
    assert {"redis rights", "database rights"} <= found.keys(), json.dumps(found)
    assert [one for one in found.values() if one["verdict"] == "wrong"] == []


def test_the_doctor_names_each_right_that_is_missing(guarded: Guarded) -> None:
    """At the server where it is, with the command that gives it."""
    poor = "flashsale-poor"
    url = as_user(guarded.gate_url, poor, PASSWORDS["API"])
    with redis.Redis.from_url(guarded.gate_url) as client:
        client.execute_command(
            *("ACL", "SETUSER", poor, "reset", "on", f">{PASSWORDS['API']}", "~fs:*"),
            *(
                "+fcall",
                "+time",
                "+hget",
                "+hmget",
                "+hset",
                "+info",
                "+config|get",
                "+client|setname",
            ),
        )
    database = guarded.database.replace("+asyncpg", "")
    for change in ("REVOKE INSERT, UPDATE ON outbox FROM flashsale_api",):
        subprocess.run(["psql", "-X", "-q", "-c", change, database], check=True)
    try:
        settings = {**guarded.of["api"], "FLASHSALE_GATE_URL": url}
        found = {one["name"]: one for one in doctor(guarded, **settings)}
    finally:
        grant_tables(guarded.database)
    assert "+zadd" in found["redis rights"]["fix"]
    assert "+hset" not in found["redis rights"]["fix"]
    assert "GRANT INSERT ON outbox TO <user>" in found["database rights"]["fix"]
    for one in ("redis rights", "database rights"):
        assert found[one]["verdict"] == "wrong"


def test_the_doctor_names_the_right_that_a_stranger_at_the_bus_lacks(guarded: Guarded) -> None:
    """Another service's login is no process's."""
    settings = {**guarded.of["api"], **guarded.stranger}
    found = {one["name"]: one for one in doctor(guarded, **settings)}
    rights = found["kafka rights" if guarded.is_kafka else "rabbitmq rights"]
    assert rights["verdict"] == "wrong"
    assert rights["fix"]
