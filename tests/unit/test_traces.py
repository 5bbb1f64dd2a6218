"""Spans around the ports: one purchase is one trace, batches link to their purchases."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, StatusCode
from structlog.testing import capture_logs

from flashsale.container import Embedded
from flashsale.opening import bus_names
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    Channel,
    Message,
    OrderEvent,
    ParkedStatus,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import (
    Door,
    Epoch,
    ItemId,
    PurchaseId,
    PurchaseRequest,
    SaleId,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.opening import BusNames
from flashsale_core.outcomes import Accepted
from flashsale_core.ports import Claim, ClaimBatch
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_memory.bus import MemoryBus
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate
from flashsale_memory.payment_gateway import MemoryPaymentGateway
from flashsale_otel import Labels, Traces, labels_of
from flashsale_otel.contexts import context_of, sampled, written
from flashsale_otel.opening import LINKS_MAX
from flashsale_otel.sampling import BatchesAsTheirPurchases
from tests.unit.http_wire import Ways, Wire
from tests.unit.http_world import Shop, selling
from tests.unit.test_http_server import BUY
from tests.unit.world import request as plain_request

NAMES = BusNames(
    requests="requests",
    accepted="accepted",
    orders="orders",
    dead_letters=None,
    exchange="ex",
    requests_group="requests-group",
    accepted_group="accepted-group",
)


def described(names: BusNames) -> Labels:
    """Describe a process's servers."""
    return labels_of(
        gate_url="redis://:secret@gate.example:6380/0",
        bus_url="kafka://bus.example:9092",
        database_url="postgresql+asyncpg://user:secret@db.example/sales",
        payment_url="https://pay.example/v1/charges",
        names=names,
    )


LABELS = described(NAMES)
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"
PATIENCE_S = 5.0


def request(purchase: str = "p1", *, traceparent: str | None = None, **of: Any) -> PurchaseRequest:
    """Make a buyer's request, with whose trace it belongs to."""
    return attrs.evolve(plain_request(purchase, **of), traceparent=traceparent)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Recorder:
    """Traces that are kept in memory, and words to ask for them."""

    def __init__(self, sampler: Sampler = ALWAYS_ON, labels: Labels = LABELS) -> None:
        """Begin with no span."""
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(
            sampler=BatchesAsTheirPurchases(ParentBased(sampler)),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_links=LINKS_MAX),
        )
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(provider, labels)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """List what ended."""
        return self.exporter.get_finished_spans()

    def of(self, purchase_id: str, name: str = "") -> list[ReadableSpan]:
        """List a purchase's own spans."""
        return [
            span
            for span in self.spans
            if attributes(span).get("flashsale.purchase.id") == purchase_id
            and span.name.startswith(name)
        ]

    def one(self, purchase_id: str, name: str) -> ReadableSpan:
        """Find a purchase's only span of a name."""
        [found] = self.of(purchase_id, name)
        return found

    def batches(self, name: str) -> list[ReadableSpan]:
        """List the spans of batches."""
        return [
            span
            for span in self.spans
            if span.name == name and "flashsale.purchase.id" not in attributes(span)
        ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Read a span's attributes."""
    return dict(span.attributes or {})


def id_of(span: ReadableSpan) -> int:
    """Name a span."""
    assert span.context is not None
    span_id: int = span.context.span_id
    return span_id


def trace_of(span: ReadableSpan) -> str:
    """Name a span's trace."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> int | None:
    """Name the span above."""
    return None if span.parent is None else span.parent.span_id


def linked(span: ReadableSpan) -> set[int]:
    """Name the spans that a span links to."""
    return {link.context.span_id for link in span.links}


@attrs.define
class Traced:
    """A whole engine in one process, traced."""

    container: Embedded
    recorder: Recorder
    gateway: MemoryPaymentGateway

    async def wait_for(self, purchase_id: str, name: str, count: int = 1) -> None:
        """Wait until so many of a purchase's spans have ended."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.recorder.of(purchase_id, name)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@asynccontextmanager
async def engine(recorder: Recorder, *, is_paid: bool = False) -> AsyncIterator[Traced]:
    """Have an engine whose ports are traced, with a sale of ten units."""
    codec, clock, gateway = PlainCodec(), SystemClock(), MemoryPaymentGateway()
    settings = Settings(
        payment_url=Url("http://127.0.0.1:1/charges") if is_paid else None,
        payment_interval_ms=10,
        relay_interval_ms=10,
        parked_interval_ms=100,
    )
    bus = MemoryBus(codec, publish_deadline_ms=2_000)
    container = Embedded(
        settings=settings,
        codec=codec,
        gate=MemoryStockGate(clock),
        bus=bus,
        database=MemoryDatabase(clock),
    )
    container.traces.override(recorder.traces)
    container.payment_gateway.override(gateway)
    price: dict[str, Any] = {"unit_price_minor": 100, "currency": "CHF"} if is_paid else {}
    await container.sale_desk().init(ItemId("1"), SaleTerms(units=10, **price))
    loops = asyncio.create_task(container.loops().run())
    try:
        yield Traced(container, recorder, gateway)
    finally:
        container.stopping().set()
        await asyncio.wait_for(loops, PATIENCE_S)


async def test_a_purchase_is_one_trace_from_gate_to_event() -> None:
    """Each step stands below the one that led to it, and says whose it is."""
    recorder = Recorder()
    async with engine(recorder) as ours:
        wanted = request("p1", traceparent=CALLER)
        assert isinstance(await ours.container.purchase_desk().buy(wanted), Accepted)
        await ours.wait_for("p1", "send orders")
        await ours.wait_for("p1", "FCALL follow")
    assert {trace_of(span) for span in recorder.of("p1")} == {TRACE}
    caller = context_of(CALLER).span_id
    send = recorder.one("p1", "send accepted")
    process = recorder.one("p1", "process accepted")
    assert parent_of(send) == caller
    assert parent_of(process) == id_of(send)
    assert [parent_of(span) for span in recorder.of("p1", "FCALL reserve")] == [
        caller,
        id_of(process),
    ]
    for name in ("INSERT orders", "FCALL follow", "send orders"):
        assert parent_of(recorder.one("p1", name)) == id_of(process), name
    assert send.kind is SpanKind.PRODUCER
    assert process.kind is SpanKind.CONSUMER
    assert recorder.one("p1", "send orders").kind is SpanKind.PRODUCER
    assert recorder.one("p1", "INSERT orders").kind is SpanKind.CLIENT


async def test_what_a_sweeper_publishes_again_goes_on_in_the_same_trace() -> None:
    """An API died before it published: the gate's record knows the trace, for whoever finds it."""
    recorder = Recorder()
    async with engine(recorder) as ours:
        container = ours.container
        container.gate().reserved_due_ms = 0
        [sale] = await container.catalogue().current()
        claims = (Claim(request=request("p1", traceparent=CALLER)),)
        batch = ClaimBatch(sale_id=sale.sale_id, epoch=sale.epoch, door=Door.HTTP, claims=claims)
        await container.gate().reserve([batch])
        await container.sweeper().sweep()
        await ours.wait_for("p1", "send orders")
    assert {trace_of(span) for span in recorder.of("p1")} == {TRACE}
    sent = {id_of(span): parent_of(span) for span in recorder.of("p1", "send accepted")}
    assert set(sent.values()) == {context_of(CALLER).span_id}
    assert parent_of(recorder.one("p1", "INSERT orders")) in {
        id_of(span) for span in recorder.of("p1", "process accepted") if parent_of(span) in sent
    }


async def test_spans_say_what_the_conventions_ask_for_and_nothing_secret() -> None:
    """Systems, servers, operations, destinations; no user, no token, no password."""
    recorder = Recorder()
    async with engine(recorder) as ours:
        await ours.container.purchase_desk().buy(request("p1", traceparent=CALLER, user="mallory"))
        await ours.wait_for("p1", "send orders")
    assert attributes(recorder.one("p1", "send accepted")) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "accepted",
        "server.address": "bus.example",
        "server.port": 9092,
        "flashsale.sale.id": "1.1",
        "flashsale.purchase.id": "p1",
    }
    about = attributes(recorder.one("p1", "process accepted"))
    assert about["messaging.operation.type"] == "process"
    assert about["messaging.consumer.group.name"] == "accepted-group"
    assert about["messaging.destination.partition.id"].isdigit()
    assert attributes(recorder.one("p1", "INSERT orders")) == {
        "db.system.name": "postgresql",
        "db.namespace": "sales",
        "db.operation.name": "INSERT",
        "db.collection.name": "orders",
        "server.address": "db.example",
        "server.port": 5432,
        "flashsale.sale.id": "1.1",
        "flashsale.purchase.id": "p1",
        "flashsale.outcome": "confirmed",
    }
    about = attributes(recorder.of("p1", "FCALL reserve")[0])
    assert about["db.system.name"] == "redis"
    assert about["db.stored_procedure.name"] == "reserve"
    assert about["flashsale.outcome"] == "reserved"
    said = str([(span.name, attributes(span)) for span in recorder.spans])
    assert "secret" not in said
    assert "mallory" not in said


async def test_a_batch_links_to_its_purchases_and_they_to_it() -> None:
    """Three buyers of one moment: calls of their own traces' side, one batch for all."""
    recorder = Recorder()
    async with engine(recorder) as ours:
        desk = ours.container.purchase_desk()
        callers = [f"00-{n:032x}-{n:016x}-01" for n in (1, 2, 3)]
        await asyncio.gather(
            *(
                desk.buy(request(f"p{n}", user=f"u{n}", traceparent=caller))
                for n, caller in enumerate(callers)
            )
        )
        for n in range(3):
            await ours.wait_for(f"p{n}", "send orders")
    assert len({trace_of(recorder.one(f"p{n}", "send accepted")) for n in range(3)}) == 3
    for name, batch_name in (
        ("send accepted", "send accepted"),
        ("process accepted", "process accepted"),
        ("INSERT orders", "BATCH orders"),
    ):
        for n in range(3):
            own = recorder.one(f"p{n}", name)
            [batch] = [one for one in recorder.batches(batch_name) if id_of(one) in linked(own)]
            assert linked(batch) & {id_of(own), parent_of(own)}, name
            assert trace_of(batch) != trace_of(own), name
    [sent] = recorder.batches("send accepted")
    assert linked(sent) == {id_of(recorder.one(f"p{n}", "send accepted")) for n in range(3)}
    assert attributes(sent)["flashsale.purchases"] == 3
    assert sent.kind is SpanKind.CLIENT
    recorded = recorder.batches("BATCH orders")
    above = {id_of(span) for span in recorder.batches("process accepted")}
    assert {parent_of(span) for span in recorded} == above


async def test_a_payment_is_in_the_trace_of_its_purchase() -> None:
    """From the row that files it to the charge, the end, and the event that tells of it."""
    recorder = Recorder()
    async with engine(recorder, is_paid=True) as ours:
        wanted = request("p1", token="tok", traceparent=CALLER)
        await ours.container.purchase_desk().buy(wanted)
        await ours.wait_for("p1", "send orders")
        await ours.wait_for("p1", "pay")
    assert {trace_of(span) for span in recorder.of("p1")} == {TRACE}
    pay = recorder.one("p1", "pay")
    assert parent_of(pay) == id_of(recorder.one("p1", "process accepted"))
    [charge] = [span for span in recorder.spans if span.name == "payment charge"]
    assert (trace_of(charge), parent_of(charge)) == (TRACE, id_of(pay))
    assert attributes(charge) == {
        "server.address": "pay.example",
        "flashsale.outcome": "charged",
    }
    settle = recorder.one("p1", "UPDATE orders")
    assert parent_of(settle) == id_of(pay)
    assert attributes(settle)["flashsale.outcome"] == "confirmed"
    assert id_of(pay) in {parent_of(span) for span in recorder.of("p1", "FCALL follow")}


PAGE = Path(__file__).resolve().parents[2] / "docs/tracing.md"
_LINE = re.compile(r"(?P<above>(?:api|worker) [├└│─ ]*)(?P<name>[A-Za-z].*?)  +(?P<kind>[A-Z]+)")


def page_tree() -> list[tuple[int, str, str]]:
    """Read the tree that the page shows: depth, name and kind, in their order."""
    found = [one for one in map(_LINE.fullmatch, PAGE.read_text("utf-8").splitlines()) if one]
    columns = sorted({one.start("name") for one in found})
    return [
        (
            columns.index(one.start("name")),
            one["name"].strip().replace(" [publish]", ""),
            one["kind"],
        )
        for one in found
    ]


def tree_of(spans: Sequence[ReadableSpan], above: int | None = None) -> Counter[tuple[int, str]]:
    """Count the spans below one by their depth and name."""
    tree: Counter[tuple[int, str]] = Counter()
    for span in spans:
        if parent_of(span) == above:
            tree[0, span.name] += 1
            below = tree_of(spans, id_of(span)).items()
            tree.update({(depth + 1, name): count for (depth, name), count in below})
    return tree


async def test_the_page_shows_the_tree_that_there_is() -> None:
    """Of a purchase that is paid for, by the names of the default settings."""
    names = bus_names(Settings())
    recorder = Recorder(labels=described(names))
    async with engine(recorder, is_paid=True) as ours:
        begin = ours.container.http_app().short_cut.begin
        body = b'{"userId":1,"productId":1,"purchaseId":"p1","paymentToken":"tok"}'
        answer = await begin(body, [(b"content-type", b"application/json")], None)
        assert answer.status == 200
        await ours.wait_for("p1", f"send {names.orders}")
        await ours.wait_for("p1", "pay")
    [server] = [span for span in recorder.spans if span.kind is SpanKind.SERVER]
    own = [span for span in recorder.spans if trace_of(span) == trace_of(server)]
    assert tree_of(own) == Counter((depth, name) for depth, name, _ in page_tree())
    assert Counter(span.kind.name for span in own) == Counter(kind for _, _, kind in page_tree())


async def test_the_trace_goes_on_in_the_message_and_in_the_event() -> None:
    """Whoever takes one stands below the span that sent it."""
    recorder = Recorder()
    told: list[PurchasesAccepted | OrderEvent] = []

    class Bus:
        async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
            told.extend(facts)

    async with engine(recorder) as ours:
        await ours.container.purchase_desk().buy(request("p1", traceparent=CALLER))
        await ours.wait_for("p1", "send orders")
        traced = recorder.traces.around_bus(Bus())
        [fact] = _promises(CALLER)
        await traced.publish([fact])
    [sent] = _accepted(told)
    context = sampled(sent.purchases[0].traceparent)
    assert context is not None
    assert f"{context.trace_id:032x}" == TRACE
    assert context.span_id == id_of(recorder.of("p9", "send accepted")[0])
    assert sent.purchases[0].purchase_id == "p9"


def _promises(*traceparents: str | None) -> list[PurchasesAccepted]:
    purchases = tuple(
        PurchaseAccepted(
            purchase_id=PurchaseId(f"p{9 + n}"),
            user_id=UserId("u"),
            quantity=1,
            accepted_at_ms=1,
            requested_at_ms=1,
            source=Source.API,
            traceparent=traceparent,
        )
        for n, traceparent in enumerate(traceparents)
    )
    return [PurchasesAccepted(sale_id=SaleId("1.1"), epoch=Epoch(1), purchases=purchases)]


@pytest.mark.parametrize("traceparent", [None, UNSAMPLED])
async def test_what_is_not_recorded_costs_no_span_and_is_left_as_it_is(
    traceparent: str | None,
) -> None:
    """Neither in the purchase's way nor as a batch."""
    recorder = Recorder()
    told: list[PurchasesAccepted | OrderEvent] = []

    class Bus:
        async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
            told.extend(facts)

    facts = _promises(traceparent, None)
    await recorder.traces.around_bus(Bus()).publish(facts)
    assert told[0] is facts[0]
    async with engine(recorder) as ours:
        await ours.container.purchase_desk().buy(request("p1", traceparent=traceparent))
        async with asyncio.timeout(PATIENCE_S):
            while not await ours.container.database().orders.find("p1"):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert recorder.spans == ()


async def test_in_a_batch_only_what_is_sampled_has_spans() -> None:
    """And the batch says of how many it tells."""
    recorder = Recorder()

    class Bus:
        async def publish(self, facts: object) -> None:
            pass

    await recorder.traces.around_bus(Bus()).publish(_promises(CALLER, UNSAMPLED, None))
    [batch] = recorder.batches("send accepted")
    assert attributes(batch)["flashsale.purchases"] == 1
    assert [attributes(one)["flashsale.purchase.id"] for one in recorder.spans[1:]] == ["p9"]


async def test_a_request_from_outside_begins_a_trace_where_it_brought_none() -> None:
    """It is the worker that hears of it first."""
    recorder = Recorder()
    async with engine(recorder) as ours:
        bus: MemoryBus = ours.container.bus()
        body = PlainCodec().encode(request("out")).body
        bus.put(Message(channel=Channel.REQUESTS, body=body, key=b"k", origin="t:0:0"))
        await ours.wait_for("out", "send orders")
    process = recorder.one("out", "process requests")
    assert process.parent is None
    assert {trace_of(span) for span in recorder.of("out")} == {trace_of(process)}
    assert attributes(recorder.one("out", "FCALL reserve"))["flashsale.outcome"] == "reserved"


async def test_what_was_set_aside_says_so_and_goes_on_in_the_same_trace() -> None:
    """A sale that is paused parks it; the feeder takes it up again when it goes on."""
    recorder = Recorder()
    async with engine(recorder) as ours:
        container = ours.container
        [sale] = await container.catalogue().current()
        await container.sale_desk().pause(sale.sale_id)
        bus: MemoryBus = container.bus()
        body = PlainCodec().encode(request("late", traceparent=CALLER)).body
        bus.put(Message(channel=Channel.REQUESTS, body=body, key=b"k", origin="t:0:0"))
        await ours.wait_for("late", "process requests")
        await container.sale_desk().resume(sale.sale_id)
        parked = container.database().parked
        await parked.resolve(1, ParkedStatus.WAITING, reason="paused", retry_in_ms=0)
        await ours.wait_for("late", "send orders")
    process = recorder.one("late", "process requests")
    [event] = process.events
    assert event.name == "parked"
    assert dict(event.attributes or {}) == {"flashsale.parked": "WAITING", "error.type": "paused"}
    fed = recorder.of("late", "feed parked messages")[-1]
    assert (fed.kind, trace_of(fed)) == (SpanKind.INTERNAL, TRACE)
    assert parent_of(recorder.one("late", "INSERT orders")) == id_of(fed)


async def test_failures_are_marked_by_their_code_and_raised_on() -> None:
    """On the batch and on each purchase of it; a text may hold what traces must not."""
    recorder = Recorder()

    class Away:
        async def reserve(self, batches: object) -> Any:
            raise Unavailable(Why.GATE_AWAY, "detail with a secret")

        async def publish(self, facts: object) -> None:
            raise Unavailable(Why.BUS_AWAY)

    wanted = request("p1", traceparent=CALLER)
    batch = ClaimBatch(
        sale_id=_promises(None)[0].sale_id,
        epoch=Epoch(1),
        door=Door.HTTP,
        claims=(Claim(request=wanted),),
    )
    with pytest.raises(Unavailable):
        await recorder.traces.around_gate(Away()).reserve([batch])
    with pytest.raises(Unavailable):
        await recorder.traces.around_bus(Away()).publish(_promises(CALLER))
    found = {(span.name, attributes(span).get("error.type")) for span in recorder.spans}
    assert found == {("FCALL reserve", "gate-away"), ("send accepted", "bus-away")}
    assert len(recorder.spans) == 4
    assert all(span.status.status_code is StatusCode.ERROR for span in recorder.spans)
    assert "secret" not in "".join(span.to_json() for span in recorder.spans)


async def test_one_sales_trouble_is_not_anothers_spans() -> None:
    """An Unavailable value marks the claims of its own batch alone."""
    recorder = Recorder()
    sale = _promises(None)[0].sale_id

    class Half:
        async def reserve(self, batches: Sequence[ClaimBatch]) -> Any:
            return [Unavailable(Why.NOT_ARMED), [Unavailable(Why.PAUSED)], [object()]]

    batches = [
        ClaimBatch(
            sale_id=sale,
            epoch=Epoch(1),
            door=Door.HTTP,
            claims=(Claim(request=request(name, traceparent=CALLER)),),
        )
        for name in ("a", "b", "c")
    ]
    await recorder.traces.around_gate(Half()).reserve(batches)
    errors = [attributes(recorder.one(name, "FCALL")).get("error.type") for name in "abc"]
    assert errors == ["not-armed", "paused", None]


class TracedShop(Shop):
    """A shop whose HTTP door is traced, and that remembers what it promised on the bus."""

    def __init__(self, recorder: Recorder) -> None:
        """Listen on the way to the bus."""
        super().__init__(traces=recorder.traces.requests)
        self.travelled: list[str | None] = []
        publish = self.world.bus.publish

        async def listened(facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
            self.travelled += [one.purchases[0].traceparent for one in _accepted(facts)]
            await publish(facts)

        self.world.bus.publish = listened  # type: ignore[method-assign]


def _accepted(facts: Sequence[PurchasesAccepted | OrderEvent]) -> list[PurchasesAccepted]:
    return [fact for fact in facts if isinstance(fact, PurchasesAccepted)]


@asynccontextmanager
async def door(recorder: Recorder) -> AsyncIterator[TracedShop]:
    """Have one, with a sale."""
    shop = TracedShop(recorder)
    async with selling(shop):
        yield shop


BODY = {"userId": 101, "productId": 1, "purchaseId": "mine"}


async def test_the_server_begins_the_trace_and_its_own_context_travels() -> None:
    """Where the caller sent none; the record has it, so everything later is below it."""
    recorder = Recorder()
    async with door(recorder) as shop:
        reply = await shop.buy(BODY, {"host": "shop.example:8080"})
        assert reply.status == 200
        [span] = recorder.spans
        assert span.context is not None
        assert shop.travelled == [written(span.context)]
    assert (span.name, span.kind, span.parent) == ("POST /purchase/buy", SpanKind.SERVER, None)
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/purchase/buy",
        "url.path": "/purchase/buy",
        "url.scheme": "http",
        "server.address": "shop.example",
        "server.port": 8080,
        "http.response.status_code": 200,
        "flashsale.outcome": "accepted",
    }


async def test_a_callers_trace_is_gone_on_with() -> None:
    """Ours stands below the caller's, and what follows below ours."""
    recorder = Recorder()
    async with door(recorder) as shop:
        await shop.buy(BODY, {"traceparent": CALLER})
        [span] = recorder.spans
        assert parent_of(span) == context_of(CALLER).span_id
        assert trace_of(span) == TRACE
        assert span.context is not None
        assert shop.travelled == [written(span.context)]


@pytest.mark.parametrize("given", [None, UNSAMPLED])
async def test_a_request_that_is_not_recorded_is_handed_on_as_it_came(given: str | None) -> None:
    """Not a byte is added to its record."""
    recorder = Recorder(ALWAYS_OFF)
    async with door(recorder) as shop:
        await shop.buy(BODY, {"traceparent": given} if given else {})
        assert recorder.spans == ()
        assert shop.travelled == [given]


async def test_the_short_cut_is_traced_as_the_ordinary_way_is() -> None:
    """Below ASGI, where our own server answers most purchases."""
    recorder = Recorder()
    async with door(recorder) as shop:
        ways, wire = Ways(shop), Wire(shop.app)
        wire.send(BUY)
        assert [reply.status for reply in await wire.answers()] == [200]
        assert ways.taken == ["short cut"]
        [span] = recorder.spans
        assert span.context is not None
        assert shop.travelled == [written(span.context)]
    assert attributes(span)["http.response.status_code"] == 200


async def test_a_request_that_is_cut_off_ends_its_span() -> None:
    """At a stop whose time is over: nobody hears an answer."""
    recorder = Recorder()
    async with door(recorder) as shop:
        shop.world.gate.reserve = lambda _: asyncio.Event().wait()  # type: ignore[assignment, method-assign, return-value]
        asked = asyncio.create_task(shop.buy(BODY))
        for _ in range(20):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
    assert [attributes(span)["error.type"] for span in recorder.spans] == ["cancelled"]


async def test_refusals_end_their_spans_too() -> None:
    """One that needs no gate, one by the gate, and a fault of ours, which alone is an error."""
    recorder = Recorder()
    async with door(recorder) as shop:
        assert (await shop.buy(b"{")).status == 400
        assert (await shop.buy({**BODY, "productId": 404})).status == 404

        async def away(*_: object) -> Any:
            raise Unavailable(Why.GATE_AWAY)

        shop.world.gate.reserve = away  # type: ignore[assignment, method-assign]
        assert (await shop.buy(BODY)).status == 503
    found = [
        (attributes(span)["http.response.status_code"], span.status.status_code)
        for span in recorder.spans
    ]
    assert found == [(400, StatusCode.UNSET), (404, StatusCode.UNSET), (503, StatusCode.ERROR)]
    assert attributes(recorder.spans[-1])["error.type"] == "unavailable"


def test_a_batch_is_recorded_as_its_first_purchase_is() -> None:
    """Its own trace id is chance, which would leave it out where a purchase is kept."""
    for sampler, is_kept in ((ALWAYS_ON, True), (TraceIdRatioBased(0.0), True), (ALWAYS_OFF, True)):
        provider = TracerProvider(
            sampler=BatchesAsTheirPurchases(ParentBased(sampler)), shutdown_on_exit=False
        )
        tracer = provider.get_tracer("t")
        assert tracer.start_span("root").is_recording() is (sampler is ALWAYS_ON)
        kept = tracer.start_span("batch", links=[Link(context_of(CALLER))])
        assert kept.is_recording() is is_kept
        left = tracer.start_span("batch", links=[Link(context_of(UNSAMPLED))])
        assert not left.is_recording()


@pytest.mark.parametrize(
    "text", [CALLER, UNSAMPLED, f"00-{TRACE}-b7ad6b7169203331-03", f"01-{TRACE}-{'1' * 16}-01"]
)
def test_a_traceparent_is_read_as_w3c_wants_it(text: str) -> None:
    """The lowest bit of its flags alone says whether it is recorded."""
    context = context_of(text)
    assert written(context)[3:] == text[3:]
    assert (sampled(text) is not None) is (text[-1] in "13")


def test_a_traceparent_of_zeros_is_none() -> None:
    """As W3C has it: nobody stands below nothing."""
    assert sampled(f"00-{'0' * 32}-{'1' * 16}-01") is None
    assert sampled(f"00-{TRACE}-{'0' * 16}-01") is None


def test_rabbitmqs_own_words_are_used_where_it_is_the_bus() -> None:
    """Exchange, routing key and queue, and names that do not grow with the queues."""
    bus = labels_of(
        gate_url="memory://",
        bus_url="amqp://guest:guest@rabbit/%2F",
        database_url="sqlite+aiosqlite:///x.db",
        payment_url=None,
        names=NAMES,
    ).bus
    name, about = bus.sending(Channel.ACCEPTED)
    assert name == "publish accepted"
    assert about["messaging.system"] == "rabbitmq"
    assert about["messaging.destination.name"] == "ex"
    assert about["messaging.destination.template"] == "accepted"
    name, about = bus.processing(Channel.ACCEPTED, 3)
    assert name == "process accepted"
    assert about["messaging.destination.name"] == "ex:accepted.3"
    assert about["messaging.rabbitmq.destination.routing_key"] == "accepted.3"
    assert "messaging.destination.partition.id" not in about
