"""How `amqp://` and `amqps://` are opened."""

from contextlib import AbstractAsyncContextManager

from flashsale_core.opening import BusOptions, OpenBus
from flashsale_rabbitmq.bus import RabbitMQBus, open_rabbitmq_bus
from flashsale_rabbitmq.config import RabbitMQConfig


def config_of(url: str, options: BusOptions) -> RabbitMQConfig:
    """Write the options as this adapter's own."""
    names = options.names
    return RabbitMQConfig(
        url=url,
        ca_file=options.security.ca_file,
        exchange=names.exchange,
        requests=names.requests,
        accepted=names.accepted,
        orders=names.orders,
        dead_letters=names.dead_letters or f"{names.requests}.dlq",
        accepted_partitions=options.partitions,
    )


def open_bus(url: str, options: BusOptions) -> AbstractAsyncContextManager[RabbitMQBus]:
    """Open the bus."""
    return open_rabbitmq_bus(config_of(url, options), options.codec)


_: OpenBus = open_bus
