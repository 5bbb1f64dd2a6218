"""Bounds on what one connection may ask of us, and how long: uvicorn's protocol, with limits."""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from flashsale.http import problems
from flashsale.http.problems import Kind, problem

CONNECTIONS_MAX = 10_000
"""Each costs some KiB; more than these would only wait for one another."""
HEAD_BYTES_MAX = 16_384
"""A browser's head with all its cookies stays below 8 KiB."""
HEADERS_MAX = 100
"""A browser behind three proxies sends some thirty."""
URL_BYTES_MAX = 4_096
"""The longest of ours, an act on dead letters with all its texts, stays below 3 KiB."""
PIPELINE_MAX = 32
"""Requests that one connection may send ahead of their answers; browsers send none."""
HEAD_WAIT_S = 10.0
"""Whoever takes longer for a head, or says nothing at all, holds a place for nothing."""
WRITE_WAIT_S = 10.0
"""Whoever reads none of its answer for as long is gone, or means to hold a place."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on how large, how many and how slow requests may be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without a head."""
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._is_in_head = False
        self._is_in_trailer = False
        self._had_head = False
        self._read_bytes = 0
        self._wrong: Kind = problems.BAD_REQUEST
        self._is_deaf = False
        self._head_timer: TimerHandle | None = None
        self._write_timer: TimerHandle | None = None
        self._idle_timer: TimerHandle | None = None
        self._idle_since_s: float | None = None

    def connection_made(self, transport: Any) -> None:
        """Give a new connection as long for its first head as for any other."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._head_timer = self.loop.call_later(HEAD_WAIT_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers with the connection."""
        self._end_timer()
        for timer in (self._write_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    # ── reading ─────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        """Note where a head begins; what uvicorn makes of it, it makes when it is needed."""
        self._is_in_head = True
        self._idle_since_s = None
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def _unset_keepalive_if_required(self) -> None:
        """Leave an idle connection's time alone until a head begins.

        uvicorn begins it anew with every byte, also those of a body that was answered already,
        and of empty lines: a client who sends one now and then would be kept for ever.
        """

    def on_response_complete(self) -> None:
        """Begin the idle connection's time, or answer what was sent ahead.

        One timer looks again and again: setting one for every request costs more than the rest.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._abort_later()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._is_in_head:
            return  # It has a time of its own.
        self._idle_since_s = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(
                self.timeout_keep_alive, self._look_for_idleness
            )

    def _look_for_idleness(self) -> None:
        self._idle_timer = None
        if self._idle_since_s is None:
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self.timeout_keep_alive_handler()
        else:
            self._idle_timer = self.loop.call_later(left_s, self._look_for_idleness)

    def on_headers_complete(self) -> None:
        """Note where a head ends, and judge it before anything is done with it."""
        self._is_in_head = False
        self._had_head = True
        if len(self.url) > URL_BYTES_MAX:
            self._reject(problems.URL_TOO_LONG)
        # What came in a small piece is small: only a large one is added up.
        if len(self.headers) > HEADERS_MAX or (
            self._read_bytes > HEAD_BYTES_MAX
            and sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES_MAX
        ):
            self._reject(problems.HEAD_TOO_LARGE)
        if len(self.pipeline) >= PIPELINE_MAX:
            self._reject(problems.BAD_REQUEST)
        if self.transport.is_closing():
            # Behind a connection's last answer nothing is done that nobody would hear of.
            self._reject(problems.BAD_REQUEST)
        self.begin_cycle()

    def begin_cycle(self) -> None:
        """Begin to answer, by ASGI."""
        if self.parser.should_upgrade() and self._has_body():
            # The parser would drop the body, or take it for the next request.
            self._reject(problems.BAD_REQUEST)
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Keep what may be the trailer's out of the head, which was judged already."""
        self.headers = []
        self._is_in_trailer = True

    def on_body(self, body: bytes) -> None:
        """Note that the chunk is not the last one."""
        self._is_in_trailer = False
        super().on_body(body)

    def on_chunk_complete(self) -> None:
        """Note where a trailer ends."""
        self._is_in_trailer = False

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
            for name, value in self.headers
        )

    def _reject(self, kind: Kind) -> None:
        """Stop the parser; it hands the error to `send_400_response`."""
        self._wrong = kind
        raise ValueError(kind.code)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to an unfinished head, or to a trailer."""
        if self._is_deaf:
            return
        self._read_bytes = len(data)
        super().data_received(data)
        self._read_bytes = 0
        if not self._is_in_head and not self._is_in_trailer:
            self._head_bytes = 0
            if self._head_timer is not None and self._had_head:
                self._end_timer()
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(problems.HEAD_TOO_LARGE)
        elif self._head_timer is None and self._is_in_head:
            self._head_timer = self.loop.call_later(HEAD_WAIT_S, self._too_slow)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - its own text, less than ours
        """Answer what is no HTTP, or too much of it, in the form of every other error."""
        self._refuse(self._wrong)

    def _too_slow(self) -> None:
        if self._is_in_head:
            self._refuse(problems.REQUEST_TIMEOUT)
        elif not self.transport.is_closing():
            self._close()

    def _end_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, kind: Kind) -> None:
        if self.transport.is_closing():
            return
        self._is_deaf = True
        self._end_timer()
        if self._is_answer_due():
            # It would be taken for the answer to a request that is being worked on.
            self.cycle.keep_alive = False
            return
        answer = problem(kind, headers=[(b"connection", b"close")])
        head = b"".join(b"%s: %s\r\n" % header for header in answer.headers)
        line = b"HTTP/1.1 %d %s\r\n" % (answer.status, kind.title.encode())
        self.transport.write(line + head + b"\r\n" + answer.body)
        self._close()

    def _is_answer_due(self) -> bool:
        """Say whether a whole request waits for its answer."""
        newest: RequestResponseCycle | None = self.cycle  # None before the first, whatever it says
        if newest is None or newest.response_complete:
            return False
        return bool(self.pipeline) or newest.response_started or not newest.more_body

    # ── writing ─────────────────────────────────────────────────────────────────────────────

    def pause_writing(self) -> None:
        """Wait for a client who does not read, but not for ever."""
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, whose last answer may not have been read yet."""
        if not self.transport.is_closing():
            self._close()

    def _close(self) -> None:
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._abort_later()

    def _abort_later(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_WAIT_S, self.transport.abort)
