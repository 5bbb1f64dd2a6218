"""The server on real sockets: a busy port, draining, and clients that speak no proper HTTP."""

import asyncio
import errno
import itertools
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from flashsale.http import Server, bounds, serve
from tests.unit.http_world import Shop, selling

BODY = b'{"userId":101,"productId":1,"purchaseId":"p"}'
POST = b"POST /purchase/buy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BUY = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
SILENCE_S = 0.3
"""Thrice what the server takes to notice that it is to stop."""
SMUGGLED = b"0\r\n\r\n" + BUY


@asynccontextmanager
async def running(app: Any, drain_s: float = 5.0) -> AsyncIterator[Server]:
    """Serve an application on a free port."""
    running_server = Server(app, host="127.0.0.1", port=0, drain_s=drain_s)
    running_server.bind()
    await running_server.start()
    try:
        yield running_server
    finally:
        await running_server.stop()


class Client:
    """A connection that sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take an open connection."""
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Read one answer: its status and its body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await self._reader.readexactly(int(fields.get(b"content-length", b"0")))
        return int(head.split(b" ", 2)[1]), body

    async def rest(self) -> bytes:
        """Read until the server closes."""
        try:
            return await self._reader.read()
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        """Leave."""
        self._writer.close()
        with suppress(ConnectionResetError):
            await self._writer.wait_closed()


@asynccontextmanager
async def connected(to: Server) -> AsyncIterator[Client]:
    """Connect, and leave at the end."""
    client = Client(*await asyncio.open_connection(*to.address))
    try:
        yield client
    finally:
        await client.close()


async def test_connections_are_kept_and_requests_may_come_in_a_row() -> None:
    """Keep-alive and pipelining, in order."""
    async with selling(Shop()) as shop, running(shop.app) as here, connected(here) as client:
        for _ in range(3):
            await client.send(BUY)
            assert (await client.answer())[0] == 200
        await client.send(BUY + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + BUY)
        answers = [await client.answer() for _ in range(3)]
        assert [status for status, _ in answers] == [200, 200, 200]
        assert answers[1][1] == b'{"status":"alive"}'
        assert (await shop.world.books()).available == 9


async def test_a_body_in_chunks_is_a_purchase() -> None:
    """With Transfer-Encoding alone."""
    async with selling(Shop()) as shop, running(shop.app) as here, connected(here) as client:
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(BODY), 20):
            part = BODY[at : at + 20]
            await client.send(b"%x\r\n%s\r\n" % (len(part), part))
        await client.send(b"0\r\n\r\n")
        assert (await client.answer())[0] == 200


AMBIGUOUS = [
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n",
    b"Content-Length: -5\r\n\r\n",
    b"Content-Length: +5\r\n\r\n",
    b"X: a\x00b\r\n\r\n",
    b"X: a\r\n b\r\n\r\n",
]


async def test_a_smuggled_request_is_never_executed() -> None:
    """Whatever does not say clearly where it ends is refused whole, as a problem."""
    async with selling(Shop()) as shop, running(shop.app) as here:
        for head in AMBIGUOUS:
            async with connected(here) as client:
                await client.send(POST + head + SMUGGLED)
                status, body = await client.answer()
                assert (status, b"urn:flashsale:problem:" in body) == (400, True), head
                assert await client.rest() == b""
        assert shop.listener.answers == []


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01\x02\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"],
)
async def test_what_is_no_http_is_told_so(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Garbage, another version, TLS: 400, the connection ends, and the log stays quiet."""
    shop = Shop()
    async with running(shop.app) as here, connected(here) as client:
        await client.send(data)
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""
    assert caplog.text == ""


async def test_a_head_that_never_ends_is_431() -> None:
    """Nobody fills our memory with headers."""
    shop = Shop()
    async with running(shop.app) as here, connected(here) as client:
        await client.send(POST + b"X: ")
        await client.send(b"a" * (bounds.HEAD_BYTES_MAX - len(POST)))
        # For its size, and not only for the time that it takes.
        async with asyncio.timeout(bounds.HEAD_WAIT_S / 4):
            status, body = await client.answer()
        assert (status, b"head-too-large" in body) == (431, True)


async def test_who_sends_a_head_slowly_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a head with 408, before the first byte without a word."""
    monkeypatch.setattr(bounds, "HEAD_WAIT_S", 0.05)
    shop = Shop()
    async with running(shop.app) as here:
        async with connected(here) as client:
            await client.send(BUY)
            assert (await client.answer())[0] == 404
            await client.send(b"GET /heal")
            assert (await client.answer())[0] == 408
            assert await client.rest() == b""
        async with connected(here) as silent:
            assert await silent.rest() == b""


async def test_a_body_of_megabytes_is_413_and_hurts_nobody() -> None:
    """The answer comes before the body is whole, and the connection stays usable."""
    async with selling(Shop()) as shop, running(shop.app) as here, connected(here) as client:
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % 2**22)
        sending = asyncio.create_task(client.send(b" " * 2**22))
        assert (await client.answer())[0] == 413
        await sending
        await client.send(BUY)
        assert (await client.answer())[0] == 200


async def test_who_leaves_in_the_middle_takes_nothing_and_disturbs_nobody() -> None:
    """Half a body, then gone."""
    async with selling(Shop()) as shop, running(shop.app) as here:
        async with connected(here) as client:
            await client.send(BUY[:-5])
        async with connected(here) as client:
            await client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.answer())[0] == 200
        assert shop.listener.answers == []


async def test_a_busy_port_is_an_error_that_names_it() -> None:
    """Never a second server that shares the first one's buyers."""
    shop = Shop()
    async with running(shop.app) as here:
        host, port = here.address
        second = Server(shop.app, host=host, port=port, drain_s=1)
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1 port {port}") as refused:
            second.bind()
        assert refused.value.errno == errno.EADDRINUSE
        await second.stop()


async def test_a_host_that_does_not_exist_is_an_error_that_names_it() -> None:
    """The same kind of error."""
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.host\.invalid port 1"):
        Server(Shop().app, host="no.such.host.invalid", port=1, drain_s=1).bind()


async def test_stopping_finishes_what_is_in_flight_and_accepts_nothing_new() -> None:
    """The answer still comes; idle connections end; new ones are refused."""
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        begun.set()
        await goes_on.wait()
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})

    async with running(slow) as here, connected(here) as idle, connected(here) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        stopping = asyncio.create_task(here.stop())
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*here.address)
        finished, _ = await asyncio.wait([stopping], timeout=SILENCE_S)
        assert not finished
        goes_on.set()
        assert await client.answer() == (200, b"done")
        assert await client.rest() == b""
        await stopping


async def test_what_does_not_finish_in_time_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """A stop ends, whatever hangs."""
    begun = asyncio.Event()

    async def stuck(_scope: Any, _receive: Any, _send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with running(stuck, drain_s=0.05) as here, connected(here) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        await here.stop()
        assert b"200" not in await client.rest()
    assert "timeout graceful shutdown exceeded" in caplog.text


async def test_who_never_reads_the_answer_does_not_outlive_the_stop() -> None:
    """What cannot be sent is dropped in the end."""
    full = asyncio.Event()

    async def endless(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for count in itertools.count():
            await send({"type": "http.response.body", "body": b" " * 2**16, "more_body": True})
            if count == 10:
                full.set()

    async with running(endless, drain_s=0.05) as here, connected(here) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await full.wait()
        assert here._server is not None
        await here.stop()
        await asyncio.sleep(0)
        assert not here._server.server_state.connections


async def test_more_connections_than_the_limit_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are there go on."""
    monkeypatch.setattr(bounds, "CONNECTIONS_MAX", 1)
    async with running(Shop().app) as here, connected(here) as first:
        await first.send(BUY)
        assert (await first.answer())[0] == 404
        # At once, and not only because it says nothing.
        async with connected(here) as second, asyncio.timeout(bounds.HEAD_WAIT_S / 4):
            assert await second.rest() == b""
        await first.send(BUY)
        assert (await first.answer())[0] == 404


async def test_signals_stay_the_callers() -> None:
    """Serving installs no handler of its own."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(name) for name in names]
    async with running(Shop().app):
        assert [signal.getsignal(name) for name in names] == before


async def test_serving_tells_when_it_is_ready_and_ends_when_it_is_told() -> None:
    """The caller owns the signals."""
    shop = Shop()
    stopping = asyncio.Event()
    told: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    task = asyncio.create_task(
        serve(
            shop.app,
            host="127.0.0.1",
            port=0,
            drain_s=1,
            stopping=stopping,
            ready=lambda host, port: told.put_nowait((host, port)),
        )
    )
    host, port = await told.get()
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()
    stopping.set()
    await task
    with socket.socket() as probe:
        probe.bind((host, port))
