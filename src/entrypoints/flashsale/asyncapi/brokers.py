"""What the document says of each broker: address, bindings and headers, as its adapter has them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from flashsale.asyncapi import examples
from flashsale_core.deliveries import ATTRIBUTE_PREFIX
from flashsale_core.events import Channel, ParkedMessage
from flashsale_core.ports import Encoded
from flashsale_kafka import topics as kafka_topics
from flashsale_kafka import wire as kafka_wire
from flashsale_kafka.config import KafkaConfig
from flashsale_rabbitmq import wire as rabbitmq_wire
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.envelope import UNREADABLE
from flashsale_rabbitmq.shapes import UNLIMITED_SINCE, wanted_queues

KAFKA_BINDING: Final = "0.5.0"
AMQP_BINDING: Final = "0.3.0"
AMQP_PORTS: Final = {"amqp": 5672, "amqps": 5671}
PERSISTENT: Final = 2

Part = dict[str, Any]


class Broker(Protocol):
    """One way that messages go."""

    name: str
    attribute_prefix: str
    """What CloudEvents' attributes begin with in its headers."""
    writes_json: bool
    seldom: tuple[str, ...]
    """Headers that few dead letters have."""

    def server(self) -> Part:
        """Describe the server."""

    def address(self, channel: Channel) -> str:
        """Name the topic or routing key."""

    def parameters(self, channel: Channel) -> Part:
        """Describe what stands in braces in the address."""

    def channel(self, channel: Channel) -> Part:
        """Describe the topic or queue."""

    def operation(self, channel: Channel, *, sends: bool) -> Part:
        """Describe how the engine sends or receives."""

    def message(self, channel: Channel) -> Part:
        """Describe what this broker keeps beside headers and payload."""

    def headers(self, encoded: Encoded, purchase_id: str | None) -> Mapping[str, str | bytes]:
        """List the headers of a fact."""

    def dead_letter_headers(self, letter: ParkedMessage) -> Mapping[str, str | bytes]:
        """List the headers of a dead letter's copy."""


class Kafka:
    """Topics."""

    name = "kafka"
    attribute_prefix = ATTRIBUTE_PREFIX
    writes_json = False
    seldom: tuple[str, ...] = (kafka_wire.UNREADABLE_HEADER,)

    def __init__(self, config: KafkaConfig) -> None:
        """Remember the names."""
        self._config = config

    def server(self) -> Part:
        """See `Broker.server`."""
        plain = self._config.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT")
        binding = {"schemaRegistryVendor": "confluent", "bindingVersion": KAFKA_BINDING}
        return {
            "host": ",".join(self._config.brokers),
            "protocol": "kafka" if plain else "kafka-secure",
            "description": "Apache Kafka, or what speaks its protocol. A schema registry is "
            "optional.",
            "bindings": {"kafka": binding},
        }

    def address(self, channel: Channel) -> str:
        """See `Broker.address`."""
        return self._config.topics[channel]

    def parameters(self, channel: Channel) -> Part:  # noqa: ARG002 - a topic's name is its name
        """See `Broker.parameters`."""
        return {}

    def channel(self, channel: Channel) -> Part:
        """See `Broker.channel`; the shape is the least that `topics ensure` makes."""
        configured: Part = {
            "cleanup.policy": ["delete"],
            "retention.ms": kafka_topics.RETENTION_MS_MIN,
            "min.insync.replicas": kafka_topics.MIN_INSYNC_REPLICAS,
        }
        if channel is Channel.DEAD_LETTERS:
            configured["max.message.bytes"] = kafka_topics.DEAD_LETTER_BYTES_MAX
        return {
            "kafka": {
                "topic": self.address(channel),
                "partitions": self._config.partitions,
                "replicas": kafka_topics.REPLICATION,
                "topicConfiguration": configured,
                "bindingVersion": KAFKA_BINDING,
            }
        }

    def operation(self, channel: Channel, *, sends: bool) -> Part:
        """See `Broker.operation`."""
        if sends:
            return {}
        group = {"type": "string", "enum": [self._config.groups[channel]]}
        return {"kafka": {"groupId": group, "bindingVersion": KAFKA_BINDING}}

    def message(self, channel: Channel) -> Part:
        """See `Broker.message`."""
        binding: Part = {"bindingVersion": KAFKA_BINDING}
        if channel is Channel.DEAD_LETTERS:
            return {"kafka": binding}
        if channel is not Channel.ACCEPTED:
            binding["key"] = {"type": "string", "description": "The purchase id, UTF-8."}
        binding["schemaIdLocation"] = "payload"
        binding["schemaIdPayloadEncoding"] = "confluent"
        binding["schemaLookupStrategy"] = "RecordNameStrategy"
        return {"kafka": binding}

    def headers(self, encoded: Encoded, purchase_id: str | None) -> Mapping[str, str | bytes]:  # noqa: ARG002 - the key has it
        """See `Broker.headers`."""
        return dict(kafka_wire.record_headers(encoded))

    def dead_letter_headers(self, letter: ParkedMessage) -> Mapping[str, str | bytes]:
        """See `Broker.dead_letter_headers`."""
        return dict(kafka_wire.dead_letter_headers(letter))


class RabbitMQ:
    """One topic exchange, and queues bound under their own names."""

    name = "rabbitmq"
    attribute_prefix = rabbitmq_wire.ATTRIBUTE_HEADERS
    writes_json = True
    seldom: tuple[str, ...] = (rabbitmq_wire.DLT_CUT_HEADER, UNREADABLE)

    def __init__(self, config: RabbitMQConfig) -> None:
        """Remember the names."""
        self._config = config
        self._url = urlsplit(config.url)

    def server(self) -> Part:
        """See `Broker.server`."""
        scheme = self._url.scheme
        return {
            "host": f"{self._url.hostname}:{self._url.port or AMQP_PORTS[scheme]}",
            "protocol": scheme,
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ 3.10 or later, with quorum queues.",
        }

    def address(self, channel: Channel) -> str:
        """See `Broker.address`."""
        config = self._config
        return {
            Channel.REQUESTS: config.requests,
            Channel.ACCEPTED: f"{config.accepted}.{{partition}}",
            Channel.ORDERS: config.orders,
            Channel.DEAD_LETTERS: config.dead_letters,
        }[channel]

    def parameters(self, channel: Channel) -> Part:
        """See `Broker.parameters`."""
        if channel is not Channel.ACCEPTED:
            return {}
        numbers = [str(number) for number in range(self._config.accepted_partitions)]
        return {"partition": {"description": "One queue for each.", "enum": numbers}}

    def channel(self, channel: Channel) -> Part:
        """See `Broker.channel`."""
        first = self.address(channel).replace("{partition}", "0")
        shapes = wanted_queues(self._config, UNLIMITED_SINCE)
        [arguments] = [dict(shape.arguments) for shape in shapes if shape.name == first]
        exchange = {
            "name": self._config.exchange,
            "type": "topic",
            "durable": True,
            "autoDelete": False,
        }
        queue = {"name": self.address(channel), "durable": True, "arguments": arguments}
        return {
            "amqp": {
                "is": "routingKey",
                "exchange": exchange,
                "bindingVersion": AMQP_BINDING,
                "x-queue": queue,
            }
        }

    def operation(self, channel: Channel, *, sends: bool) -> Part:  # noqa: ARG002 - all alike
        """See `Broker.operation`."""
        how: Part = {"ack": True}
        if sends:
            how = {"deliveryMode": PERSISTENT, "mandatory": True}
        return {"amqp": {**how, "bindingVersion": AMQP_BINDING}}

    def message(self, channel: Channel) -> Part:  # noqa: ARG002 - content type and headers are all
        """See `Broker.message`."""
        return {}

    def headers(self, encoded: Encoded, purchase_id: str | None) -> Mapping[str, str | bytes]:
        """See `Broker.headers`; the content type is a property of the message."""
        return rabbitmq_wire.fact_headers(encoded, purchase_id)

    def dead_letter_headers(self, letter: ParkedMessage) -> Mapping[str, str | bytes]:
        """See `Broker.dead_letter_headers`."""
        dead_at = datetime.fromtimestamp(examples.RECORDED_MS / 1_000, UTC)
        return rabbitmq_wire.dead_letter_headers(letter, self._config.requests, dead_at)
