"""A wire between driver and PostgreSQL that a test can cut, freeze, or lead through TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from urllib.parse import urlsplit

CHUNK_BYTES = 65_536
TLS_REQUEST_BYTES = 8
"""PostgreSQL's clients ask for TLS in the clear: a length and a magic number."""


class Cut(Enum):
    """What becomes of the connection when a client sends the words that a test waits for."""

    BEFORE = auto()
    """They never reach the server, and the connection is gone."""
    AFTER = auto()
    """The server does what they say; its reply is lost with the connection."""
    HELD = auto()
    """The server does what they say; its reply waits for `thaw`."""


class Proxy:
    """Passes everything on until told otherwise."""

    def __init__(self, upstream: str, tls: ssl.SSLContext | None) -> None:
        """Stand before the server of a URL."""
        self._upstream = urlsplit(upstream)
        self._tls = tls
        self._armed: tuple[bytes, Cut] | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.met = asyncio.Event()
        """Set when the words came by."""
        self.port = 0

    @property
    def url(self) -> str:
        """Name the server by way of this proxy."""
        account, at, _ = self._upstream.netloc.rpartition("@")
        netloc = f"{account}{at}localhost:{self.port}"
        return self._upstream._replace(netloc=netloc).geturl()

    def arm(self, words: bytes, cut: Cut) -> None:
        """Do this, once, when a client next sends these words."""
        self._armed = (words, cut)
        self.met.clear()

    def freeze(self) -> None:
        """Let no reply through, as a server does that hangs."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let what waited through."""
        self._flows.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all connections."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            if self._tls is not None:
                await reader.readexactly(TLS_REQUEST_BYTES)
                writer.write(b"S")
                await writer.start_tls(self._tls)
            host, port = self._upstream.hostname, self._upstream.port
            from_server, to_server = await asyncio.open_connection(host, port)
            reply_is_lost = asyncio.Event()
            with contextlib.closing(to_server):
                ways = [
                    asyncio.ensure_future(self._up(reader, to_server, reply_is_lost)),
                    asyncio.ensure_future(self._down(from_server, writer, reply_is_lost)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _up(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        reply_is_lost: asyncio.Event,
    ) -> None:
        while data := await client.read(CHUNK_BYTES):
            if self._armed is not None and self._armed[0] in data:
                cut = self._armed[1]
                self._armed = None
                self.met.set()
                if cut is Cut.BEFORE:
                    return
                if cut is Cut.AFTER:
                    reply_is_lost.set()
                else:
                    self.freeze()
            server.write(data)
            await server.drain()

    async def _down(
        self,
        server: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        reply_is_lost: asyncio.Event,
    ) -> None:
        while data := await server.read(CHUNK_BYTES):
            if reply_is_lost.is_set():
                return
            await self._flows.wait()
            client.write(data)
            await client.drain()


@asynccontextmanager
async def proxy_before(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Stand before a server for the length of the context."""
    proxy = Proxy(url, tls)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.close()
        await listener.wait_closed()
