"""Batching changes what a call costs, and nothing of what it means."""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from flashsale_coalesce import CoalescingBus, CoalescingCatalogue, CoalescingGate
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import OrderEvent, PurchaseAccepted, PurchasesAccepted
from flashsale_core.model import (
    Door,
    Epoch,
    ItemId,
    PurchaseId,
    PurchaseState,
    Sale,
    SaleId,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.outcomes import Replayed, Reserved
from flashsale_core.ports import ClaimBatch, GateReply, StockGate
from flashsale_core.testing.stock_gate import MakeGate, StockGateContract, claim, open_sale
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate


class SlowGate(MemoryStockGate):
    """The memory gate, whose calls wait until the test lets them go; it counts them."""

    def __init__(self) -> None:
        """Let calls through until `hold` is called."""
        super().__init__(SystemClock())
        self.calls: list[Sequence[ClaimBatch]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.away: Unavailable | None = None

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """Count, wait, and answer as the memory gate does."""
        self.calls.append(batches)
        await self.free.wait()
        if self.away is not None:
            raise self.away
        return await super().reserve(batches)


class TestCoalescingGateKeepsTheContract(StockGateContract):
    """Every promise of a gate holds behind the batching too."""

    @pytest.fixture
    def make_gate(self) -> MakeGate:
        """Batch in front of one memory gate."""
        gate = MemoryStockGate(SystemClock())

        async def make(*, reserved_due_ms: int, queued_due_ms: int) -> StockGate:
            gate.reserved_due_ms = reserved_due_ms
            gate.queued_due_ms = queued_due_ms
            return CoalescingGate(gate)

        return make


async def test_callers_that_arrive_during_a_call_ride_together_in_the_next() -> None:
    """A hundred buyers cost two calls, whatever the gate's distance."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow), units=200)
    slow.free.clear()
    first = asyncio.create_task(sale.reserve(claim("first")))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(sale.reserve(claim(f"p{n}", user=f"u{n}"))) for n in range(99)]
    await asyncio.sleep(0)
    slow.free.set()
    answers = await asyncio.gather(first, *rest)
    assert all(isinstance(answer, Reserved) for [answer] in answers)
    assert len(slow.calls) <= 3
    assert sum(len(batch.claims) for call in slow.calls for batch in call) == 100


async def test_one_sales_answers_go_to_its_own_callers() -> None:
    """Several sales travel in one call; answers are not mixed up."""
    gate = CoalescingGate(SlowGate())
    red, blue = await open_sale(gate, units=1), await open_sale(gate, units=50)
    answers = await asyncio.gather(
        *(sale.reserve(claim(f"p{n}", user=f"u{n}")) for n in range(20) for sale in (red, blue))
    )
    won = [isinstance(answer, Reserved) for [answer] in answers]
    assert sum(won[0::2]) == 1
    assert sum(won[1::2]) == 20


async def test_who_left_before_the_call_was_sent_is_taken_out() -> None:
    """No unit is taken for a buyer who is gone; the others are not harmed."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow), units=10)
    slow.free.clear()
    first = asyncio.create_task(sale.reserve(claim("first")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone = asyncio.create_task(sale.reserve(claim("gone")))
    stays = asyncio.create_task(sale.reserve(claim("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    slow.free.set()
    await asyncio.gather(first, stays)
    assert await sale.state("gone") is None
    assert (await sale.books()).available == 8


async def test_who_leaves_while_the_call_is_under_way_harms_nobody_else() -> None:
    """The batch belongs to its owner, not to any caller."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow), units=10)
    slow.free.clear()
    tasks = [asyncio.create_task(sale.reserve(claim(f"p{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    slow.free.set()
    others = await asyncio.gather(*tasks[1:])
    assert all(isinstance(answer, Reserved) for [answer] in others)


async def test_a_failed_call_fails_every_rider_and_the_next_call_works() -> None:
    """Each hears an exception of its own, with what is known of its outcome."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow), units=10)
    slow.away = Unavailable(Why.GATE_AWAY, "reply lost", may_have_happened=True)
    failed = await asyncio.gather(
        *(sale.reserve(claim(f"p{n}")) for n in range(3)), return_exceptions=True
    )
    assert len({id(failure) for failure in failed}) == 3
    for failure in failed:
        assert isinstance(failure, Unavailable)
        assert failure.may_have_happened
    slow.away = None
    [answer] = await sale.reserve(claim("later"))
    assert isinstance(answer, Reserved)


async def test_a_full_queue_answers_at_once() -> None:
    """Nobody waits behind more callers than can be served."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow, waiting_max=2), units=10)
    slow.free.clear()
    first = asyncio.create_task(sale.reserve(claim("first")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(sale.reserve(claim(f"p{n}"))) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as full:
        async with asyncio.timeout(1):
            await sale.reserve(claim("too-many"))
    assert full.value.why is Why.OVERLOADED
    assert not full.value.may_have_happened
    slow.free.set()
    await asyncio.gather(first, *waiting)


async def test_marks_are_kept_until_a_call_that_carried_them_succeeded() -> None:
    """A lost call loses no mark."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow, marks_alone_after_s=3600), units=10)
    await sale.reserve(claim("p1"))
    await sale.gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")])
    slow.away = Unavailable(Why.GATE_AWAY)
    with pytest.raises(Unavailable):
        await sale.reserve(claim("p2"))
    slow.away = None
    assert await sale.state("p1") is PurchaseState.RESERVED
    await sale.reserve(claim("p3"))
    assert await sale.state("p1") is PurchaseState.QUEUED
    await sale.reserve(claim("p4"))
    assert slow.calls[-1][0].queued == ()


async def test_marks_travel_alone_without_traffic_and_at_the_end() -> None:
    """The journal must not hold what the broker confirmed long ago."""
    slow = SlowGate()
    gate = CoalescingGate(slow, marks_alone_after_s=0.001)
    sale = await open_sale(gate, units=10)
    await sale.reserve(claim("p1"), claim("p2"))
    await gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")])
    async with asyncio.timeout(5):
        while await sale.state("p1") is not PurchaseState.QUEUED:  # noqa: ASYNC110 - a timer's end
            await asyncio.sleep(0.001)
    await gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p2")])
    await gate.aclose()
    assert await sale.state("p2") is PurchaseState.QUEUED


async def test_marks_wait_for_their_own_sales_call_while_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call of the same sale carries them; a sale that has none is not waited for for ever."""
    monkeypatch.setattr("flashsale_coalesce.gate.MARKS_ALONE_AFTER_S_MAX", 0.4)
    slow = SlowGate()
    gate = CoalescingGate(slow, marks_alone_after_s=0.1)
    busy, quiet = await open_sale(gate, units=10_000), await open_sale(gate, units=100)
    for sale in (busy, quiet):
        await sale.reserve(claim("p1"))
        await gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")])
    began = asyncio.get_running_loop().time()
    number = 1
    async with asyncio.timeout(5):
        while await quiet.state("p1") is not PurchaseState.QUEUED:
            number += 1
            await busy.reserve(claim(f"p{number}", user=f"u{number}"))
            await gate.mark_queued(busy.sale_id, busy.epoch, [PurchaseId(f"p{number}")])
            await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() - began >= 0.4
    alone = [batch for call in slow.calls for batch in call if not batch.claims]
    assert {batch.sale_id for batch in alone} == {quiet.sale_id}
    await gate.aclose()


async def test_the_workers_door_is_not_held_up() -> None:
    """A worker brings its own batches."""
    slow = SlowGate()
    sale = await open_sale(CoalescingGate(slow), units=10)
    await sale.reserve(claim("p1"), door=Door.HTTP)
    [answer] = await sale.reserve(claim("p1"), door=Door.ACCEPTED)
    assert isinstance(answer, Replayed)
    assert answer.record.state is PurchaseState.QUEUED


class RecordingBus:
    """A bus that keeps what was published, and answers when the test lets it."""

    def __init__(self) -> None:
        """Answer at once until held."""
        self.published: list[PurchasesAccepted | OrderEvent] = []
        self.free = asyncio.Event()
        self.free.set()
        self.away: Unavailable | None = None

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Keep, wait, confirm."""
        self.published += facts
        await self.free.wait()
        if self.away is not None:
            raise self.away


def accepted(purchase: str, sale: str = "1.1", epoch: int = 1) -> PurchasesAccepted:
    """Make the promise of one purchase."""
    one = PurchaseAccepted(
        purchase_id=PurchaseId(purchase),
        user_id=UserId("ann"),
        quantity=1,
        accepted_at_ms=1,
        requested_at_ms=1,
        source=Source.API,
    )
    return PurchasesAccepted(sale_id=SaleId(sale), epoch=Epoch(epoch), purchases=(one,))


async def test_what_was_accepted_together_is_one_message_per_sale_and_epoch() -> None:
    """One publish and one confirm, however many buyers."""
    inner = RecordingBus()
    bus = CoalescingBus(inner)  # type: ignore[arg-type]
    await asyncio.gather(
        *(bus.publish([accepted(f"p{n}", sale=s)]) for n in range(10) for s in ("1.1", "2.1"))
    )
    assert sorted(fact.sale_id for fact in inner.published) == ["1.1", "2.1"]
    assert all(len(fact.purchases) == 10 for fact in inner.published)  # type: ignore[union-attr]


async def test_the_same_purchase_on_its_way_is_joined_and_not_repeated() -> None:
    """A buyer's retry during the publish waits for the same confirm."""
    inner = RecordingBus()
    inner.free.clear()
    bus = CoalescingBus(inner)  # type: ignore[arg-type]
    first = asyncio.create_task(bus.publish([accepted("p1")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(bus.publish([accepted("p1")]))
    await asyncio.sleep(0)
    first.cancel()
    inner.free.set()
    await second
    assert len(inner.published) == 1


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what the event loop complains of: failures that nobody heard, for one."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: told.append(about["message"]))
    try:
        yield told
    finally:
        gc.collect()
        loop.set_exception_handler(None)


async def turns(count: int = 3) -> None:
    """Let the others run."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("leaves", [0, 1, 2])
@pytest.mark.parametrize("is_under_way", [False, True])
async def test_who_leaves_takes_no_confirm_from_those_who_wait_for_the_same(
    leaves: int, is_under_way: bool
) -> None:
    """Three requests of one purchase: whichever is cancelled, before the publish or during it."""
    inner = RecordingBus()
    inner.free.clear()
    bus = CoalescingBus(inner)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(bus.publish([accepted("p1")])) for _ in range(3)]
    await asyncio.sleep(0)
    assert inner.published == []
    if is_under_way:
        await turns()
        assert len(inner.published) == 1
    tasks[leaves].cancel()
    await turns()
    inner.free.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results].count(True) == 1
    assert results.count(None) == 2
    assert len(inner.published) == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_who_leaves_harms_nobody_else_in_the_same_message(fails: bool) -> None:
    """Its purchase is published with the rest, and a failure that it does not hear is no noise."""
    inner = RecordingBus()
    inner.free.clear()
    inner.away = Unavailable(Why.BUS_AWAY, may_have_happened=True) if fails else None
    bus = CoalescingBus(inner)  # type: ignore[arg-type]
    with complaints() as told:
        tasks = [asyncio.create_task(bus.publish([accepted(f"p{n}")])) for n in range(3)]
        await turns()
        tasks[0].cancel()
        await turns()
        inner.free.set()
        gone, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(gone, asyncio.CancelledError)
        if fails:
            assert all(isinstance(other, Unavailable) for other in others)
            assert others[0] is not others[1]
        else:
            assert others == [None, None]
        del gone, others, tasks
    assert told == []
    [fact] = inner.published
    assert len(fact.purchases) == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [["1.1"], ["2.1"], ["1.1", "3.1"], ["1.1", "2.1", "3.1"]])
@pytest.mark.parametrize("leaves", [False, True])
async def test_one_caller_with_several_promises_hears_of_a_failure_once(
    wrong: list[str], leaves: bool
) -> None:
    """Nothing hangs, nothing is left unheard, and the same may be asked again."""
    failing = set(wrong)

    class PartlyAway(RecordingBus):
        async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
            await super().publish(facts)
            if any(fact.sale_id in failing for fact in facts):
                raise Unavailable(Why.BUS_AWAY, was_refused=True)

    inner = PartlyAway()
    inner.free.clear()
    bus = CoalescingBus(inner)  # type: ignore[arg-type]
    facts = [accepted(f"p{n}", sale=sale) for sale in ("1.1", "2.1", "3.1") for n in range(2)]
    with complaints() as told:
        task = asyncio.create_task(bus.publish(facts))
        joined = asyncio.create_task(bus.publish([accepted("p1", sale="2.1")]))
        await turns()
        if leaves:
            task.cancel()
            await turns()
        inner.free.set()
        async with asyncio.timeout(5):
            result, other = await asyncio.gather(task, joined, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError if leaves else Unavailable)
        # Its message was published with theirs.
        assert isinstance(other, Unavailable)
        await bus.aclose()
        failing.clear()
        await bus.publish(facts)
        del result, other, task, joined
    assert told == []


async def test_a_full_bus_answers_at_once() -> None:
    """More promises than the broker can confirm in time wait for nothing."""
    inner = RecordingBus()
    inner.free.clear()
    bus = CoalescingBus(inner, waiting_max=2)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(bus.publish([accepted(f"p{n}")])) for n in range(2)]
    await turns()
    with pytest.raises(Unavailable) as full:
        async with asyncio.timeout(1):
            await bus.publish([accepted("too-many")])
    assert full.value.why is Why.OVERLOADED
    inner.free.set()
    await asyncio.gather(*waiting)
    await bus.publish([accepted("too-many")])


async def test_a_failed_publish_fails_all_of_its_riders() -> None:
    """Nothing may be assumed of any of them."""
    inner = RecordingBus()
    inner.away = Unavailable(Why.BUS_AWAY, may_have_happened=True)
    bus = CoalescingBus(inner)  # type: ignore[arg-type]
    failed = await asyncio.gather(
        *(bus.publish([accepted(f"p{n}")]) for n in range(3)), return_exceptions=True
    )
    assert all(isinstance(failure, Unavailable) for failure in failed)
    inner.away = None
    await bus.publish([accepted("p0")])


async def test_publishes_under_way_are_bounded_and_the_rest_grows_into_larger_messages() -> None:
    """A slow broker gets fewer, larger messages."""
    inner = RecordingBus()
    inner.free.clear()
    bus = CoalescingBus(inner, in_flight_max=1)  # type: ignore[arg-type]
    tasks = [asyncio.create_task(bus.publish([accepted("p0")]))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(bus.publish([accepted(f"p{n}")])) for n in range(1, 50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(inner.published) == 1
    inner.free.set()
    await asyncio.gather(*tasks)
    assert [len(fact.purchases) for fact in inner.published] == [1, 49]  # type: ignore[union-attr]


async def test_a_crowd_that_asks_for_the_list_costs_one_query() -> None:
    """And whoever asks after a sale was made sees it."""
    database = MemoryDatabase(SystemClock())
    queries = 0
    current = database.catalogue.current

    async def counted() -> object:
        nonlocal queries
        queries += 1
        return await current()

    database.catalogue.current = counted  # type: ignore[method-assign,assignment]
    catalogue = CoalescingCatalogue(database.catalogue, apart_s=0.01)
    await asyncio.gather(*(catalogue.current() for _ in range(50)))
    assert queries <= 2
    await catalogue.create(ItemId("1"), SaleTerms(units=1))
    assert [sale.item_id for sale in await catalogue.current()] == ["1"]


async def test_one_sales_crowd_does_not_hold_up_the_promises_of_another() -> None:
    """Sales take turns: a backlog of thousands is published beside one that has just come."""
    inner = RecordingBus()
    bus = CoalescingBus(inner, in_flight_max=1)  # type: ignore[arg-type]
    crowd = [bus.publish([accepted(f"p{n}", "crowd.1")]) for n in range(2_000)]
    await asyncio.gather(*crowd, bus.publish([accepted("mine", "other.1")]))
    sales = [fact.sale_id for fact in inner.published]
    # 500, then 1 and 499 in one publish, and so on.
    assert sales == ["crowd.1", "other.1", *["crowd.1"] * 4]


async def test_a_gate_that_answers_nonsense_leaves_nobody_waiting() -> None:
    """A mistake of an adapter is an error for its callers, never an answer that does not come."""

    class Silent(MemoryStockGate):
        async def reserve(
            self,
            batches: Sequence[ClaimBatch],
        ) -> list[GateReply | Unavailable]:
            return []

    sale = await open_sale(CoalescingGate(Silent(SystemClock())), units=10)
    async with asyncio.timeout(5):
        failed = await asyncio.gather(
            *(sale.reserve(claim(f"p{n}")) for n in range(3)), return_exceptions=True
        )
    assert all(isinstance(failure, ValueError) for failure in failed)


async def test_an_older_list_does_not_replace_a_newer_one() -> None:
    """Two looks may be under way at once; the slower one of them was asked for first."""
    database = MemoryDatabase(SystemClock())
    await database.catalogue.create(ItemId("1"), SaleTerms(units=1))
    current, waits = database.catalogue.current, [0.2, 0.0]

    async def slow() -> list[Sale]:
        sales = await current()
        await asyncio.sleep(waits.pop(0))
        return sales

    database.catalogue.current = slow  # type: ignore[method-assign]
    board = SaleBoard(database.catalogue)
    first = asyncio.create_task(board.refresh())
    await asyncio.sleep(0)
    await database.catalogue.raise_epoch(SaleId("1.1"))
    await board.refresh()
    await first
    listed = board.seen(ItemId("1"))
    assert listed is not None
    assert listed.epoch == 2
