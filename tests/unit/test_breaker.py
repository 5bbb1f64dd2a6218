"""Nobody waits behind a server that is silent, and one call at a time finds out that it is back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from flashsale.guards import Guards, guarded_bus, guarded_database, guarded_gate, watched
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale_coalesce import Breaker, CoalescingBus, CoalescingGate, GuardedBus, GuardedGate
from flashsale_core.errors import Transient, Unavailable, Why
from flashsale_core.events import PurchasesAccepted
from flashsale_core.model import PurchaseId
from flashsale_core.outcomes import Replayed, Reserved
from flashsale_core.ports import ClaimBatch, GateReply, StockGate
from flashsale_core.testing.stock_gate import MakeGate, StockGateContract, claim, open_sale
from flashsale_memory.bus import MemoryBus
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate
from flashsale_prometheus import Metrics
from tests.unit.test_coalesce import RecordingBus, SlowGate, accepted

SILENT = Unavailable(Why.GATE_AWAY, "no answer in time", may_have_happened=True)


@attrs.define
class Server:
    """Counts its calls; answers, keeps silent, or hangs."""

    away: Unavailable | None = None
    calls: int = 0
    free: asyncio.Event = attrs.field(factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        """Begin well."""
        self.free.set()

    async def call(self) -> str:
        """Answer as the test wants it."""
        self.calls += 1
        await self.free.wait()
        if self.away is not None:
            raise self.away
        return "done"


@attrs.define
class Time:
    """Seconds that a test turns."""

    now_s: float = 100.0

    def __call__(self) -> float:
        """Tell them."""
        return self.now_s


@pytest.fixture
def time() -> Time:
    """Make a clock."""
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    """Make a breaker that asks again after a second."""
    return Breaker("gate", Why.GATE_AWAY, apart_s=1.0, probe_s_max=5.0, now_s=time)


async def refused(call: Callable[[], Awaitable[object]]) -> Unavailable:
    """Make a call that fails, and tell how."""
    with pytest.raises(Unavailable) as away:
        await call()
    return away.value


async def test_after_a_silence_calls_are_refused_and_do_not_leave(breaker: Breaker) -> None:
    """What was refused has not happened: the buyer may be told that nothing was taken."""
    server = Server(SILENT)
    assert (await refused(lambda: breaker.run(server.call))).may_have_happened
    await refused(lambda: breaker.run(server.call))
    assert server.calls == 2, "the first probe is made at once: a hiccup is over by then"
    for _ in range(100):
        told = await refused(lambda: breaker.run(server.call))
        assert not told.may_have_happened
        assert told.why is Why.GATE_AWAY
    assert server.calls == 2
    assert breaker.is_open


async def test_one_call_alone_finds_out_that_it_is_back(breaker: Breaker, time: Time) -> None:
    """The others are refused while it is under way, and served once it has its answer."""
    server = Server(SILENT)
    for _ in range(2):
        await refused(lambda: breaker.run(server.call))
    time.now_s += 1.0
    server.away = None
    server.free.clear()
    probing = asyncio.create_task(breaker.run(server.call))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        for _ in range(50):
            await refused(lambda: breaker.run(server.call))
    assert server.calls == 3
    server.free.set()
    assert await probing == "done"
    assert not breaker.is_open
    assert await breaker.run(server.call) == "done"


async def test_a_probe_that_hangs_does_not_keep_the_others_out_for_ever(
    breaker: Breaker, time: Time
) -> None:
    """Nor does one whose caller left."""
    server = Server(SILENT)
    for _ in range(2):
        await refused(lambda: breaker.run(server.call))
    time.now_s += 1.0
    server.free.clear()
    probing = asyncio.create_task(breaker.run(server.call))
    await asyncio.sleep(0)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    await refused(lambda: breaker.run(server.call))
    time.now_s += 5.0
    server.away = None
    server.free.set()
    assert await breaker.run(server.call) == "done"


async def test_a_failure_that_another_answer_has_overtaken_opens_nothing(breaker: Breaker) -> None:
    """One queue of many without a leader is not a broker that is gone."""
    slow, quick = Server(SILENT), Server()
    slow.free.clear()
    failing = asyncio.create_task(breaker.run(slow.call))
    await asyncio.sleep(0)
    breaker._now_s.now_s += 0.1  # type: ignore[attr-defined]
    await breaker.run(quick.call)
    slow.free.set()
    await asyncio.gather(failing, return_exceptions=True)
    assert not breaker.is_open


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable(Why.GATE_AWAY, "OOM", was_refused=True),
        Unavailable(Why.BUS_AWAY, "somebody else's"),
        Unavailable(Why.NOT_ARMED),
        Transient(Why.GATE_AWAY, "in the way", was_refused=True),
    ],
)
async def test_a_server_that_says_no_is_there(breaker: Breaker, failure: Unavailable) -> None:
    """Full memory refuses new purchases alone: marks and sales must still reach it."""
    server = Server(failure)
    for _ in range(5):
        await refused(lambda: breaker.run(server.call))
    assert server.calls == 5
    assert not breaker.is_open


async def test_a_mistake_of_ours_neither_opens_nor_closes(breaker: Breaker) -> None:
    """It says nothing of the server."""

    async def mistake() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await breaker.run(mistake)
    assert not breaker.is_open


async def test_a_look_is_never_refused_and_closes_what_it_finds_well(breaker: Breaker) -> None:
    """Readiness sees the server and not the breaker; without traffic nobody else would close it."""
    server = Server(SILENT)
    for _ in range(2):
        await refused(lambda: breaker.run(server.call))
    looks = Server(SILENT)

    async def look() -> None:
        await looks.call()

    await refused(lambda: breaker.watch(look))
    await refused(lambda: breaker.watch(look))
    assert looks.calls == 2
    assert breaker.is_open
    looks.away = None
    await breaker.watch(look)
    assert not breaker.is_open


class TestGuardedGateKeepsTheContract(StockGateContract):
    """Every promise of a gate holds behind a breaker too."""

    @pytest.fixture
    def make_gate(self) -> MakeGate:
        """Guard one memory gate."""
        gate = MemoryStockGate(SystemClock())

        async def make(*, reserved_due_ms: int, queued_due_ms: int) -> StockGate:
            gate.reserved_due_ms = reserved_due_ms
            gate.queued_due_ms = queued_due_ms
            return CoalescingGate(GuardedGate(gate, Breaker("gate", Why.GATE_AWAY)))

        return make


class Redis(SlowGate):
    """The memory gate as a server that may hang; it counts the looks too."""

    looks = 0

    async def check(self) -> None:
        """Answer whether it is there."""
        self.looks += 1
        await self.free.wait()
        if self.away is not None:
            raise self.away


async def test_a_crowd_before_a_silent_gate_costs_one_call_and_a_look(breaker: Breaker) -> None:
    """All hear when the one call under way is given up; what comes then hears at once.

    Two thousand buyers are two calls of a thousand: the second thousand does not wait twice.
    """
    redis = Redis()
    gate = CoalescingGate(GuardedGate(redis, breaker))
    sale = await open_sale(gate, units=10_000)
    redis.calls.clear()
    redis.away = SILENT
    redis.free.clear()
    crowd = [asyncio.create_task(sale.reserve(claim(f"p{n}", user=f"u{n}"))) for n in range(2_001)]
    for _ in range(3):
        await asyncio.sleep(0)
    redis.free.set()
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in answers)
    unsure = [one for one in answers if isinstance(one, Unavailable) and one.may_have_happened]
    assert len(unsure) == sum(len(batch.claims) for call in redis.calls for batch in call) <= 1_000
    assert (len(redis.calls), redis.looks) == (1, 0)
    for n in range(500):
        told = await refused(lambda n=n: sale.reserve(claim(f"later{n}")))  # type: ignore[misc]
        assert not told.may_have_happened
    assert (len(redis.calls), redis.looks) == (1, 1)
    assert not gate._waiting


async def test_a_buyer_whose_outcome_was_unknown_resumes_when_the_gate_is_back(
    breaker: Breaker, time: Time
) -> None:
    """The call was lost, not what it took; the same id gets it, and nothing is taken twice."""
    redis = Redis()
    gate = CoalescingGate(GuardedGate(redis, breaker))
    sale = await open_sale(gate, units=10)
    await redis.reserve([sale_batch(sale)])
    redis.away = SILENT
    assert (await refused(lambda: sale.reserve(claim("p1")))).may_have_happened
    assert not (await refused(lambda: sale.reserve(claim("p1")))).may_have_happened
    redis.away = None
    time.now_s += 1.0
    [answer] = await sale.reserve(claim("p1"))
    assert isinstance(answer, Replayed)
    assert (await sale.books()).available == 9


def sale_batch(sale: Any) -> ClaimBatch:
    """Take p1, as the lost call did."""
    from flashsale_core.model import Door  # noqa: PLC0415 - one word

    return ClaimBatch(sale_id=sale.sale_id, epoch=sale.epoch, door=Door.HTTP, claims=(claim("p1"),))


async def test_marks_wait_out_an_open_breaker_and_arrive(breaker: Breaker, time: Time) -> None:
    """No mark is lost, and none is sent while the gate is silent."""
    redis = Redis()
    gate = CoalescingGate(GuardedGate(redis, breaker), marks_alone_after_s=0.001)
    sale = await open_sale(gate, units=10)
    [answer] = await sale.reserve(claim("p1"))
    assert isinstance(answer, Reserved)
    redis.away = SILENT
    for _ in range(2):
        await refused(lambda: sale.reserve(claim("other")))
    marks = 0
    inner = redis.reserve

    async def counted(batches: Any) -> Any:
        nonlocal marks
        marks += any(batch.queued for batch in batches)
        return await inner(batches)

    redis.reserve = counted  # type: ignore[method-assign]
    await gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")])
    await asyncio.sleep(0.02)
    assert marks == 0
    redis.away = None
    time.now_s += 1.0
    async with asyncio.timeout(5):
        while marks == 0:  # noqa: ASYNC110 - a timer's end
            await asyncio.sleep(0.001)
    await gate.aclose()
    assert (await sale.books()).queued == 1


class HangingGate(MemoryStockGate):
    """Answers with the same failure for each sale of a call."""

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """Refuse every sale by itself."""
        return [Unavailable(Why.NOT_ARMED) for _ in batches]


async def test_sales_that_are_not_armed_open_nothing(breaker: Breaker) -> None:
    """A lost gate answers; a rebuild must reach it."""
    gate = GuardedGate(HangingGate(SystemClock()), breaker)
    sale = await open_sale(MemoryStockGate(SystemClock()), units=1)
    for _ in range(3):
        await gate.reserve([sale_batch(sale)])
    assert not breaker.is_open


async def test_promises_that_wait_behind_a_silent_broker_hear_with_the_first() -> None:
    """Four publishes hang; the fifth message's buyers do not wait for another deadline."""
    inner = RecordingBus()
    inner.free.clear()
    inner.away = Unavailable(Why.BUS_AWAY, "no confirm within 800 ms", may_have_happened=True)
    breaker = Breaker("bus", Why.BUS_AWAY, apart_s=60.0)
    bus = CoalescingBus(GuardedBus(inner, breaker), in_flight_max=1)
    first = asyncio.create_task(bus.publish([accepted("p0")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(bus.publish([accepted(f"p{n}")])) for n in range(1, 2_000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    inner.free.set()
    answers = await asyncio.gather(first, *rest, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in answers)
    assert len(inner.published) == 1
    await asyncio.gather(bus.publish([accepted("probe")]), return_exceptions=True)
    for n in range(100):
        await refused(lambda n=n: bus.publish([accepted(f"later{n}")]))  # type: ignore[misc]
    assert len(inner.published) == 2
    assert not bus._under_way
    assert not bus._waiting


async def test_a_crowd_in_several_publishes_hears_with_the_first() -> None:
    """Their publishes began a moment later, and would only end a moment later, one by one.

    One that has just begun keeps its own time, and a retry of one who was sent home is published.
    """
    inner = HeldBus()
    bus = CoalescingBus(inner, in_flight_max=4)  # type: ignore[arg-type]
    crowd = []
    for n in range(3):
        crowd.append(asyncio.create_task(bus.publish([accepted(f"p{n}")])))
        await inner.has_published(n + 1)
    await asyncio.sleep(0.2)
    late = asyncio.create_task(bus.publish([accepted("late")]))
    await inner.has_published(4)
    inner.ends[0].set_exception(
        Unavailable(Why.BUS_AWAY, "no confirm within 800 ms", may_have_happened=True)
    )
    async with asyncio.timeout(5):
        told = await asyncio.gather(*crowd, return_exceptions=True)
    assert [getattr(one, "may_have_happened", None) for one in told] == [True] * 3
    assert not late.done()
    again = asyncio.create_task(bus.publish([accepted("p1")]))
    await inner.has_published(5)
    for end in inner.ends[1:4]:
        end.set_result(None)
    await late
    assert list(bus._under_way) == [("1.1", 1, "p1")], "the old publish forgot the new promise"
    inner.ends[4].set_result(None)
    await again
    assert not bus._under_way
    assert not bus._flights


class HeldBus:
    """A bus whose publishes end one by one, as the test says."""

    def __init__(self) -> None:
        """Begin with none."""
        self.ends: list[asyncio.Future[None]] = []

    async def publish(self, _: Any) -> None:
        """Wait to be ended."""
        self.ends.append(asyncio.get_running_loop().create_future())
        await self.ends[-1]

    async def has_published(self, count: int) -> None:
        """Wait until so many have begun."""
        async with asyncio.timeout(5):
            while len(self.ends) < count:  # noqa: ASYNC110 - a task's begin
                await asyncio.sleep(0)


async def test_a_call_that_its_own_caller_ended_says_nothing_of_the_server(
    breaker: Breaker,
) -> None:
    """Somebody stopped or left; that is no silence."""
    hangs = Server()
    hangs.free.clear()
    calls = [asyncio.create_task(breaker.run(hangs.call)) for _ in range(5)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert not breaker.is_open


async def test_one_publish_that_fails_among_others_that_succeed_sends_nobody_home() -> None:
    """A queue without a leader is not a broker that is gone."""

    class Partly(RecordingBus):
        async def publish(self, facts: Any) -> None:
            [fact] = facts
            assert isinstance(fact, PurchasesAccepted)
            if fact.sale_id == "bad.1":
                await self.free.wait()
                raise Unavailable(Why.BUS_AWAY, may_have_happened=True)
            await super().publish(facts) if self.free.is_set() else self.published.extend(facts)

    inner = Partly()
    inner.free.clear()
    bus = CoalescingBus(inner, in_flight_max=2)  # type: ignore[arg-type]
    bad = asyncio.create_task(bus.publish([accepted("p0", "bad.1")]))
    while not bus._flights:  # noqa: ASYNC110 - what waits with it would leave with it
        await asyncio.sleep(0)
    await bus.publish([accepted("p1", "good.1")])
    waits = asyncio.create_task(bus.publish([accepted("p2", "good.1")]))
    inner.free.set()
    await waits
    await asyncio.gather(bad, return_exceptions=True)
    assert len(inner.published) == 2


# ── in a process ────────────────────────────────────────────────────────────────────────────────


def on_servers() -> Settings:
    """Name servers, none of which is asked."""
    return attrs.evolve(
        Settings(),
        gate_url=Url("redis://localhost"),
        bus_url=Url("kafka://localhost:1"),
        database_url=Url("postgresql+asyncpg://localhost/x"),
    )


async def test_a_breaker_shows_in_the_metrics_and_in_the_log() -> None:
    """A gauge says that it is open, a counter how often it was, and a line why."""
    registry = CollectorRegistry()

    def shown(what: str, name: str = "gate") -> float | None:
        return registry.get_sample_value(f"flashsale_breaker_{what}", {"name": name})

    with capture_logs() as lines:
        guards = Guards(on_servers(), Metrics(registry).breaker)
        assert [shown("open", name) for name in ("gate", "bus", "database")] == [0, 0, 0]
        redis = Redis()
        gate = guarded_gate(guards, redis)
        redis.away = SILENT
        await refused(gate.check)
        assert (shown("open"), shown("openings_total")) == (1, 1)
        redis.away = None
        await watched(guards, "gate", redis.check)()
        assert (shown("open"), shown("openings_total")) == (0, 1)
    assert [line["event"] for line in lines] == [
        "calls are refused until it answers",
        "it answers again",
    ]
    assert lines[0]["dependency"] == "gate"
    assert "no answer in time" in lines[0]["error"]


def test_what_is_in_this_process_is_not_guarded() -> None:
    """Memory and a file cannot fall silent."""
    guards = Guards(Settings(), Metrics(CollectorRegistry()).breaker)
    part = object()
    assert guarded_gate(guards, part) is part
    assert guarded_bus(guards, part) is part
    assert guarded_database(guards, part) is part


async def test_the_list_of_sales_and_the_looks_are_never_refused() -> None:
    """A rebuild counts on how young every process's list is; readiness must see what is there."""
    guards = Guards(on_servers(), Metrics(CollectorRegistry()).breaker)
    inner = MemoryDatabase(SystemClock())
    database = guarded_database(guards, inner)
    away = Unavailable(Why.DATABASE_AWAY, "gone")

    async def gone() -> None:
        raise away

    with capture_logs():
        for _ in range(2):
            await refused(lambda: guards.of["database"].run(gone))
    assert guards.of["database"].is_open
    await refused(database.outbox.backlog)
    assert database.catalogue is inner.catalogue
    assert database.rebuilds is inner.rebuilds
    await database.catalogue.current()
    await database.check()


async def test_a_guarded_bus_still_subscribes() -> None:
    """Only what asks the broker and waits is guarded."""
    from flashsale_core.testing.plain_codec import PlainCodec  # noqa: PLC0415 - one test's

    bus = MemoryBus(PlainCodec(), publish_deadline_ms=50)
    guarded = GuardedBus(bus, Breaker("bus", Why.BUS_AWAY))
    assert guarded.features == bus.features
