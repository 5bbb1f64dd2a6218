"""Real servers for tests, benchmarks and playing.

    with running_redis() as redis:
        redis.url, redis.port

Each answers by the same rule: a URL in the environment (FLASHSALE_TEST_REDIS_URL and so on),
else a container where a Docker engine answers, else the local binary. `ours=True` skips the
first: only such a server may be stopped, killed or frozen.
"""

from tests.servers.kafka import Kafka, running_kafka
from tests.servers.launch import Server, ServerMissing, ServerNotOurs
from tests.servers.postgres import Postgres, running_postgres
from tests.servers.rabbitmq import RabbitMQ, running_rabbitmq
from tests.servers.redis import Redis, running_redis
from tests.servers.registry import Registry, running_registry

__all__ = [
    "Kafka",
    "Postgres",
    "RabbitMQ",
    "Redis",
    "Registry",
    "Server",
    "ServerMissing",
    "ServerNotOurs",
    "running_kafka",
    "running_postgres",
    "running_rabbitmq",
    "running_redis",
    "running_registry",
]
