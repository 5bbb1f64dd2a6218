"""A Kafka bus on topics of its own, and what other programs would do to them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import attrs
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NodeNotReadyError

from flashsale_core.events import Channel, Message
from flashsale_core.ports import EventBus
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_kafka import KafkaBus, KafkaConfig, ensure_topics, open_kafka_bus
from flashsale_kafka.wire import CONTENT_TYPE_HEADER, message_of

if TYPE_CHECKING:
    from tests.servers import Kafka

FORMED_S_MAX = 10
PARTITIONS = 3
"""Enough for order, turns and sharing; each costs the broker files."""


def config_for(url: str, **changes: Any) -> KafkaConfig:
    """Make a config with topic and group names that nobody else uses."""
    prefix = f"t{uuid.uuid4().hex[:12]}"
    plain = KafkaConfig(
        url=url,
        requests=f"{prefix}.requests",
        accepted=f"{prefix}.accepted",
        orders=f"{prefix}.orders",
        dead_letters=f"{prefix}.requests-dlt",
        requests_group=f"{prefix}-processor",
        accepted_group=f"{prefix}-accepted",
        partitions=PARTITIONS,
    )
    return attrs.evolve(plain, **changes)


@asynccontextmanager
async def kafka_admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client of the test's own, as soon as a thawed broker counts again."""
    async with asyncio.timeout(FORMED_S_MAX):
        while (admin := await _admin(bootstrap)) is None:  # noqa: ASYNC110 - brokers tell nobody
            await asyncio.sleep(0.1)
    try:
        yield admin
    finally:
        await admin.close()


async def _admin(bootstrap: str) -> AIOKafkaAdminClient | None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    with suppress(NodeNotReadyError):
        if (await admin.describe_cluster())["controller_id"] >= 0:
            return admin
    await admin.close()
    return None


class KafkaWorld:
    """The bus under test, and a foreign producer and reader beside it."""

    def __init__(
        self, server: Kafka, config: KafkaConfig, bus: KafkaBus, stack: AsyncExitStack
    ) -> None:
        """Made by `kafka_world`."""
        self.server = server
        self.config = config
        self.bus = bus
        self.publish_deadline_ms = config.publish_deadline_ms
        self._stack = stack

    async def another(self) -> EventBus:
        """Open a second bus on the same topics."""
        return await self._stack.enter_async_context(open_kafka_bus(self.config, PlainCodec()))

    async def put(
        self,
        channel: Channel,
        body: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        content_type: str | None = None,
    ) -> None:
        """Write one record to partition 0."""
        added = [(CONTENT_TYPE_HEADER, content_type.encode())] if content_type else []
        async with AIOKafkaProducer(
            bootstrap_servers=self.server.plaintext_bootstrap, acks="all"
        ) as producer:
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=body, headers=[*headers, *added])
            topic = self.config.topics[channel]
            await (await producer.send_batch(batch, topic, partition=0))

    async def read(self, channel: Channel) -> list[Message]:
        """Read all partitions from the start to the end they have now."""
        topic = self.config.topics[channel]
        messages: list[Message] = []
        async with AIOKafkaConsumer(
            bootstrap_servers=self.server.plaintext_bootstrap, auto_offset_reset="earliest"
        ) as reader:
            partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            reader.assign(partitions)
            ends = await reader.end_offsets(partitions)
            while any([await reader.position(tp) < end for tp, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    messages += [message_of(record, channel) for record in records]
        return messages

    async def stop_broker(self) -> None:
        """Stop the broker in good order."""
        self.server.stop()

    async def start_broker(self) -> None:
        """Start it on the same port and data."""
        self.server.start()


@asynccontextmanager
async def kafka_world(server: Kafka, **changes: Any) -> AsyncIterator[KafkaWorld]:
    """Make topics, open a bus on them, and delete them behind it."""
    config = config_for(server.plaintext_url, **changes)
    await ensure_topics(config)
    try:
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(open_kafka_bus(config, PlainCodec()))
            yield KafkaWorld(server, config, bus, stack)
    finally:
        async with kafka_admin(server.plaintext_bootstrap) as admin:
            await admin.delete_topics(list(config.topics.values()))
