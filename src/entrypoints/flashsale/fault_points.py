"""The fault points: places where a process may be told to die, to dawdle or to fail.

`Point` is the one list of them; a new one is one line of it. Each names a port, methods of that
port, and the moment at which a call of them passes the point. A point costs nothing unless it is
armed: only then does anything stand between the use cases and the port.
"""

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import attrs

from flashsale_core.errors import Why
from flashsale_core.events import OrderEvent, PurchasesAccepted


class Permission(StrEnum):
    """A yes that has to be said in so many letters."""

    YES = "yes"


class Moment(Enum):
    """When a call passes its point."""

    BEFORE = "before"
    """Nothing has been done yet."""
    SENT = "sent"
    """It is on its way, and its reply has not been waited for."""
    AFTER = "after"
    """It is done, and nobody has heard of it yet."""
    WITHIN = "within"
    """The adapter itself stops there: the port has a hook."""


def _always(*_: Any, **__: Any) -> bool:
    return True


@attrs.frozen
class Site:
    """Where a point lies: `when` says of a call's arguments whether they pass it."""

    name: str
    port: str
    methods: tuple[str, ...]
    moment: Moment
    when: Callable[..., bool] = _always
    found: Callable[[Any], bool] = _always
    """Says of a call's answer whether it passes a point that lies after the call."""


def _claims(batches: Any) -> bool:
    return any(batch.claims for batch in batches)


def _promises(facts: Any) -> bool:
    return any(isinstance(fact, PurchasesAccepted) for fact in facts)


def _tells(facts: Any) -> bool:
    return any(isinstance(fact, OrderEvent) for fact in facts)


def _marks(*given: Any) -> bool:
    """Say whether marks are sent: by themselves (three arguments), or along with claims (one)."""
    return len(given) > 1 or any(batch.queued for batch in given[0])


class Point(Enum):
    """Every fault point: as a purchase passes them, a payment, and the rebuild of a gate."""

    AFTER_RESERVE = Site("after-reserve", "gate", ("reserve",), Moment.AFTER, _claims)
    AFTER_PUBLISH_SENT = Site("after-publish-sent", "bus", ("publish",), Moment.SENT, _promises)
    AFTER_CONFIRM = Site("after-confirm", "bus", ("publish",), Moment.AFTER, _promises)
    BEFORE_MARK = Site("before-mark", "gate", ("mark_queued", "reserve"), Moment.BEFORE, _marks)
    AFTER_FETCH = Site("after-fetch", "subscription", ("take",), Moment.AFTER)
    BEFORE_COMMIT = Site("before-commit", "database", ("before_commit",), Moment.WITHIN)
    AFTER_COMMIT = Site("after-commit", "orders", ("record",), Moment.AFTER)
    BEFORE_FOLLOW = Site("before-follow", "gate", ("follow",), Moment.BEFORE)
    BEFORE_ACK = Site("before-ack", "subscription", ("acknowledge",), Moment.BEFORE)
    AFTER_OUTBOX_PUBLISH = Site("after-outbox-publish", "bus", ("publish",), Moment.AFTER, _tells)

    AFTER_CLAIM = Site("after-claim", "payments", ("claim_due",), Moment.AFTER, found=bool)
    BEFORE_CHARGE = Site("before-charge", "payment_gateway", ("charge",), Moment.BEFORE)
    AFTER_CHARGE = Site("after-charge", "payment_gateway", ("charge",), Moment.AFTER)
    BEFORE_SETTLE = Site("before-settle", "payments", ("settle",), Moment.BEFORE)
    AFTER_SETTLE = Site("after-settle", "payments", ("settle",), Moment.AFTER)

    AFTER_RAISE_EPOCH = Site("after-raise-epoch", "catalogue", ("raise_epoch",), Moment.AFTER)
    AFTER_DISARM = Site("after-disarm", "gate", ("disarm",), Moment.AFTER)
    AFTER_SURVIVORS = Site("after-survivors", "bus", ("barrier",), Moment.BEFORE)
    AFTER_BARRIER = Site("after-barrier", "bus", ("barrier",), Moment.AFTER)
    AFTER_BEGIN_LOAD = Site("after-begin-load", "gate", ("begin_load",), Moment.AFTER, found=bool)
    BEFORE_BOOKS = Site("before-books", "catalogue", ("books",), Moment.BEFORE)
    AFTER_BOOKS = Site("after-books", "catalogue", ("books",), Moment.AFTER)
    AFTER_LOAD_CHUNK = Site("after-load-chunk", "gate", ("load",), Moment.AFTER)
    BEFORE_ARM = Site("before-arm", "gate", ("arm",), Moment.BEFORE)
    AFTER_ARM = Site("after-arm", "gate", ("arm",), Moment.AFTER)

    @property
    def site(self) -> Site:
        """Where it lies."""
        site: Site = self.value
        return site


BY_NAME = {point.site.name: point for point in Point}
AWAY = {
    "gate": Why.GATE_AWAY,
    "bus": Why.BUS_AWAY,
    "subscription": Why.BUS_AWAY,
    "payment_gateway": Why.PAYMENT_AWAY,
}
"""What a failing port says; the others are the database's."""
IN_DATABASE = ("orders", "catalogue", "outbox", "parked", "payments")
"""The ports that one database is."""
