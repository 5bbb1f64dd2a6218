"""The trace that a request belongs to, by W3C's header `traceparent`."""

from contextlib import AbstractContextManager, nullcontext

import structlog

from flashsale.http.parts import RawHeaders
from flashsale_core.model import TRACEPARENT

_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


def traceparent_of(headers: RawHeaders) -> str | None:
    """Find a valid traceparent; an invalid one is as good as none, as W3C wants it."""
    header = next((value for name, value in headers if name == b"traceparent"), None)
    if header is None:
        return None
    text = header.strip().decode("latin-1")
    if not TRACEPARENT.fullmatch(text) or text.startswith("ff"):
        return None
    _, trace_id, span_id, _ = text.split("-")
    return None if trace_id == _NO_TRACE or span_id == _NO_SPAN else text


def traced(headers: RawHeaders) -> AbstractContextManager[object]:
    """Put the request's trace on every log line that is written inside."""
    traceparent = traceparent_of(headers)
    if traceparent is None:
        return nullcontext()
    return structlog.contextvars.bound_contextvars(traceparent=traceparent)
