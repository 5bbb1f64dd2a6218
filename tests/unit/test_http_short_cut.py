"""The short cut below ASGI: where it is taken, where it is not, and that it holds every bound."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flashsale.http import asking, bounds, buy, server
from flashsale.http.short_cut import ShortCycle
from flashsale_core.errors import Unavailable, Why
from tests.unit.http_wire import Ways, Wire, read_answers, until
from tests.unit.http_world import Listener, Reply, Shop, selling
from tests.unit.test_http_server import BODY, BUY, POST, SMUGGLED, connected, running

ORIGIN = "https://shop.example"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = BUY.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
NAMELESS_BODY = b'{"userId":102,"productId":1}'
NAMELESS = POST + b"Content-Length: %d\r\n\r\n" % len(NAMELESS_BODY) + NAMELESS_BODY
SHORT_S = 0.05
PATIENCE_S = 2.5
"""Far more than any deadline that a test sets, and less than those that it does not."""


def with_head(line: bytes) -> bytes:
    """Write the purchase with a further line in its head."""
    return BUY.replace(b"Host: x\r\n", b"Host: x\r\n" + line + b"\r\n")


def chunked(body: bytes, size: int) -> bytes:
    """Write the purchase in chunks of some size."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


@asynccontextmanager
async def held(shop: Shop) -> AsyncIterator[asyncio.Event]:
    """Let the gate wait until the event is set; leaving sets it."""
    goes_on = asyncio.Event()
    reserve = shop.world.gate.reserve

    async def waiting(batches: Any) -> Any:
        await goes_on.wait()
        return await reserve(batches)

    shop.world.gate.reserve = waiting  # type: ignore[method-assign]
    try:
        yield goes_on
    finally:
        goes_on.set()


async def test_our_own_server_takes_the_short_cut() -> None:
    """On real sockets, and not only where a test drives the protocol."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        async with running(shop.app) as here, connected(here) as client:
            await client.send(BUY)
            assert (await client.answer())[0] == 200
        assert ways.taken == ["short cut"]


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_however_the_bytes_are_cut_the_short_cut_reads_one_purchase(size: int) -> None:
    """Head and body, with a length or in chunks."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        for request in (BUY, chunked(BODY, 20), chunked(BODY, 1)):
            wire.send(request, size=size)
            assert [reply.status for reply in await wire.answers()] == [200]
        assert ways.taken == ["short cut"] * 3
        assert (await shop.world.books()).available == 9


@pytest.mark.parametrize(
    "request_",
    [
        BUY.replace(b"HTTP/1.1", b"HTTP/1.0"),
        BUY.replace(b"/buy", b"/buy?"),
        BUY.replace(b" /purchase", b" http://x/purchase"),
        with_head(b"Expect: 100-continue"),
    ],
    ids=["HTTP/1.0", "query", "absolute", "expect"],
)
async def test_what_is_unusual_goes_the_ordinary_way_and_is_a_purchase_too(
    request_: bytes,
) -> None:
    """One server, two ways, one answer."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        wire.send(request_)
        await until(lambda: b"ACCEPTED" in wire.sent)
        assert ways.taken == ["raw"]
        assert wire.sent.count(b"100 Continue") == request_.count(b"Expect")
        assert (await shop.world.books()).available == 9


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_an_upgrade_with_a_body_is_refused(protocol: bytes) -> None:
    """Whoever parses HTTP leaves the body to the other protocol: it would be the next request."""
    async with selling(Shop()) as shop:
        upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n" % protocol
        for length in (b"Content-Length: %d" % len(BUY), b"Transfer-Encoding: chunked"):
            wire = Wire(shop.app)
            wire.send(POST + upgrade + length + b"\r\n\r\n")
            wire.send(BUY)
            assert [reply.problem for reply in await wire.answers()] == ["bad-request"]
            assert wire.is_closing()
        wire = Wire(shop.app)
        for line in (b"", b"Content-Length: 0\r\n"):
            wire.send(HEALTH.replace(b"Host: x\r\n", upgrade + line))
            assert [reply.status for reply in await wire.answers()] == [200]
        assert shop.listener.answers == []


async def test_a_server_below_a_prefix_goes_the_ordinary_way() -> None:
    """The prefix belongs into Location, which the short cut does not know."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        wire.protocol.root_path = "/shop"
        wire.send(BUY)
        [reply] = await wire.answers()
        assert reply.header("location") == "/shop/purchase/p?saleId=1.1"
        assert ways.taken == ["raw"]


async def test_a_body_beyond_the_limit_is_refused_before_it_is_whole() -> None:
    """At once, once, with nothing kept of the rest, and the connection serves on."""
    async with selling(Shop()) as shop:
        wire = Wire(shop.app)
        wire.send(POST + b"Content-Length: %d\r\n\r\n" % 2**20)
        wire.send(b" " * asking.BODY_BYTES_MAX)
        assert wire.sent == b""
        wire.send(b" ")
        [reply] = read_answers(wire.sent)
        assert reply.problem == "too-large"
        cycle: Any = wire.protocol.cycle
        wire.send(b" " * (2**20 - asking.BODY_BYTES_MAX - 1))
        assert len(cycle.body) == asking.BODY_BYTES_MAX + 1
        assert read_answers(wire.sent) == [reply]
        wire.send(BUY)
        assert [reply.status for reply in await wire.answers(2)] == [413, 200]


@pytest.mark.parametrize("begun", [BUY[:-1], BUY[: -len(BODY)], chunked(BODY, 9)[:-5]])
async def test_a_body_that_stops_is_408_and_the_end(
    monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """With nothing taken, once, and nothing is read of what comes too late."""
    monkeypatch.setattr(asking, "BODY_WAIT_S", SHORT_S)
    async with selling(Shop()) as shop:
        wire = Wire(shop.app)
        wire.send(begun)
        assert wire.sent == b""
        async with asyncio.timeout(PATIENCE_S):
            while not wire.sent:  # noqa: ASYNC110 - a timer's end
                await asyncio.sleep(SHORT_S / 5)
        wire.send(BUY[-1:] + BUY)
        [reply] = await wire.answers()
        assert (reply.problem, reply.header("connection")) == ("request-timeout", "close")
        assert shop.listener.answers == [("request-timeout", None)]
        assert (await shop.world.books()).available == 10


async def test_a_body_in_time_is_not_ended_by_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while the gate is asked nor between two purchases."""
    monkeypatch.setattr(asking, "BODY_WAIT_S", SHORT_S)
    async with selling(Shop()) as shop, held(shop) as goes_on:
        wire = Wire(shop.app)
        wire.send(BUY[:-1])
        wire.send(BUY[-1:])
        await asyncio.sleep(2 * SHORT_S)
        assert wire.sent == b""
        goes_on.set()
        assert [reply.status for reply in await wire.answers()] == [200]
        assert not wire.is_closing()


@pytest.mark.parametrize("size", [1, 10_000])
async def test_what_is_sent_ahead_is_answered_in_its_order(size: int) -> None:
    """A slow purchase, what needs no gate behind it, the framework's, and again a purchase."""
    async with selling(Shop()) as shop, held(shop) as goes_on:
        wire = Wire(shop.app)
        wrong = BUY.replace(b'"userId":101', b'"userId":null')
        length = b"Content-Length: %d" % len(BODY)
        wrong = wrong.replace(length, b"Content-Length: %d" % (len(BODY) + 1))
        wire.send(BUY + HEALTH + wrong + BUY + HEALTH, size=size)
        for _ in range(20):
            await asyncio.sleep(0)
        assert wire.sent == b""
        goes_on.set()
        replies = await wire.answers(5)
        assert [reply.status for reply in replies] == [200, 200, 422, 200, 200]
        assert [reply.json.get("status") for reply in replies[1::3]] == ["alive"] * 1 + ["alive"]
        assert (await shop.world.books()).available == 9


async def test_a_purchase_behind_another_answer_waits_for_its_turn() -> None:
    """Also where it could be answered at once and the one before it could not."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        wire.send(HEALTH + BUY + HEALTH)
        replies = await wire.answers(3)
        assert b'"alive"' in replies[0].body
        assert b'"ACCEPTED"' in replies[1].body
        assert ways.taken == ["framework", "raw", "framework"]
        wire.send(BUY)
        await wire.answers()
        assert ways.taken[-1] == "short cut"


@pytest.mark.parametrize("says_goodbye", [False, True])
async def test_nothing_is_done_behind_the_last_answer(says_goodbye: bool) -> None:
    """No unit is taken, and no sale made, for whoever could not hear of it."""
    async with selling(Shop(), units=2) as shop:
        wire = Wire(shop.app)
        if says_goodbye:
            wire.state.default_headers.append((b"connection", b"close"))
        wrong = (BUY if says_goodbye else LAST).replace(b"{", b"[")
        wire.send(wrong + BUY + b"POST /purchase/init?productId=2&stock=1 HTTP/1.1\r\n\r\n")
        [reply] = await wire.answers()
        assert (reply.status, reply.header("connection")) == (400, "close")
        for _ in range(50):
            await asyncio.sleep(0)
        assert wire.sent == b""
        assert shop.listener.answers == [("malformed", None)]
        assert (await shop.world.books()).available == 2
        assert len(await shop.world.database.catalogue.current()) == 1


@pytest.mark.parametrize("request_", [BUY[:-1], BUY[: -len(BODY)]])
async def test_who_leaves_before_the_body_is_whole_takes_nothing(
    monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    """Nobody is answered, and no timer remembers."""
    monkeypatch.setattr(asking, "BODY_WAIT_S", SHORT_S)
    async with selling(Shop()) as shop:
        wire = Wire(shop.app)
        wire.send(request_)
        wire.leave()
        await asyncio.sleep(2 * SHORT_S)
        assert wire.sent == b""
        assert shop.listener.answers == []


@pytest.mark.parametrize("behind", [b"", HEALTH, b"GET /hea"])
async def test_who_leaves_while_the_gate_is_asked_is_sold_to_and_disturbs_nobody(
    behind: bytes,
) -> None:
    """The unit is taken and its order follows; nothing is written to who is gone."""
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: wrong.append(what))
    async with selling(Shop()) as shop, held(shop) as goes_on:
        wire = Wire(shop.app)
        wire.send(BUY + behind)
        await asyncio.sleep(0)
        wire.leave()
        goes_on.set()
        await until(lambda: ("accepted", "p") in shop.listener.answers)
        await until(lambda: not wire.state.tasks)
        assert wire.sent == b""
        assert wrong == []
        assert (await shop.world.books()).available == 9


async def test_stopping_waits_for_a_purchase_and_says_goodbye_with_its_answer() -> None:
    """On real sockets: the promise is given, and the connection ends."""
    async with selling(Shop()) as shop, held(shop) as goes_on:
        async with running(shop.app) as here, connected(here) as client:
            await client.send(BUY)
            assert here._server is not None
            connections = here._server.server_state.tasks
            await until_awake(connections)
            stopping = asyncio.create_task(here.stop())
            await asyncio.wait([stopping], timeout=0.15)
            assert not stopping.done()
            goes_on.set()
            said = await client.rest()
            await stopping
        [reply] = read_answers(said)
        assert (reply.status, reply.header("connection")) == (200, "close")


async def until_awake(tasks: set[Any]) -> None:
    """Wait until the server works on something."""
    async with asyncio.timeout(PATIENCE_S):
        while not tasks:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_a_lame_duck_answers_the_short_way_and_ends_the_connection() -> None:
    """`Connection: close` stands once in the answer."""
    async with selling(Shop()) as shop, running(shop.app) as here, connected(here) as client:
        ways = Ways(shop)
        here.say_goodbye()
        await client.send(BUY)
        [reply] = read_answers(await client.rest())
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert ways.taken in (["short cut"], [])


async def test_who_asks_for_the_last_answer_gets_it_as_the_last() -> None:
    """`Connection: close` of the client's is answered in kind."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        wire.send(LAST)
        [reply] = await wire.answers()
        assert (reply.status, reply.header("connection")) == (200, "close")
        assert wire.is_closing()
        assert ways.taken == ["short cut"]


@pytest.mark.parametrize("origin", [ORIGIN, "https://other.example", None])
@pytest.mark.parametrize("body", [BODY, b"{"])
async def test_browsers_are_told_the_same_by_the_short_cut(origin: str | None, body: bytes) -> None:
    """Let in, not let in, and none: also where no gate is asked, and for a body that stops."""
    replies: list[Reply] = []
    for request_line in (b"HTTP/1.1", b"HTTP/1.0"):
        async with selling(Shop(cors_origins=(ORIGIN,))) as shop:
            ways = Ways(shop)
            wire = Wire(shop.app)
            head = POST.replace(b"HTTP/1.1", request_line)
            head += b"Connection: close\r\n"
            head += b"Origin: %s\r\n" % origin.encode() if origin else b""
            wire.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            replies += await wire.answers()
            assert ways.taken == ["short cut" if request_line == b"HTTP/1.1" else "raw"]
    assert replies[0].header("vary") == "origin"
    allowed = replies[0].header("access-control-allow-origin")
    assert allowed == (ORIGIN if origin == ORIGIN else None)
    assert replies[0] == replies[1]


async def test_a_browser_is_told_of_a_body_that_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may read that its request came too slowly."""
    monkeypatch.setattr(asking, "BODY_WAIT_S", 0)
    shop = Shop(cors_origins=(ORIGIN,))
    wire = Wire(shop.app)
    wire.send(with_head(b"Origin: " + ORIGIN.encode())[:-1])
    [reply] = await wire.answers()
    assert reply.problem == "request-timeout"
    assert reply.header("access-control-allow-origin") == ORIGIN


async def test_who_does_not_read_is_answered_by_the_way_that_waits() -> None:
    """What is written to a full connection has to wait; then the short cut is taken again."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        wire.protocol.pause_writing()
        wire.send(BUY)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (wire.sent, ways.taken) == (b"", ["raw"])
        wire.protocol.resume_writing()
        await wire.answers()
        wire.send(BUY)
        await wire.answers()
        assert ways.taken == ["raw", "short cut"]


@pytest.mark.parametrize("request_", [LAST, LAST.replace(b"HTTP/1.1", b"HTTP/1.0")])
async def test_who_does_not_read_its_last_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    """A connection that only waits to be read for the last time has a deadline by either way."""
    monkeypatch.setattr(bounds, "WRITE_WAIT_S", SHORT_S)
    async with selling(Shop()) as shop:
        wire = Wire(shop.app)
        wire.is_stuck = True
        wire.send(request_)
        async with asyncio.timeout(PATIENCE_S):
            while not wire.is_cut_off:  # noqa: ASYNC110 - a timer's end
                await asyncio.sleep(SHORT_S / 5)


async def test_a_smuggled_purchase_is_refused_before_the_short_cut() -> None:
    """Content-Length and Transfer-Encoding together."""
    async with selling(Shop()) as shop:
        ways = Ways(shop)
        wire = Wire(shop.app)
        both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.send(POST + both + SMUGGLED)
        assert [reply.problem for reply in await wire.answers()] == ["bad-request"]
        assert ways.taken == []


@pytest.mark.parametrize("request_", [POST, POST.replace(b"/buy", b"/buy/")], ids=["short", "ASGI"])
async def test_a_trailer_is_no_head_and_has_its_bounds(request_: bytes) -> None:
    """What comes behind the body names no purchase, and fills no memory, in however many pieces."""
    async with selling(Shop()) as shop:
        whole = chunked(BODY, 20).replace(POST, request_)
        trailing = whole[:-2] + b"Idempotency-Key: other\r\nOrigin: x\r\n"
        wire = Wire(shop.app)
        for size in (1, 1_000):
            wire.send(trailing + b"\r\n", size=size)
            assert [reply.json["purchaseId"] for reply in await wire.answers()] == ["p"]
        one, many = b"x" * 1_000, b"X: y\r\n" * 200
        for endless in (b"X: " + one, many):
            wire = Wire(shop.app)
            wire.send(trailing)
            for _ in range(bounds.HEAD_BYTES_MAX // len(endless) + 1):
                assert not wire.is_closing()
                wire.send(endless if endless is many else one)
            assert [reply.status for reply in read_answers(wire.sent)] == [431]
            assert wire.is_closing()


async def test_a_large_chunk_is_no_trailer() -> None:
    """Only what is in no chunk counts."""
    wire = Wire(Shop().app)
    wire.send(POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 2**20)
    wire.send(b" " * 2**20 + b"\r\n0\r\n\r\n", size=10_000)
    assert [reply.problem for reply in await wire.answers()] == ["too-large"]
    wire.send(HEALTH)
    assert [reply.status for reply in await wire.answers()] == [200]


async def test_too_many_at_once_are_refused_at_once_by_the_short_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who wait for the gate are counted; nobody waits behind them."""
    monkeypatch.setattr(buy, "IN_FLIGHT_MAX", 2)
    async with selling(Shop()) as shop, held(shop) as goes_on:
        wires = [Wire(shop.app) for _ in range(3)]
        for number, wire in enumerate(wires):
            wire.send(BUY.replace(b'"p"', b'"%d"' % number))
        [reply] = read_answers(wires[2].sent)
        assert (reply.problem, reply.json["reason"]) == ("unavailable", "overloaded")
        goes_on.set()
        for wire in wires[:2]:
            assert [reply.status for reply in await wire.answers()] == [200]
        wires[2].sent = b""
        wires[2].send(BUY)
        assert [reply.status for reply in await wires[2].answers()] == [200]


async def test_a_gate_that_is_away_is_told_by_the_short_cut() -> None:
    """503, with the connection kept."""
    async with selling(Shop()) as shop:

        async def away(_: Any) -> Any:
            raise Unavailable(Why.GATE_AWAY)

        shop.world.gate.reserve = away  # type: ignore[method-assign,assignment]
        wire = Wire(shop.app)
        for _ in range(2):
            wire.send(BUY)
            assert [reply.problem for reply in await wire.answers()] == ["unavailable"]


async def test_a_mistake_behind_the_answer_leaves_nobody_waiting() -> None:
    """An observer that breaks ends the connection, and is told of."""

    class Broken(Listener):
        def answered(self, *_: object) -> None:
            raise ZeroDivisionError

    wrong: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: wrong.append(what))
    async with selling(Shop(observer=Broken())) as shop:
        wire = Wire(shop.app)
        wire.send(BUY)
        await until(wire.is_closing)
        assert wire.sent == b""
    assert [type(one["exception"]) for one in wrong] == [ZeroDivisionError]


async def test_the_time_of_an_idle_connection_begins_with_its_last_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests keep it, a long one too; nothing said after an answer ends it."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 4 * SHORT_S)
    async with selling(Shop()) as shop:
        wire = Wire(shop.app)
        for _ in range(4):
            wire.send(BUY)
            await wire.answers()
            await asyncio.sleep(2 * SHORT_S)
        assert not wire.is_closing()
        async with held(shop) as goes_on:
            wire.send(BUY)
            await asyncio.sleep(6 * SHORT_S)
            assert not wire.is_closing()
            goes_on.set()
            await wire.answers()
        async with asyncio.timeout(PATIENCE_S):
            while not wire.is_closing():  # noqa: ASYNC110 - a timer's end
                await asyncio.sleep(SHORT_S)


async def test_a_request_that_begins_before_an_answer_is_not_idleness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its head was on its way while the one before it was answered: it gets its own time."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", SHORT_S)
    async with selling(Shop()) as shop:
        async with held(shop) as goes_on:
            wire = Wire(shop.app)
            wire.send(BUY + BUY[:20])
            goes_on.set()
            await wire.answers()
        async with held(shop) as goes_on:
            wire.send(BUY[20:])
            await asyncio.sleep(4 * SHORT_S)
            goes_on.set()
            assert [reply.status for reply in await wire.answers()] == [200]


async def test_purchases_leave_nothing_for_the_collector() -> None:
    """By either way, sold or sold out: it comes seldom, and would find it late."""
    shop = Shop()
    await shop.world.sell(units=3)
    shop.world.bus.publish = confirmed  # type: ignore[method-assign,assignment]
    wire = Wire(shop.app)
    gc.collect()
    gc.disable()
    try:
        for one in [BUY, NAMELESS, BUY.replace(b"/buy", b"/buy?"), chunked(BODY, 9)] * 5:
            wire.send(one)
            await wire.answers()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def confirmed(_: object) -> None:
    """Confirm at once."""


async def test_connections_leave_nothing_for_the_collector() -> None:
    """However many come and go."""
    async with selling(Shop(), units=3) as shop:
        gc.collect()
        gc.disable()
        try:
            wire = Wire(shop.app)
            for _ in range(5):
                for one in (BUY, NAMELESS):
                    wire.send(one)
                    await wire.answers()
            cycle: object = wire.protocol.cycle
            assert isinstance(cycle, ShortCycle)
            del cycle
            served = weakref.ref(wire.protocol)
            wire.close()
            await until(lambda: wire.protocol.parser is None)
            del wire.protocol  # As a transport lets go of it.
            assert served() is None
        finally:
            gc.enable()
