"""The server's span of a purchase over HTTP."""

from collections.abc import Sequence
from typing import Final

from opentelemetry.trace import Span, SpanKind, Tracer

from flashsale_otel.contexts import below, context_of, written
from flashsale_otel.labels import OUTCOME, Value
from flashsale_otel.spans import fail

BUY: Final[dict[str, Value]] = {
    "http.request.method": "POST",
    "http.route": "/purchase/buy",
    "url.path": "/purchase/buy",
    "url.scheme": "http",
}
"""What is known before the request is: what a sampler may decide by."""
NAME: Final = "POST /purchase/buy"
SERVER_FAULT = 500


class RequestTrace:
    """One request; `traceparent` is what whoever serves it goes on below."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        """Take its span, which is recorded."""
        self._span = span
        self.traceparent = written(span.get_span_context())

    def answered(self, status: int, code: str) -> None:
        """End it with its answer: `code` is the problem's, or `accepted`."""
        span = self._span
        span.set_attribute("http.response.status_code", status)
        span.set_attribute(OUTCOME, code)
        if status >= SERVER_FAULT:
            fail(span, code)
        span.end()

    def left(self) -> None:
        """End it without an answer: nobody waits for one any more."""
        fail(self._span, "cancelled")
        self._span.end()


class RequestTraces:
    """Begins them: below the caller's span where it sent one, else a trace of our own."""

    def __init__(self, tracer: Tracer) -> None:
        """Take the tracer, whose sampler decides."""
        self._tracer = tracer

    def begin(
        self, traceparent: str | None, headers: Sequence[tuple[bytes, bytes]]
    ) -> RequestTrace | None:
        """Begin one; None where it is not recorded, and then nothing is said of it any more."""
        parent = None if traceparent is None else context_of(traceparent)
        span = self._tracer.start_span(
            NAME, context=below(parent), kind=SpanKind.SERVER, attributes=BUY
        )
        if not span.is_recording():
            return None
        for name, value in headers:
            if name == b"host":
                _tell_host(span, value.decode("latin-1"))
        return RequestTrace(span)


def _tell_host(span: Span, host: str) -> None:
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        span.set_attribute("server.port", int(port))
        host = name
    span.set_attribute("server.address", host)
