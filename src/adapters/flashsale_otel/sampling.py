"""Which batches are recorded."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from flashsale_otel.contexts import below


class BatchesAsTheirPurchases(Sampler):
    """Decides as the sampler of the process does, but for batches.

    A batch belongs to no purchase's trace, so it begins one of its own, which chance would leave
    out where it keeps a purchase of it. It is recorded exactly where a span of the first purchase
    that it links to would be.
    """

    def __init__(self, inner: Sampler) -> None:
        """Stand in front of the process's own."""
        self._inner = inner

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about a span."""
        if links and not get_current_span(parent_context).get_span_context().is_valid:
            purchase = links[0].context
            parent_context, trace_id = below(purchase), purchase.trace_id
        return self._inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Describe it for a person."""
        return f"BatchesAsTheirPurchases{{{self._inner.get_description()}}}"
