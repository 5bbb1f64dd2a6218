"""The hot path where it is traced: the same handler, in a server's span."""

from collections.abc import Coroutine
from typing import Any

from flashsale.http.buy import BuyHandler
from flashsale.http.parts import HttpParts, RawHeaders, RequestTrace, RequestTraces, Scope
from flashsale.http.problems import Answer
from flashsale.http.tracing import traceparent_of

HEADER = b"traceparent"


class TracedBuyHandler(BuyHandler):
    """Answers purchases, each in a span below which everything that follows goes on."""

    def __init__(self, parts: HttpParts, traces: RequestTraces) -> None:
        """Take what the handler takes, and who begins the spans."""
        super().__init__(parts)
        self._traces = traces

    def begin(
        self,
        body: bytes,
        headers: RawHeaders,
        scope: Scope,
        query: bytes = b"",
        root_path: str = "",
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """See `BuyHandler.begin`, which reads our span as if the caller had sent it."""
        trace = self._traces.begin(traceparent_of(headers), headers)
        if trace is None:
            return super().begin(body, headers, scope, query, root_path)
        ours = [(HEADER, trace.traceparent.encode())]
        ours += [header for header in headers if header[0] != HEADER]
        begun = super().begin(body, ours, scope, query, root_path)
        if isinstance(begun, Answer):
            trace.answered(begun.status, begun.code)
            return begun
        return _answered(begun, trace)


async def _answered(begun: Coroutine[Any, Any, Answer], trace: RequestTrace) -> Answer:
    try:
        answer = await begun
    except BaseException:
        trace.left()
        raise
    trace.answered(answer.status, answer.code)
    return answer
