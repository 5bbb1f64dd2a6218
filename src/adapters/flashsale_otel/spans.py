"""Spans of a purchase, and of the batch that it went in."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.model import PurchaseId, SaleId
from flashsale_otel.contexts import below
from flashsale_otel.labels import ERROR, PURCHASE, PURCHASES, SALE, Value

T = TypeVar("T")
Described = tuple[str, Mapping[str, Value]]
"""A span's name and attributes."""


@attrs.define(kw_only=True)
class Member:
    """A traced purchase in a batch: below which span its own stands, and what came of it."""

    sale_id: SaleId
    purchase_id: PurchaseId
    context: SpanContext
    outcome: str | None = None
    error: str | None = None

    @property
    def attributes(self) -> dict[str, Value]:
        """Say whose it is. Neither a user nor an address: traces are seen by many."""
        return {SALE: self.sale_id, PURCHASE: self.purchase_id}


class Spans:
    """Makes spans by one tracer."""

    def __init__(self, tracer: Tracer) -> None:
        """Take it; nothing is looked up globally."""
        self._tracer = tracer

    def start(
        self,
        described: Described,
        kind: SpanKind,
        parent: SpanContext | None,
        *,
        attributes: Mapping[str, Value] | None = None,
        links: Sequence[SpanContext] = (),
        since_ns: int | None = None,
    ) -> Span:
        """Begin a span below its parent, or a trace of its own."""
        name, about = described
        return self._tracer.start_span(
            name,
            context=below(parent),
            kind=kind,
            attributes={**about, **(attributes or {})},
            links=[Link(one) for one in links],
            start_time=since_ns,
            record_exception=False,
            set_status_on_exception=False,
        )

    async def together(
        self,
        of_one: Described,
        of_all: Described,
        members: Sequence[Member],
        work: Callable[[], Awaitable[T]],
        *,
        judge: Callable[[T], None] | None = None,
        within: SpanContext | None = None,
    ) -> T:
        """Do what is done for all members at once; a span for the call, and one for each of them.

        The call's links to each member, a member's to the call, and all have its times. `judge`
        fills in what came of the members.
        """
        batch = self.start(
            of_all,
            SpanKind.CLIENT,
            within,
            attributes={PURCHASES: len(members)},
            links=[one.context for one in members],
        )
        began_ns = time.time_ns()
        try:
            with failing(batch, members):
                result = await work()
            if judge is not None:
                judge(result)
            return result
        finally:
            self._end_all(of_one, members, batch, began_ns)

    def _end_all(
        self, described: Described, members: Sequence[Member], batch: Span, began_ns: int
    ) -> None:
        ended_ns = time.time_ns()
        batch.end(ended_ns)
        place = batch.get_span_context()
        for member in members:
            span = self.start(
                described,
                SpanKind.CLIENT,
                member.context,
                attributes=member.attributes,
                links=[place],
                since_ns=began_ns,
            )
            end(span, member, ended_ns)


def end(span: Span, member: Member, at_ns: int | None = None) -> None:
    """End a member's span with what came of it."""
    if member.outcome is not None:
        span.set_attribute("flashsale.outcome", member.outcome)
    if member.error is not None:
        fail(span, member.error)
    span.end(at_ns)


def fail(span: Span, error: str) -> None:
    """Say that it failed. Only the kind is told: a text may hold what traces must not."""
    span.set_attribute(ERROR, error)
    span.set_status(Status(StatusCode.ERROR))


def kind_of(error: BaseException) -> str:
    """Name an error by its stable code."""
    if isinstance(error, Unavailable):
        return error.why.value
    return error.code if isinstance(error, Corrupt) else type(error).__qualname__


@contextmanager
def failing(span: Span, members: Sequence[Member] = ()) -> Iterator[Any]:
    """Mark a span, and what it was done for, when what is done inside fails."""
    try:
        yield
    except BaseException as error:
        kind = kind_of(error)
        fail(span, kind)
        for member in members:
            member.error = kind
        raise
