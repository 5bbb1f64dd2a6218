"""The shape that the topics must have: created on demand, compared always, never changed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from flashsale_core.errors import Conflict
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import client_options, connection_options, knock
from flashsale_kafka.faults import DRIVER_ERRORS, translated

DAY_MS = 86_400_000
RETENTION_MS_MIN = 14 * DAY_MS
"""A worker may be away over a long weekend and the week after, and nothing accepted expires."""
REPLICATION = 3
MIN_INSYNC_REPLICAS = 2
"""With three replicas, one may be away and every confirm still lies on two disks."""
DEAD_LETTER_BYTES_MAX = 2 * 1024 * 1024
"""A copy is larger than its original, which may be 1 MiB, by the headers that say why."""

SETTLE_S = 0.05


@attrs.frozen(kw_only=True)
class TopicShape:
    """What decides whether a confirmed message is safe. None: the broker may not tell us."""

    partitions: int
    replication: int
    cleanup_policy: str | None
    retention_ms: int | None
    min_insync_replicas: int | None

    def __str__(self) -> str:
        """Show it as an operator would write it."""
        kept = self.retention_ms
        days = "for ever" if kept == -1 else "unknown" if kept is None else f"{kept / DAY_MS:g} d"
        return (
            f"partitions {self.partitions}, replication {self.replication}, "
            f"min.insync.replicas {self.min_insync_replicas or 'unknown'}, "
            f"cleanup.policy {self.cleanup_policy or 'unknown'}, retention {days}"
        )

    def suits(self, wanted: "TopicShape", *, as_many: bool) -> bool:
        """Say whether it is at least as safe as wanted, and with `as_many`, as wide."""
        kept = self.retention_ms
        return (
            (not as_many or self.partitions == wanted.partitions)
            and self.replication >= wanted.replication
            and self.cleanup_policy in (wanted.cleanup_policy, None)
            and (kept is None or kept == -1 or kept >= (wanted.retention_ms or 0))
            and (self.min_insync_replicas or REPLICATION) >= (wanted.min_insync_replicas or 0)
        )


async def ensure_topics(config: KafkaConfig) -> list[str]:
    """Create the topics that are missing and name them; change none that exist.

    Raises Conflict("topology-differs"), with both shapes, when an existing one does not suit; the
    missing ones are created all the same. Raises Unavailable when the brokers are away.
    """
    async with _admin(config) as admin:
        wanted = await _wanted_shape(admin, config)
        found = await _found_shapes(admin, config)
        missing = [topic for topic in config.topics.values() if topic not in found]
        created = await _create(admin, config, missing, wanted) if missing else []
        found = await _all_shapes(admin, config)
    differing = differences(found, wanted, config)
    if differing:
        detail = "; ".join(differing) + ". Topics are never changed: alter or delete it yourself"
        raise Conflict("topology-differs", detail)
    return created


async def topology_faults(config: KafkaConfig) -> list[str]:
    """List what is missing or differs, with both shapes; empty when all is well.

    Raises Unavailable when the brokers are away.
    """
    async with _admin(config) as admin:
        wanted = await _wanted_shape(admin, config)
        found = await _found_shapes(admin, config)
    missing = [
        f"topic {topic} is missing" for topic in config.topics.values() if topic not in found
    ]
    return missing + differences(found, wanted, config)


def differences(found: dict[str, TopicShape], wanted: TopicShape, config: KafkaConfig) -> list[str]:
    """Show both shapes of every topic that does not suit.

    Only the engine's own topic must have as many partitions as configured: barriers go to each.
    The others may belong to somebody else, who decides how wide they are.
    """
    return [
        f"topic {topic} has {shape}; wanted {wanted}"
        for topic, shape in found.items()
        if not shape.suits(wanted, as_many=topic == config.accepted)
    ]


@asynccontextmanager
async def _admin(config: KafkaConfig) -> AsyncIterator[AIOKafkaAdminClient]:
    options = await connection_options(config)
    await knock(config, options)
    async with AsyncExitStack() as stack:
        try:
            admin = await _informed(config, options)
            stack.push_async_callback(admin.close)
            yield admin
        except DRIVER_ERRORS as exc:
            raise translated(exc, "asking for the topics") from exc


async def _informed(config: KafkaConfig, options: dict[str, Any]) -> AIOKafkaAdminClient:
    """Start a client that was told of brokers and of their controller.

    A broker that just began, or that hung until its controller gave it up, answers before it
    counts; a client that met it then never learns better.
    """
    async with asyncio.timeout(config.connect_ms / 1_000):
        while True:
            admin = AIOKafkaAdminClient(
                request_timeout_ms=config.connect_ms, **client_options(config, options)
            )
            try:
                if await _knows_the_cluster(admin):
                    return admin
            except BaseException:
                await admin.close()
                raise
            await admin.close()
            await asyncio.sleep(SETTLE_S)


async def _knows_the_cluster(admin: AIOKafkaAdminClient) -> bool:
    await admin.start()
    try:
        told = await admin.describe_cluster()
    except kafka.NodeNotReadyError:
        return False
    return bool(told["controller_id"] >= 0)


async def _wanted_shape(admin: AIOKafkaAdminClient, config: KafkaConfig) -> TopicShape:
    brokers = len((await admin.describe_cluster())["brokers"])
    replication = min(REPLICATION, brokers)
    return TopicShape(
        partitions=config.partitions,
        replication=replication,
        cleanup_policy="delete",
        retention_ms=RETENTION_MS_MIN,
        min_insync_replicas=MIN_INSYNC_REPLICAS if replication == REPLICATION else 1,
    )


async def _all_shapes(admin: AIOKafkaAdminClient, config: KafkaConfig) -> dict[str, TopicShape]:
    """Wait until every topic is known: a broker hears of a new one a moment after its making."""
    async with asyncio.timeout(config.connect_ms / 1_000):
        while len(found := await _found_shapes(admin, config)) < len(config.topics):  # noqa: ASYNC110 - brokers tell nobody
            await asyncio.sleep(SETTLE_S)
    return found


async def _found_shapes(admin: AIOKafkaAdminClient, config: KafkaConfig) -> dict[str, TopicShape]:
    shapes: dict[str, TopicShape] = {}
    for topic in await admin.describe_topics(list(config.topics.values())):
        error = kafka.for_code(topic["error_code"])
        if error is kafka.UnknownTopicOrPartitionError:
            continue
        # A topic that is just being made has partitions without a leader: it is there.
        if error not in (kafka.NoError, kafka.LeaderNotAvailableError):
            raise error(topic["topic"])
        partitions = topic["partitions"]
        replicas = [len(partition["replicas"]) for partition in partitions]
        settings = await _settings(admin, topic["topic"])
        shapes[topic["topic"]] = TopicShape(
            partitions=len(partitions),
            replication=min(replicas, default=0),
            cleanup_policy=settings.get("cleanup.policy"),
            retention_ms=_number(settings.get("retention.ms")),
            min_insync_replicas=_number(settings.get("min.insync.replicas")),
        )
    return shapes


async def _settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    """Read a topic's settings; nothing where the user may not read them, as in managed clouds."""
    names = ["cleanup.policy", "retention.ms", "min.insync.replicas"]
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(names))
    (response,) = await admin.describe_configs([resource])
    settings: dict[str, str] = {}
    for error_code, _message, _type, _name, entries in response.resources:
        error = kafka.for_code(error_code)
        if error in (kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError):
            return {}
        if error is not kafka.NoError:
            raise error(topic)
        settings.update((entry[0], entry[1]) for entry in entries)
    return settings


async def _create(
    admin: AIOKafkaAdminClient, config: KafkaConfig, topics: Sequence[str], shape: TopicShape
) -> list[str]:
    response = await admin.create_topics([_new_topic(topic, config, shape) for topic in topics])
    created: list[str] = []
    for topic, error_code, *rest in response.topic_errors:
        error = kafka.for_code(error_code)
        if error is kafka.NoError:
            created.append(topic)
        # Somebody else was quicker by a moment: theirs is compared like any other.
        elif error is not kafka.TopicAlreadyExistsError:
            raise error(f"{topic}: {rest[0] if rest else ''}")
    return created


def _new_topic(topic: str, config: KafkaConfig, shape: TopicShape) -> NewTopic:
    settings: dict[str, Any] = {
        "cleanup.policy": "delete",
        "retention.ms": str(RETENTION_MS_MIN),
        "min.insync.replicas": str(shape.min_insync_replicas),
    }
    if topic == config.dead_letters:
        settings["max.message.bytes"] = str(DEAD_LETTER_BYTES_MAX)
    return NewTopic(
        name=topic,
        num_partitions=shape.partitions,
        replication_factor=shape.replication,
        topic_configs=settings,
    )


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
