"""The real servers, each started when a test first asks for it and shared by the whole run.

Shared means: nobody stops, empties or reconfigures them; a test makes names of its own (a
database by `postgres_server.create_database()`, a namespace, a topic). A test that stops a server
starts one: `with running_redis(ours=True) as redis: ...`.
"""

from __future__ import annotations

import pytest

from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry
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
