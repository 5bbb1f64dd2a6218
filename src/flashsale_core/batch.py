"""What one batch of the cold path is made of, what it has come to, and what it leaves over."""

import attrs

from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.events import (
    Message,
    ParkedMessage,
    ParkedStatus,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import Door, Epoch, ItemId, PurchaseRequest, Sale, SaleId
from flashsale_core.ports import Codec, Decision
from flashsale_core.retry import treatment_of
from flashsale_core.validation import takes_payment

NO_EPOCH = Epoch(0)
"""Of a message that names none: the outside door's."""


@attrs.frozen(kw_only=True)
class Asked:
    """One purchase of a batch: which message brought it, for which sale, by which door."""

    at: int
    sale_id: SaleId
    door: Door
    request: PurchaseRequest
    accepted: PurchaseAccepted | None = None
    """The promise that the message carries; None at the outside door."""
    epoch: Epoch = NO_EPOCH
    """The epoch that the message carries."""


@attrs.define(kw_only=True)
class Work:
    """What one batch has come to: what to record, what to follow, what is left over."""

    left: list[list[ParkedMessage]]
    barriers: list[tuple[str, int]] = attrs.field(factory=list)
    """Barriers that stand in the batch: rebuild and partition."""
    decisions: dict[tuple[SaleId, str], Decision] = attrs.field(factory=dict)
    epochs: dict[SaleId, Epoch] = attrs.field(factory=dict)
    """Under which epoch the gate held the units of a sale's decisions."""
    promised: dict[SaleId, Epoch] = attrs.field(factory=dict)
    """Of sales whose gate is lost: which epoch the messages carry that are recorded without it."""
    sales: dict[SaleId, Sale] = attrs.field(factory=dict)
    has_gateway: bool = False
    """Whether what has a price must be paid for."""


@attrs.frozen(kw_only=True)
class Processed:
    """What came of a batch that is durable now, and what its caller still has to do."""

    left: list[list[ParkedMessage]]
    """Per message, what must be set aside before anything is acknowledged."""
    barriers: tuple[tuple[str, int], ...] = ()
    """Barriers that are passed as soon as that is done: rebuild and partition."""


def request_of(accepted: PurchaseAccepted, item_id: ItemId) -> PurchaseRequest:
    """Write what was promised as what was asked."""
    return PurchaseRequest(
        purchase_id=accepted.purchase_id,
        user_id=accepted.user_id,
        item_id=item_id,
        quantity=accepted.quantity,
        requested_at_ms=accepted.requested_at_ms,
        source=accepted.source,
        event_id=accepted.event_id,
        payment_token=accepted.payment_token,
        traceparent=accepted.traceparent,
    )


def decide(
    work: Work,
    one: Asked,
    reason: str | None,
    accepted_at_ms: int = 0,
    held_token: str | None = None,
) -> None:
    """Want a row: CONFIRMED or PENDING_PAYMENT, or REJECTED with its reason.

    `held_token` is what the gate holds of the buyer: a message of another service that has the
    same id brings none, and may come first.
    """
    request, promised = one.request, one.accepted
    sale = work.sales.get(one.sale_id)
    is_paid_for = work.has_gateway and sale is not None and takes_payment(sale.terms)
    awaits_payment = is_paid_for and reason is None
    decision = Decision(
        sale_id=one.sale_id,
        item_id=request.item_id,
        purchase_id=request.purchase_id,
        user_id=request.user_id,
        quantity=request.quantity,
        source=request.source,
        event_id=request.event_id,
        door=Door.HTTP if promised is not None else Door.OUTSIDE,
        requested_at_ms=request.requested_at_ms,
        accepted_at_ms=promised.accepted_at_ms if promised is not None else accepted_at_ms,
        reason=reason,
        traceparent=request.traceparent,
        awaits_payment=awaits_payment,
        payment_token=(held_token or request.payment_token) if awaits_payment else None,
    )
    # The first of a batch decides: the gate answered the later ones as its replays.
    work.decisions.setdefault((one.sale_id, request.purchase_id), decision)


def dead(
    message: Message, wrong: Corrupt, one: Asked | None = None, *, holds_unit: bool = False
) -> ParkedMessage:
    """Set aside what never will succeed."""
    return ParkedMessage(
        message=message,
        status=ParkedStatus.DEAD,
        reason=wrong.code,
        detail=wrong.detail,
        sale_id=one.sale_id if one is not None else None,
        purchase_id=one.request.purchase_id if one is not None else None,
        holds_unit=holds_unit,
    )


def waiting(codec: Codec, message: Message, one: Asked, away: Unavailable) -> ParkedMessage:
    """Set aside what its sale does not admit now."""
    return ParkedMessage(
        message=alone(codec, message, one),
        status=ParkedStatus.WAITING,
        reason=away.why.value,
        detail=away.detail,
        sale_id=one.sale_id,
        purchase_id=one.request.purchase_id,
    )


def alone(codec: Codec, message: Message, one: Asked) -> Message:
    """Cut a message of many purchases down to the one that is set aside."""
    if one.accepted is None:
        return message
    fact = PurchasesAccepted(sale_id=one.sale_id, epoch=one.epoch, purchases=(one.accepted,))
    return _rewritten(codec, message, fact)


def halves(codec: Codec, message: Message, fact: PurchasesAccepted) -> list[Message]:
    """Cut a message of many purchases in two."""
    half = len(fact.purchases) // 2
    parts = (fact.purchases[:half], fact.purchases[half:])
    return [_rewritten(codec, message, attrs.evolve(fact, purchases=part)) for part in parts]


def _rewritten(codec: Codec, message: Message, fact: PurchasesAccepted) -> Message:
    encoded = codec.encode(fact)
    return attrs.evolve(message, body=encoded.body, content_type=encoded.content_type)


def failed(message: Message, error: Exception) -> ParkedMessage:
    """Set aside what failed by itself, as its fault says."""
    status = treatment_of(error).parks or ParkedStatus.RETRYING
    known = error if isinstance(error, Corrupt) else None
    return ParkedMessage(
        message=message,
        status=status,
        reason=known.code if known is not None else type(error).__name__,
        detail=(known.detail if known is not None else str(error))[:500],
        attempts=1 if treatment_of(error).counts else 0,
    )
