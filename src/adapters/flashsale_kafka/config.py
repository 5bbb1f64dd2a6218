"""What an operator may set of the Kafka bus."""

import re
from typing import Any

import attrs

from flashsale_core.events import Channel

SCHEME = "kafka://"
BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", re.ASCII)
TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}", re.ASCII)
"""What Kafka itself allows."""
SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PARTITIONS_MAX = 1_000
"""A barrier is one message per partition, and a worker holds a buffer for each."""
WAIT_MS_MAX = 600_000
SESSION_MS_MIN = 1_000
"""A broker has a lower limit of its own, 6 s as shipped (`group.min.session.timeout.ms`)."""


def _bus_url(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    # The value is not repeated: somebody may have put a password into it.
    brokers = value.removeprefix(SCHEME).removesuffix("/").split(",")
    if not value.startswith(SCHEME) or not all(BROKER.fullmatch(broker) for broker in brokers):
        message = (
            f"{attribute.name} must be kafka://host:port[,host:port]; user name and password are "
            "settings of their own"
        )
        raise ValueError(message)


def _one_of(allowed: tuple[str, ...]) -> Any:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
        if value not in allowed:
            message = f"{attribute.name} must be one of {', '.join(allowed)}"
            raise ValueError(message)

    return check


def _between(low: int, high: int) -> Any:
    def check(_: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
        if not low <= value <= high:
            message = f"{attribute.name} must be from {low} to {high}"
            raise ValueError(message)

    return check


def _topic(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not TOPIC.fullmatch(value) or value in (".", ".."):
        message = f"{attribute.name} must be 1 to 249 characters of A-Z a-z 0-9 . _ -"
        raise ValueError(message)


def _group(_: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not value:
        message = f"{attribute.name} must not be empty"
        raise ValueError(message)


@attrs.frozen(kw_only=True)
class KafkaConfig:
    """Where the brokers are, what the topics are called, and how long to wait.

    `ca_file` (PEM) is whom to trust with SSL and SASL_SSL; without it, whom the system trusts.
    """

    url: str = attrs.field(validator=_bus_url, repr=False)
    security_protocol: str = attrs.field(default="PLAINTEXT", validator=_one_of(SECURITY_PROTOCOLS))
    sasl_mechanism: str = attrs.field(default="PLAIN", validator=_one_of(SASL_MECHANISMS))
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None
    requests: str = attrs.field(default="flashsale.purchase.requests", validator=_topic)
    accepted: str = attrs.field(default="flashsale.purchase.accepted", validator=_topic)
    orders: str = attrs.field(default="flashsale.orders", validator=_topic)
    dead_letters: str = attrs.field(default="flashsale.purchase.requests-dlt", validator=_topic)
    requests_group: str = attrs.field(default="flashsale-purchase-processor", validator=_group)
    accepted_group: str = attrs.field(default="flashsale-purchase-accepted", validator=_group)
    partitions: int = attrs.field(default=6, validator=_between(1, PARTITIONS_MAX))
    """Of every topic; divides well among one, two, three or six workers."""
    publish_deadline_ms: int = attrs.field(default=750, validator=_between(1, WAIT_MS_MAX))
    """Over a publish of promises: what a prompt gate leaves of the 0.8 s that a buyer waits for a
    promise. A later confirm would come too late for one; the outcome is unknown."""
    deadline_ms: int = attrs.field(default=10_000, validator=_between(1, WAIT_MS_MAX))
    """Over any other publish: nobody waits for it but a batch that will be tried again."""
    connect_ms: int = attrs.field(default=5_000, validator=_between(1, WAIT_MS_MAX))
    """Over connecting and over every question to a broker."""
    session_ms: int = attrs.field(default=10_000, validator=_between(SESSION_MS_MIN, WAIT_MS_MAX))
    """How long a worker may be silent before its partitions go to the others."""

    def __attrs_post_init__(self) -> None:
        """Refuse SASL without both halves of the secret."""
        if self.security_protocol.startswith("SASL") and not (self.username and self.password):
            message = f"username and password must be set with {self.security_protocol}"
            raise ValueError(message)

    @property
    def brokers(self) -> tuple[str, ...]:
        """List `host:port` of the brokers to ask first."""
        return tuple(self.url.removeprefix(SCHEME).removesuffix("/").split(","))

    @property
    def topics(self) -> dict[Channel, str]:
        """Name the topic of every channel."""
        return {
            Channel.REQUESTS: self.requests,
            Channel.ACCEPTED: self.accepted,
            Channel.ORDERS: self.orders,
            Channel.DEAD_LETTERS: self.dead_letters,
        }

    @property
    def groups(self) -> dict[Channel, str]:
        """Name the group of the channels that the engine consumes."""
        return {Channel.REQUESTS: self.requests_group, Channel.ACCEPTED: self.accepted_group}
