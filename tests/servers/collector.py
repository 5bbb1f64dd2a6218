"""A collector of spans: OTLP over HTTP, as any backend of OpenTelemetry speaks it.

    with running_collector() as collector:
        collector.environment()     # what makes a process of the engine send its spans here
        collector.spans()           # what came, of every process

It runs in the test's own process, in threads, and decodes what is sent by the protocol's own
messages.
"""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.servers.launch import HOST

PATH = "/v1/traces"
QUICK_MS = "100"


@attrs.frozen(kw_only=True)
class Seen:
    """One span as it came; ids as W3C writes them."""

    name: str
    kind: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any] = attrs.field(repr=False)
    links: frozenset[tuple[str, str]] = attrs.field(repr=False)
    """(trace, span) each."""
    is_error: bool
    resource: dict[str, Any] = attrs.field(repr=False)

    @property
    def place(self) -> tuple[str, str]:
        """Name it as a link does."""
        return self.trace_id, self.span_id

    @property
    def is_server(self) -> bool:
        """Say whether it is a request's."""
        return self.kind == "SERVER"

    @property
    def purchase(self) -> str | None:
        """Say whose it is; None of a batch's."""
        purchase: str | None = self.attributes.get("flashsale.purchase.id")
        return purchase


class Collector:
    """What came; `answer` says how it is received: 200, another status, or silence (None)."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        """Begin with nothing."""
        self._server = server
        self._seen: list[Seen] = []
        self.requests = 0
        self.answer: int | None = 200
        self.goes_on = threading.Event()

    @property
    def url(self) -> str:
        """Say where it listens."""
        return f"http://{HOST}:{self._server.server_port}"

    def environment(self) -> dict[str, str]:
        """Say what makes a process send its spans here, soon."""
        return {
            "FLASHSALE_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": QUICK_MS,
        }

    def take(self, body: bytes) -> None:
        """Decode what was sent."""
        asked = ExportTraceServiceRequest.FromString(body)
        for of_process in asked.resource_spans:
            resource = _values(of_process.resource.attributes)
            for of_scope in of_process.scope_spans:
                self._seen += [_seen(span, resource) for span in of_scope.spans]

    def spans(self) -> list[Seen]:
        """List what came, in the order of its beginning."""
        return sorted(self._seen, key=lambda one: (one.began_ns, one.ended_ns))

    def until(self, fits: Callable[[list[Seen]], bool], seconds: float = 30.0) -> list[Seen]:
        """Wait until what came fits."""
        until = time.monotonic() + seconds
        while not fits(spans := self.spans()):
            if time.monotonic() > until:
                raise AssertionError([(one.service, one.name, one.purchase) for one in spans])
            time.sleep(0.05)
        return spans


def _seen(span: Span, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        service=resource["service.name"],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        links=frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        resource=resource,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


class _Handler(BaseHTTPRequestHandler):
    """One export."""

    protocol_version = "HTTP/1.1"
    collector: Collector

    def do_POST(self) -> None:
        """Take spans, or behave as a collector of a bad day does."""
        body = self.rfile.read(int(self.headers["content-length"]))
        collector = self.collector
        collector.requests += 1
        if collector.answer is None:
            collector.goes_on.wait()
            self.close_connection = True
            return
        is_zipped = self.headers.get("content-encoding") == "gzip"
        if collector.answer == 200 and self.path == PATH:
            collector.take(gzip.decompress(body) if is_zipped else body)
        said = ExportTraceServiceResponse().SerializeToString()
        self.send_response(collector.answer if self.path == PATH else 404)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
        """Say nothing."""


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Have a collector on a port of its own."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer((HOST, 0), handler)
    server.daemon_threads = True
    collector = Collector(server)
    handler.collector = collector  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.goes_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
