"""The HTTP door on a whole engine in memory, asked without a network, byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import attrs

from flashsale.http import ASGIApp, Dependency, HttpParts, Readiness, http_app
from flashsale_core.model import Door, PurchaseId
from flashsale_core.validation import PurchaseRule
from tests.unit.world import Witness, World

Headers = dict[str, str]
JSON = "application/json"
ADMIN_TOKEN = "a token for tests"


class Listener(Witness):
    """An observer that remembers the door's answers."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        super().__init__()
        self.answers: list[tuple[str, PurchaseId | None]] = []

    def answered(self, door: Door, outcome: str, purchase_id: PurchaseId | None) -> None:
        """Remember an answer."""
        assert door is Door.HTTP
        self.answers.append((outcome, purchase_id))


_READY = Readiness(ready=True, dependencies=(Dependency(name="gate", ok=True),))


@attrs.define
class SetReadiness:
    """Readiness as a test sets it."""

    report: Readiness = _READY

    async def check(self) -> Readiness:
        """Report it."""
        return self.report


@attrs.frozen
class Reply:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        """Read the body."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Find a header that comes at most once."""
        found = [value for known, value in self.headers if known == name]
        assert len(found) <= 1, found
        return found[0] if found else None

    @property
    def problem(self) -> str:
        """Name the problem, having checked that it is one in the form of RFC 9457."""
        assert self.header("content-type") == "application/problem+json", self
        problem = self.json
        assert {"type", "title", "status", "detail"} <= problem.keys(), problem
        assert problem["status"] == self.status, problem
        code: str = problem["type"].removeprefix("urn:flashsale:problem:")
        return code


class Shop:
    """A world behind its HTTP door."""

    def __init__(
        self, rules: Sequence[PurchaseRule] = (), *, confirm_s: float = 30.0, **parts: Any
    ) -> None:
        """Wire the door as the container does; `parts` go into HttpParts.

        The bus waits `confirm_s` for a worker: long, so that a busy machine changes no answer.
        """
        self.world = World(rules)
        self.world.bus._deadline_s = confirm_s
        self.listener = Listener()
        self.readiness = SetReadiness()
        self.parts = HttpParts(
            purchase_desk=self.world.desk,
            sale_desk=self.world.selling,
            inquiry=self.world.inquiry,
            letter_desk=self.world.letters,
            discarder=self.world.discarder,
            ender=self.world.ender,
            clock=self.world.clock,
            readiness=self.readiness,
            metrics_text=lambda: (b"flashsale_up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
            **{"observer": self.listener, **parts},
        )
        self.app = http_app(self.parts)

    async def ask(self, method: str, target: str, **how: Any) -> Reply:
        """Ask the door; see `ask`."""
        reply = await ask(self.app, method, target, **how)
        assert reply is not None
        return reply

    async def buy(self, body: Any, headers: Headers | None = None, **how: Any) -> Reply:
        """Buy with a JSON body, or with any bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": JSON, **(headers or {})}
        return await self.ask("POST", "/purchase/buy", body=raw, headers=given, **how)


async def ask(
    app: ASGIApp,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    chunks: Sequence[bytes] | None = None,
    headers: Headers | Sequence[tuple[str, str]] = (),
    root_path: str = "",
    leaves: bool = False,
) -> Reply | None:
    """Ask an application as a server would; None where nothing was answered.

    `chunks` come one by one; with `leaves` the client is gone after them.
    """
    path, _, query = target.partition("?")
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    parts = [body] if chunks is None else list(chunks)
    if chunks is None and body:
        pairs.append(("content-length", str(len(body))))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root_path,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if not parts:
            return {"type": "http.disconnect"}
        more = len(parts) > 1 or leaves
        return {"type": "http.request", "body": parts.pop(0), "more_body": more}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    start, *bodies = sent
    return Reply(
        status=start["status"],
        headers=[(name.decode(), value.decode("latin-1")) for name, value in start["headers"]],
        body=b"".join(message.get("body", b"") for message in bodies),
    )


@asynccontextmanager
async def selling(shop: Shop, item: str = "1", **terms: int) -> AsyncIterator[Shop]:
    """Open a sale and have a worker consume."""
    await shop.world.sell(item, **terms)
    async with shop.world.worker():
        yield shop
