"""Whoever only looks hears in time, whatever hangs; and nobody is cut off in an answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import getmembers, iscoroutinefunction
from typing import Any

import attrs
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from flashsale.guards import Guards, asked_database
from flashsale.http.timely import Timely
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale_coalesce import Bounds
from flashsale_core.errors import Unavailable, Why
from flashsale_core.inquiry import Inquiry
from flashsale_core.model import PurchaseId
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_prometheus import Metrics
from tests.unit.http_world import Shop, ask
from tests.unit.world import World

DEADLINE_MS = 50
BUSY_MS = 10 * DEADLINE_MS
"""What a busy machine may make of it."""
PORTS = ("orders", "catalogue", "parked", "letters")


class Frozen:
    """A database in memory that keeps silent, as a server does that was stopped with SIGSTOP."""

    def __init__(self, database: MemoryDatabase) -> None:
        """Let no call of its ports go on until it thaws."""
        self.thawed = asyncio.Event()
        self.calls = 0
        for name in PORTS:
            port = getattr(database, name)
            for method, call in getmembers(port, iscoroutinefunction):
                setattr(port, method, self._hung(call))

    def _hung(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def hang(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            await self.thawed.wait()
            return await call(*args, **kwargs)

        return hang


@pytest.mark.parametrize(
    "target", ["/purchase/p1", "/sales", "/sales/1.1", "/dead-letters", "/dead-letters/1"]
)
async def test_every_look_hears_in_time_that_the_database_is_silent(target: str) -> None:
    """As of any other outage: 503 with its type, its reason, and when to come back."""
    shop = Shop(lookup_deadline_ms=DEADLINE_MS)
    await shop.world.sell()
    frozen = Frozen(shop.world.database)
    began = time.monotonic()
    async with asyncio.timeout(5):
        reply = await shop.ask("GET", target)
    assert (time.monotonic() - began) * 1_000 <= BUSY_MS
    assert (reply.status, reply.problem) == (503, "unavailable")
    assert reply.json["reason"] == "database-away"
    assert int(reply.header("retry-after") or 0) >= 1
    frozen.thawed.set()
    assert (await shop.ask("GET", target)).status in (200, 404)


async def test_who_reads_slowly_is_not_cut_off() -> None:
    """The time runs until the answer begins; how long it then takes is the reader's matter."""
    shop = Shop(lookup_deadline_ms=DEADLINE_MS)

    async def large(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(4):
            await asyncio.sleep(DEADLINE_MS / 2_000)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    reply = await ask(Timely(large, DEADLINE_MS), "GET", "/")
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"xxxx")
    assert shop.parts.lookup_deadline_ms == DEADLINE_MS


async def test_who_writes_is_told_how_it_ended() -> None:
    """An operator's command that was cut off would leave nobody sure."""
    shop = Shop(lookup_deadline_ms=DEADLINE_MS)
    await shop.world.sell()
    frozen = Frozen(shop.world.database)
    closing = asyncio.create_task(shop.ask("POST", "/sales/1.1/close"))
    await asyncio.sleep(2 * DEADLINE_MS / 1_000)
    assert not closing.done()
    frozen.thawed.set()
    assert (await closing).status == 200


async def test_a_client_that_leaves_takes_its_question_with_it() -> None:
    """Cancelled from outside, nothing goes on below."""
    ended = asyncio.Event()

    async def hangs(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asking = asyncio.create_task(ask(Timely(hangs, 60_000), "GET", "/"))
    for _ in range(3):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_goodbye_that_takes_long_holds_up_nobody() -> None:
    """A driver may want seconds to leave a server that hangs."""
    may_end = asyncio.Event()

    async def clings() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    bounds = Bounds()
    with pytest.raises(Unavailable, match="no answer within 20 ms"):
        async with asyncio.timeout(5):
            await bounds.within(clings(), 20, Why.DATABASE_AWAY)
    assert len(bounds._left) == 1
    may_end.set()
    while bounds._left:  # noqa: ASYNC110 - a task's end
        await asyncio.sleep(0)


async def test_after_one_silence_look_ups_are_refused_at_once() -> None:
    """The question that got no answer counts as silence: the breaker opens, and nobody else waits.

    What it says is what happened, and not how the waiting was ended.
    """
    world = World()
    await world.sell()
    settings = attrs.evolve(
        Settings(),
        database_url=Url("postgresql+asyncpg://localhost/x"),
        lookup_deadline_ms=2 * DEADLINE_MS,
    )
    guards = Guards(settings, Metrics(CollectorRegistry()).breaker)
    frozen = Frozen(world.database)
    asked = asked_database(guards, world.database, settings)
    inquiry = Inquiry(board=world.board, gate=world.gate, orders=asked.orders, parked=asked.parked)

    async def find() -> str:
        with pytest.raises(Unavailable) as away:
            await inquiry.find(PurchaseId("p1"))
        return away.value.detail

    with capture_logs() as lines:
        details = [await find() for _ in range(50)]
    assert details[0] == f"no answer within {DEADLINE_MS} ms"
    assert details[-1] == f"not asked again yet: {details[0]}"
    assert frozen.calls == 2, "the first, and the probe that may follow at once"
    assert [line["error"] for line in lines] == [details[0]]
    frozen.thawed.set()


async def test_a_file_s_questions_have_no_deadline() -> None:
    """A file answers or fails; it cannot fall silent."""
    guards = Guards(Settings(), Metrics(CollectorRegistry()).breaker)
    database = MemoryDatabase(SystemClock())
    assert asked_database(guards, database, Settings()) is database
