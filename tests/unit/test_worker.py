"""A worker brings every delivery to its end, or gives it back; it never drops one."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

import attrs
import pytest
from structlog.testing import capture_logs

from flashsale.board_keeping import BoardKeeper
from flashsale.relaying import SIDE_BY_SIDE, Relay
from flashsale.supervision import FAILURES_MAX, Backoff
from flashsale.worker import Consumer, Feeding, Sweeping
from flashsale_core.board import SaleBoard
from flashsale_core.errors import StaleEpoch, Unavailable, Why
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.handling import Handling
from flashsale_core.model import Epoch, Order, PurchaseId, Sale, SaleId
from flashsale_core.outcomes import Accepted
from flashsale_core.parking import Parking
from flashsale_core.ports import Decision, Outbox, Standing, Subscription
from tests.unit.world import World, request


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep log lines in memory: unconfigured, each traceback is drawn for a second."""
    with capture_logs():
        yield


class TroubledOrders:
    """Orders of a world, behind troubles that the test turns on."""

    def __init__(self, world: World) -> None:
        """Begin without trouble."""
        self._orders = world.database.orders
        self.troubles: list[Exception] = []
        self.tries = 0
        self.entered = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def record(
        self, decisions: Sequence[Decision], *fences: Mapping[SaleId, Epoch]
    ) -> list[Standing]:
        """Record, unless there is trouble."""
        self.tries += 1
        self.entered.set()
        await self.may_go_on.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        return await self._orders.record(decisions, *fences)

    async def find(
        self, purchase_id: PurchaseId, sale_ids: Sequence[SaleId] | None = None
    ) -> list[Order]:
        """Find as ever."""
        return await self._orders.find(purchase_id, sale_ids)

    async def standing(
        self, purchases: Sequence[tuple[SaleId, PurchaseId]]
    ) -> list[Standing | None]:
        """Answer as ever."""
        return await self._orders.standing(purchases)


class Works:
    """A world with a consumer of ACCEPTED whose database has troubles."""

    def __init__(self) -> None:
        """Put it together."""
        self.world = World()
        world = self.world
        self.orders = TroubledOrders(world)
        self.stopping = asyncio.Event()
        self.subscriptions: dict[Channel, Subscription] = {}
        fulfilment = Fulfilment(
            board=world.board,
            gate=world.gate,
            orders=self.orders,
            codec=world.codec,
            observer=world.witness,
        )
        parking = Parking(
            fulfilment=fulfilment,
            parked=world.database.parked,
            rebuilds=world.database.rebuilds,
            bus=world.bus,
            observer=world.witness,
            handling=Handling(world.database.notes, "this life", alone=asyncio.Lock()),
        )
        self.consumer = Consumer(
            Channel.ACCEPTED,
            bus=world.bus,
            parking=parking,
            board=world.board,
            observer=world.witness,
            clock=world.clock,
            stopping=self.stopping,
            backoff=lambda: Backoff(initial_ms=1, max_ms=1),
            batch=10,
            deliveries=2,
            subscriptions=self.subscriptions,
        )

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator["asyncio.Task[float]"]:
        """Consume meanwhile, and stop as SIGTERM does."""
        life = asyncio.create_task(self.consumer.step())
        try:
            yield life
        finally:
            self.stopping.set()
            self.orders.may_go_on.set()
            await asyncio.wait_for(asyncio.gather(life, return_exceptions=True), 5)

    async def lag(self) -> int:
        """Count what is not acknowledged."""
        async with self.world.bus.subscribe(Channel.ACCEPTED, messages_max=1) as looker:
            return await looker.lag() or 0


@pytest.fixture
async def works() -> Works:
    """Open a sale of ten units."""
    works = Works()
    await works.world.sell()
    return works


async def _promise(works: Works, count: int = 1) -> None:
    """Accept purchases p0, p1, … and leave each on the bus, on partitions in turn."""
    for number in range(count):
        await works.world.desk.buy(request(f"p{number}", user=f"u{number}"))


async def _settled(works: Works) -> None:
    async with asyncio.timeout(5):
        while await works.lag():  # noqa: ASYNC110 - the bus tells nobody that it is empty
            await asyncio.sleep(0.001)


async def test_a_delivery_becomes_orders_and_is_acknowledged(works: Works) -> None:
    """The gate follows, and nothing is left on the bus."""
    await _promise(works, 3)
    async with works.consuming():
        await _settled(works)
    assert [(await works.world.order(f"p{n}")) is not None for n in range(3)] == [True] * 3
    assert (await works.world.books()).sold == 3
    assert not works.subscriptions


async def test_what_is_open_can_be_asked_how_much_waits(works: Works) -> None:
    """The sampler reads the lag from there."""
    async with works.consuming():
        await _promise(works)
        await _settled(works)
        assert await works.subscriptions[Channel.ACCEPTED].lag() == 0


async def test_while_the_database_is_away_the_same_delivery_is_tried_again(works: Works) -> None:
    """No attempt is counted, nothing is parked, and no purchase is lost."""
    works.orders.troubles = [Unavailable(Why.DATABASE_AWAY)] * (5 * FAILURES_MAX)
    await _promise(works)
    async with works.consuming():
        await _settled(works)
    assert works.orders.tries == 5 * FAILURES_MAX + 1
    assert await works.world.order("p0") is not None
    assert not works.world.witness.set_aside
    assert (await works.world.database.parked.counts()).get(ParkedStatus.DEAD, 0) == 0


async def test_a_new_life_of_the_gate_is_looked_at_and_the_batch_begun_again(works: Works) -> None:
    """The list of sales is read before the second try."""
    works.orders.troubles = [StaleEpoch("1.1"), StaleEpoch("1.1")]
    reads = 0
    refresh = works.world.board.refresh

    async def counted() -> None:
        nonlocal reads
        reads += 1
        await refresh()

    works.world.board.refresh = counted  # type: ignore[method-assign]
    await _promise(works)
    async with works.consuming():
        await _settled(works)
    assert reads == 2
    assert await works.world.order("p0") is not None


async def test_an_outage_writes_a_line_that_says_why_and_counts_the_rest(works: Works) -> None:
    """A person at night reads one line and its cause, not a thousand; and then that it is over."""
    works.orders.troubles = [Unavailable(Why.DATABASE_AWAY, "no answer in time")] * 30
    await _promise(works)
    with capture_logs() as lines:
        async with works.consuming():
            await _settled(works)
    told = [line for line in lines if line["event"].startswith("deliver")]
    assert [line["event"] for line in told] == ["delivery waits", "deliveries go on"]
    assert told[0]["error"] == "database-away: no answer in time"
    assert told[0]["channel"] == Channel.ACCEPTED.value
    assert told[1]["held_back"] == 29


async def test_a_life_of_the_gate_that_does_not_come_is_told_too(works: Works) -> None:
    """A batch that begins again for ever would else be silent; a change or two are nothing new."""
    works.orders.troubles = [StaleEpoch("1.1 is no longer in epoch 1")] * 3
    await _promise(works)
    with capture_logs() as lines:
        async with works.consuming():
            await _settled(works)
        assert not [line for line in lines if line["event"] == "delivery waits"]
        works.stopping.clear()
        works.orders.troubles = [StaleEpoch("1.1 is no longer in epoch 1")] * 30
        await works.world.desk.buy(request("p9", user="u9"))
        async with works.consuming():
            await _settled(works)
    [line] = [line for line in lines if line["event"] == "delivery waits"]
    assert line["error"] == "1.1 is no longer in epoch 1"


async def test_one_partition_that_waits_does_not_hold_up_its_neighbour(works: Works) -> None:
    """Deliveries of different partitions are handled side by side."""
    await _promise(works, 2)
    works.orders.may_go_on.clear()
    async with works.consuming():
        async with asyncio.timeout(5):
            while works.orders.tries < 2:  # noqa: ASYNC110 - both must be inside at once
                await asyncio.sleep(0.001)
        works.orders.may_go_on.set()
        await _settled(works)


async def test_the_stop_lets_what_is_in_hand_finish(works: Works) -> None:
    """SIGTERM in the middle of a transaction loses nothing and repeats nothing."""
    await _promise(works)
    works.orders.may_go_on.clear()
    async with works.consuming() as life:
        await asyncio.wait_for(works.orders.entered.wait(), 5)
        works.stopping.set()
        # Long enough for the consumer to notice.
        finished, _ = await asyncio.wait([life], timeout=0.1)
        assert not finished
        works.orders.may_go_on.set()
        await asyncio.wait_for(life, 5)
    assert await works.world.order("p0") is not None
    assert await works.lag() == 0


async def test_the_stop_gives_back_what_only_waits(works: Works) -> None:
    """With the database away a worker still stops at once, and another takes the delivery."""
    works.orders.troubles = [Unavailable(Why.DATABASE_AWAY)] * 1_000_000
    await _promise(works)
    async with works.consuming() as life:
        await asyncio.wait_for(works.orders.entered.wait(), 5)
        works.stopping.set()
        await asyncio.wait_for(life, 5)
    assert await works.lag() == 1
    async with works.world.worker():
        await _settled(works)
    assert await works.world.order("p0") is not None


async def test_a_cancelled_worker_gives_back_what_it_holds(works: Works) -> None:
    """Past the drain time it is cut off; the messages are still there."""
    await _promise(works)
    works.orders.may_go_on.clear()
    async with works.consuming() as life:
        await asyncio.wait_for(works.orders.entered.wait(), 5)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
    assert await works.lag() == 1


async def test_a_delivery_beyond_mending_ends_the_consumer_and_stays_on_the_bus(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor hears of it; nothing is acknowledged that is not durable."""

    async def broken(_: object) -> list[bool]:
        raise ZeroDivisionError

    works.orders.troubles = [ZeroDivisionError()] * 1_000
    monkeypatch.setattr(works.world.database.parked, "park", broken)
    await _promise(works)
    async with works.consuming() as life:
        with pytest.raises(ExceptionGroup):
            await asyncio.wait_for(life, 5)
    assert works.orders.tries == FAILURES_MAX
    assert await works.lag() == 1


async def test_a_bus_that_cannot_be_taken_from_is_asked_again(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subscription stays: the adapter connects again by itself."""
    troubles = [Unavailable(Why.BUS_AWAY)] * 3
    subscribe = works.world.bus.subscribe

    @asynccontextmanager
    async def troubled(channel: Channel, *, messages_max: int) -> AsyncIterator[Subscription]:
        async with subscribe(channel, messages_max=messages_max) as subscription:
            take = subscription.take

            async def take_or_raise() -> object:
                if troubles:
                    raise troubles.pop()
                return await take()

            monkeypatch.setattr(subscription, "take", take_or_raise)
            yield subscription

    await _promise(works)
    monkeypatch.setattr(works.world.bus, "subscribe", troubled)
    with capture_logs() as lines:
        async with works.consuming():
            await asyncio.wait_for(works.orders.entered.wait(), 5)
    assert not troubles
    told = [line["event"] for line in lines if "taken" in line["event"]]
    assert told == ["nothing can be taken", "deliveries are taken again"]


async def test_the_relay_goes_on_at_once_while_batches_are_full(works: Works) -> None:
    """And rests when there is nothing left to tell."""
    async with works.world.worker():
        for number in range(3):
            answer = await works.world.desk.buy(request(f"p{number}"))
            assert isinstance(answer, Accepted)
    relay = a_relay(works, batch=2)
    assert [await relay.step() for _ in range(2)] == [0.0, 0.7]
    told = works.world.bus.log(Channel.ORDERS)
    assert len(told) == 3


async def test_a_relay_that_is_behind_tells_several_batches_side_by_side(works: Works) -> None:
    """One is claimed while others wait for the broker; a trouble of any ends the step."""
    at_once, most = 0, 0
    left = [2] * (1 + SIDE_BY_SIDE)
    all_are_here = asyncio.Barrier(SIDE_BY_SIDE)

    class Counted:
        async def relay(self, _publish: object, _limit: int) -> int:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            if len(left) <= SIDE_BY_SIDE:
                await asyncio.wait_for(all_are_here.wait(), 5)
            at_once -= 1
            if not left:
                raise Unavailable(Why.BUS_AWAY, "gone")
            return left.pop(0)

    relay = attrs.evolve(a_relay(works, batch=2), outbox=cast("Outbox", Counted()))
    assert [await relay.step() for _ in range(2)] == [0.0, 0.0]
    assert most == SIDE_BY_SIDE
    left.clear()
    with pytest.raises(Unavailable):
        await relay.step()
    assert at_once == 0


def a_relay(works: Works, *, batch: int) -> Relay:
    """Make one of the works' parts."""
    return Relay(
        outbox=works.world.database.outbox,
        bus=works.world.bus,
        observer=works.world.witness,
        clock=works.world.clock,
        batch=batch,
        interval_ms=700,
    )


async def test_the_sweeper_publishes_a_lost_purchase_again_and_aligns_the_gates(
    works: Works,
) -> None:
    """A publish that never arrived is an order after its due time."""
    world = works.world
    monkeypatch = pytest.MonkeyPatch()

    async def lost(facts: Sequence[object]) -> None:
        raise Unavailable(Why.BUS_AWAY, may_have_happened=True)

    with monkeypatch.context() as patch:
        patch.setattr(world.bus, "publish", lost)
        await world.desk.buy(request("p0"))
    assert (await world.books()).reserved == 1
    world.clock.ms += 10_000
    sweeping = Sweeping(sweeper=world.sweeper, interval_ms=900)
    async with world.worker():
        assert await sweeping.step() == 0.9
    assert await world.order("p0") is not None


async def test_parked_messages_are_fed_back(works: Works) -> None:
    """A request whose sale was paused is taken up when it sells again."""
    world = works.world
    await world.selling.pause(SaleId("1.1"))
    await world.parking.deliver([world.message(request("p0"))])
    assert await world.order("p0") is None
    await world.selling.resume(SaleId("1.1"))
    world.clock.ms += 60_000
    feeding = Feeding(parking=world.parking, interval_ms=800)
    assert await feeding.step() == 0.8
    assert await world.order("p0") is not None


@attrs.define
class CountedCatalogue:
    """A catalogue that counts how often its list is read, and may be away."""

    world: World
    reads: int = 0
    is_away: bool = False

    async def current(self) -> list[Sale]:
        """Count, then read."""
        self.reads += 1
        if self.is_away:
            raise Unavailable(Why.DATABASE_AWAY)
        return await self.world.database.catalogue.current()


async def test_a_doubt_is_looked_into_at_once() -> None:
    """A gate that does not know the epoch wakes the keeper, which else waits a second."""
    world, doubt = World(), asyncio.Event()
    counted = CountedCatalogue(world)
    keeper = BoardKeeper(SaleBoard(counted), doubt, asyncio.Event())  # type: ignore[arg-type]
    doubt_while_waiting = asyncio.get_running_loop().call_later(0.15, doubt.set)
    began = asyncio.get_running_loop().time()
    assert await keeper.step() == 0.0
    took_s = asyncio.get_running_loop().time() - began
    doubt_while_waiting.cancel()
    assert 0.1 <= took_s < 0.9
    assert counted.reads == 1


@pytest.mark.parametrize("stops_s", [0.0, 0.05, 0.15])
async def test_a_stop_waits_for_no_look_at_the_sales(stops_s: float) -> None:
    """Every process would else live up to a second longer than its work."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(stops_s, stopping.set)
    board = SaleBoard(CountedCatalogue(World()))  # type: ignore[arg-type]
    began = asyncio.get_running_loop().time()
    assert await BoardKeeper(board, asyncio.Event(), stopping).step() == 0.0
    assert asyncio.get_running_loop().time() - began < 0.9


async def test_the_list_is_kept_and_asked_for_each_second_while_the_database_is_away() -> None:
    """A rebuild counts on it that no process asks more rarely."""
    world, doubt = World(), asyncio.Event()
    await world.sell()
    counted = CountedCatalogue(world)
    board = SaleBoard(counted)  # type: ignore[arg-type]
    await board.refresh()
    counted.is_away = True
    doubt.set()
    began = asyncio.get_running_loop().time()
    assert await BoardKeeper(board, doubt, asyncio.Event()).step() == 0.0
    assert asyncio.get_running_loop().time() - began < 1.5
    assert len(list(board)) == 1
