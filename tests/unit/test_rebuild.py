"""Lost gates come to life while the engine goes on, and no promise is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest

from flashsale_core.board import REFRESH_MS
from flashsale_core.errors import Conflict, Unavailable, Why
from flashsale_core.events import ParkedMessage, ParkedStatus, PurchaseAccepted, PurchasesAccepted
from flashsale_core.model import (
    Epoch,
    ItemId,
    PurchaseId,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.outcomes import Accepted, OutcomeUnknown, SoldOut
from flashsale_core.ports import Alarm
from flashsale_core.purchase import PROMISE_MS
from flashsale_core.rebuild import Rebuild
from tests.unit.world import World, request

ONE = SaleId("1.1")


def sale_of(world: World) -> Sale:
    """Look the only sale up."""
    sale = world.board.seen(ItemId("1"))
    assert sale is not None
    return sale


async def lose(world: World) -> None:
    """Empty the gate, as FLUSHALL does, and its memory with it."""
    await world.gate.drop(ONE)


def fact(epoch: int, *purchases: str) -> PurchasesAccepted:
    """Write a message of the ACCEPTED channel."""
    return PurchasesAccepted(
        sale_id=ONE,
        epoch=Epoch(epoch),
        purchases=tuple(
            PurchaseAccepted(
                purchase_id=PurchaseId(purchase),
                user_id=UserId("ann"),
                quantity=1,
                accepted_at_ms=1,
                requested_at_ms=1,
                source=Source.API,
            )
            for purchase in purchases
        ),
    )


async def test_a_lost_gate_lives_again_with_the_books_of_the_database() -> None:
    """What was sold stays sold, what was not is sold, and nobody's unit is taken twice."""
    world = World()
    await world.sell(units=3)
    async with world.worker():
        for purchase in ("p1", "p2"):
            assert isinstance(await world.desk.buy(request(purchase)), Accepted)
        await lose(world)
        with pytest.raises(Unavailable):
            await world.desk.buy(request("p3"))
        [alive] = await world.rebuild.heal()
        assert (alive.epoch, alive.armed_epoch) == (2, 2)
        assert isinstance(await world.desk.buy(request("p1")), Accepted)
        assert isinstance(await world.desk.buy(request("p3")), Accepted)
        assert isinstance(await world.desk.buy(request("p4")), SoldOut)
        await asyncio.sleep(0)
    books = await world.books()
    assert (books.available, books.sold) == (0, 3)


async def test_nothing_is_done_while_every_gate_is_alive() -> None:
    """A look is cheap, and raises nothing."""
    world = World()
    await world.sell()
    assert await world.rebuild.heal() == []
    assert sale_of(world).epoch == 1


async def test_what_waits_on_the_bus_is_in_the_new_books() -> None:
    """A promise that no worker has taken yet is drained before the books are read."""
    world = World()
    await world.sell(units=1)
    # No worker runs: the publish is not confirmed, and the message stays.
    with pytest.raises(Unavailable):
        await world.bus.publish([fact(1, "p1")])
    await lose(world)
    healing = asyncio.create_task(world.rebuild.heal())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not healing.done()
    assert sale_of(world).armed_epoch == 1
    async with world.worker():
        await healing
        order = await world.order("p1")
        assert order is not None
        assert isinstance(await world.desk.buy(request("p2")), SoldOut)


async def test_a_gate_that_is_lost_during_a_drain_does_not_hold_it_up_for_ever() -> None:
    """What it promised stands before the barriers, and nobody takes it until its own next life."""
    world = World()
    await world.sell(units=1)
    await world.sell(item="2", units=1)
    for sale_id, purchase in ((ONE, "p1"), (SaleId("2.1"), "p2")):
        # No worker runs: the publishes are not confirmed, and the messages stay.
        with pytest.raises(Unavailable):
            await world.bus.publish([attrs.evolve(fact(1, purchase), sale_id=sale_id)])
    await lose(world)
    healing = asyncio.create_task(world.rebuild.heal())
    for _ in range(20):
        await asyncio.sleep(0)
    await world.gate.drop(SaleId("2.1"))
    async with world.worker(), asyncio.timeout(5):
        alive = await healing
    assert {sale.sale_id for sale in alive} == {"1.1", "2.1"}
    assert [await world.order(one) is not None for one in ("p1", "p2")] == [True, True]


async def test_purchases_of_unknown_outcome_that_survived_go_through() -> None:
    """Their buyers were told that it may: the lost gate's journal still names them."""
    world = World()
    await world.sell()
    publish = world.bus.publish

    async def lost(_: Sequence[object]) -> None:
        raise Unavailable(Why.BUS_AWAY, may_have_happened=True)

    # Nothing of it is on the bus: only the journal names it.
    world.bus.publish = lost  # type: ignore[method-assign,assignment]
    assert isinstance(await world.desk.buy(request("p1")), OutcomeUnknown)
    world.bus.publish = publish  # type: ignore[method-assign]
    world.gate._armed.clear()
    async with world.worker():
        await world.rebuild.heal()
        assert await world.order("p1") is not None
    assert (await world.books()).sold == 1


async def test_nobody_may_promise_under_the_old_life_when_the_books_are_read() -> None:
    """The wait covers every process's list of sales and every promise under way."""
    world = World()
    await world.sell()
    await lose(world)
    began_ms = world.clock.ms
    async with world.worker():
        await world.rebuild.heal()
    assert world.clock.ms - began_ms >= REFRESH_MS + PROMISE_MS


async def test_requests_that_waited_go_through_the_new_gate() -> None:
    """The feeder takes them up again; nothing is said twice."""
    world = World()
    await world.sell(units=1)
    await lose(world)
    await world.parking.deliver([world.message(request("p1")), world.message(request("p2"), 1)])
    assert {one.status for one in world.witness.set_aside} == {ParkedStatus.WAITING}
    async with world.worker():
        await world.rebuild.heal()
    await world.parking.feed()
    rows = [await world.order(purchase) for purchase in ("p1", "p2")]
    assert sorted(str(row.status.value) for row in rows if row) == ["CONFIRMED", "REJECTED"]


async def test_all_lost_gates_live_again_together() -> None:
    """One wait and one barrier for all of them."""
    world = World()
    for item in ("1", "2"):
        await world.sell(item)
        await world.gate.drop(SaleId(f"{item}.1"))
    async with world.worker():
        alive = await world.rebuild.heal()
    assert [(sale.sale_id, sale.epoch) for sale in alive] == [("1.1", 2), ("2.1", 2)]
    assert world.ids == 1


async def test_a_sale_that_was_never_armed_needs_no_drain() -> None:
    """An init that died halfway is ended by a worker; nobody can hold a promise."""
    world = World()
    await world.database.catalogue.create(ItemId("1"), SaleTerms(units=2))
    [alive] = await world.rebuild.heal()
    assert (alive.epoch, alive.armed_epoch) == (1, 1)
    assert world.ids == 0


async def test_an_init_that_died_after_it_read_the_books_is_rebuilt() -> None:
    """Its epoch counts as armed from there on, so it goes the whole way."""
    world = World()
    await world.database.catalogue.create(ItemId("1"), SaleTerms(units=2))
    await world.database.catalogue.books(ONE, Epoch(1))
    async with world.worker():
        [alive] = await world.rebuild.heal()
    assert alive.epoch == 2


async def test_a_halted_sale_is_paused_when_its_books_are_right_again() -> None:
    """They are right; a person who knows why they were not resumes it."""
    world = World()
    await world.sell()
    await world.database.catalogue.change_state(ONE, SaleState.HALTED, expected=(SaleState.OPEN,))
    await world.gate.set_state(ONE, Epoch(1), SaleState.HALTED)
    async with world.worker():
        [alive] = await world.rebuild.replace([ONE])
    assert alive.state is SaleState.PAUSED
    assert (await world.books()).state is SaleState.PAUSED


async def test_a_gate_is_replaced_only_for_a_sale_that_is_there() -> None:
    """A slip of an operator's finger touches nothing."""
    world = World()
    await world.sell()
    with pytest.raises(Conflict, match=r"no unsettled sale 9\.1"):
        await world.rebuild.replace([SaleId("9.1")])
    assert sale_of(world).epoch == 1


async def test_two_rebuilds_at_once_are_one() -> None:
    """The second is told that there is one, or finds nothing to do."""
    world = World()
    await world.sell()
    await lose(world)
    async with world.worker():
        healed = await asyncio.gather(*(world.rebuild.heal() for _ in range(3)))
    assert sorted(len(one) for one in healed) == [0, 0, 1]
    async with world.database.rebuilds.alone(), asyncio.timeout(1):
        with pytest.raises(Conflict, match="another rebuild"):
            await world.rebuild.replace([ONE])


async def test_a_drain_that_nobody_works_on_is_told_and_goes_on() -> None:
    """A person must look; the rebuild still ends as soon as a worker comes."""
    world = World()
    await world.sell()
    await lose(world)
    healing = asyncio.create_task(world.rebuild.heal())
    while Alarm.REBUILD_WAITS not in world.witness.alarms:
        await asyncio.sleep(0)
        assert not healing.done()
    async with world.worker():
        assert len(await healing) == 1


class Died(Exception):
    """Stands for kill -9: nothing after it runs."""


PORT_CALLS = (
    ("catalogue", "raise_epoch"),
    ("gate", "disarm"),
    ("gate", "survivors"),
    ("bus", "publish"),
    ("bus", "barrier"),
    ("rebuilds", "passed"),
    ("gate", "begin_load"),
    ("catalogue", "books"),
    ("gate", "load"),
    ("gate", "arm"),
)


class Mortal:
    """A port whose caller dies at one of its methods, before or after it took effect."""

    def __init__(self, port: object, method: str, *, after: bool) -> None:
        """Pass everything on, but die once at `method`."""
        self._port = port
        self._method = method
        self._after = after
        self.has_died = False

    def __getattr__(self, name: str) -> object:
        """Pass on."""
        found = getattr(self._port, name)
        return self._deadly(found) if name == self._method else found

    def _deadly(self, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def once(*args: object, **kwargs: object) -> object:
            if self.has_died:
                return await call(*args, **kwargs)
            self.has_died = True
            if self._after:
                await call(*args, **kwargs)
            raise Died

        return once


@asynccontextmanager
async def a_lost_sale() -> AsyncIterator[World]:
    """Have two units sold, one of unknown outcome in the lost gate's journal, and one left."""
    world = World()
    await world.sell(units=4)
    async with world.worker():
        for purchase in ("p1", "p2"):
            await world.desk.buy(request(purchase))
    await world.desk.buy(request("p3"))
    world.gate._armed.clear()
    yield world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("port", "method"), PORT_CALLS, ids=[m for _, m in PORT_CALLS])
async def test_a_rebuild_that_died_at_any_step_is_ended_by_the_next(
    port: str, method: str, *, after: bool
) -> None:
    """Whatever it had done, the next one begins another life and the books are the rows'."""
    async with a_lost_sale() as world:
        parts = {
            "catalogue": world.database.catalogue,
            "gate": world.gate,
            "bus": world.bus,
            "rebuilds": world.database.rebuilds,
        }
        mortal = Mortal(parts[port], method, after=after)
        parts[port] = mortal
        dying = Rebuild(
            board=world.board,
            observer=world.witness,
            clock=world.clock,
            wait=world.wait,
            new_id=world._new_id,
            **parts,  # type: ignore[arg-type]
        )
        async with world.worker():
            with pytest.raises(Died):
                await dying.heal()
            assert mortal.has_died
            await world.rebuild.heal()
            assert isinstance(await world.desk.buy(request("p4")), Accepted)
            assert isinstance(await world.desk.buy(request("p5")), SoldOut)
        books = await world.books()
        assert (books.available, books.sold, books.journal) == (0, 4, 0)
        sale = await world.database.catalogue.get(ONE)
        assert sale is not None
        assert (sale.available, sale.sold) == (0, 4)
        assert world.witness.alarms == []


async def test_one_sale_that_cannot_be_loaded_keeps_no_other_from_selling() -> None:
    """It is told; the others live."""
    world = World()
    await world.sell("1")
    await world.sell("2")
    nameless = ParkedMessage(
        message=world.message(fact(1, "p1")),
        status=ParkedStatus.DEAD,
        reason="x",
        sale_id=ONE,
        purchase_id=PurchaseId("p1"),
        holds_unit=True,
    )
    await world.database.parked.park([nameless])
    for sale_id in (ONE, SaleId("2.1")):
        await world.gate.drop(sale_id)
    async with world.worker():
        alive = await world.rebuild.heal()
    assert [sale.sale_id for sale in alive] == ["2.1"]
    assert world.witness.alarms == [Alarm.REBUILD_FAILED]


async def test_a_primary_that_may_go_on_for_a_while_is_waited_for() -> None:
    """Cut off from its replicas it sells until their lag stops it; the gate says how long."""
    world = World()
    await world.sell()
    await lose(world)
    disarm, lag_ms = world.gate.disarm, 7_000

    async def cut_off(sales: Sequence[tuple[SaleId, Epoch]]) -> int:
        await disarm(sales)
        return lag_ms

    world.gate.disarm = cut_off  # type: ignore[method-assign]
    began_ms = world.clock.ms
    async with world.worker():
        await world.rebuild.heal()
    assert world.clock.ms - began_ms >= REFRESH_MS + PROMISE_MS + lag_ms
