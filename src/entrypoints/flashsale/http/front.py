"""What stands before the framework: the hot path's short cut, path prefixes, HEAD, and CORS."""

from flashsale.http.buy import ROOT_PATH, send_answer
from flashsale.http.parts import ASGIApp, ASGIMessage, RawHeaders, Receive, Scope, Send
from flashsale.http.problems import Answer
from flashsale.http.tracing import traced

BUY_PATH = "/purchase/buy"
PREFLIGHT_AGE_S = 600
"""How long a browser may remember a preflight: the shortest that browsers cap at."""

_PREFLIGHT: RawHeaders = [
    (b"access-control-allow-methods", b"GET, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, traceparent",
    ),
    (b"access-control-max-age", b"%d" % PREFLIGHT_AGE_S),
    (b"content-length", b"0"),
]


class Front:
    """Sends purchases the short way and everything else to the framework."""

    def __init__(
        self, *, buy: ASGIApp, framework: ASGIApp, cors_origins: tuple[str, ...] = ()
    ) -> None:
        """Take both ways; without origins no CORS header is ever sent."""
        self._buy = buy
        self._framework = framework
        self._origins = frozenset(origin.encode() for origin in cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        if self._origins:
            headers = self._cors_headers(scope)
            if headers is not None and _is_preflight(scope):
                await send_answer(Answer(204, headers + _PREFLIGHT, b"", "preflight"), send)
                return
            send = _with_headers(send, headers or [(b"vary", b"origin")])
        root_path = scope.get("root_path", "")
        path = _below(scope["path"], root_path)
        if path == BUY_PATH and scope["method"] == "POST":
            await self._buy(scope, receive, send)
            return
        # The framework cuts a prefix off wherever it finds it in the path; it gets none to cut.
        # A server leaves out the body of an answer to HEAD by itself.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        inner = {**scope, "path": path, "root_path": "", "method": method, ROOT_PATH: root_path}
        with traced(scope["headers"]):
            await self._framework(inner, receive, send)

    def _cors_headers(self, scope: Scope) -> RawHeaders | None:
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin is None or not (origin in self._origins or b"*" in self._origins):
            return None
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"location, retry-after"),
            (b"vary", b"origin"),
        ]


def _below(path: str, root_path: str) -> str:
    """Cut the mount's prefix off, where whoever mounted us left it on."""
    if root_path and (path == root_path or path.startswith(root_path.rstrip("/") + "/")):
        return path[len(root_path.rstrip("/")) :] or "/"
    return path


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _with_headers(send: Send, more: RawHeaders) -> Send:
    async def send_more(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return send_more
