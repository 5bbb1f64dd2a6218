"""What shape each queue has, and how to read a broker's answer that one has another."""

import re
from collections.abc import Mapping

import attrs

from flashsale_rabbitmq.config import RabbitMQConfig

DELIVERY_LIMIT = 1_000
"""A poisoned message ends somewhere; a worker that crashes a few times loses none."""
NO_DELIVERY_LIMIT = -1
"""What RabbitMQ 4 must be told; older ones have no limit unless told, and refuse the number."""
UNLIMITED_SINCE = 4
"""The major version whose quorum queues drop a message after 20 deliveries by default."""
DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<name>[^']+)'.*?current is (?P<found>none|.+)$", re.DOTALL
)
QUORUM_ONLY = frozenset({"x-delivery-limit", "x-dead-letter-strategy"})
"""Arguments that only quorum queues have."""
TYPED_VALUE = re.compile(r"the value '(?P<value>.*)' of type '(?P<type>\w+)'")

Argument = str | int | bool


@attrs.frozen(kw_only=True)
class QueueShape:
    """A queue as it is declared."""

    name: str
    arguments: Mapping[str, Argument]
    durable: bool = True

    def __str__(self) -> str:
        """Show the shape as an operator compares it."""
        listed = ", ".join(f"{name}={value}" for name, value in sorted(self.arguments.items()))
        return f"{'durable' if self.durable else 'transient'}, {listed or 'no arguments'}"


def wanted_queues(config: RabbitMQConfig, broker_major: int) -> tuple[QueueShape, ...]:
    """List the queues that must be there, the dead letters first: the others point at them."""
    quorum: dict[str, Argument] = {"x-queue-type": "quorum"}
    kept = dict(quorum)
    if broker_major >= UNLIMITED_SINCE:
        kept["x-delivery-limit"] = NO_DELIVERY_LIMIT
    consumed = {
        **quorum,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": config.exchange,
        "x-dead-letter-routing-key": config.dead_letters,
    }
    ordered = {**consumed, "x-single-active-consumer": True}
    return (
        QueueShape(name=config.dead_letters, arguments=kept),
        QueueShape(name=config.orders, arguments=kept),
        QueueShape(name=config.requests, arguments=consumed),
        *(QueueShape(name=name, arguments=ordered) for name in config.accepted_queues()),
    )


def as_found(tried: QueueShape, refusal: str) -> QueueShape | None:
    """Read the broker's refusal and correct the shape; None when it says something else.

    The forms: current is none · current is 'classic' · current is the value '5' of type 'long'.
    """
    difference = DIFFERENCE.search(refusal)
    if difference is None:
        return None
    name, found = difference["name"], difference["found"].strip()
    if name == "durable":
        return attrs.evolve(tried, durable=found.strip("'") == "true")
    arguments = dict(tried.arguments)
    if found == "none":
        arguments.pop(name, None)
    else:
        typed = TYPED_VALUE.search(found)
        arguments[name] = _value(typed["value"] if typed is not None else found.strip("'"))
    corrected = attrs.evolve(tried, arguments=arguments)
    return None if corrected == tried else corrected


def without_unseen(found: QueueShape) -> QueueShape:
    """Leave out what the broker does not compare: a queue that is not quorum has none of it."""
    kind = found.arguments.get("x-queue-type", "classic")
    seen = {
        name: value
        for name, value in found.arguments.items()
        if kind == "quorum" or name not in QUORUM_ONLY
    }
    return attrs.evolve(found, arguments={**seen, "x-queue-type": kind})


def _value(text: str) -> Argument:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text
