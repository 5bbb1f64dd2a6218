"""What one batch of the cold path is made of, what it has come to, and what it leaves over."""

from collections.abc import Iterable, Sequence

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
from flashsale_core.ports import Codec, Decision, Standing
from flashsale_core.retry import treatment_of
from flashsale_core.validation import takes_payment

NO_EPOCH = Epoch(0)
"""Of a message that names none: the outside door's."""

PORTION_BYTES = 80_000
"""Messages of a delivery that are decoded at once, some 1,000 accepted purchases: a delivery
decoded whole stops the process for half a second, and whatever waits meanwhile misses its deadline.
"""


@attrs.frozen(kw_only=True)
class Asked:
    """One purchase of a batch: which message brought it, for which sale, by which door."""

    at: int
    sale_id: SaleId
    item_id: ItemId
    door: Door
    request: PurchaseRequest | PurchaseAccepted
    """What is asked; a promise that the message carries is asked for as it is."""
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

    def begin_again(self) -> None:
        """Forget what was recorded and followed; what is left over stays."""
        self.decisions.clear()
        self.epochs.clear()
        self.promised.clear()


@attrs.frozen(kw_only=True)
class Processed:
    """What came of a batch that is durable now, and what its caller still has to do."""

    left: list[list[ParkedMessage]]
    """Per message, what must be set aside before anything is acknowledged."""
    barriers: tuple[tuple[str, int], ...] = ()
    """Barriers that are passed as soon as that is done: rebuild and partition."""


def from_outside(sale_id: SaleId, request: PurchaseRequest, at: int = 0) -> Asked:
    """Say that a purchase was asked for without a promise."""
    return Asked(
        at=at, sale_id=sale_id, item_id=request.item_id, door=Door.OUTSIDE, request=request
    )


def portions(messages: Sequence[Message]) -> Iterable[tuple[int, Sequence[Message]]]:
    """Cut a delivery into what is decoded at once, each with the place of its first message."""
    first, size = 0, 0
    for at, message in enumerate(messages, 1):
        size += len(message.body or b"")
        if size >= PORTION_BYTES or at == len(messages):
            yield first, messages[first:at]
            first, size = at, 0


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
        item_id=one.item_id,
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
    return _told(_rewritten(codec, message, fact), one.accepted.traceparent)


def _told(message: Message, traceparent: str | None) -> Message:
    """Say outside which trace a promise belongs to: nobody who sets it aside reads its body."""
    if traceparent is None or any(name == "traceparent" for name, _ in message.headers):
        return message
    headers = (*message.headers, ("traceparent", traceparent.encode()))
    return attrs.evolve(message, headers=headers)


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


def traced(standing: Standing, traceparent: str | None) -> Standing:
    """Add whose request it was, for the log."""
    return standing if traceparent is None else attrs.evolve(standing, traceparent=traceparent)
