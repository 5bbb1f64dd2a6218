"""What the producer asks of the brokers: the driver's own defaults would ask for less."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.producer.sender import SendProduceReqHandler

from flashsale_kafka import producing
from flashsale_kafka.closing import abandon_producer
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import connection_options

ALL_IN_SYNC = -1
"""The protocol's number for a leader that answers only after all replicas in sync have it."""


@pytest.fixture
async def producer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AIOKafkaProducer]:
    """Begin the driver's producer as a publisher does, without a broker."""

    async def at_once(*_: object) -> None:
        pass

    monkeypatch.setattr(producing, "knock", at_once)
    monkeypatch.setattr(AIOKafkaProducer, "start", at_once)
    monkeypatch.setattr(AIOKafkaClient, "set_topics", at_once)
    config = KafkaConfig(url="kafka://127.0.0.1:1")
    publisher = producing.Publisher(config, await connection_options(config))
    begun = await publisher._current()
    yield begun
    await abandon_producer(begun)


async def test_a_publish_is_confirmed_by_all_replicas_in_sync(producer: AIOKafkaProducer) -> None:
    """A leader that confirms alone, and is lost, takes with it what a buyer was promised."""
    request = SendProduceReqHandler(producer._sender, {}).create_request()
    assert request.required_acks == ALL_IN_SYNC


async def test_a_batch_that_is_sent_again_is_stored_once_and_in_its_place(
    producer: AIOKafkaProducer,
) -> None:
    """Its producer id and number let the broker know it again, whoever lost the first answer."""
    assert producer._sender._txn_manager is not None
