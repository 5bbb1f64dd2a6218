"""The bus's contract on a real RabbitMQ, and what the contract cannot know of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from flashsale_core.testing.event_bus import EventBusContract, EventBusOutageContract
from tests.integration.rabbitmq_world import RabbitMQWorld, rabbitmq_world
from tests.servers import RabbitMQ, running_rabbitmq


@pytest.fixture
async def world(rabbitmq_server: RabbitMQ) -> AsyncIterator[RabbitMQWorld]:
    """Lend a bus on a topology of the test's own."""
    async with rabbitmq_world(rabbitmq_server) as made:
        yield made


class TestRabbitMQBus(EventBusContract):
    """Every promise of the port."""


@pytest.fixture(scope="module")
def own_server() -> Iterator[RabbitMQ]:
    """Start a broker that these tests may stop."""
    with running_rabbitmq(ours=True) as server:
        yield server


class TestRabbitMQOutage(EventBusOutageContract):
    """What the port promises about a broker that goes and comes."""

    @pytest.fixture
    async def world(self, own_server: RabbitMQ) -> AsyncIterator[RabbitMQWorld]:
        """Lend a bus on a broker that may be stopped."""
        async with rabbitmq_world(own_server) as made:
            yield made
