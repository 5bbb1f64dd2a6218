"""A wire to a server that a drill can cut, slow down, or lead into a hole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.integration.sql_proxy import CHUNK_BYTES, Proxy


class Wire(Proxy):
    """Passes everything on until told otherwise; works for any protocol over TCP."""

    def __init__(self, upstream: str) -> None:
        """Stand before the server of a URL."""
        super().__init__(upstream, None)
        self._delay_s = 0.0
        self._is_hole = False
        self._is_black = False
        self._is_cut = False

    def turn_to(self, upstream: str) -> None:
        """Lead to another server from now on, and end what is connected to the one before."""
        self._upstream = urlsplit(upstream)
        for task in tuple(self._tasks):
            task.cancel()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection; while the wire is cut it is closed at once."""
        if self._is_cut:
            writer.close()
            return
        super().accept(reader, writer)

    def cut(self) -> None:
        """End all connections and take no new one, until `mend`."""
        self._is_cut = True
        for task in tuple(self._tasks):
            task.cancel()

    def delay(self, seconds: float) -> None:
        """Hold every reply back for so long."""
        self._delay_s = seconds

    def swallow(self) -> None:
        """Let requests through, and no reply ever: those of now are lost for good."""
        self._is_hole = True

    def black_hole(self) -> None:
        """Take everything and pass nothing on, either way, as a router does that lost its table."""
        self._is_hole = self._is_black = True

    def mend(self) -> None:
        """Pass everything on again. A connection whose reply was swallowed is of no use: cut it."""
        if self._is_hole:
            for task in tuple(self._tasks):
                task.cancel()
        self._is_cut = self._is_hole = self._is_black = False
        self._delay_s = 0.0

    async def _up(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        reply_is_lost: asyncio.Event,
    ) -> None:
        while data := await client.read(CHUNK_BYTES):
            if not self._is_black:
                server.write(data)
                await server.drain()

    async def _down(
        self,
        server: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        reply_is_lost: asyncio.Event,
    ) -> None:
        while data := await server.read(CHUNK_BYTES):
            if self._is_hole:
                continue
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            client.write(data)
            await client.drain()


@asynccontextmanager
async def wire_before(url: str, port: int = 0) -> AsyncIterator[Wire]:
    """Stand before a server for the length of the context, on a port of one's choice or any."""
    wire = Wire(url)
    listener = await asyncio.start_server(wire.accept, "127.0.0.1", port)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        await wire.close()
        await listener.wait_closed()
