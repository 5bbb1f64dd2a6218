"""What the pages say to type, typed in their order on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.docs.pages import ROOT
from tests.docs.reader import reader
from tests.integration.crowds import orders, settled_orders
from tests.integration.engine import Engine, engine, own_names
from tests.integration.outside import Sent, sender
from tests.servers import Kafka, Postgres, Redis, Registry, running_redis
from tests.servers.launch import free_port

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """Have a Redis of our own: a page empties it."""
    with running_redis(ours=True) as server:
        yield server


@pytest.fixture
def played(
    tmp_path: Path,
    redis: Redis,
    kafka_server: Kafka,
    postgres_server: Postgres,
    registry_server: Registry,
) -> Iterator[Engine]:
    """Have what `make servers` prints, under names of our own, and nothing prepared."""
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis.url,
        "FLASHSALE_BUS_URL": kafka_server.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_SCHEMA_REGISTRY_URL": registry_server.url,
        "FLASHSALE_HTTP_PORT": str(free_port()),
        "FLASHSALE_WORKER_HTTP": f"127.0.0.1:{free_port()}",
        # The least that brokers allow: a killed worker is given up sooner.
        "FLASHSALE_KAFKA_SESSION_MS": "6000",
    }
    folder = tmp_path / "engine"
    folder.mkdir()
    with engine(folder, settings) as ours:
        yield ours


PRINTED = ("GATE_URL", "BUS_URL", "DATABASE_URL", "SCHEMA_REGISTRY_URL")


def test_the_tutorial(played: Engine, tmp_path: Path) -> None:
    """From `make run` to a killed worker, and two orders at the end."""
    printed = {f"FLASHSALE_{name}" for name in PRINTED}
    servers = "\n".join(f"export {name}={played.env[name]}" for name in sorted(printed))
    env = {name: value for name, value in played.env.items() if name not in printed}
    with reader(tmp_path, env, servers) as somebody:
        somebody.read(ROOT / "docs/tutorial.md")
        assert somebody.typed
    assert asyncio.run(orders(played, "ticket.1")) == {"CONFIRMED": 2}


PREPARE = """\
flashsale db upgrade
flashsale topics ensure
flashsale gate install
flashsale worker 2>worker.log &
flashsale sale create --item 1 --stock 100
"""
UNREADABLE = Sent(b"k", b"nobody can read this")
UNKNOWN_SCHEMA = Sent(b"k", b"\x00\x00\x0f\xff\xff what follows an id that no registry knows")


async def _set_aside(played: Engine) -> None:
    """Put what nobody can read on the outside door, and wait until it is set aside."""
    async with sender(played) as send:
        await send([UNREADABLE] * 4 + [UNKNOWN_SCHEMA] * 4)


def test_what_operators_are_told_to_type(played: Engine, tmp_path: Path) -> None:
    """Dead letters looked at, replayed and discarded; a gate that is lost, and comes back."""
    with reader(tmp_path, played.env) as somebody:
        somebody.type(PREPARE)
        asyncio.run(_set_aside(played))
        somebody.type(
            'until [ "$(flashsale dead-letters list --json | grep -c bad-framing)" = 4 ]; do :; done'
        )
        somebody.read(ROOT / "docs/dead-letters.md")
        somebody.read(ROOT / "docs/recover-a-lost-redis.md")
        assert "flashsale_redis" not in (tmp_path / "shell.log").read_text()
