"""Wires that count what is asked of a server, at the server's side of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.faults.wire import Wire
from tests.integration.sql_proxy import CHUNK_BYTES

ASKING = {
    "redis": re.compile(rb"\r\nFCALL\r\n"),
    # A method frame of class 60 (basic), method 40 (publish), or the begin of a connection.
    "amqp": re.compile(rb"\x00\x3c\x00\x28|AMQP\x00\x00\x09\x01"),
    # A produce request (key 0) of version 7 or later, after its size.
    "kafka": re.compile(rb"\x00\x00..\x00\x00\x00[\x03-\x0c]", re.DOTALL),
    # A transaction, or a wish for a connection (which begins by asking for TLS).
    "postgresql+asyncpg": re.compile(rb"BEGIN|\x04\xd2\x16\x2f"),
}
"""How one call looks on the way to each kind of server."""


class CountingWire(Wire):
    """Counts calls, and connections that led nowhere: each of these was a call too."""

    def __init__(self, upstream: str) -> None:
        """Know the server by its URL."""
        super().__init__(upstream)
        self._kind = urlsplit(upstream).scheme
        self.calls = 0
        self.refused = 0

    @property
    def asked(self) -> int:
        """How often anything was asked of the server."""
        return self.calls + self.refused

    def begin(self) -> None:
        """Count anew."""
        self.calls = self.refused = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        if self._is_cut:
            self.refused += 1
        super().accept(reader, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _, probe = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        except OSError:
            self.refused += 1
            writer.close()
            return
        probe.close()
        await super()._carry(reader, writer)

    async def _up(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        reply_is_lost: asyncio.Event,
    ) -> None:
        while data := await client.read(CHUNK_BYTES):
            self.calls += len(ASKING[self._kind].findall(data))
            server.write(data)
            await server.drain()

    async def _down(
        self,
        server: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        reply_is_lost: asyncio.Event,
    ) -> None:
        if self._kind != "kafka":
            await super()._down(server, client, reply_is_lost)
            return
        # A broker tells its clients where it is; the same length tells them where this wire is.
        host = (self._upstream.hostname or "").encode()
        real, ours = ((self._upstream.port or 0), self.port)
        there, here = host + real.to_bytes(4, "big"), host + ours.to_bytes(4, "big")
        while data := await server.read(CHUNK_BYTES):
            if not self._is_hole:
                client.write(data.replace(there, here))
                await client.drain()


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[CountingWire]:
    """Stand before a server for the length of the context."""
    wire = CountingWire(url)
    listener = await asyncio.start_server(wire.accept, "127.0.0.1", 0, backlog=512)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        await wire.close()
        await listener.wait_closed()
