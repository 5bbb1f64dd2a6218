"""Clients that ask for too much, or for too long, on real sockets; and what it costs the others."""

import ast
import asyncio
import inspect
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flashsale.http import Server, asking, bounds, guards, server
from tests.unit.http_world import ADMIN_TOKEN, Shop, selling
from tests.unit.test_http_server import BUY, POST, Client, connected, running

PATIENCE_S = 2.5
"""Far more than any deadline that a test sets, and less than those that it does not."""
SHORT_S = 0.1
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def while_others_are_served(here: Server) -> AsyncIterator[None]:
    """See that somebody else is answered before, meanwhile and after."""
    async with connected(here) as other:
        await other.send(HEALTH)
        assert (await other.answer())[0] == 200
        yield
        async with connected(here) as third:
            await third.send(HEALTH)
            assert (await third.answer())[0] == 200


async def ended(client: Client) -> bytes:
    """Wait until the server ends a connection; answer what it still said."""
    async with asyncio.timeout(PATIENCE_S):
        return await client.rest()


async def drip(client: Client, piece: bytes) -> None:
    """Send a little, again and again, until the connection is gone."""
    while True:
        await client.send(piece)
        await asyncio.sleep(SHORT_S / 5)


@asynccontextmanager
async def dripping(client: Client, piece: bytes) -> AsyncIterator[None]:
    """Do so meanwhile."""
    task = asyncio.create_task(drip(client, piece))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_head_that_comes_drop_by_drop_ends_by_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often a byte comes: the time is the head's, not the byte's."""
    monkeypatch.setattr(bounds, "HEAD_WAIT_S", SHORT_S)
    async with (
        running(Shop().app) as here,
        while_others_are_served(here),
        connected(here) as client,
    ):
        await client.send(b"GET /healthz HTTP/1.1\r\nX: ")
        async with dripping(client, b"y"):
            # Whoever still sends may be reset before the answer is read.
            said = await ended(client)
            assert said.startswith(b"HTTP/1.1 408 ") or not said


async def test_empty_lines_are_no_request_and_keep_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither before the first request nor after it, where the parser skips them in silence."""
    monkeypatch.setattr(bounds, "HEAD_WAIT_S", SHORT_S)
    monkeypatch.setattr(server, "KEEP_ALIVE_S", SHORT_S)
    async with running(Shop().app) as here:
        async with connected(here) as client, dripping(client, b"\r\n"):
            assert await ended(client) == b""
        async with connected(here) as client:
            await client.send(HEALTH)
            assert (await client.answer())[0] == 200
            async with dripping(client, b"\r\n"):
                assert await ended(client) == b""


async def test_a_body_that_comes_drop_by_drop_ends_by_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """408, and nothing is taken."""
    monkeypatch.setattr(asking, "BODY_WAIT_S", SHORT_S)
    async with selling(Shop()) as shop, running(shop.app) as here, while_others_are_served(here):
        async with connected(here) as client:
            await client.send(POST + b"Content-Length: 4000\r\n\r\n")
            async with dripping(client, b" "):
                # Whoever still sends may be reset before the answer is read.
                said = await ended(client)
                assert b" 408 " in said or not said
        assert (await shop.world.books()).available == 10


async def test_the_rest_of_a_refused_body_does_not_keep_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was answered already; what drips in after that is idleness."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", SHORT_S)
    async with running(Shop().app) as here, connected(here) as client:
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % 2**22 + b" " * 5_000)
        assert (await client.answer())[0] == 413
        async with dripping(client, b" "):
            assert await ended(client) == b""


async def test_an_idle_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept for the next request, but not for ever."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", SHORT_S)
    async with running(Shop().app) as here, connected(here) as client:
        await client.send(HEALTH)
        assert (await client.answer())[0] == 200
        assert await ended(client) == b""


async def test_a_connection_that_is_closed_on_one_side_is_given_up() -> None:
    """In the middle of a head, of a body, and before a word."""
    async with selling(Shop()) as shop, running(shop.app) as here, while_others_are_served(here):
        for begun in (b"", b"GET /heal", BUY[:-5]):
            async with connected(here) as client:
                await client.send(begun)
                client._writer.write_eof()
                await ended(client)
        assert (await shop.world.books()).available == 10


async def test_an_answer_that_nobody_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client who asks, and then reads nothing, holds its place no longer than the deadline."""
    monkeypatch.setattr(bounds, "WRITE_WAIT_S", SHORT_S)

    async def large(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % 2**24)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(2**24)})

    async with running(large, drain_s=SHORT_S) as here, connected(here) as other:
        peer = socket.create_connection(here.address)
        peer.sendall(HEALTH)
        assert here._server is not None
        connections = here._server.server_state.connections
        async with asyncio.timeout(PATIENCE_S):
            while len(connections) < 2:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
            while len(connections) > 1:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
        peer.close()
        await other.send(HEALTH)
        assert (await other.answer())[0] == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * bounds.URL_BYTES_MAX), 414),
        (b"GET /healthz?%s HTTP/1.1\r\n\r\n" % (b"a" * bounds.URL_BYTES_MAX), 414),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * (bounds.HEADERS_MAX + 1) + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX: %s\r\n\r\n" % (b"y" * bounds.HEAD_BYTES_MAX), 431),
        (b"GET /healthz HTTP/1.1\r\n%s: y\r\n\r\n" % (b"X" * bounds.HEAD_BYTES_MAX), 431),
    ],
)
async def test_a_head_beyond_its_bounds_is_refused_also_in_one_piece(
    head: bytes, status: int
) -> None:
    """As a problem, before anything is done with it; the connection ends."""
    async with (
        running(Shop().app) as here,
        while_others_are_served(here),
        connected(here) as client,
    ):
        await client.send(head)
        answered, body = await client.answer()
        assert (answered, b"urn:flashsale:problem:" in body) == (status, True)
        assert await ended(client) == b""


async def test_a_head_within_its_bounds_is_served() -> None:
    """A browser's, with many cookies."""
    headers = b"".join(b"X%d: y\r\n" % number for number in range(bounds.HEADERS_MAX - 1))
    head = b"GET /healthz HTTP/1.1\r\n%sCookie: %s\r\n\r\n" % (headers, b"c" * 8_000)
    async with running(Shop().app) as here, connected(here) as client:
        await client.send(head)
        assert (await client.answer())[0] == 200


async def test_a_pipeline_without_end_is_ended_after_the_answers_that_are_due() -> None:
    """Each is answered in its turn, and no error in the place of an answer."""
    async with running(Shop().app) as here, while_others_are_served(here):
        async with connected(here) as client:
            await client.send(HEALTH * (bounds.PIPELINE_MAX * 20))
            said = await ended(client)
        assert said.count(b"HTTP/1.1 200 ") == bounds.PIPELINE_MAX + 1
        assert b"HTTP/1.1 4" not in said


async def test_what_follows_a_purchase_never_answers_for_it() -> None:
    """Garbage behind a whole request ends the connection after that request's own answer."""
    async with selling(Shop()) as shop, running(shop.app) as here, connected(here) as client:
        await client.send(BUY + b"\x00\x01 no request\r\n\r\n" + BUY)
        said = await ended(client)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.count(b"HTTP/1.1") == 1
        assert (await shop.world.books()).available == 9


def test_the_admin_token_is_compared_in_constant_time() -> None:
    """By its structure: the one comparison of the token is `hmac.compare_digest`, over bytes.

    A measurement would prove nothing on a busy machine.
    """
    tree = ast.parse(inspect.getsource(guards.admin_only))
    compared = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest"
    ]
    assert len(compared) == 1
    assert "token.encode()" in [ast.unparse(argument) for argument in compared[0].args]
    by_equality = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(op, ast.Eq | ast.NotEq | ast.In) for op in node.ops)
        and "token" in ast.unparse(node)
    ]
    assert by_equality == []


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", f"Basic {ADMIN_TOKEN}", f"Bearer {ADMIN_TOKEN}x", "Bearer é"],
)
async def test_another_token_opens_no_admin_route(given: str | None) -> None:
    """401 that names the scheme and repeats nothing."""
    shop = Shop(admin_token=ADMIN_TOKEN)
    headers = {} if given is None else {"authorization": given}
    reply = await shop.ask("POST", "/purchase/init?productId=1&stock=1", headers=headers)
    assert (reply.status, reply.problem) == (401, "unauthorized")
    assert ADMIN_TOKEN.encode() not in reply.body
