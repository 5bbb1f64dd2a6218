"""The way of a purchase below ASGI: a request that is whole is answered without a cycle of its own.

A server that speaks ASGI builds a scope, an event, a task and four messages for each request. The
one route that a crowd asks for needs none of them: `Shortened` says at once what it can, and only
who waits for the gate costs a task. Whatever is unusual (another route or version, an upgrade, an
`Expect`, a request behind one that is still being answered, a client who does not read) goes the
ordinary way.
"""

from asyncio import Task, TimerHandle
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from flashsale.http import asking
from flashsale.http.bounds import BoundedProtocol
from flashsale.http.parts import RawHeaders
from flashsale.http.problems import Answer

STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


class Shortened(Protocol):
    """What answers the one route that a crowd asks for."""

    method: bytes
    target: bytes

    def begin(
        self, body: bytes, headers: RawHeaders, client: tuple[str, int] | None
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer at once, or say what has to be awaited for the answer. Never raises."""

    def too_slow(self, headers: RawHeaders) -> Answer:
        """Answer one whose body did not arrive."""


class _Nobody:
    """Stands where uvicorn's own cycle has an event that somebody waits for."""

    def set(self) -> None:
        """Wake nobody."""


_NOBODY = _Nobody()


class ShortCycle:
    """One request and its answer; to uvicorn's protocol it looks like one of its own."""

    __slots__ = (
        "_handler",
        "_headers",
        "_is_begun",
        "_owner",
        "_timer",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(
        self, owner: HttpToolsProtocol, handler: Shortened, headers: RawHeaders, *, keep_alive: bool
    ) -> None:
        """Begin with a head, on the connection of `owner`."""
        self._owner = owner
        self._handler = handler
        self._headers = headers
        self._is_begun = False
        self._timer: TimerHandle | None = None
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.message_event = _NOBODY
        self.disconnected = False
        self.response_started = False
        self.response_complete = False

    def on_body(self, body: bytes) -> None:
        """Take a piece; one too many is answered without waiting for the rest."""
        if not self._is_begun:
            self.body = self.body + body if self.body else body
            if len(self.body) > asking.BODY_BYTES_MAX:
                self._begin()

    def on_message_complete(self) -> None:
        """Answer what is whole."""
        self.more_body = False
        if not self._is_begun:
            self._begin()

    def wait_for_body(self) -> None:
        """Give the body its time, from the first time that it is waited for."""
        if self._timer is None and not self._is_begun:
            self._timer = self._owner.loop.call_later(asking.BODY_WAIT_S, self._too_slow)

    def drop(self) -> None:
        """Wait for nothing more: the client left."""
        self.disconnected = True
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._is_begun = True
        if self._timer is not None:
            self._timer.cancel()
        owner = self._owner
        begun = self._handler.begin(self.body, self._headers, owner.client)
        if isinstance(begun, Answer):
            self._send(begun)
            return
        task = owner.loop.create_task(begun)
        # uvicorn cancels these when its time to stop is over; and asyncio keeps no task alive.
        tasks: set[Task[Any]] = owner.tasks
        tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "Task[Answer]") -> None:
        tasks: set[Task[Any]] = self._owner.tasks
        tasks.discard(task)
        if task.cancelled():
            return
        if task.exception() is not None:
            # A mistake of ours, which the loop tells; nobody may wait for its answer for ever.
            self._owner.transport.close()
        self._send(task.result())

    def _too_slow(self) -> None:
        self._is_begun = True
        self._send(self._handler.too_slow(self._headers))

    def _send(self, answer: Answer) -> None:
        """Write the whole answer at once, as uvicorn does in two steps."""
        owner = self._owner
        # The client may have left while another request of its own stood behind this one.
        if self.disconnected or owner.transport.is_closing():
            return
        self.response_started = self.response_complete = True
        pieces = [STATUS_LINES[answer.status]]
        says_close = False
        for name, value in (*owner.server_state.default_headers, *answer.headers):
            pieces += (name, b": ", value, b"\r\n")
            says_close = says_close or name == b"connection"
        if not (self.keep_alive or says_close):
            pieces.append(b"connection: close\r\n")
        pieces += (b"\r\n", answer.body)
        owner.transport.write(b"".join(pieces))
        if says_close or not self.keep_alive:
            owner.transport.close()
        owner.on_response_complete()


class ShortCutProtocol(BoundedProtocol):
    """The bounded protocol, with a short cut for the application that has one (`short_cut`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ask the application whether it has one."""
        super().__init__(*args, **kwargs)
        self._short: Shortened | None = getattr(self.app, "short_cut", None)

    def begin_cycle(self) -> None:
        """Take the short cut where everything is as usual."""
        cycle: RequestResponseCycle | None = self.cycle  # None at first, whatever it says
        short = self._short
        if (
            short is None
            or self.url != short.target
            or self.parser.get_method() != short.method
            or self.expect_100_continue
            or self.root_path
            or self.flow.write_paused
            or not (cycle is None or cycle.response_complete)
            or self.parser.should_upgrade()
            or self.parser.get_http_version() != "1.1"
        ):
            super().begin_cycle()
            return
        keep_alive = self.parser.should_keep_alive()
        self.cycle = ShortCycle(self, short, self.headers, keep_alive=keep_alive)  # type: ignore[assignment]

    def _short_cycle(self) -> ShortCycle | None:
        cycle: object = self.cycle
        return cycle if isinstance(cycle, ShortCycle) else None

    def on_body(self, body: bytes) -> None:
        """Hand the body to whoever answers."""
        if (cycle := self._short_cycle()) is not None:
            self._is_in_trailer = False
            cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Hand the end of the body to whoever answers."""
        if (cycle := self._short_cycle()) is not None:
            cycle.on_message_complete()
        else:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Read on; what did not come whole is waited for, but not for ever."""
        super().data_received(data)
        cycle = self._short_cycle()
        if cycle is not None and cycle.more_body:
            cycle.wait_for_body()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        cycle = self._short_cycle()
        if cycle is not None:
            cycle.drop()
        super().connection_lost(exc)
        if cycle is not None:
            # They hold each other, and the collector comes seldom.
            self.cycle = None  # type: ignore[assignment]
