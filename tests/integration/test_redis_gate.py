"""The Redis gate keeps the contract, on a real server."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import Door, Epoch, SaleId, SaleState, SaleTerms
from flashsale_core.outcomes import Reserved
from flashsale_core.ports import ClaimBatch
from flashsale_core.rates import RateLimits
from flashsale_core.testing.gate_lives import GateLivesContract
from flashsale_core.testing.gate_machine import gate_machine
from flashsale_core.testing.gate_rates import GateRatesContract, MakeRatedGate, came_from, per_user
from flashsale_core.testing.stock_gate import (
    MakeGate,
    OpenSale,
    StockGateContract,
    claim,
    open_sale,
)
from flashsale_memory.clock import SystemClock
from flashsale_memory.gate import MemoryStockGate
from flashsale_redis import RedisStockGate, gate_library
from flashsale_redis.library import GateLibrary
from flashsale_redis.wire import Wire
from tests.integration.gates import gates_on, limited_gates_on
from tests.servers.redis import Redis, running_redis

BUSY_LUA = """
local function ms() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local ends = ms() + tonumber(ARGV[1])
while ms() < ends do end
return 'late'
"""
"""Keeps a single-threaded server from answering anybody."""

STEPS_MIN = 4_000
"""Commands given to both gates and to the model, with all books compared after each."""


@pytest.fixture
async def wire(redis_server: Redis) -> AsyncIterator[Wire]:
    """A pool of its own for every test: pools belong to one event loop."""
    wire = Wire(redis_server.url, deadline_s=5.0)
    await RedisStockGate(wire).install()
    yield wire
    await wire.aclose()


@pytest.fixture
def make_gate(wire: Wire) -> MakeGate:
    """Gates with other delays on one namespace, so that they see the same sales."""
    return gates_on(wire)


class TestRedisStockGate(StockGateContract):
    """The contract, on Redis."""

    async def test_the_oldest_purchase_is_seen_wherever_it_stands_in_a_long_journal(
        self, make_gate: MakeGate
    ) -> None:
        """First by its due time, or last because it was pushed back; the middle is not read."""
        gate = await make_gate(reserved_due_ms=100, queued_due_ms=600_000)
        sale = await open_sale(gate, SaleTerms(units=100))
        [first] = await sale.reserve(claim("p0"))
        assert isinstance(first, Reserved)
        await asyncio.sleep(0.12)
        for number in range(1, 40):
            await sale.reserve(claim(f"p{number}"))
        assert (await sale.books()).oldest_accepted_ms == first.record.accepted_at_ms
        await gate.overdue(sale.sale_id, sale.epoch, 1)
        books = await sale.books()
        assert books.oldest_due_ms != first.record.accepted_at_ms + 100
        assert books.oldest_accepted_ms == first.record.accepted_at_ms
        [unasked] = await gate.books([(sale.sale_id, sale.epoch)])
        assert unasked == attrs.evolve(books, oldest_accepted_ms=None)


class TestRedisGateLives(GateLivesContract):
    """The contract, on Redis."""


class TestRedisGateRates(GateRatesContract):
    """The contract, on Redis."""

    @pytest.fixture
    def make_gate(self, wire: Wire) -> MakeRatedGate:
        """Make a gate with limits, on a namespace of its own."""
        return limited_gates_on(wire)

    async def test_the_counts_are_one_key_that_expires_and_the_only_place_of_an_address(
        self, wire: Wire, make_gate: MakeRatedGate
    ) -> None:
        """No record, no journal entry and no other key names it; a drop leaves nothing at all."""
        gate = await make_gate(RateLimits(per_user=5, per_address=5))
        sale = await open_sale(gate)
        await sale.reserve(came_from("192.0.2.77", "p1", "ann"))
        [keys] = await wire.run([("KEYS", f"*{{{sale.sale_id}}}*")])
        window = next(key for key in keys if key.endswith(b":window"))
        [left] = await wire.run([("PTTL", window)])
        assert 0 < left <= 10_000
        assert (await wire.run([("HGETALL", window)]))[0] == {b"u:ann": b"1", b"a:192.0.2.77": b"1"}
        for key in set(keys) - {window}:
            [dumped] = await wire.run([("DUMP", key)])
            assert b"192.0.2.77" not in dumped, key
        await gate.drop(sale.sale_id)
        assert await wire.run([("KEYS", f"*{{{sale.sale_id}}}*")]) == [[]]

    async def test_a_window_lasts_from_its_first_purchase_and_not_from_its_last(
        self, wire: Wire, make_gate: MakeRatedGate
    ) -> None:
        """Else who goes on asking would never be let in again."""
        sale = await open_sale(await make_gate(per_user(50)))
        await sale.reserve(claim("p1"))
        [keys] = await wire.run([("KEYS", f"*{{{sale.sale_id}}}:window")])
        await wire.run([("PEXPIRE", keys[0], "5000")])
        await sale.reserve(claim("p2"))
        [left] = await wire.run([("PTTL", keys[0])])
        assert left <= 5_000

    async def test_without_limits_there_is_no_such_key(
        self, wire: Wire, make_gate: MakeRatedGate
    ) -> None:
        """Nothing is read or written for what is off."""
        sale = await open_sale(await make_gate(RateLimits()))
        await sale.reserve(came_from("192.0.2.77", "p1", "ann"))
        assert await wire.run([("KEYS", f"*{{{sale.sale_id}}}:window")]) == [[]]


def another_version() -> GateLibrary:
    """Make a later version of the library: the same functions under other names."""
    ours = gate_library()
    version = "0123456789ab"
    return GateLibrary(source=ours.source.replace(ours.version, version), version=version)


async def test_a_new_version_of_the_functions_takes_over_what_the_old_one_armed(
    wire: Wire, make_gate: MakeGate
) -> None:
    """Both sell side by side on the same books; a restart in between would have armed nobody."""
    old = await make_gate()
    assert isinstance(old, RedisStockGate)
    sale = await open_sale(old, units=2)
    unarmed = await open_sale(old)
    new = await make_gate()
    assert isinstance(new, RedisStockGate)
    new._library, new._may_install = another_version(), True
    try:
        wanted = [(sale.sale_id, sale.epoch), (unarmed.sale_id, type(sale.epoch)(2))]
        assert await new.adopt(wanted) == [True, False]
        await sale.reserve(claim("p1"))
        beside = OpenSale(new, sale.sale_id)
        await beside.reserve(claim("p2"))
        assert (await sale.books()) == (await beside.books())
        assert (await beside.books()).available == 0
        await new.disarm([(sale.sale_id, type(sale.epoch)(2))])
        for gate in (old, new):
            [reply] = await gate.reserve([sale.batch(claim("p3"))])
            assert isinstance(reply, Unavailable)
    finally:
        await wire.run([("FUNCTION", "DELETE", another_version().name)])


async def test_a_cut_off_primary_is_waited_for_as_long_as_it_may_go_on(
    wire: Wire, make_gate: MakeGate
) -> None:
    """It stops for want of replicas after `min-replicas-max-lag`, which the rebuild waits out."""
    gate = await make_gate()
    sale = await open_sale(gate)
    later = [(sale.sale_id, type(sale.epoch)(2))]
    assert await gate.disarm(later) == 0
    await wire.run([("CONFIG", "SET", "min-replicas-max-lag", "3")])
    await wire.run([("CONFIG", "SET", "min-replicas-to-write", "1")])
    try:
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            await gate.disarm(later)
    finally:
        await wire.run([("CONFIG", "SET", "min-replicas-to-write", "0")])


async def test_emptied_redis_refuses_to_sell_until_it_is_loaded(
    wire: Wire, make_gate: MakeGate
) -> None:
    """FLUSHALL leaves the function memory; the sale's own epoch is gone."""
    gate = await make_gate()
    sale = await open_sale(gate)
    await sale.reserve(claim("p1"))
    await wire.run([("FLUSHALL",)])
    [reply] = await gate.reserve([sale.batch(claim("p2"))])
    assert isinstance(reply, Unavailable)
    assert reply.why is Why.NOT_ARMED
    assert await gate.begin_load(sale.sale_id, sale.epoch, SaleTerms(units=1), SaleState.OPEN)


async def test_an_emptied_redis_in_the_middle_of_a_load_is_not_armed(
    wire: Wire, make_gate: MakeGate
) -> None:
    """Half the books must never sell: the token alone is not enough."""
    gate = await make_gate()
    sale = await open_sale(gate)
    token = await gate.begin_load(
        sale.sale_id, type(sale.epoch)(2), SaleTerms(units=1), SaleState.OPEN
    )
    assert token is not None
    await wire.run([("FLUSHALL",)])
    with pytest.raises(Unavailable):
        await gate.load(sale.sale_id, token, [])


async def test_without_the_library_nothing_is_armed_and_the_fix_is_named(
    wire: Wire, make_gate: MakeGate
) -> None:
    """«Function not found» is not an outage: it says what to type."""
    gate = await make_gate()
    sale = await open_sale(gate)
    await wire.run([("FUNCTION", "DELETE", gate_library().name)])
    try:
        [reply] = await gate.reserve([sale.batch(claim("p1"))])
        assert isinstance(reply, Unavailable)
        assert reply.why is Why.NOT_ARMED
        with pytest.raises(Unavailable, match="flashsale gate install"):
            await RedisStockGate(wire).check()
    finally:
        assert await RedisStockGate(wire).install()
    assert not await RedisStockGate(wire).install()
    await RedisStockGate(wire).check()


async def test_books_that_do_not_add_up_halt_the_sale(wire: Wire, make_gate: MakeGate) -> None:
    """Conservation is asserted after every mutation; nothing is written when it fails."""
    gate = await make_gate()
    sale = await open_sale(gate)
    await sale.reserve(claim("p1"))
    [keys] = await wire.run([("KEYS", f"*{{{sale.sale_id}}}:sale")])
    await wire.run([("HINCRBY", keys[0], "available", "5")])
    [reply] = await gate.reserve([sale.batch(claim("p2"))])
    assert isinstance(reply, Unavailable)
    assert reply.why is Why.HALTED
    [state] = await wire.run([("HGET", keys[0], "state")])
    assert state == b"HALTED"


async def test_a_batch_over_the_limit_is_taken_in_pieces(make_gate: MakeGate) -> None:
    """Lua's stack has an end; the caller need not know."""
    gate = await make_gate()
    sale = await open_sale(gate, units=5_000)
    answers = await sale.reserve(*(claim(f"p{n}", user=f"u{n}") for n in range(4_500)))
    assert len(answers) == 4_500
    assert (await sale.books()).available == 500


async def test_a_delivery_larger_than_any_call_is_followed(make_gate: MakeGate) -> None:
    """A worker that lagged behind a rush takes thousands of purchases at once."""
    sale = await open_sale(await make_gate(), units=9_000)
    await sale.reserve(*(claim(f"p{n}", user=f"u{n}") for n in range(9_000)))
    assert await sale.follow(sold=[f"p{n}" for n in range(9_000)]) == 0
    assert (await sale.books()).sold == 9_000


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0"])
async def test_an_unreachable_gate_took_nothing(url: str) -> None:
    """Nothing was sent: the buyer may be told so."""
    wire = Wire(url)
    with pytest.raises(Unavailable) as away:
        await OpenSale(RedisStockGate(wire), SaleId("1.1")).reserve(claim("p1"))
    assert away.value.why is Why.GATE_AWAY
    assert not away.value.may_have_happened
    await wire.aclose()


async def test_a_frozen_gate_is_given_up_within_its_share_and_may_have_taken_the_unit(
    redis_server: Redis,
) -> None:
    """A lost reply is an unknown outcome; the next caller is not answered by it."""
    wire = Wire(redis_server.url)
    with pytest.raises(Unavailable) as away:
        await wire.run([("EVAL", BUSY_LUA, 0, 600)])
    assert away.value.may_have_happened
    assert await wire.run([("ECHO", "mine")], deadline_s=5.0) == [b"mine"]
    await wire.aclose()


async def test_where_a_buyer_waits_a_silence_is_given_up_before_the_whole_share(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd must hear in time too; what a worker asks for may take longer, and keeps it all."""
    monkeypatch.setattr("flashsale_redis.wire.SILENCE_SHARE", 0.001)
    wire = Wire(redis_server.url, deadline_s=60.0)
    await wire.run([("PING",)])
    with pytest.raises(Unavailable, match="no answer in time") as away:
        await wire.run([("EVAL", BUSY_LUA, 0, 600)], is_waited_for=True)
    assert away.value.may_have_happened
    await wire.run([("EVAL", BUSY_LUA, 0, 200)])
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        nobody = Wire(f"redis://127.0.0.1:{silent.getsockname()[1]}", deadline_s=60.0)
        with pytest.raises(Unavailable, match="no answer in time") as away:
            async with asyncio.timeout(30):
                await nobody.run([("PING",)], is_waited_for=True)
        assert not away.value.may_have_happened
        await nobody.aclose()
    await wire.aclose()


async def test_what_a_buyer_asks_of_the_gate_is_waited_for(redis_server: Redis) -> None:
    """And what a worker asks is not."""
    wire = Wire(redis_server.url, deadline_s=60.0)
    asked: list[bool] = []
    run = wire.run

    async def seen(*args: Any, is_waited_for: bool = False, **more: Any) -> list[Any]:
        asked.append(is_waited_for)
        return await run(*args, is_waited_for=is_waited_for, **more)

    wire.run = seen  # type: ignore[method-assign]
    gate = RedisStockGate(wire)
    for door in (Door.HTTP, Door.ACCEPTED, Door.OUTSIDE):
        batch = ClaimBatch(sale_id=SaleId("1.1"), epoch=Epoch(1), door=door, claims=(claim("p"),))
        with suppress(Unavailable):
            await gate.reserve([batch])
    assert asked == [True, False, False]
    await wire.aclose()


@pytest.mark.timeout(300)
def test_memory_and_redis_answer_alike(redis_server: Redis) -> None:
    """The differential run: the same random commands, the same answers and the same books."""
    with asyncio.Runner() as runner:
        wire = Wire(redis_server.url, deadline_s=5.0)
        redis_gate = RedisStockGate(wire, namespace=f"t{uuid.uuid4().hex[:12]}")
        runner.run(redis_gate.install())
        machine = gate_machine(lambda: [MemoryStockGate(SystemClock()), redis_gate], runner.run)
        run_state_machine_as_test(
            machine, settings=settings(max_examples=120, stateful_step_count=50, deadline=None)
        )
        assert machine.steps >= STEPS_MIN
        runner.run(wire.aclose())


async def test_a_version_adopts_no_life_that_was_ended_meanwhile(
    wire: Wire, make_gate: MakeGate
) -> None:
    """The old version's memory may not have heard of the end; the key has."""
    old, new = await make_gate(), await make_gate()
    assert isinstance(new, RedisStockGate)
    sale = await open_sale(old)
    new._library, new._may_install = another_version(), True
    try:
        await new.install()
        await new.disarm([(sale.sale_id, type(sale.epoch)(2))])
        assert await new.adopt([(sale.sale_id, sale.epoch)]) == [False]
        [armed] = await wire.run([new._call("armed_epoch", sale.sale_id)])
        assert armed == 0
    finally:
        await wire.run([("FUNCTION", "DELETE", another_version().name)])


async def test_what_was_armed_before_a_restart_is_not_adopted_after_it() -> None:
    """Between the question and the adoption the server may lose the tail of its log."""
    with running_redis(ours=True) as server:
        wire = Wire(server.url, deadline_s=5.0)
        old = RedisStockGate(wire)
        await old.install()
        sale = await open_sale(old)
        new = RedisStockGate(wire, may_install=True)
        new._library = another_version()
        ask = new._call

        def with_a_restart(function: str, *args: Any, **how: Any) -> Any:
            if function == "adopt":
                server.kill()
                server.start()
                # Whoever else asks meanwhile has connected again.
                wire._pool._available_connections.clear()
            return ask(function, *args, **how)

        new._call = with_a_restart  # type: ignore[method-assign,assignment]
        with suppress(Unavailable):
            await new.adopt([(sale.sale_id, sale.epoch)])
        [armed] = await wire.run([ask("armed_epoch", sale.sale_id)])
        assert armed == 0
        await wire.aclose()


async def test_a_redis_that_restarted_with_all_its_keys_sells_nothing() -> None:
    """It may have lost the end of its log: what it armed is not in what it saved."""
    with running_redis(ours=True) as server:
        wire = Wire(server.url, deadline_s=5.0)
        gate = RedisStockGate(wire)
        await gate.install()
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        await wire.aclose()
        server.kill()
        server.start()
        wire = Wire(server.url, deadline_s=5.0)
        assert await wire.run([("EXISTS", f"fs:{{{sale.sale_id}}}:sale")]) == [1]
        [reply] = await RedisStockGate(wire).reserve([sale.batch(claim("p2"))])
        assert isinstance(reply, Unavailable)
        assert reply.why is Why.NOT_ARMED
        await wire.aclose()


async def test_a_demoted_primary_that_learned_of_the_next_life_sells_nothing(
    wire: Wire, make_gate: MakeGate
) -> None:
    """Its function memory outlives the demotion; the key that it now replicates does not agree."""
    gate = await make_gate()
    sale = await open_sale(gate)
    [keys] = await wire.run([("KEYS", f"*{{{sale.sale_id}}}:sale")])
    await wire.run([("HSET", keys[0], "epoch", sale.epoch + 1)])
    [reply] = await gate.reserve([sale.batch(claim("p1"))])
    assert isinstance(reply, Unavailable)
    assert reply.why is Why.NOT_ARMED


def test_memory_and_redis_limit_alike(redis_server: Redis) -> None:
    """The same, where nobody may ask for more than three new purchases."""
    limits = RateLimits(per_user=3, window_ms=3_600_000)
    with asyncio.Runner() as runner:
        wire = Wire(redis_server.url, deadline_s=5.0)
        redis_gate = RedisStockGate(wire, namespace=f"t{uuid.uuid4().hex[:12]}", rates=limits)
        runner.run(redis_gate.install())
        machine = gate_machine(
            lambda: [MemoryStockGate(SystemClock(), rates=limits), redis_gate],
            runner.run,
            per_user=3,
        )
        run_state_machine_as_test(
            machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
        )
        runner.run(wire.aclose())


async def test_a_connection_that_the_server_has_closed_is_not_sent_on(
    wire: Wire, redis_server: Redis, make_gate: MakeGate
) -> None:
    """A purchase sent there would have an unknown outcome, though nothing was ever read of it."""
    sale = await open_sale(await make_gate(), units=10)
    [number] = await wire.run([("CLIENT", "ID")])
    other = Wire(redis_server.url)
    assert await other.run([("CLIENT", "KILL", "ID", number)]) == [1]
    # The server has closed before it answers anybody else; the loop hears of both in turn.
    await other.run([("PING",)])
    await asyncio.sleep(0)
    [answer] = await sale.reserve(claim("p1"))
    assert isinstance(answer, Reserved)
    await other.aclose()
