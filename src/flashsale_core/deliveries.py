"""What goes between a bus and those who use it, and in what brokers differ."""

from typing import Final

import attrs

from flashsale_core.events import Channel, Message


@attrs.frozen(kw_only=True)
class BusFeatures:
    """What really differs between brokers; the contract suite reads it."""

    has_keys: bool
    """Messages carry a key of their own."""
    numbers_messages: bool
    """The broker numbers messages, so two equal ones differ in `origin`."""
    accepted_partitions: int
    """On how many partitions a barrier lands."""
    carries_null_bodies: bool = True
    """A body may be absent; where it cannot, an absent one arrives empty."""
    confirms_after_acknowledge: bool = False
    """`publish` to ACCEPTED returns only after a subscriber acknowledged the fact's delivery."""


@attrs.frozen(kw_only=True)
class Delivery:
    """Messages of one partition in order. The next of that partition comes after this one ended.

    `token` is the adapter's own, and means nothing to others.
    """

    channel: Channel
    partition: int
    messages: tuple[Message, ...]
    is_suspect: bool = attrs.field(default=False, eq=False)
    """May have been in hand when a worker died: handed out before, or the first since joining."""
    token: object = attrs.field(repr=False, eq=False)


ATTRIBUTE_PREFIX: Final = "ce_"
"""What the names of CloudEvents' attributes begin with in `Encoded.headers`."""


@attrs.frozen(kw_only=True)
class Encoded:
    """A fact as bytes, and how a reader recognises their form.

    A bus whose binding of CloudEvents has another prefix than `ATTRIBUTE_PREFIX` writes that one.
    """

    body: bytes
    content_type: str
    headers: tuple[tuple[str, bytes], ...] = ()
