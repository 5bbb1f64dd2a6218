"""The real servers, each started when a test first asks for it and shared by the whole run.

Shared means: nobody stops, empties or reconfigures them; a test makes names of its own (a
database by `postgres_server.create_database()`, a namespace, a topic). A test that stops a server
starts one: `with running_redis(ours=True) as redis: ...`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine import Engine, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry, running_redis
from tests.servers.launch import free_port
from tests.servers.shared import shared_servers


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Redis:
    """The run's Redis."""
    server: Redis = pytestconfig.stash[shared_servers].get("redis")
    return server


@pytest.fixture(scope="session")
def kafka_server(pytestconfig: pytest.Config) -> Kafka:
    """The run's Kafka."""
    server: Kafka = pytestconfig.stash[shared_servers].get("kafka")
    return server


@pytest.fixture(scope="session")
def rabbitmq_server(pytestconfig: pytest.Config) -> RabbitMQ:
    """The run's RabbitMQ."""
    server: RabbitMQ = pytestconfig.stash[shared_servers].get("rabbitmq")
    return server


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Postgres:
    """The run's PostgreSQL."""
    server: Postgres = pytestconfig.stash[shared_servers].get("postgres")
    return server


@pytest.fixture(scope="session")
def registry_server(pytestconfig: pytest.Config) -> Registry:
    """The run's schema registry."""
    server: Registry = pytestconfig.stash[shared_servers].get("registry")
    return server


@pytest.fixture
def bare_engine(
    tmp_path: Path, kafka_server: Kafka, postgres_server: Postgres, registry_server: Registry
) -> Iterator[Engine]:
    """Have what `make servers` prints, under names of our own, and nothing prepared.

    Redis is the test's own: what is typed there may empty it.
    """
    folder = tmp_path / "engine"
    folder.mkdir()
    with running_redis(ours=True) as redis:
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
        with engine(folder, settings) as ours:
            yield ours
