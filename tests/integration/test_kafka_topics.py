"""Topics are created on demand, compared always, and never changed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from aiokafka.admin import NewTopic
from aiokafka.cluster import ClusterMetadata

from flashsale_core.errors import Conflict, Unavailable, Why
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_kafka import KafkaConfig, ensure_topics, open_kafka_bus
from flashsale_kafka.topics import RETENTION_MS_MIN
from tests.integration.kafka_world import PARTITIONS, config_for, kafka_admin

if TYPE_CHECKING:
    from tests.servers import Kafka

GOOD = {
    "cleanup.policy": "delete",
    "retention.ms": str(RETENTION_MS_MIN),
    "min.insync.replicas": "1",
}


async def create(server: Kafka, topic: str, partitions: int, **settings: str) -> None:
    """Create a topic as somebody else would."""
    configs = GOOD | {name.replace("_", "."): value for name, value in settings.items()}
    new = NewTopic(topic, partitions, 1, topic_configs=configs)
    async with kafka_admin(server.plaintext_bootstrap) as admin:
        await admin.create_topics([new])


async def fault_of_check(config: KafkaConfig) -> str:
    """Run a process's check of the topology; return what it says."""
    async with open_kafka_bus(config, PlainCodec()) as bus:
        with pytest.raises(Unavailable) as raised:
            await bus.check()
    assert raised.value.why is Why.BUS_AWAY
    return raised.value.detail


async def test_missing_topics_are_created_once(kafka_server: Kafka) -> None:
    """The second run finds them all and changes nothing; then the check passes."""
    config = config_for(kafka_server.plaintext_url)
    assert sorted(await ensure_topics(config)) == sorted(config.topics.values())
    assert await ensure_topics(config) == []
    async with open_kafka_bus(config, PlainCodec()) as bus:
        await bus.check()


async def test_a_broker_that_does_not_count_yet_is_waited_for(
    kafka_server: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers, and names no broker: not even itself."""
    take_over, told = ClusterMetadata.update_metadata, itertools.count()

    def nobody_at_first(cluster: ClusterMetadata, metadata: Any) -> None:
        if next(told) < 3:
            metadata.brokers = []
        take_over(cluster, metadata)

    monkeypatch.setattr(ClusterMetadata, "update_metadata", nobody_at_first)
    config = config_for(kafka_server.plaintext_url)
    assert sorted(await ensure_topics(config)) == sorted(config.topics.values())


async def test_a_missing_topic_fails_the_check_and_names_the_command(kafka_server: Kafka) -> None:
    """Running processes check topology and never declare it."""
    config = config_for(kafka_server.plaintext_url)
    await ensure_topics(config)
    without = attrs.evolve(config, orders=f"{config.orders}.nowhere")
    detail = await fault_of_check(without)
    assert f"{config.orders}.nowhere is missing" in detail
    assert "flashsale topics ensure" in detail
    assert config.accepted not in detail


async def test_the_outside_doors_topic_may_be_as_wide_as_its_owner_likes(
    kafka_server: Kafka,
) -> None:
    """Another team made it; only the engine's own topic must have the configured partitions."""
    config = config_for(kafka_server.plaintext_url)
    await create(kafka_server, config.requests, PARTITIONS + 3)
    created = await ensure_topics(config)
    assert config.requests not in created
    assert await ensure_topics(config) == []


@pytest.mark.parametrize(
    ("partitions", "settings", "shown"),
    [
        (PARTITIONS + 2, {}, f"partitions {PARTITIONS + 2}"),
        (PARTITIONS, {"cleanup_policy": "compact"}, "cleanup.policy compact"),
        (PARTITIONS, {"retention_ms": "3600000"}, "retention 0.0416667 d"),
    ],
)
async def test_a_topic_of_another_shape_is_refused_with_both_shapes(
    kafka_server: Kafka, partitions: int, settings: dict[str, str], shown: str
) -> None:
    """A topic that forgets, or that has other partitions, stops the start; it is left as it is."""
    config = config_for(kafka_server.plaintext_url)
    await create(kafka_server, config.accepted, partitions, **settings)
    with pytest.raises(Conflict) as raised:
        await ensure_topics(config)
    assert raised.value.code == "topology-differs"
    detail = await fault_of_check(config)
    for said in (raised.value.detail, detail):
        assert f"topic {config.accepted} has " in said
        assert shown in said
        assert f"wanted partitions {PARTITIONS}, replication 1, min.insync.replicas 1" in said
        assert "cleanup.policy delete, retention 14 d" in said


async def test_a_topic_that_keeps_for_longer_suits(kafka_server: Kafka) -> None:
    """Safer than wanted is no other shape."""
    config = config_for(kafka_server.plaintext_url)
    await create(kafka_server, config.accepted, PARTITIONS, retention_ms="-1")
    assert config.accepted not in await ensure_topics(config)


async def test_ensuring_without_a_broker_says_which_was_asked() -> None:
    """Nothing listens on the discard port of the loopback address."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*FLASHSALE_BUS_URL"):
        await ensure_topics(config_for("kafka://127.0.0.1:9"))
