"""The worker's own /healthz, /readyz and /metrics, by the standard library alone.

A worker needs no web stack, and what it answers here must come even while its event loop is
busy: so it is a thread of its own, which reads what the loop wrote last and asks nobody.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from flashsale.readiness import Report
from flashsale.setting_kinds import Address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

REQUEST_WAIT_S = 5
"""A client that sends nothing for so long is cut off: each one holds a thread."""
CLIENTS_MAX = 32
"""Open at once; probes and scrapers are a handful. One more, and the oldest is cut off: clients
that send a byte now and then must not keep a probe from its answer, nor the threads from ending."""
LOOP_SILENT_MS = 30_000
"""Without a look for so long the event loop hangs, and the process is no longer healthy."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        """Oldest first."""

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.append(request)
            if len(self._open) > CLIENTS_MAX:
                with suppress(OSError):
                    self._open.pop(0).shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock, suppress(ValueError):
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing of whoever was cut off or hung up: that is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = REQUEST_WAIT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing: probes come every few seconds for ever."""


class WorkerPages:
    """The pages as a WSGI application."""

    def __init__(
        self,
        *,
        report: Callable[[], Report],
        metrics_text: Callable[[], tuple[bytes, str]],
        now_ms: Callable[[], int],
    ) -> None:
        """Take what may be read from any thread."""
        self._report = report
        self._metrics_text = metrics_text
        self._now_ms = now_ms

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer GET and HEAD of three paths."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return []
        status, content_type, body = self._page(environ.get("PATH_INFO", ""))
        length = str(len(body))
        start_response(status, [("Content-Type", content_type), ("Content-Length", length)])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _page(self, path: str) -> tuple[str, str, bytes]:
        if path == "/metrics":
            body, content_type = self._metrics_text()
            return "200 OK", content_type, body
        if path == "/healthz":
            looked_at_ms = self._report().looked_at_ms
            silent = looked_at_ms is not None and self._now_ms() - looked_at_ms > LOOP_SILENT_MS
            return _json(not silent, {"status": "hanging" if silent else "ok"})
        if path == "/readyz":
            report = self._report()
            return _json(report.is_ready, report.as_json())
        return "404 Not Found", "text/plain", b"/healthz /readyz /metrics\n"


def _json(is_well: bool, value: object) -> tuple[str, str, bytes]:
    status = "200 OK" if is_well else "503 Service Unavailable"
    return status, "application/json", json.dumps(value).encode()


@contextmanager
def serving(pages: WorkerPages, address: Address) -> Iterator[int]:
    """Serve the pages in a thread; answer the port (useful when it was 0)."""
    server_class = _Server6 if ":" in address.host else _Server
    server = make_server(
        address.host, address.port, pages, server_class=server_class, handler_class=_Quiet
    )
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="worker-http", daemon=True
    )
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
