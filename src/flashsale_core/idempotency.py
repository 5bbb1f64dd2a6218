"""When two requests are one purchase, and what its second coming is answered."""

from enum import Enum, auto
from typing import assert_never

from flashsale_core.events import PurchaseAccepted
from flashsale_core.model import GateRecord, PurchaseRequest, PurchaseState


def is_same_purchase(record: GateRecord, request: PurchaseRequest | PurchaseAccepted) -> bool:
    """Compare the fingerprints: user and quantity, under one (sale, purchase id).

    Never the time, the source or the event id: a client that tries again may send other ones.
    A record without a user was burned by its row alone: it stands for any content.
    """
    return not record.user_id or (
        record.user_id == request.user_id and record.quantity == request.quantity
    )


class Replay(Enum):
    """What the HTTP door does for a purchase that the gate knows already."""

    PUBLISH = auto()
    """Not known to be on the bus under this epoch: publish (again) and answer after the confirm."""
    ANSWER = auto()
    """The promise is safe: answer it again."""
    ENDED = auto()
    """It ended without an order: say why."""


def replay_of(state: PurchaseState) -> Replay:
    """Decide by the record's state alone. Only Q and S may be promised without a new confirm."""
    match state:
        case PurchaseState.RESERVED | PurchaseState.OUTSIDE:
            return Replay.PUBLISH
        case PurchaseState.QUEUED | PurchaseState.SOLD:
            return Replay.ANSWER
        case PurchaseState.ENDED:
            return Replay.ENDED
    assert_never(state)
