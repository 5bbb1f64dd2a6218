"""A worker's pieces of work, each in a span of its own: deliveries, what was parked, payments."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import SpanKind, use_span

from flashsale_core.charges import Charge, ChargeAnswer, LookUpAnswer
from flashsale_core.events import Message
from flashsale_core.payment import Held
from flashsale_otel.contexts import sampled
from flashsale_otel.in_hand import InHand, current, taking
from flashsale_otel.labels import OUTCOME, PURCHASE, SALE, Labels
from flashsale_otel.spans import Spans, failing


class TracedParking:
    """`Parking`, of which each delivery and each round of the feeder is a piece of work."""

    def __init__(self, inner: Any, spans: Spans, labels: Labels) -> None:
        """Stand in front of the use case."""
        self._inner = inner
        self._spans = spans
        self._labels = labels

    async def deliver(self, messages: Sequence[Message], *, is_suspect: bool = False) -> None:
        """See `Parking.deliver`."""
        if not messages:
            await self._inner.deliver(messages, is_suspect=is_suspect)
            return
        first, count = messages[0], {"messaging.batch.message_count": len(messages)}
        described = self._labels.bus.processing(first.channel, first.partition)
        with taking(InHand(self._spans, described, SpanKind.CONSUMER, count)):
            await self._inner.deliver(messages, is_suspect=is_suspect)

    async def feed(self) -> int:
        """See `Parking.feed`."""
        with taking(InHand(self._spans, ("feed parked messages", {}), SpanKind.INTERNAL, {})):
            looked_at: int = await self._inner.feed()
            return looked_at


class TracedCashier:
    """`Cashier`, of which each look at a payment is a piece of work."""

    def __init__(self, inner: Any, spans: Spans) -> None:
        """Stand in front of the use case."""
        self._inner = inner
        self._spans = spans

    def __getattr__(self, name: str) -> Any:
        """Pass on what is not traced."""
        return getattr(self._inner, name)

    async def handle(self, held: Held) -> None:
        """See `Cashier.handle`."""
        due = held.due
        parent = sampled(due.traceparent)
        if parent is None:
            await self._inner.handle(held)
            return
        about = {SALE: due.charge.sale_id, PURCHASE: due.charge.purchase_id}
        described = ("pay", {"flashsale.payment.attempt": due.attempt})
        span = self._spans.start(described, SpanKind.INTERNAL, parent, attributes=about)
        with (
            use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False),
            failing(span),
        ):
            await self._inner.handle(held)


class TracedGateway:
    """A payment gateway, with a span for each call of it."""

    def __init__(self, inner: Any, spans: Spans, labels: Labels) -> None:
        """Stand in front of a gateway."""
        self._inner = inner
        self._spans = spans
        self._labels = labels

    async def charge(self, charge: Charge) -> ChargeAnswer:
        """See `PaymentGateway.charge`."""
        answer: ChargeAnswer = await self._asked("charge", charge)
        return answer

    async def look_up(self, key: str) -> LookUpAnswer:
        """See `PaymentGateway.look_up`."""
        answer: LookUpAnswer = await self._asked("look_up", key)
        return answer

    async def _asked(self, method: str, what: object) -> Any:
        call, parent = getattr(self._inner, method), current()
        if parent is None:
            return await call(what)
        described = (f"payment {method}", self._labels.payment)
        span = self._spans.start(described, SpanKind.CLIENT, parent)
        # Current, so that the provider is told whose call it is.
        with use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            with failing(span):
                answer = await call(what)
            span.set_attribute(OUTCOME, type(answer).__name__.lower())
            return answer
