"""A producer that is not ours: Kafka's Java client, Apache Avro, and Apicurio's serializer."""

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from flashsale_avro import AvroConfig, RegistryConfig, SchemaName, open_codec, register_schemas
from flashsale_core.events import Channel, Message
from flashsale_core.model import EventId, ItemId, PurchaseId, PurchaseRequest, Source, UserId
from tests.integration.java.producer import produce
from tests.servers import Kafka, Registry

COUNT = 5
FRAMINGS = ("registry", "single")
RECORDS = {SchemaName.PURCHASE_REQUEST: None, SchemaName.AVRO_PURCHASE_REQUEST: "black-friday"}


async def consume(kafka: Kafka, topic: str, count: int) -> list[Message]:
    """Read a topic from its start."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.plaintext_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            records = [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()
    return [
        Message(
            channel=Channel.REQUESTS,
            body=record.value,
            key=record.key,
            headers=tuple(record.headers),
            origin=f"{topic}:{record.partition}:{record.offset}",
        )
        for record in records
    ]


@pytest.fixture
async def produced(kafka_server: Kafka, registry_server: Registry) -> list[Message]:
    """Requests of both records in both framings, on a topic of their own."""
    topic = f"java-{uuid.uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.plaintext_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    count = await asyncio.to_thread(produce, kafka_server, registry_server, topic, COUNT)
    return await consume(kafka_server, topic, count)


@pytest.mark.timeout(900)
async def test_requests_of_a_java_service_are_read_in_both_framings(
    produced: list[Message], registry_server: Registry
) -> None:
    """Every field of both records, under ids and fingerprints that Java computed."""
    config = RegistryConfig(url=registry_server.url)
    await register_schemas(config)
    async with open_codec(AvroConfig(registry=config)) as codec:
        decoded = await codec.decode(produced)
    expected = {
        f"{framing}.{name.rpartition('.')[2]}.{number}": PurchaseRequest(
            purchase_id=PurchaseId(f"{framing}.{name.rpartition('.')[2]}.{number}"),
            user_id=UserId(f"user-{number}"),
            item_id=ItemId("1"),
            quantity=number + 1,
            requested_at_ms=1_764_000_000_000 + number,
            source=list(Source)[number % 3],
            event_id=EventId(event) if event else None,
        )
        for framing in FRAMINGS
        for name, event in RECORDS.items()
        for number in range(COUNT)
    }
    found = {one.purchase_id: one for one in decoded if isinstance(one, PurchaseRequest)}
    assert found == expected
    assert len(decoded) == len(expected)
    for message, one in zip(produced, decoded, strict=True):
        assert isinstance(one, PurchaseRequest)
        assert message.key == one.purchase_id.encode()
        assert message.body is not None
        is_framed = one.purchase_id.startswith("registry.")
        assert message.body.startswith(b"\x00" if is_framed else b"\xc3\x01")
