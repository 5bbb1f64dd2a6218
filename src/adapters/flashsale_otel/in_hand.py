"""The batch that a worker has in hand, and the spans of its purchases."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.trace import (
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
)

from flashsale_core.model import PurchaseId, SaleId
from flashsale_otel.contexts import sampled
from flashsale_otel.labels import PURCHASE, SALE, Value
from flashsale_otel.spans import Described, Spans, fail, kind_of

_Key = tuple[SaleId, PurchaseId]


class InHand:
    """What is done with one delivery: a span, and one for each traced purchase of it.

    Nothing is begun before the first traced purchase is seen: a delivery of others costs nothing.
    """

    def __init__(
        self, spans: Spans, described: Described, kind: SpanKind, about_batch: Mapping[str, Value]
    ) -> None:
        """Begin its time."""
        self._spans = spans
        self._described = described
        self._kind = kind
        self._about_batch = about_batch
        self._began_ns = time.time_ns()
        self._batch: Span | None = None
        self._purchases: dict[_Key, Span] = {}

    @property
    def batch(self) -> SpanContext | None:
        """Tell the delivery's own context, once there is one."""
        return None if self._batch is None else self._batch.get_span_context()

    def of(
        self, sale_id: SaleId, purchase_id: PurchaseId, traceparent: str | None, *, begins: bool
    ) -> SpanContext | None:
        """Find or begin a purchase's span; None of one that is not traced.

        `begins` lets one that came without a trace begin its own: it came from outside.
        """
        span = self._purchases.get((sale_id, purchase_id))
        if span is None:
            parent = sampled(traceparent)
            if parent is None and (traceparent is not None or not begins):
                return None
            about: dict[str, Value] = {SALE: sale_id, PURCHASE: purchase_id}
            span = self._begin(parent, about)
            self._purchases[sale_id, purchase_id] = span
        return span.get_span_context() if span.is_recording() else None

    def _begin(self, parent: SpanContext | None, about: Mapping[str, Value]) -> Span:
        span = self._spans.start(
            self._described, self._kind, parent, attributes=about, since_ns=self._began_ns
        )
        if not span.is_recording():
            return span
        place = parent or span.get_span_context()
        if self._batch is None:
            self._batch = self._spans.start(
                self._described,
                self._kind,
                None,
                attributes=self._about_batch,
                links=[place],
                since_ns=self._began_ns,
            )
        else:
            self._batch.add_link(place)
        span.add_link(self._batch.get_span_context())
        return span

    def note(self, key: _Key, event: str, about: Mapping[str, Value]) -> None:
        """Write into a purchase's span what happened to it, where it has one."""
        span = self._purchases.get(key)
        if span is not None:
            span.add_event(event, about)

    def end(self, error: BaseException | None) -> None:
        """End every span; what failed comes again, in spans of its own."""
        now_ns = time.time_ns()
        spans = [*self._purchases.values(), *([self._batch] if self._batch is not None else [])]
        for span in spans:
            if error is not None:
                fail(span, kind_of(error))
            span.end(now_ns)


_IN_HAND: ContextVar[InHand | None] = ContextVar("flashsale_in_hand", default=None)


def in_hand() -> InHand | None:
    """Tell what this task has in hand."""
    return _IN_HAND.get()


@contextmanager
def taking(hand: InHand) -> Iterator[None]:
    """Have it in hand; leaving ends its spans."""
    token = _IN_HAND.set(hand)
    try:
        yield
    except BaseException as error:
        hand.end(error)
        raise
    else:
        hand.end(None)
    finally:
        _IN_HAND.reset(token)


def current() -> SpanContext | None:
    """Tell the span that this task works in, where it is recorded."""
    span = get_current_span()
    return span.get_span_context() if span.is_recording() else None
