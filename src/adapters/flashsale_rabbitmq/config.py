"""What an operator may set of the RabbitMQ bus."""

from typing import Any
from urllib.parse import urlsplit

import attrs

PREFETCH_MAX = 65_535
"""AMQP counts unacknowledged deliveries in 16 bits, and 0 would mean no limit at all."""
PARTITIONS_MAX = 256
"""Each accepted queue costs a channel in every worker and a Raft group in the broker."""
NAME_BYTES_MAX = 200
"""AMQP names end at 255 bytes; an accepted queue adds a dot and its number."""


def _masked(url: str) -> str:
    parts = urlsplit(url)
    return repr(url if parts.password is None else url.replace(f":{parts.password}@", ":***@"))


def _bus_url(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        message = f"{attribute.name} must be amqp:// or amqps:// with a host"
        raise ValueError(message)


def _name(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not 0 < len(value.encode()) <= NAME_BYTES_MAX:
        message = f"{attribute.name} must be 1 to {NAME_BYTES_MAX} bytes"
        raise ValueError(message)


def _from_one_to(limit: int) -> Any:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
        if not 1 <= value <= limit:
            message = f"{attribute.name} must be from 1 to {limit}"
            raise ValueError(message)

    return check


@attrs.frozen(kw_only=True)
class RabbitMQConfig:
    """Where the broker is, what its parts are called, and how long to wait for it.

    The virtual host is the path of the URL, percent-encoded; none or `/` means the broker's `/`.
    `ca_file` (PEM), or `?cafile=` in the URL, is whom to trust with `amqps://`; without it, whom
    the system trusts.
    """

    url: str = attrs.field(validator=_bus_url, repr=_masked)
    ca_file: str | None = None
    exchange: str = attrs.field(default="flashsale", validator=_name)
    requests: str = attrs.field(default="flashsale.purchase.requests", validator=_name)
    accepted: str = attrs.field(default="flashsale.purchase.accepted", validator=_name)
    orders: str = attrs.field(default="flashsale.orders", validator=_name)
    dead_letters: str = attrs.field(default="flashsale.purchase.requests.dlq", validator=_name)
    accepted_partitions: int = attrs.field(default=4, validator=_from_one_to(PARTITIONS_MAX))
    """Enough for four workers to share the promises; each queue has one active consumer."""
    accepted_deadline_ms: int = attrs.field(default=750, validator=_from_one_to(600_000))
    """Over a publish of promises: what a prompt gate leaves of the 0.8 s that a buyer waits for a
    promise. A later confirm would come too late for one; the outcome is unknown."""
    deadline_ms: int = attrs.field(default=10_000, validator=_from_one_to(600_000))
    """Over any other publish: nobody waits for it but a batch that will be tried again."""
    connect_ms: int = attrs.field(default=5_000, validator=_from_one_to(600_000))
    """Over connecting, opening a channel, a check and every other question to the broker."""
    heartbeat_s: int = attrs.field(default=10, validator=_from_one_to(3_600))
    """How often both sides show that they live; a silent broker is given up after 3 (this + 1)."""
    hold_ms_max: int = attrs.field(default=20 * 60_000, validator=_from_one_to(25 * 60_000))
    """How long a message may stay unacknowledged; the broker's own limit is 30 minutes."""

    def accepted_queues(self) -> tuple[str, ...]:
        """Name the queues of ACCEPTED, one per partition."""
        return tuple(f"{self.accepted}.{n}" for n in range(self.accepted_partitions))
