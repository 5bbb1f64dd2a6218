"""Serves an ASGI application over HTTP/1.1 in the caller's event loop, with uvicorn and httptools.

uvicorn takes a socket that is bound before anything else starts, so a busy port is an error and
not a second server that shares it, and it leaves signals and logging to us. It bounds little of
what a client may do; `bounds` does. It must never run on h11, which takes a request that smuggles
another one behind Content-Length and Transfer-Encoding.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from flashsale.http.parts import ASGIApp
from flashsale.http.short_cut import ShortCutProtocol

BACKLOG = 2048
"""A sale begins with a crowd: so many may knock between two turns of the loop."""
KEEP_ALIVE_S = 15
"""Idle connections end then: longer than a buyer waits between two tries."""


class Server:
    """One application on one port: `bind`, `start`, `stop`, in this order."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        drain_s: float,
        listener: socket.socket | None = None,
    ) -> None:
        """Take what to serve and where; `drain_s` bounds how long `stop` waits for answers.

        A `listener` is bound to host and port already, by whoever shares the port knowingly.
        """
        self._app = app
        self._host = host
        self._port = port
        self._drain_s = drain_s
        self._bound = listener
        self._socket: socket.socket | None = None
        self._server: _Quiet | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Tell host and port; the port is the real one even when 0 was asked for."""
        if self._socket is not None and self._socket.fileno() >= 0:
            self._port = self._socket.getsockname()[1]
        return self._host, self._port

    def bind(self) -> None:
        """Take the port, so that a busy one is known before anything else starts.

        Raises OSError that names host and port.
        """
        try:
            self._socket = self._bound or self._listening()
            self._socket.listen(BACKLOG)
        except OSError as exc:
            problem_text = f"cannot listen on {self._host} port {self._port}: {exc.strerror}"
            raise OSError(exc.errno, problem_text) from exc
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature

    def _listening(self) -> socket.socket:
        family, _, _, _, where = socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Never SO_REUSEPORT: two servers that share a port in silence share its buyers.
        return socket.create_server(where[:2], family=family, backlog=BACKLOG)

    async def start(self) -> None:
        """Accept connections from now on."""
        if self._socket is None:
            self.bind()
        assert self._socket is not None  # noqa: S101 - bind has set it
        self._server = _Quiet(_config(self._app, self._drain_s))
        self._running = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._running.done():
                self._running.result()
            await asyncio.sleep(0)

    def say_goodbye(self) -> None:
        """Answer from now on as the last on each connection (`Connection: close`).

        A client that keeps connections is so not left with one that ends under its next request.
        """
        if self._server is not None:
            last = (b"connection", b"close")
            # The first is what each second's headers are made from, the other is this second's.
            self._server.config.encoded_headers.append(last)
            self._server.server_state.default_headers.append(last)

    async def stop(self) -> None:
        """Accept nothing new, finish what is in flight for at most `drain_s`, then cut off."""
        if self._server is None or self._running is None:
            if self._socket is not None:
                self._socket.close()
            return
        self.address  # noqa: B018 - remembers the port before its socket closes
        self._server.should_exit = True
        await self._running
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    drain_s: float,
    stopping: asyncio.Event,
    ready: Callable[[str, int], None] = lambda _host, _port: None,
) -> None:
    """Serve until `stopping` is set, then drain; `ready` is told the address once it accepts.

    Raises OSError that names a port which cannot be had. Signals are the caller's.
    """
    server = Server(app, host=host, port=port, drain_s=drain_s)
    server.bind()
    try:
        await server.start()
        ready(*server.address)
        await stopping.wait()
    finally:
        await server.stop()


def _config(app: ASGIApp, drain_s: float) -> uvicorn.Config:
    # It warns about what clients do wrong, one line each: a crowd would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=ShortCutProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s,  # type: ignore[arg-type]
    )


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone: they are the caller's."""
        yield
