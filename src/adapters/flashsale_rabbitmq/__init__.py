"""The bus on RabbitMQ, over aio-pika. The fixed point is `flashsale_core.ports.EventBus`."""

from flashsale_rabbitmq.bus import RabbitMQBus, open_rabbitmq_bus
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.topology import ensure_topology, verify_topology

__all__ = [
    "RabbitMQBus",
    "RabbitMQConfig",
    "ensure_topology",
    "open_rabbitmq_bus",
    "verify_topology",
]
