"""The bus, with a span for each publish and for each traced purchase in it."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from opentelemetry.trace import Span, SpanContext, SpanKind

from flashsale_core.events import Channel, OrderEvent, PurchaseAccepted, PurchasesAccepted
from flashsale_core.ports import EventBus
from flashsale_otel.contexts import sampled, written
from flashsale_otel.labels import PURCHASE, PURCHASES, SALE, BusLabels
from flashsale_otel.spans import Described, Spans, fail, failing, kind_of

Fact = PurchasesAccepted | OrderEvent


class TracedBus:
    """A bus; whoever takes a fact goes on below the span that sent it."""

    def __init__(self, inner: Any, spans: Spans, labels: BusLabels) -> None:
        """Stand in front of a bus."""
        self._inner = inner
        self._spans = spans
        self._promises = labels.sending(Channel.ACCEPTED)
        self._events = labels.sending(Channel.ORDERS)

    def __getattr__(self, name: str) -> Any:
        """Pass on what is not traced: features, subscribe, barrier, dead letters, check."""
        return getattr(self._inner, name)

    async def publish(self, facts: Sequence[Fact]) -> None:
        """See `EventBus.publish`."""
        sent: list[Span] = []
        facts = [self._below(fact, sent) for fact in facts]
        if not sent:
            await self._inner.publish(facts)
            return
        is_promise = isinstance(facts[0], PurchasesAccepted)
        batch = self._spans.start(
            self._promises if is_promise else self._events,
            SpanKind.CLIENT,
            None,
            attributes={"messaging.batch.message_count": len(facts), PURCHASES: len(sent)},
            links=[span.get_span_context() for span in sent],
        )
        for span in sent:
            span.add_link(batch.get_span_context())
        try:
            with failing(batch):
                await self._inner.publish(facts)
        except BaseException as error:
            for span in sent:
                fail(span, kind_of(error))
            raise
        finally:
            batch.end()
            for span in sent:
                span.end()

    def _below(self, fact: Fact, sent: list[Span]) -> Fact:
        """Begin the spans of a fact's purchases; whoever takes them shall go on below those."""
        if isinstance(fact, OrderEvent):
            parent = sampled(fact.traceparent)
            if parent is None:
                return fact
            context = self._begin(self._events, fact, fact.sale_id, parent, sent)
            return attrs.evolve(fact, traceparent=written(context))
        before = len(sent)
        purchases = tuple(
            one if one.traceparent is None else self._promised(one, fact.sale_id, sent)
            for one in fact.purchases
        )
        if len(sent) == before:
            return fact
        return attrs.evolve(fact, purchases=purchases)

    def _promised(
        self, purchase: PurchaseAccepted, sale_id: str, sent: list[Span]
    ) -> PurchaseAccepted:
        parent = sampled(purchase.traceparent)
        if parent is None:
            return purchase
        context = self._begin(self._promises, purchase, sale_id, parent, sent)
        return attrs.evolve(purchase, traceparent=written(context))

    def _begin(
        self,
        described: Described,
        fact: PurchaseAccepted | OrderEvent,
        sale_id: str,
        parent: SpanContext,
        sent: list[Span],
    ) -> SpanContext:
        about = {SALE: sale_id, PURCHASE: fact.purchase_id}
        if isinstance(fact, OrderEvent):
            about["flashsale.event.type"] = fact.type.value
        span = self._spans.start(described, SpanKind.PRODUCER, parent, attributes=about)
        if not span.is_recording():
            return parent
        sent.append(span)
        return span.get_span_context()


_: Callable[[Any, Spans, BusLabels], EventBus] = TracedBus
