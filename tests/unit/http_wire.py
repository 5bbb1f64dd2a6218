"""A connection to our server's protocol without a network: what is written is what was sent."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

from flashsale.http import ASGIApp
from flashsale.http.front import Front
from flashsale.http.server import _config
from flashsale.http.short_cut import ShortCutProtocol, Shortened
from tests.unit.http_world import Reply, Shop

TURNS_MAX = 10_000
"""Of the event loop: far more than any answer needs, and soon over where none comes."""


class Wire(asyncio.Transport):
    """One connection; it is lost a turn after it is closed and everything is sent."""

    def __init__(self, app: ASGIApp) -> None:
        """Connect to an application."""
        super().__init__()
        self.sent = b""
        self.is_stuck = False
        self.is_cut_off = False
        self._is_closing = False
        self._unsent = 0
        config = _config(app, 5.0)
        self.state = ServerState()
        self.protocol = ShortCutProtocol(config=config, server_state=self.state, app_state={})
        self.protocol.connection_made(self)

    # ── as the protocol sees it ─────────────────────────────────────────────────────────────

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell two addresses."""
        return {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)}.get(name, default)

    def is_closing(self) -> bool:
        """Say whether it was closed, by either side."""
        return self._is_closing

    def write(self, data: Any) -> None:
        """Send, or keep where the client does not read. Nobody hears what comes after the end."""
        assert not self._is_closing, "written after the end"
        self.sent += data
        self._unsent += len(data) if self.is_stuck else 0

    def get_write_buffer_size(self) -> int:
        """Tell what the client has not read."""
        return self._unsent

    def close(self) -> None:
        """End after what is unsent."""
        if not self._is_closing:
            self._is_closing = True
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        """End at once."""
        self.is_cut_off = True
        self.leave()

    def pause_reading(self) -> None:
        """Take no note: the tests send what they want."""

    def resume_reading(self) -> None:
        """Take no note."""

    # ── as a client sees it ─────────────────────────────────────────────────────────────────

    def send(self, data: bytes, *, size: int | None = None) -> None:
        """Send bytes, in pieces of some size; nothing arrives once the server has closed."""
        for at in range(0, len(data), size or len(data) or 1):
            if not self._is_closing:
                self.protocol.data_received(data[at : at + (size or len(data))])

    def leave(self) -> None:
        """Be gone, without a word."""
        self._is_closing = True
        self.protocol.connection_lost(ConnectionResetError())

    async def answers(self, count: int = 1) -> list[Reply]:
        """Wait for so many answers, and take them."""
        await until(lambda: len(read_answers(self.sent)) >= count)
        answers, self.sent = read_answers(self.sent), b""
        assert len(answers) == count, answers
        return answers


async def until(holds: Callable[[], bool]) -> None:
    """Turn the event loop until something holds."""
    for _ in range(TURNS_MAX):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


def read_answers(data: bytes) -> list[Reply]:
    """Read whole answers off the wire."""
    answers = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = [tuple(field.split(": ", 1)) for field in fields]
        headers = cast("list[tuple[str, str]]", pairs)
        length = int(dict(headers).get("content-length", "0"))
        if len(rest) < length:
            break
        answers.append(Reply(int(line.split(" ")[1]), headers, rest[:length]))
        data = rest[length:]
    return answers


class Ways:
    """Counts by which way a shop's application was asked."""

    def __init__(self, shop: Shop) -> None:
        """Listen at the front."""
        app = shop.app
        assert isinstance(app, Front)
        self.taken: list[str] = []
        self._short = app.short_cut
        self.method, self.target = self._short.method, self._short.target
        app.short_cut = cast("Shortened", self)
        app._buy = self._noting("raw", app._buy)  # type: ignore[assignment]
        app._framework = self._noting("framework", app._framework)

    def begin(self, *asked: Any) -> Any:
        """Note the short cut."""
        self.taken.append("short cut")
        return self._short.begin(*asked)

    def too_slow(self, headers: Any) -> Any:
        """Note it where nothing was begun."""
        self.taken.append("short cut")
        return self._short.too_slow(headers)

    def _noting(self, name: str, asked: ASGIApp) -> ASGIApp:
        async def noting(scope: Any, receive: Any, send: Any) -> None:
            self.taken.append(name)
            await asked(scope, receive, send)

        return noting
