"""A topology of a test's own on a real RabbitMQ, and what other programs would do to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aio_pika
import attrs
from aio_pika.abc import AbstractChannel
from pamqp.commands import Basic

from flashsale_core.events import Channel, Message
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_rabbitmq import (
    RabbitMQBus,
    RabbitMQConfig,
    ensure_topology,
    open_rabbitmq_bus,
)
from flashsale_rabbitmq.connecting import connect
from flashsale_rabbitmq.envelope import ReadingConnection
from flashsale_rabbitmq.shapes import wanted_queues
from flashsale_rabbitmq.wire import amqp_headers, message_from
from tests.servers import RabbitMQ

PARTITIONS = 3
PATIENT_DEADLINE_MS = 5_000
"""A confirm of a busy machine's broker is not what these tests are about."""


def own_config(url: str, *, partitions: int = PARTITIONS) -> RabbitMQConfig:
    """Name exchange and queues as no other test does."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    return RabbitMQConfig(
        url=url,
        exchange=name,
        requests=f"{name}.requests",
        accepted=f"{name}.accepted",
        orders=f"{name}.orders",
        dead_letters=f"{name}.requests.dlq",
        accepted_partitions=partitions,
        accepted_deadline_ms=PATIENT_DEADLINE_MS,
    )


@attrs.define(kw_only=True)
class RabbitMQWorld:
    """A bus with PlainCodec on an empty topology; the broker may be stopped where it is ours."""

    config: RabbitMQConfig
    server: RabbitMQ
    bus: RabbitMQBus
    stack: AsyncExitStack

    @property
    def publish_deadline_ms(self) -> int:
        """Within what time a publish to ACCEPTED answers."""
        return self.config.accepted_deadline_ms

    async def another(self) -> RabbitMQBus:
        """Open a second bus, with connections of its own."""
        return await self.stack.enter_async_context(open_rabbitmq_bus(self.config, PlainCodec()))

    async def put(
        self,
        channel: Channel,
        body: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        content_type: str | None = None,
    ) -> None:
        """Publish to the exchange by the queue's name, as any service may."""
        properties = Basic.Properties(
            headers=amqp_headers(headers) or None,
            content_type=content_type,
            # The driver would make one up, and equal messages would differ.
            message_id="somebody-else",
        )
        await self.put_raw(self.queue(channel), body or b"", properties)

    async def put_raw(self, queue: str, body: bytes, properties: Basic.Properties) -> None:
        """Publish with properties of the test's own, confirmed."""
        async with self.foreign_channel() as channel:
            driver = await channel.get_underlay_channel()
            await driver.basic_publish(
                body,
                exchange=self.config.exchange,
                routing_key=queue,
                properties=properties,
                mandatory=True,
            )

    async def read(self, channel: Channel) -> list[Message]:
        """Read a queue to its end and put everything back."""
        messages: list[Message] = []
        queue = self.queue(channel)
        connection = await connect(self.config, "a test", ReadingConnection)
        async with connection, connection.channel() as reading:
            driver = await reading.get_underlay_channel()
            while True:
                got = await driver.basic_get(queue)
                if isinstance(got.delivery, Basic.GetEmpty):
                    return messages
                messages.append(message_from(got, channel, queue, 0))

    def queue(self, channel: Channel) -> str:
        """Name a channel's first queue."""
        config = self.config
        return {
            Channel.REQUESTS: config.requests,
            Channel.ACCEPTED: config.accepted_queues()[0],
            Channel.ORDERS: config.orders,
            Channel.DEAD_LETTERS: config.dead_letters,
        }[channel]

    async def ensure(self) -> None:
        """Make what is missing, as `topics ensure` does."""
        await ensure_topology(self.config)

    @asynccontextmanager
    async def foreign_channel(self) -> AsyncIterator[AbstractChannel]:
        """Lend a channel of another program's connection."""
        async with (
            await aio_pika.connect(self.config.url) as connection,
            connection.channel(on_return_raises=True) as channel,
        ):
            yield channel

    async def stop_broker(self) -> None:
        """Stop the broker in good order."""
        await asyncio.to_thread(self.server.stop)

    async def start_broker(self) -> None:
        """Start it again on its data."""
        await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def rabbitmq_world(
    server: RabbitMQ, config: RabbitMQConfig | None = None
) -> AsyncIterator[RabbitMQWorld]:
    """Make a topology, lend a bus on it, and delete what was made."""
    config = config or own_config(server.url)
    await ensure_topology(config)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_rabbitmq_bus(config, PlainCodec()))
        yield RabbitMQWorld(config=config, server=server, bus=bus, stack=stack)
    await delete_topology(config)


async def delete_topology(config: RabbitMQConfig) -> None:
    """Delete every queue and the exchange."""
    async with (
        await aio_pika.connect(config.url) as connection,
        connection.channel() as channel,
    ):
        driver = await channel.get_underlay_channel()
        for shape in wanted_queues(config, 0):
            # Quorum queues refuse if-empty and if-unused.
            await driver.queue_delete(shape.name)
        await driver.exchange_delete(config.exchange)
