"""The gate, with a span for each call and for each traced purchase in it."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.trace import SpanContext

from flashsale_core.errors import Unavailable
from flashsale_core.model import Door, PurchaseId, PurchaseRequest, SaleId
from flashsale_core.ports import Claim, ClaimBatch, FollowBatch, GateReply, StockGate
from flashsale_otel.contexts import sampled
from flashsale_otel.in_hand import InHand, current, in_hand
from flashsale_otel.labels import Labels
from flashsale_otel.spans import Member, Spans

_WORDS = re.compile(r"(?<!^)(?=[A-Z])")


class TracedGate:
    """A gate; what is not about purchases goes straight through."""

    def __init__(self, inner: Any, spans: Spans, labels: Labels) -> None:
        """Stand in front of a gate."""
        self._inner = inner
        self._spans = spans
        self._reserve = labels.calling("reserve")
        self._follow = labels.calling("follow")
        self._outcomes: dict[type, str] = {}

    def __getattr__(self, name: str) -> Any:
        """Pass on what is not traced."""
        return getattr(self._inner, name)

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """See `StockGate.reserve`."""
        hand = in_hand()
        # Most calls of a busy door have no traced claim at all.
        places = [
            (at, claim_at, member)
            for at, batch in enumerate(batches)
            for claim_at, claim in enumerate(batch.claims)
            if (hand is not None or claim.request.traceparent is not None)
            and (member := _claimed(hand, batch, claim)) is not None
        ]
        if not places:
            replies: list[GateReply | Unavailable] = await self._inner.reserve(batches)
            return replies

        def judge(replies: Sequence[GateReply | Unavailable]) -> None:
            for at, claim_at, member in places:
                reply = replies[at]
                self._note(member, reply if isinstance(reply, Unavailable) else reply[claim_at])

        return await self._spans.together(
            self._reserve,
            self._reserve,
            [member for _, _, member in places],
            lambda: self._inner.reserve(batches),
            judge=judge,
            within=_batch(),
        )

    def _note(self, member: Member, answer: object) -> None:
        if isinstance(answer, Unavailable):
            member.error = answer.why.value
            return
        kind = type(answer)
        if kind not in self._outcomes:
            self._outcomes[kind] = _WORDS.sub("-", kind.__name__).lower()
        member.outcome = self._outcomes[kind]

    async def follow(self, batches: Sequence[FollowBatch]) -> list[int | Unavailable]:
        """See `StockGate.follow`."""
        places = [
            (at, member)
            for at, batch in enumerate(batches)
            for purchase_id, outcome in _followed(batch)
            if (member := _held(batch.sale_id, purchase_id, outcome)) is not None
        ]
        if not places:
            misfits: list[int | Unavailable] = await self._inner.follow(batches)
            return misfits

        def judge(answers: Sequence[int | Unavailable]) -> None:
            for at, member in places:
                answer = answers[at]
                if isinstance(answer, Unavailable):
                    member.error = answer.why.value

        return await self._spans.together(
            self._follow,
            self._follow,
            [member for _, member in places],
            lambda: self._inner.follow(batches),
            judge=judge,
            within=_batch(),
        )


def _batch() -> SpanContext | None:
    hand = in_hand()
    return None if hand is None else hand.batch


def _claimed(hand: InHand | None, batch: ClaimBatch, claim: Claim) -> Member | None:
    request = claim.request
    if hand is None:
        context = sampled(request.traceparent)
    else:
        begins = batch.door is Door.OUTSIDE and isinstance(request, PurchaseRequest)
        context = hand.of(batch.sale_id, request.purchase_id, request.traceparent, begins=begins)
    if context is None:
        return None
    return Member(sale_id=batch.sale_id, purchase_id=request.purchase_id, context=context)


def _followed(batch: FollowBatch) -> list[tuple[PurchaseId, str]]:
    return [(one, "sold") for one in batch.sold] + [(one, "released") for one, _ in batch.released]


def _held(sale_id: SaleId, purchase_id: PurchaseId, outcome: str) -> Member | None:
    hand = in_hand()
    context = current() if hand is None else hand.of(sale_id, purchase_id, None, begins=False)
    if context is None:
        return None
    return Member(sale_id=sale_id, purchase_id=purchase_id, context=context, outcome=outcome)


_: Callable[[Any, Spans, Labels], StockGate] = TracedGate
