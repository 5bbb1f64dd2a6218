"""What a consumer of the orders channel gets from a real broker is a CloudEvent, by its own SDK."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
from aiokafka import AIOKafkaConsumer
from cloudevents.core.bindings.amqp import AMQPMessage
from cloudevents.core.bindings.amqp import from_amqp_event as from_amqp
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.bindings.kafka import from_kafka_event as from_kafka

from flashsale_avro import AvroCodec
from flashsale_core.events import OrderEvent
from flashsale_core.testing.event_bus import order_fact
from flashsale_kafka import ensure_topics, open_kafka_bus
from flashsale_rabbitmq import ensure_topology, open_rabbitmq_bus
from tests.integration.kafka_world import config_for, kafka_admin
from tests.integration.rabbitmq_world import delete_topology, own_config
from tests.servers import Kafka, RabbitMQ

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def attributes_of(fact: OrderEvent) -> dict[str, Any]:
    """Say what the event must tell of itself."""
    return {
        "specversion": "1.0",
        "id": fact.occurrence_id,
        "type": f"ch.luimode.flashsale.{fact.type}",
        "source": "/flashsale",
        "subject": fact.purchase_id,
        "time": EPOCH + timedelta(milliseconds=fact.occurred_at_ms),
        "datacontenttype": "application/avro",
    }


async def test_an_event_read_from_kafka_is_a_cloud_event(kafka_server: Kafka) -> None:
    """Through the whole adapter, the driver and the broker; the key is the purchase id."""
    config = config_for(kafka_server.plaintext_url)
    fact, codec = order_fact(1), AvroCodec()
    await ensure_topics(config)
    async with kafka_admin(kafka_server.plaintext_bootstrap) as admin:
        try:
            async with open_kafka_bus(config, codec) as bus:
                await bus.publish([fact])
            async with AIOKafkaConsumer(
                config.orders,
                bootstrap_servers=kafka_server.plaintext_bootstrap,
                auto_offset_reset="earliest",
            ) as consumer:
                record = await consumer.getone()
        finally:
            await admin.delete_topics(list(config.topics.values()))
    read = from_kafka(
        KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value)
    )
    assert read.get_attributes() == {**attributes_of(fact), "partitionkey": fact.purchase_id}
    assert record.value == codec.encode(fact).body


async def test_an_event_read_from_rabbitmq_is_a_cloud_event(rabbitmq_server: RabbitMQ) -> None:
    """A service's own queue, bound to the exchange, gets it too."""
    config = own_config(rabbitmq_server.url)
    fact, codec = order_fact(1), AvroCodec()
    await ensure_topology(config)
    async with (
        await aio_pika.connect(config.url) as connection,
        connection.channel() as channel,
    ):
        own = await channel.declare_queue(exclusive=True)
        await own.bind(config.exchange, routing_key=config.orders)
        async with open_rabbitmq_bus(config, codec) as bus:
            await bus.publish([fact])
        message = await own.get()
    await delete_topology(config)
    assert message is not None
    read = from_amqp(
        AMQPMessage(
            properties={"content-type": message.content_type},
            application_properties=dict(message.headers),
            application_data=message.body,
        )
    )
    assert read.get_attributes() == attributes_of(fact)
    assert message.body == codec.encode(fact).body
