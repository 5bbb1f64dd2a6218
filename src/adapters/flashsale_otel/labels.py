"""What spans are called and say of servers, by OpenTelemetry's semantic conventions.

Nothing of a URL but scheme, host, port and a database's name is ever told.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from flashsale_core.events import Channel
from flashsale_core.opening import BusNames
from flashsale_core.urls import UrlParts, url_parts

Value = str | int
Attributes = Mapping[str, Value]

SALE: Final = "flashsale.sale.id"
PURCHASE: Final = "flashsale.purchase.id"
PURCHASES: Final = "flashsale.purchases"
"""On a batch: how many of its purchases are traced."""
OUTCOME: Final = "flashsale.outcome"
ERROR: Final = "error.type"

_BUS_SYSTEMS = {"kafka": "kafka", "amqp": "rabbitmq", "amqps": "rabbitmq"}
_DATABASE_SYSTEMS = {"postgresql": "postgresql", "sqlite": "sqlite"}


@attrs.frozen(kw_only=True)
class BusLabels:
    """How messages are described, by their channel."""

    system: str
    server: Attributes
    destinations: Mapping[Channel, str]
    """A channel's name at the broker; of RabbitMQ's accepted queues, without their number."""
    groups: Mapping[Channel, str]
    exchange: str

    @property
    def _is_rabbitmq(self) -> bool:
        return self.system == "rabbitmq"

    @property
    def send(self) -> str:
        """Name the operation of sending, as the broker's own words are."""
        return "publish" if self._is_rabbitmq else "send"

    def sending(self, channel: Channel) -> tuple[str, dict[str, Value]]:
        """Describe what is sent: the span's name and its attributes."""
        name = self.destinations[channel]
        more: dict[str, Value] = {"messaging.destination.name": name}
        if self._is_rabbitmq:
            # Which of its queues takes a promise is seen by the adapter alone.
            is_known = channel is not Channel.ACCEPTED
            where = f"{self.exchange}:{name}" if is_known else self.exchange
            more = {"messaging.destination.name": where, "messaging.destination.template": name}
            if is_known:
                more["messaging.rabbitmq.destination.routing_key"] = name
        return f"{self.send} {name}", {**self._operation(self.send, "send"), **more}

    def processing(self, channel: Channel, partition: int) -> tuple[str, dict[str, Value]]:
        """Describe what is consumed."""
        name = self.destinations[channel]
        more: dict[str, Value] = {"messaging.destination.name": name}
        if self._is_rabbitmq:
            queue = f"{name}.{partition}" if channel is Channel.ACCEPTED else name
            more = {
                "messaging.destination.name": f"{self.exchange}:{queue}",
                "messaging.destination.template": name,
                "messaging.rabbitmq.destination.routing_key": queue,
            }
        else:
            more["messaging.destination.partition.id"] = str(partition)
        if self.system == "kafka" and channel in self.groups:
            more["messaging.consumer.group.name"] = self.groups[channel]
        return f"process {name}", {**self._operation("process", "process"), **more}

    def _operation(self, name: str, kind: str) -> dict[str, Value]:
        return {
            "messaging.system": self.system,
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            **self.server,
        }


@attrs.frozen(kw_only=True)
class Labels:
    """What the spans of one process say of what it talks to."""

    gate: Attributes
    """Empty of a gate that is no server."""
    bus: BusLabels
    database: Attributes
    payment: Attributes

    def calling(self, procedure: str) -> tuple[str, dict[str, Value]]:
        """Describe a call of the gate."""
        if self.gate.get("db.system.name") != "redis":
            return procedure, dict(self.gate)
        more = {"db.operation.name": "FCALL", "db.stored_procedure.name": procedure}
        return f"FCALL {procedure}", {**self.gate, **more}

    def writing(self, operation: str, table: str) -> tuple[str, dict[str, Value]]:
        """Describe a write of rows."""
        more = {"db.operation.name": operation, "db.collection.name": table}
        return f"{operation} {table}", {**self.database, **more}


def labels_of(
    *, gate_url: str, bus_url: str, database_url: str, payment_url: str | None, names: BusNames
) -> Labels:
    """Describe the servers that the URLs name."""
    gate, bus, database = url_parts(gate_url), url_parts(bus_url), url_parts(database_url)
    gate_system = "redis" if gate.scheme.startswith("redis") else gate.scheme
    database_system = database.scheme.partition("+")[0]
    about_database: dict[str, Value] = {
        "db.system.name": _DATABASE_SYSTEMS.get(database_system, database_system),
        **_server(database, 5432),
    }
    if database_system == "postgresql" and database.path.strip("/"):
        about_database["db.namespace"] = database.path.strip("/")
    return Labels(
        gate={} if gate_system == "memory" else {"db.system.name": gate_system, **_server(gate)},
        bus=BusLabels(
            system=_BUS_SYSTEMS.get(bus.scheme, bus.scheme),
            server=_server(bus),
            destinations={
                Channel.REQUESTS: names.requests,
                Channel.ACCEPTED: names.accepted,
                Channel.ORDERS: names.orders,
            },
            groups={
                Channel.REQUESTS: names.requests_group,
                Channel.ACCEPTED: names.accepted_group,
            },
            exchange=names.exchange,
        ),
        database=about_database,
        payment=_server(url_parts(payment_url)) if payment_url is not None else {},
    )


def _server(url: UrlParts, default_port: int | None = None) -> dict[str, Value]:
    """Name the one server of a URL; nothing of one that names several, or none."""
    host, *others = url.hosts
    if others or not host.name:
        return {}
    port = host.port or default_port
    return {"server.address": host.name, **({"server.port": port} if port else {})}
