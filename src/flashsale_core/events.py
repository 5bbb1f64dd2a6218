"""Facts, named in the past tense, and the messages that carry them."""

from enum import StrEnum

import attrs

from flashsale_core.model import (
    Epoch,
    EventId,
    ItemId,
    PurchaseId,
    SaleId,
    Source,
    UserId,
)


class Channel(StrEnum):
    """The ways through the bus; an adapter maps each to its topics or queues."""

    REQUESTS = "requests"
    """The outside door: any service may write here; nothing is promised."""
    ACCEPTED = "accepted"
    """The engine's own: what was promised, in partitions that keep their order."""
    ORDERS = "orders"
    """Follow-up facts for other services."""
    DEAD_LETTERS = "dead-letters"
    """Copies, for other tools, of messages that can never succeed."""


ORIGIN_HEADER = "flashsale-origin"
"""On a dead letter's copy, with every broker: the `origin` of the message, UTF-8."""
REASON_HEADER = "flashsale-reason"
"""On a dead letter's copy, with every broker: the reason's code, UTF-8."""


@attrs.frozen(kw_only=True)
class PurchaseAccepted:
    """Units were taken for this purchase; it must end as an order."""

    purchase_id: PurchaseId
    user_id: UserId
    quantity: int
    accepted_at_ms: int
    requested_at_ms: int
    source: Source
    event_id: EventId | None = None
    payment_token: str | None = attrs.field(default=None, repr=False)
    traceparent: str | None = None


@attrs.frozen(kw_only=True)
class PurchasesAccepted:
    """What one call of the gate accepted for one sale: one message, one confirm."""

    sale_id: SaleId
    epoch: Epoch
    purchases: tuple[PurchaseAccepted, ...]


@attrs.frozen(kw_only=True)
class Barrier:
    """A marker on every partition of ACCEPTED: nothing of an epoch before `epochs` comes later."""

    rebuild_id: str
    epochs: tuple[tuple[SaleId, Epoch], ...]


class OrderEventType(StrEnum):
    """Which follow-up fact; the value is part of the event's id."""

    ORDER_CREATED = "OrderCreated"
    PURCHASE_REJECTED = "PurchaseRejected"


@attrs.frozen(kw_only=True)
class OrderEvent:
    """`OrderCreated` (the order is CONFIRMED) or `PurchaseRejected` (with the reason).

    `occurrence_id` is a UUIDv5 of sale, purchase id and type, so consumers can drop repeats:
    the relay delivers at least once. `event_id` is the flash-sale event's id, the client's data.
    """

    occurrence_id: str
    type: OrderEventType
    purchase_id: PurchaseId
    user_id: UserId
    item_id: ItemId
    sale_id: SaleId
    quantity: int
    source: Source
    requested_at_ms: int
    occurred_at_ms: int
    event_id: EventId | None = None
    reason: str | None = None
    traceparent: str | None = None


@attrs.frozen(kw_only=True)
class Message:
    """A message as it was taken from a channel, bytes untouched.

    `origin` names the place it came from and stays the same when it is delivered again
    (`topic:partition:offset`, or a digest where a broker numbers nothing).
    """

    channel: Channel
    body: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    content_type: str | None = None
    origin: str
    partition: int = 0
    written_at_ms: int | None = None
    """When the broker says it was written, UTC; None where it does not say."""


class ParkedStatus(StrEnum):
    """What becomes of a message that was consumed and is not done."""

    WAITING = "WAITING"
    """Its sale is not sellable now; it goes back through the gate when it is."""
    RETRYING = "RETRYING"
    """It failed for an unknown reason and is tried again, off its partition's path."""
    DEAD = "DEAD"
    """It never will succeed by itself: a dead letter."""
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"


KEY_REUSED = "key-reused"
"""Reason of a dead letter: its purchase id was used before, with other content."""


@attrs.frozen(kw_only=True)
class ParkedMessage:
    """A message set aside, with why; `parked_id` is given by the store."""

    message: Message
    status: ParkedStatus
    reason: str
    detail: str = ""
    sale_id: SaleId | None = None
    purchase_id: PurchaseId | None = None
    holds_unit: bool = False
    promised_under: Epoch | None = None
    """Under which epoch its unit was promised, where `holds_unit` is this process's belief: the
    store keeps it only while no later life was loaded, judged as it is written."""
    user_id: UserId | None = None
    """Whose unit it holds: the books that a gate is loaded from need the user and the quantity."""
    quantity: int | None = None
    attempts: int = 0
    parked_id: int | None = None

    @property
    def is_its_purchase(self) -> bool:
        """Say whether this is the purchase that its id names, not somebody else under that id."""
        return self.reason != KEY_REUSED
