"""The database, with spans where a traced purchase is written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from opentelemetry.trace import SpanKind

from flashsale_core.charges import Charged, Declined, DuePayment
from flashsale_core.decisions import Decision, Settled, Standing
from flashsale_core.events import ParkedMessage
from flashsale_core.model import Door, Epoch, SaleId
from flashsale_core.ports import NOTHING_PROMISED, OrderRepository, ParkedMessages, Payments
from flashsale_otel.contexts import sampled, written
from flashsale_otel.in_hand import current, in_hand
from flashsale_otel.labels import PURCHASE, SALE, Labels
from flashsale_otel.spans import Member, Spans, failing


class _Traced:
    """A port; what is not traced goes straight through."""

    def __init__(self, inner: Any, spans: Spans, labels: Labels) -> None:
        self._inner = inner
        self._spans = spans
        self._labels = labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class TracedOrders(_Traced):
    """Orders; what a row leads to (its event, its payment) goes on below who recorded it."""

    async def record(
        self,
        decisions: Sequence[Decision],
        epochs: Mapping[SaleId, Epoch],
        promised: Mapping[SaleId, Epoch] = NOTHING_PROMISED,
    ) -> list[Standing]:
        """See `OrderRepository.record`."""
        found = [_decided(decision) for decision in decisions]
        members = [member for member in found if member is not None]
        if not members:
            standings: list[Standing] = await self._inner.record(decisions, epochs, promised)
            return standings
        decisions = [
            decision
            if member is None
            else attrs.evolve(decision, traceparent=written(member.context))
            for decision, member in zip(decisions, found, strict=True)
        ]

        def judge(standings: Sequence[Standing]) -> None:
            for member, standing in zip(found, standings, strict=True):
                if member is not None:
                    member.outcome = standing.status.value.lower()

        name, about = self._labels.writing("BATCH", "orders")
        if len(decisions) > 1:
            about["db.operation.batch.size"] = len(decisions)
        hand = in_hand()
        return await self._spans.together(
            self._labels.writing("INSERT", "orders"),
            (name, about),
            members,
            lambda: self._inner.record(decisions, epochs, promised),
            judge=judge,
            within=None if hand is None else hand.batch,
        )


def _decided(decision: Decision) -> Member | None:
    hand, sale_id, purchase_id = in_hand(), decision.sale_id, decision.purchase_id
    if hand is None:
        context = sampled(decision.traceparent)
    else:
        begins = decision.door is Door.OUTSIDE
        context = hand.of(sale_id, purchase_id, decision.traceparent, begins=begins)
    if context is None:
        return None
    return Member(sale_id=sale_id, purchase_id=purchase_id, context=context)


class TracedPayments(_Traced):
    """Payments; an end that is stored is a span below the payment's own."""

    async def settle(self, due: DuePayment, end: Charged | Declined) -> Settled | None:
        """See `Payments.settle`."""
        parent = current()
        if parent is None:
            unseen: Settled | None = await self._inner.settle(due, end)
            return unseen
        about = {SALE: due.charge.sale_id, PURCHASE: due.charge.purchase_id}
        described = self._labels.writing("UPDATE", "orders")
        span = self._spans.start(described, SpanKind.CLIENT, parent, attributes=about)
        try:
            with failing(span):
                settled: Settled | None = await self._inner.settle(due, end)
            if settled is not None:
                span.set_attribute("flashsale.outcome", settled.standing.status.value.lower())
            return settled
        finally:
            span.end()


class TracedParked(_Traced):
    """Parked messages; the purchase's span tells that it was set aside, and why."""

    async def park(self, messages: Sequence[ParkedMessage]) -> list[bool]:
        """See `ParkedMessages.park`."""
        news: list[bool] = await self._inner.park(messages)
        hand = in_hand()
        for message in messages if hand is not None else ():
            if hand is not None and message.sale_id is not None and message.purchase_id is not None:
                about = {"flashsale.parked": message.status.value, "error.type": message.reason}
                hand.note((message.sale_id, message.purchase_id), "parked", about)
        return news


class TracedDatabase:
    """A database, some of whose ports are traced."""

    def __init__(self, inner: Any, spans: Spans, labels: Labels) -> None:
        """Stand in front of a database."""
        self._inner = inner
        self.orders = TracedOrders(inner.orders, spans, labels)
        self.payments = TracedPayments(inner.payments, spans, labels)
        self.parked = TracedParked(inner.parked, spans, labels)

    def __getattr__(self, name: str) -> Any:
        """Pass on the rest."""
        return getattr(self._inner, name)


_: Callable[[Any, Spans, Labels], OrderRepository] = TracedOrders
__: Callable[[Any, Spans, Labels], Payments] = TracedPayments
___: Callable[[Any, Spans, Labels], ParkedMessages] = TracedParked
