"""The whole document: servers, channels, operations, messages, schemas."""

from typing import Any, Final

import attrs

from flashsale.asyncapi.brokers import Broker, Kafka, Part, RabbitMQ
from flashsale.asyncapi.messages import Messages, schemas
from flashsale.opening import bus_options, opened_codec
from flashsale.setting_choices import WireFormat
from flashsale.settings import Settings
from flashsale_core.events import Channel
from flashsale_core.ports import Codec
from flashsale_kafka.opening import config_of as kafka_config
from flashsale_rabbitmq.opening import config_of as rabbitmq_config

VERSION: Final = "1"
"""Of the contract: it changes when a promise does, and never within a major version."""
LICENCE: Final = {"name": "MIT"}
KAFKA_URL: Final = "kafka://localhost:9092"
RABBITMQ_URL: Final = "amqp://localhost:5672"
DESCRIPTION: Final = """\
What the engine reads from a bus and writes to it, on Kafka or on RabbitMQ; an installation uses \
one. Put a PurchaseRequest on the requests channel, and it ends as OrderCreated or \
PurchaseRejected on the orders channel. Facts are told at least once: drop repeats by the event's \
id.

Metadata follows CloudEvents' binary mode. Names of topics, queues, exchange and groups are \
settings of the engine; these are the defaults.
"""
NAMES: Final = {
    Channel.REQUESTS: "requests",
    Channel.ACCEPTED: "accepted",
    Channel.ORDERS: "orders",
    Channel.DEAD_LETTERS: "deadLetters",
}
PUBLIC: Final = "for other services"
PRIVATE: Final = "private to the engine"
CHANNELS: Final = {
    Channel.REQUESTS: (
        "The outside door",
        PUBLIC,
        "Any service may write here. A request competes for units when a worker takes it.",
    ),
    Channel.ACCEPTED: (
        "Promises",
        PRIVATE,
        """What buyers were promised over HTTP. Only the engine writes or reads here: another's
        message would be a unit given away.""",
    ),
    Channel.ORDERS: (
        "Follow-up facts",
        PUBLIC,
        """How each purchase ended. Only the engine writes here; anybody may read. On RabbitMQ each
        service that is not the only reader binds a queue of its own to the exchange.""",
    ),
    Channel.DEAD_LETTERS: (
        "Dead letters",
        PUBLIC,
        "Copies, for other tools, of messages that never can succeed.",
    ),
}
SENDS: Final = {
    Channel.ACCEPTED: "Tell the workers what was promised.",
    Channel.ORDERS: "Tell how a purchase ended.",
    Channel.DEAD_LETTERS: "Copy what never can succeed.",
}
RECEIVES: Final = {
    Channel.REQUESTS: "Take what other services ask for.",
    Channel.ACCEPTED: "Make orders of what was promised.",
}


async def document_of(settings: Settings) -> dict[str, Any]:
    """Write the document for these settings; what is not set has its default."""
    # Examples are Avro, and no registry need be asked.
    plain = attrs.evolve(
        settings,
        schema_registry_url=None,
        schema_registry_auth=None,
        wire_format=WireFormat.AVRO,
    )
    async with opened_codec(plain) as codec:
        options = bus_options(settings, codec)
        url, scheme = settings.bus_url.text, settings.bus_url.scheme
        is_amqp = scheme in ("amqp", "amqps")
        brokers = (
            Kafka(kafka_config(url if scheme == "kafka" else KAFKA_URL, options)),
            RabbitMQ(rabbitmq_config(url if is_amqp else RABBITMQ_URL, options)),
        )
        return _document(brokers, codec)


def _document(brokers: tuple[Broker, ...], codec: Codec) -> dict[str, Any]:
    channels: Part = {}
    messages: Part = {}
    operations: Part = {}
    for broker in brokers:
        for channel in NAMES:
            name = f"{broker.name}-{NAMES[channel]}"
            own = Messages(broker, codec).of(channel)
            messages |= {f"{broker.name}-{message}": part for message, part in own.items()}
            channels[name] = _channel(broker, channel, list(own))
            operations |= _operations(broker, channel, name)
    return {
        "asyncapi": "3.1.0",
        "id": "urn:flashsale",
        "info": {
            "title": "Flashsale",
            "version": VERSION,
            "description": DESCRIPTION,
            "license": LICENCE,
            "tags": [{"name": PUBLIC}, {"name": PRIVATE}],
        },
        "defaultContentType": "application/avro",
        "servers": {broker.name: broker.server() for broker in brokers},
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas(), "messages": messages},
    }


def _channel(broker: Broker, channel: Channel, messages: list[str]) -> Part:
    title, tag, description = CHANNELS[channel]
    parameters = broker.parameters(channel)
    return {
        "address": broker.address(channel),
        "title": title,
        "description": " ".join(description.split()),
        "servers": [{"$ref": f"#/servers/{broker.name}"}],
        **({"parameters": parameters} if parameters else {}),
        "messages": {
            name: {"$ref": f"#/components/messages/{broker.name}-{name}"} for name in messages
        },
        "bindings": broker.channel(channel),
        "tags": [{"name": tag}],
    }


def _operations(broker: Broker, channel: Channel, name: str) -> Part:
    found: Part = {}
    for action, told in (("send", SENDS), ("receive", RECEIVES)):
        if channel in told:
            bindings = broker.operation(channel, sends=action == "send")
            found[f"{action}-{name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": told[channel],
                **({"bindings": bindings} if bindings else {}),
            }
    return found
