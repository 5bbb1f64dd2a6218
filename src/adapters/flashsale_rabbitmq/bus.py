"""The bus on RabbitMQ: one topic exchange, quorum queues, confirms."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import assert_never

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    Barrier,
    Channel,
    OrderEvent,
    ParkedMessage,
    PurchasesAccepted,
)
from flashsale_core.ports import BusFeatures, Codec, EventBus, Subscription
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.confirming import Letter
from flashsale_rabbitmq.faults import translated
from flashsale_rabbitmq.publisher import Publisher
from flashsale_rabbitmq.subscription import RabbitMQSubscription
from flashsale_rabbitmq.topology import missing_parts
from flashsale_rabbitmq.wire import dead_letter_headers, fact_headers


class RabbitMQBus:
    """Carries facts over RabbitMQ. Connects when first used, and again after every loss.

    The process never declares anything: `ensure_topology` does, once, by an operator's command.
    """

    def __init__(self, config: RabbitMQConfig, codec: Codec) -> None:
        """Remember the settings; nothing is opened yet. Close it, or use `open_rabbitmq_bus`."""
        self._config = config
        self._codec = codec
        self._publisher = Publisher(config)
        self._queues: Mapping[Channel, tuple[str, ...]] = {
            Channel.REQUESTS: (config.requests,),
            Channel.ACCEPTED: config.accepted_queues(),
            Channel.ORDERS: (config.orders,),
            Channel.DEAD_LETTERS: (config.dead_letters,),
        }

    @property
    def features(self) -> BusFeatures:
        """Declare what differs: no keys, no numbers, no absent bodies."""
        return BusFeatures(
            has_keys=False,
            numbers_messages=False,
            accepted_partitions=self._config.accepted_partitions,
            carries_null_bodies=False,
        )

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Send one message a fact, many in flight; return when the broker confirmed them all.

        Promises go to the accepted queues in turn; a queue that refuses one, or kept silent
        lately, is passed over. Raises Unavailable within the deadline.
        """
        if not facts:
            return
        letters = [self._letter(fact) for fact in facts]
        is_promise = any(isinstance(fact, PurchasesAccepted) for fact in facts)
        config = self._config
        deadline_ms = config.accepted_deadline_ms if is_promise else config.deadline_ms
        await self._publisher.deliver(letters, deadline_ms)

    async def copy_dead_letter(self, letter: ParkedMessage) -> None:
        """Copy bytes and headers untouched, with origin, reason, queue, detail and time added."""
        message = letter.message
        queues = self._queues[message.channel]
        queue = queues[message.partition] if message.partition < len(queues) else queues[0]
        copy = Letter(
            routes=(self._config.dead_letters,),
            body=message.body or b"",
            content_type=message.content_type,
            headers=dead_letter_headers(letter, queue, datetime.now(UTC)),
        )
        await self._publisher.deliver([copy], self._config.deadline_ms)

    def subscribe(
        self, channel: Channel, *, messages_max: int
    ) -> AbstractAsyncContextManager[Subscription]:
        """Consume the channel's queues, on a connection of the subscription's own."""
        return RabbitMQSubscription(self._config, channel, self._queues[channel], messages_max)

    async def barrier(self, marker: Barrier) -> int:
        """Put the marker on every accepted queue; raise Unavailable unless each confirmed it."""
        encoded = self._codec.encode(marker)
        letters = [
            Letter(
                routes=(queue,),
                body=encoded.body,
                content_type=encoded.content_type,
                headers=fact_headers(encoded),
            )
            for queue in self._config.accepted_queues()
        ]
        await self._publisher.deliver(letters, self._config.deadline_ms)
        return len(letters)

    async def check(self) -> None:
        """Raise Unavailable unless the broker answers and exchange and queues exist.

        It declares nothing, so it cannot see shapes and bindings: `verify_topology` can.
        """
        connection = await self._publisher.line.connection()
        with translated("checking the topology"):
            async with asyncio.timeout(self._config.connect_ms / 1_000):
                missing = await missing_parts(connection, self._config)
        if missing:
            raise Unavailable(
                Why.BUS_AWAY,
                f"missing: {', '.join(missing)}; `flashsale topics ensure` creates them",
            )

    async def close(self) -> None:
        """Close the publishing connection; subscriptions close when they are left."""
        await self._publisher.close()

    def _letter(self, fact: PurchasesAccepted | OrderEvent) -> Letter:
        encoded = self._codec.encode(fact)
        about: str | None = None
        match fact:
            case PurchasesAccepted():
                routes = self._publisher.turns.routes(asyncio.get_running_loop().time())
                if len(fact.purchases) == 1:
                    about = fact.purchases[0].purchase_id
            case OrderEvent():
                routes = (self._config.orders,)
                about = fact.purchase_id
            case _:
                assert_never(fact)
        return Letter(
            routes=routes,
            body=encoded.body,
            content_type=encoded.content_type,
            headers=fact_headers(encoded, about),
        )


@asynccontextmanager
async def open_rabbitmq_bus(config: RabbitMQConfig, codec: Codec) -> AsyncIterator[RabbitMQBus]:
    """Lend a bus and close it. It connects when first used: ask `check` whether all is well."""
    bus = RabbitMQBus(config, codec)
    try:
        yield bus
    finally:
        await bus.close()


_: type[EventBus] = RabbitMQBus
__: type[Subscription] = RabbitMQSubscription
