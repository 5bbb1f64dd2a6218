"""The bus: one producer, and one consumer for each subscription."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    Barrier,
    Channel,
    OrderEvent,
    ParkedMessage,
    PurchasesAccepted,
)
from flashsale_core.ports import BusFeatures, Codec, Encoded, EventBus, Subscription
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import connection_options, quiet_driver
from flashsale_kafka.consuming import KafkaSubscription
from flashsale_kafka.producing import Publisher
from flashsale_kafka.topics import topology_faults
from flashsale_kafka.wire import dead_letter_headers


@asynccontextmanager
async def open_kafka_bus(config: KafkaConfig, codec: Codec) -> AsyncIterator["KafkaBus"]:
    """Begin to connect to the brokers; leaving disconnects.

    Raises Unavailable, with the setting to check, when a broker refuses the login or TLS fails;
    one that is away is told by `check` and by publishes, and found when it is there. While the
    bus is open, aiokafka's log is silent unless somebody gave it a level.
    """
    with quiet_driver():
        options = await connection_options(config)
        bus = KafkaBus(config, codec, options)
        try:
            await bus.start()
            yield bus
        finally:
            await bus.close()


class KafkaBus:
    """Facts on Kafka's topics."""

    def __init__(self, config: KafkaConfig, codec: Codec, options: dict[str, Any]) -> None:
        """Made by `open_kafka_bus`; `options` are `connection_options`."""
        self._config = config
        self._codec = codec
        self._options = options
        self._publisher = Publisher(config, options)

    async def start(self) -> None:
        """Begin to connect. Raises Unavailable when a person must mend something."""
        await self._publisher.start()

    async def close(self) -> None:
        """Send what is left, within bounds, and disconnect."""
        await self._publisher.close()

    @property
    def features(self) -> BusFeatures:
        """Declare keys, offsets, null bodies, and the partitions that `check` demands."""
        return BusFeatures(
            has_keys=True,
            numbers_messages=True,
            accepted_partitions=self._config.partitions,
            carries_null_bodies=True,
        )

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Send one record a fact; return when all in-sync replicas have every one.

        Promises within `publish_deadline_ms`, order events within `deadline_ms`. Raises
        Corrupt("too-large") for a fact of more than 1 MiB, whatever became of the others.
        """
        promised: list[Encoded] = []
        told: list[tuple[bytes, Encoded]] = []
        for fact in facts:
            encoded = self._codec.encode(fact)
            if isinstance(fact, OrderEvent):
                told.append((fact.purchase_id.encode(), encoded))
            else:
                promised.append(encoded)
        if promised:
            await self._publisher.send_in_turn(self._config.accepted, promised)
        if told:
            await self._publisher.send_keyed(self._config.orders, told)

    async def copy_dead_letter(self, letter: ParkedMessage) -> None:
        """Copy a message to the partition of its own number, with Spring's headers behind its own.

        Raises Corrupt("too-large") when its topic does not take a message of that size.
        """
        message = letter.message
        await self._publisher.send_copy(
            self._config.dead_letters,
            message.partition,
            key=message.key,
            body=message.body,
            headers=dead_letter_headers(letter),
        )

    @asynccontextmanager
    async def subscribe(
        self, channel: Channel, *, messages_max: int
    ) -> AsyncIterator[Subscription]:
        """Join the group of REQUESTS or ACCEPTED, in the background."""
        if channel not in self._config.groups:
            message = f"the engine does not consume {channel.value}"
            raise ValueError(message)
        subscription = KafkaSubscription(self._config, self._options, channel, messages_max)
        subscription.start()
        try:
            yield subscription
        finally:
            await subscription.leave()

    async def barrier(self, marker: Barrier) -> int:
        """Put the marker on every partition that ACCEPTED has now."""
        encoded = self._codec.encode(marker)
        return await self._publisher.send_to_every_partition(self._config.accepted, encoded)

    async def check(self) -> None:
        """Ask a broker for the topics and compare their shapes."""
        faults = await topology_faults(self._config)
        if faults:
            detail = "; ".join(faults) + ". `flashsale topics ensure` creates what is missing"
            raise Unavailable(Why.BUS_AWAY, detail)


_: type[EventBus] = KafkaBus
