"""Where a scenario runs: real servers as shipped, and the engine's own processes on them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import attrs

from bench.result import Proof
from bench.usage import Usage, usage_of
from tests.integration.engine import Engine, Program, ask, engine, own_names
from tests.servers import running_kafka, running_postgres, running_rabbitmq, running_redis
from tests.servers.kafka import Kafka
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

KAFKA_HEAP_MB = 1_024
DRAIN_S_MAX = 300.0
POLL_S = 0.1
QUEUES_MAX = 16
"""More than there are accepted queues; deleting one that is not there does nothing."""
OK = 200
ITEM = "1"
SALE = "1.1"
STANDING = """
SELECT count(*), count(DISTINCT (sale_id, user_id)), sum(quantity)
FROM orders WHERE status = 'CONFIRMED' AND sale_id LIKE $1
"""
ENDLESS = 900_000_000
"""Stock that no run comes near."""


@attrs.define
class Servers:
    """The servers of one bus, shared by the scenarios that run on it."""

    redis: Redis
    postgres: Postgres
    bus: Kafka | RabbitMQ

    @property
    def pids(self) -> dict[str, int]:
        """Name the servers' processes."""
        ours = {"redis": self.redis, "postgres": self.postgres, self.bus.kind: self.bus}
        return {name: server.runner.process.pid for name, server in ours.items()}  # type: ignore[union-attr]


@contextmanager
def servers_of(bus: str) -> Iterator[Servers]:
    """Start Redis, PostgreSQL and the bus, fresh and ours."""
    broker: AbstractContextManager[Kafka | RabbitMQ] = (
        running_kafka(ours=True, heap_mb=KAFKA_HEAP_MB)
        if bus == "kafka"
        else running_rabbitmq(ours=True)
    )
    with (
        running_redis(ours=True) as redis,
        running_postgres(ours=True) as postgres,
        broker as started,
    ):
        yield Servers(redis, postgres, started)


@attrs.define
class Place:
    """An engine with a database, a namespace and topics of its own."""

    servers: Servers
    engine: Engine
    database_url: str
    programs: dict[str, Program] = attrs.field(factory=dict)
    _runner: asyncio.Runner = attrs.field(factory=asyncio.Runner)
    _connection: Any = None

    def start(self, kind: str, name: str = "", *, waits: bool = True, **settings: str) -> Program:
        """Start a program, and wait until it is ready."""
        program = self.engine.start(kind, **settings)
        self.programs[name or {"serve": "api"}.get(kind, kind)] = program
        if waits:
            program.wait_until_ready()
        return program

    def stop(self, name: str) -> None:
        """End a program in good order."""
        self.programs.pop(name).stop()

    def sell(self, units: int = ENDLESS, item: str = ITEM) -> None:
        """Open a sale."""
        door = self.programs["api"].url
        answer = ask("POST", f"{door}/purchase/init?productId={item}&stock={units}")
        if answer.status != OK:
            raise RuntimeError(f"no sale: {answer.body}")

    def usage(self) -> Usage:
        """Look at the CPU time of every process: ours and the servers'."""
        ours = {name: program.process.pid for name, program in self.programs.items()}
        return usage_of({**ours, **self.servers.pids})

    def query(self, statement: str, *args: object) -> list[Any]:
        """Ask the database, by a connection that is kept: connecting again and again costs it."""
        return self._runner.run(self._ask(statement, *args))

    async def _ask(self, statement: str, *args: object) -> list[Any]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self.database_url.replace("+asyncpg", ""))
        return list(await self._connection.fetch(statement, *args))

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._runner.run(self._connection.close())
        self._runner.close()

    def count(self, statement: str, *args: object) -> int:
        """Ask the database for a number."""
        return int(self.query(statement, *args)[0][0] or 0)

    def orders(self, sale: str = "%") -> int:
        """Count what is sold: kept by the database with the sale, so that looking costs nothing."""
        return self.count("SELECT sum(sold) FROM sales WHERE sale_id LIKE $1", sale)

    def drained(self, orders: int, sale: str = "%") -> None:
        """Wait until so many orders stand, of one sale or of all, and every event is published."""
        until = time.monotonic() + DRAIN_S_MAX
        while self.orders(sale) < orders or self.count("SELECT count(*) FROM outbox"):
            if time.monotonic() > until:
                raise TimeoutError(f"{self.orders(sale)} of {orders} after {DRAIN_S_MAX} s")
            time.sleep(POLL_S)

    def proof(
        self,
        scenario: str,
        *,
        accepted: int,
        unsure: int,
        units: int = ENDLESS,
        sale: str = "%",
    ) -> Proof:
        """Compare what buyers were told with what stands; call it when everything is drained.

        Purchases that were under way when the load stopped may stand beyond those accepted.
        `sale` looks at one sale alone.
        """
        [row] = self.query(STANDING, sale)
        orders, buyers, sold = (int(one or 0) for one in row)
        return Proof(
            scenario=scenario,
            accepted=accepted,
            unsure=unsure,
            orders=orders,
            oversold=max(0, sold - units),
            lost=max(0, accepted - orders),
            # Every buyer of a load asks once, so a second order of one is one too many.
            duplicates=orders - buyers + max(0, orders - accepted - unsure),
        )


@contextmanager
def place(servers: Servers, settings: Mapping[str, str] | None = None) -> Iterator[Place]:
    """Make a place; its programs end with it, and Redis is empty afterwards."""
    url = servers.postgres.create_database("bench")
    with tempfile.TemporaryDirectory(prefix="flashsale-bench-") as folder:
        names = own_names()
        # As many as are shipped.
        del names["FLASHSALE_PARTITIONS"]
        given = {
            **names,
            "FLASHSALE_GATE_URL": servers.redis.url,
            "FLASHSALE_BUS_URL": servers.bus.url,
            "FLASHSALE_DATABASE_URL": url,
            **(settings or {}),
        }
        with engine(Path(folder), given) as ours:
            ours.prepare()
            made = Place(servers, ours, url)
            try:
                yield made
            finally:
                made.close()
                ours.stop()
                _empty(servers.redis.url)
                if servers.bus.kind == "rabbitmq":
                    asyncio.run(_delete_queues(servers.bus.url, given))
    servers.postgres.drop_database(url)


async def _delete_queues(url: str, names: Mapping[str, str]) -> None:
    """Take away what nobody reads any more: a hundred thousand events of the scenario before."""
    import aio_pika  # noqa: PLC0415 - an extra

    accepted = names["FLASHSALE_ACCEPTED_TOPIC"]
    queues = [f"{accepted}.{number}" for number in range(QUEUES_MAX)]
    queues += [names[f"FLASHSALE_{name}_TOPIC"] for name in ("ORDERS", "REQUESTS", "DEAD_LETTER")]
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue)


def _empty(redis_url: str) -> None:
    import redis  # noqa: PLC0415 - an extra

    with redis.Redis.from_url(redis_url, socket_timeout=60) as client:
        client.flushall()
