"""The Kafka bus keeps the contract on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from flashsale_core.testing.event_bus import EventBusContract, EventBusOutageContract
from tests.integration.kafka_world import KafkaWorld, kafka_world
from tests.servers import running_kafka

if TYPE_CHECKING:
    from tests.servers import Kafka


class TestKafkaBus(EventBusContract):
    """The contract of every bus."""

    @pytest.fixture
    async def world(self, kafka_server: Kafka) -> AsyncIterator[KafkaWorld]:
        """Open a bus on fresh topics."""
        async with kafka_world(kafka_server, publish_deadline_ms=10_000) as world:
            yield world


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[Kafka]:
    """Start a broker that may be stopped."""
    with running_kafka(ours=True) as server:
        yield server


class TestKafkaBusOutage(EventBusOutageContract):
    """The contract of a bus whose broker goes and comes."""

    @pytest.fixture
    async def world(self, own_kafka: Kafka) -> AsyncIterator[KafkaWorld]:
        """Open a bus on fresh topics of a broker that may be stopped."""
        async with kafka_world(own_kafka) as world:
            yield world
