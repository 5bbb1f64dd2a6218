"""Which exchange, queues and bindings there must be; made and compared here, and nowhere else.

Only `ensure_topology` creates. Running processes use `missing_parts` (passive declares), which
shows that a queue exists and says nothing of its shape or bindings; `verify_topology` compares
shapes too, by declaring again, as it should be, what is there already: a broker answers that with
OK or with the first argument that differs, and changes nothing.

Every queue is a durable quorum queue, bound to the exchange by its own name:
- requests and accepted, which the engine consumes, give a message up after 1,000 deliveries and
  hand it to the dead letters (a low limit kills what a crashing worker prefetched). At most once:
  RabbitMQ 3.10 offers at least once, but its worker for that crashed when a queue was deleted soon
  after a restart, and then no such queue could be declared any more;
- accepted queues have one active consumer, which keeps each in order;
- orders and dead letters have no limit: others read them, in their own time. `orders` is there so
  that events wait for a first reader instead of being unroutable; a service that wants events of
  its own binds a queue of its own to the exchange by the same routing key.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from flashsale_core.errors import Conflict
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.connecting import close_quietly, connect
from flashsale_rabbitmq.faults import translated
from flashsale_rabbitmq.shapes import QueueShape, as_found, wanted_queues, without_unseen

DIFFERENCES_MAX = 16
"""A queue has fewer arguments than this, so asking for the next difference ends."""


async def ensure_topology(config: RabbitMQConfig) -> tuple[str, ...]:
    """Create what is missing and return its names; running it again does nothing.

    Raises Conflict("topology-differs") when anything has another shape, with both shapes shown,
    before anything is created. Raises Unavailable when the broker is away or refuses.
    """
    async with _talking(config) as talk:
        missing = await talk.compare()
        async with talk.channel() as channel:
            await _declare_exchange(channel, config)
            for shape in wanted_queues(config, talk.broker_major):
                await _declare(channel, shape)
                queue = await channel.get_queue(shape.name, ensure=False)
                await queue.bind(config.exchange, routing_key=shape.name)
        return missing


async def verify_topology(config: RabbitMQConfig) -> None:
    """Compare every shape and create nothing.

    A user without the right to configure may not compare: then existence is all that is seen.

    Raises Conflict("topology-differs") with both shapes of each part that differs, or
    Conflict("topology-missing") with the names of what is not there.
    """
    async with _talking(config) as talk:
        missing = await talk.compare()
    if missing:
        raise Conflict(
            "topology-missing",
            f"missing: {', '.join(missing)}; `flashsale topics ensure` creates them",
        )


async def missing_parts(connection: AbstractConnection, config: RabbitMQConfig) -> tuple[str, ...]:
    """Name the exchange and queues that do not exist. Creates nothing and needs no rights."""
    talk = _Talk(config=config, connection=connection)
    return await talk.missing()


@asynccontextmanager
async def _talking(config: RabbitMQConfig) -> "AsyncIterator[_Talk]":
    connection = await connect(config, "flashsale topology")
    try:
        with translated("working on the topology"):
            async with asyncio.timeout(config.deadline_ms / 1_000):
                yield _Talk(config=config, connection=connection)
    finally:
        await close_quietly(connection)


async def _declare_exchange(
    channel: AbstractChannel, config: RabbitMQConfig, *, passive: bool = False
) -> None:
    await channel.declare_exchange(
        config.exchange, ExchangeType.TOPIC, durable=True, passive=passive
    )


async def _declare(channel: AbstractChannel, shape: QueueShape, *, passive: bool = False) -> None:
    await channel.declare_queue(
        shape.name, durable=shape.durable, arguments=dict(shape.arguments), passive=passive
    )


@attrs.frozen(kw_only=True)
class _Talk:
    """Questions about the topology. An error answer costs its channel, so each has its own."""

    config: RabbitMQConfig
    connection: AbstractConnection

    @property
    def broker_major(self) -> int:
        """Tell the broker's major version, as it introduced itself."""
        transport = self.connection.transport
        properties = transport.connection.server_properties if transport is not None else {}
        found = re.match(r"\d+", str(properties.get("version", "")))
        return int(found.group()) if found else 0

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        channel = self.connection.channel()
        await channel.initialize()
        try:
            yield channel
        finally:
            await close_quietly(channel)

    async def missing(self) -> tuple[str, ...]:
        names = [] if await self._has_exchange() else [f"exchange {self.config.exchange}"]
        names += [
            f"queue {shape.name}"
            for shape in wanted_queues(self.config, self.broker_major)
            if not await self._has(shape)
        ]
        return tuple(names)

    async def compare(self) -> tuple[str, ...]:
        """Return what is missing; raise Conflict when what is there has another shape."""
        missing = await self.missing()
        differences: list[str] = []
        if f"exchange {self.config.exchange}" not in missing:
            differences += await self._exchange_difference()
        for shape in wanted_queues(self.config, self.broker_major):
            if f"queue {shape.name}" not in missing:
                differences += await self._queue_difference(shape)
        differences += await self._surplus()
        if differences:
            raise Conflict(
                "topology-differs",
                "; ".join(differences) + ". Nothing was changed: delete what differs once it is "
                "empty and run `flashsale topics ensure`, or set the names or partitions to fit",
            )
        return missing

    async def _has_exchange(self) -> bool:
        try:
            async with self.channel() as channel:
                await _declare_exchange(channel, self.config, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    async def _has(self, shape: QueueShape) -> bool:
        try:
            async with self.channel() as channel:
                await _declare(channel, shape, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    async def _exchange_difference(self) -> list[str]:
        try:
            async with self.channel() as channel:
                await _declare_exchange(channel, self.config)
        except ChannelPreconditionFailed as exc:
            return [f"exchange {self.config.exchange}: wanted durable topic; {exc}"]
        except ChannelAccessRefused:
            return []
        return []

    async def _queue_difference(self, shape: QueueShape) -> list[str]:
        """Find the shape that the queue has, by one more difference at a time."""
        tried = shape
        for _ in range(DIFFERENCES_MAX):
            try:
                async with self.channel() as channel:
                    await _declare(channel, tried)
            except ChannelAccessRefused:
                # A process that may not configure may not compare either; it knows that they exist.
                return []
            except ChannelPreconditionFailed as exc:
                corrected = as_found(tried, str(exc))
                if corrected is None:
                    return [f"queue {shape.name}: wanted {shape}; {exc}"]
                tried = corrected
            else:
                break
        if tried == shape:
            return []
        return [f"queue {shape.name}: wanted {shape}; found {without_unseen(tried)}"]

    async def _surplus(self) -> list[str]:
        """Look for one accepted queue too many: promises in it would never be consumed."""
        surplus = f"{self.config.accepted}.{self.config.accepted_partitions}"
        if not await self._has(QueueShape(name=surplus, arguments={})):
            return []
        return [
            f"queue {surplus}: wanted {self.config.accepted_partitions} accepted queues; found more"
        ]
