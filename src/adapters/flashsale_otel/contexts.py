"""A W3C traceparent as a span's context, and back."""

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

NOWHERE = Context()
"""Of a span that begins a trace, whatever span is current where it is begun."""
_SAMPLED_ENDS = frozenset("13579bdf")
"""The sampled flag is the lowest bit of the last digit."""


def context_of(traceparent: str) -> SpanContext:
    """Read a well-formed traceparent; an invalid context where its ids are all zero."""
    _, trace_id, span_id, flags = traceparent.split("-")
    context = SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16))
    )
    return context if context.is_valid else INVALID_SPAN_CONTEXT


def sampled(traceparent: str | None) -> SpanContext | None:
    """Read it where it says that its trace is recorded; None where nobody would see a span."""
    if traceparent is None or traceparent[-1] not in _SAMPLED_ENDS:
        return None
    context = context_of(traceparent)
    return context if context.is_valid else None


def written(context: SpanContext) -> str:
    """Write a context as it travels."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def below(parent: SpanContext | None) -> Context:
    """Say where a span is begun: below its parent, or nowhere."""
    return NOWHERE if parent is None else set_span_in_context(NonRecordingSpan(parent), NOWHERE)
