"""What the HTTP door is made of: handed in from outside, built by nobody here."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

from flashsale_core.discarding import Discarder
from flashsale_core.ending import Ender
from flashsale_core.inquiry import Inquiry
from flashsale_core.letter_desk import LetterDesk
from flashsale_core.ports import Clock, Observer
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.selling import SaleDesk

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]


LOOKUP_DEADLINE_MS = 2_000
"""A person waits so long for a page, and a balancer or a browser not much longer."""


@attrs.frozen(kw_only=True)
class Dependency:
    """How one thing that this process needs stands; `last_error` carries no secret."""

    name: str
    ok: bool
    last_error: str | None = None


@attrs.frozen(kw_only=True)
class Readiness:
    """Whether this process may be given work, and what it depends on."""

    ready: bool
    dependencies: tuple[Dependency, ...] = ()
    faults: str | None = None
    """What breaks this process on purpose."""
    is_stopping: bool = False
    """It was told to end."""


class ReadinessProbe(Protocol):
    """Says how the dependencies stand; answers within a deadline of its own and never raises."""

    async def check(self) -> Readiness:
        """Look at every dependency. For this door: gate and bus, never the database."""


class RequestTrace(Protocol):
    """One request that is traced; `traceparent` is what serving it goes on below."""

    traceparent: str

    def answered(self, status: int, code: str) -> None:
        """Hear its answer, and end."""

    def left(self) -> None:
        """Hear that it is served no more, and end."""


class RequestTraces(Protocol):
    """Begins the traces of requests; never raises."""

    def begin(self, traceparent: str | None, headers: RawHeaders) -> RequestTrace | None:
        """Begin below what the caller sent, or by itself; None where it is not recorded."""


@attrs.frozen(kw_only=True)
class HttpParts:
    """Everything that the door needs.

    `admin_token` None leaves the admin routes open: whoever listens must then listen on loopback
    only. `cors_origins` names origins as browsers write them, or `*`. `lifespan` is entered when
    the server says that the application starts, and left when it ends.
    """

    purchase_desk: PurchaseDesk
    sale_desk: SaleDesk
    inquiry: Inquiry
    letter_desk: LetterDesk
    discarder: Discarder
    ender: Ender
    clock: Clock
    readiness: ReadinessProbe
    metrics_text: Callable[[], tuple[bytes, str]]
    observer: Observer
    admin_token: str | None = attrs.field(default=None, repr=False)
    cors_origins: tuple[str, ...] = ()
    lookup_deadline_ms: int = LOOKUP_DEADLINE_MS
    """How long an answer to a GET may take."""
    address_of: Callable[[Scope], str | None] | None = None
    """Tells where a buyer's request came from, where the gate counts addresses."""
    traces: RequestTraces | None = None
    """Traces purchases, where that is wanted."""
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None
