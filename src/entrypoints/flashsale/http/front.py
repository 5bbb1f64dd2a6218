"""What stands before the framework: the hot path's short cut, path prefixes, HEAD, and CORS."""

from collections.abc import Coroutine
from typing import Any

from flashsale.http.buy import ROOT_PATH, BuyHandler, send_answer
from flashsale.http.parts import ASGIApp, ASGIMessage, RawHeaders, Receive, Scope, Send
from flashsale.http.problems import Answer
from flashsale.http.short_cut import Shortened
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


VARIES: RawHeaders = [(b"vary", b"origin")]
"""What every answer carries where origins are told apart."""


class _Cors:
    """What browsers of other origins are told."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        """Let in these origins, or all by `*`."""
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers_of(self, asked: RawHeaders) -> RawHeaders | None:
        """Say what lets the asking origin in; None where it is not let in, or not told."""
        origin = next((value for name, value in asked if name == b"origin"), None)
        if origin is None or not (origin in self._origins or b"*" in self._origins):
            return None
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"location, retry-after"),
            (b"vary", b"origin"),
        ]

    def of_every_answer(self, asked: RawHeaders) -> RawHeaders:
        """Say what an answer carries: at least that it differs by origin."""
        return self.headers_of(asked) or VARIES


class _ShortCut:
    """Purchases below ASGI: see `short_cut`."""

    method = b"POST"
    target = BUY_PATH.encode()

    def __init__(self, buy: BuyHandler, cors: _Cors | None) -> None:
        self._begin = buy.begin
        self._too_slow = buy.too_slow
        self._cors = cors

    def begin(
        self, body: bytes, headers: RawHeaders, client: tuple[str, int] | None
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """See `Shortened.begin`."""
        begun = self._begin(body, headers, {"client": client, "headers": headers})
        if self._cors is None:
            return begun
        more = self._cors.of_every_answer(headers)
        return _with(begun, more) if isinstance(begun, Answer) else _later_with(begun, more)

    def too_slow(self, headers: RawHeaders) -> Answer:
        """See `Shortened.too_slow`."""
        answer = self._too_slow(headers)
        return _with(answer, self._cors.of_every_answer(headers)) if self._cors else answer


def _with(answer: Answer, more: RawHeaders) -> Answer:
    return answer._replace(headers=[*answer.headers, *more])


async def _later_with(begun: Coroutine[Any, Any, Answer], more: RawHeaders) -> Answer:
    return _with(await begun, more)


class Front:
    """Sends purchases the short way and everything else to the framework."""

    def __init__(
        self, *, buy: BuyHandler, framework: ASGIApp, cors_origins: tuple[str, ...] = ()
    ) -> None:
        """Take both ways; without origins no CORS header is ever sent."""
        self._buy = buy
        self._framework = framework
        self._cors = _Cors(cors_origins) if cors_origins else None
        self.short_cut: Shortened = _ShortCut(buy, self._cors)
        """For a server that can take it; any other one knows only ASGI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        if self._cors is not None:
            headers = self._cors.headers_of(scope["headers"])
            if headers is not None and _is_preflight(scope):
                await send_answer(Answer(204, headers + _PREFLIGHT, b"", "preflight"), send)
                return
            send = _with_headers(send, headers or VARIES)
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
