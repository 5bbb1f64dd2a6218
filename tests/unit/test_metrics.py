"""Each metric moves when, and only when, what it counts has happened."""

import timeit
from math import isnan
from pathlib import Path
from typing import cast

import attrs
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from flashsale_core.board import SaleBoard
from flashsale_core.charges import Charged
from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus, PurchasesAccepted
from flashsale_core.model import (
    Door,
    Epoch,
    ItemId,
    OrderStatus,
    PurchaseId,
    PurchaseRequest,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.outcomes import Reserved
from flashsale_core.ports import (
    Alarm,
    Claim,
    ClaimBatch,
    Decision,
    GateBooks,
    SaleCatalogue,
    Standing,
)
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_memory.bus import MemoryBus
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate
from flashsale_memory.lives import RESERVED_DUE_MS
from flashsale_memory.outbox import MemoryOutbox
from flashsale_memory.tables import Tables
from flashsale_prometheus import METRICS, Metrics, PrometheusObserver, Sampler, expose
from flashsale_prometheus.catalogue import Kind, page
from flashsale_prometheus.metrics import LABEL_SETS_MAX
from flashsale_prometheus.observer import FROM_THE_START
from flashsale_prometheus.sampling import SALES_SAMPLED_MAX

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
SALE = Sale(
    item_id=ItemId("1"),
    round=1,
    terms=SaleTerms(units=10),
    state=SaleState.OPEN,
    epoch=Epoch(3),
    armed_epoch=Epoch(3),
    available=10,
    pending=0,
    sold=0,
)
COST_US_MAX = 5
"""Ten times what it costs on a quiet machine."""


class TurnedClock:
    """A clock that a test turns."""

    ms = 1_000_000

    def now_ms(self) -> int:
        """Tell the time that the test set."""
        return self.ms

    def monotonic_ms(self) -> float:
        """Tell the same."""
        return float(self.ms)


class SilentGate(MemoryStockGate):
    """The memory gate, when nobody can reach it."""

    async def books(self, sales: object, *, ages: bool = False) -> list[GateBooks | Unavailable]:
        """Be away."""
        raise Unavailable(Why.GATE_AWAY, f"{sales}")


class SilentOutbox(MemoryOutbox):
    """The database's outbox, when nobody can reach it."""

    async def backlog(self) -> int:
        """Be away."""
        raise Unavailable(Why.DATABASE_AWAY)


@pytest.fixture
def metrics() -> Metrics:
    """Make metrics on a registry of the test's own."""
    return Metrics(CollectorRegistry())


@pytest.fixture
def observer(metrics: Metrics) -> PrometheusObserver:
    """Make an observer on them."""
    return PrometheusObserver(metrics)


@pytest.fixture
def clock() -> TurnedClock:
    """Make a clock that stands still."""
    return TurnedClock()


@pytest.fixture
def board() -> SaleBoard:
    """List one open sale; nobody asks the catalogue."""
    board = SaleBoard(cast("SaleCatalogue", None))
    board.replace([SALE])
    return board


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    """Read one series from the page that Prometheus would read."""
    text = expose(metrics.registry)[0].decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def standing(status: OrderStatus, reason: str | None = None) -> Standing:
    """Make a row as the database returns it."""
    return Standing(
        sale_id=SaleId("1.1"),
        purchase_id=PurchaseId("p"),
        status=status,
        reason=reason,
        is_new=True,
    )


def parked(status: ParkedStatus, reason: str) -> ParkedMessage:
    """Make a message that was set aside."""
    message = Message(channel=Channel.REQUESTS, body=b"?", origin="requests:0:7")
    return ParkedMessage(message=message, status=status, reason=reason)


def decision() -> Decision:
    """Make a purchase that is to be recorded."""
    return Decision(
        sale_id=SALE.sale_id,
        item_id=SALE.item_id,
        purchase_id=PurchaseId("p"),
        user_id=UserId("u"),
        quantity=1,
        source=Source.API,
        event_id=None,
        door=Door.HTTP,
        requested_at_ms=0,
        accepted_at_ms=0,
    )


async def armed(gate: MemoryStockGate) -> MemoryStockGate:
    """Arm the gate for the sale, empty books."""
    token = await gate.begin_load(SALE.sale_id, SALE.epoch, SALE.terms, SALE.state)
    assert token is not None
    empty = GateBooks(
        state=SALE.state,
        initial=10,
        available=10,
        reserved=0,
        outside=0,
        queued=0,
        sold=0,
        records=0,
        users=0,
        journal=0,
    )
    await gate.arm(SALE.sale_id, token, empty)
    return gate


async def reserve(gate: MemoryStockGate, purchase_id: str, quantity: int, door: Door) -> None:
    """Take units."""
    request = PurchaseRequest(
        purchase_id=PurchaseId(purchase_id),
        user_id=UserId("u"),
        item_id=SALE.item_id,
        quantity=quantity,
        requested_at_ms=0,
    )
    batch = ClaimBatch(
        sale_id=SALE.sale_id, epoch=SALE.epoch, door=door, claims=(Claim(request=request),)
    )
    [reply] = await gate.reserve([batch])
    assert isinstance(reply, list)
    assert isinstance(reply[0], Reserved)


def test_an_answer_is_counted_by_door_and_outcome(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """Answers by outcome, the first number that an operator looks at."""
    observer.answered(Door.HTTP, "accepted", PurchaseId("p"))
    observer.answered(Door.HTTP, "sold-out", None)
    observer.answered(Door.HTTP, "sold-out", None)
    name = "flashsale_answers_total"
    assert value(metrics, name, door="http", outcome="accepted") == 1
    assert value(metrics, name, door="http", outcome="sold-out") == 2
    assert value(metrics, name, door="outside", outcome="sold-out") is None


def test_what_an_alert_waits_for_is_there_from_the_start(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """The first thousand of a counter that is born with them are in no rate."""
    for outcome in FROM_THE_START:
        assert value(metrics, "flashsale_answers_total", door="http", outcome=outcome) == 0
    assert value(metrics, "flashsale_orders_total", status="CONFIRMED", reason="") == 0
    assert value(metrics, "flashsale_batch_size_entries_count", stage="fulfil") == 0


def test_counting_an_answer_costs_microseconds_and_not_more(observer: PrometheusObserver) -> None:
    """It stands on the hot path, once a purchase."""
    calls = 5_000
    spent = timeit.repeat(
        lambda: observer.answered(Door.HTTP, "sold-out", None), number=calls, repeat=7
    )
    assert min(spent) / calls * 1e6 < COST_US_MAX


def test_made_up_codes_cannot_grow_without_end(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """A rule of a user's own may invent codes; they are counted as `other` past the limit."""
    for n in range(LABEL_SETS_MAX + 50 - len(FROM_THE_START)):
        observer.answered(Door.HTTP, f"CODE_{n}", None)
    assert value(metrics, "flashsale_answers_total", door="http", outcome="other") == 50


def test_a_new_row_is_counted_by_status_and_reason(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """Orders by status, and why they were rejected."""
    confirmed = standing(OrderStatus.CONFIRMED)
    observer.recorded([confirmed, standing(OrderStatus.REJECTED, "SOLD_OUT"), confirmed])
    name = "flashsale_orders_total"
    assert value(metrics, name, status="CONFIRMED", reason="") == 2
    assert value(metrics, name, status="REJECTED", reason="SOLD_OUT") == 1


def test_a_parked_message_is_counted_by_status_and_reason(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """What was set aside since the start."""
    observer.parked(parked(ParkedStatus.DEAD, "bad-framing"))
    name = "flashsale_parkings_total"
    assert value(metrics, name, status="DEAD", reason="bad-framing") == 1


def test_republished_purchases_are_counted(metrics: Metrics, observer: PrometheusObserver) -> None:
    """Lost publishes show as a number that rises."""
    assert value(metrics, "flashsale_republished_total") == 0
    observer.republished(3)
    assert value(metrics, "flashsale_republished_total") == 3


def test_an_alarm_is_counted_by_kind(metrics: Metrics, observer: PrometheusObserver) -> None:
    """Every kind is there from the start, so that its first rise can be alerted on."""
    assert value(metrics, "flashsale_alarms_total", kind="gate-drift") == 0
    observer.alarm(Alarm.GATE_DRIFT, sale_id="1.1")
    assert value(metrics, "flashsale_alarms_total", kind="gate-drift") == 1


def test_a_batch_shows_in_its_stages_histograms(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """Sizes in entries, latencies in seconds."""
    observer.batch("fulfil", 7, 0.003)
    observer.batch("fulfil", 700, 0.7)
    size, seconds = "flashsale_batch_size_entries", "flashsale_batch_duration_seconds"
    assert value(metrics, f"{size}_bucket", stage="fulfil", le="10.0") == 1
    assert value(metrics, f"{size}_sum", stage="fulfil") == 707
    assert value(metrics, f"{seconds}_bucket", stage="fulfil", le="0.005") == 1
    assert value(metrics, f"{seconds}_count", stage="fulfil") == 2


async def test_stock_epoch_state_and_journal_are_read_from_the_gate(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """Stock by sale, as it stands in the gate; the journal's size and age."""
    gate = await armed(MemoryStockGate(clock))
    sampler = Sampler(metrics, board=board, gate=gate, clock=clock)
    await reserve(gate, "a", 3, Door.HTTP)
    await reserve(gate, "b", 2, Door.OUTSIDE)
    await reserve(gate, "c", 1, Door.ACCEPTED)
    await sampler.sample()
    stock = {
        place: value(metrics, "flashsale_stock_units", sale="1.1", standing=place)
        for place in ("available", "reserved", "outside", "queued", "sold")
    }
    assert stock == {"available": 4, "reserved": 3, "outside": 2, "queued": 1, "sold": 0}
    assert value(metrics, "flashsale_sales") == 1
    assert value(metrics, "flashsale_sale_epoch", sale="1.1") == 3
    assert value(metrics, "flashsale_sale_armed", sale="1.1") == 1
    assert value(metrics, "flashsale_sale_state", sale="1.1", state="OPEN") == 1
    assert value(metrics, "flashsale_sale_state", sale="1.1", state="PAUSED") == 0
    assert value(metrics, "flashsale_journal_purchases", sale="1.1") == 3
    assert value(metrics, "flashsale_journal_overdue_seconds", sale="1.1") == 0
    assert value(metrics, "flashsale_dependency_up", name="gate") == 1
    assert value(metrics, "flashsale_sampled_timestamp_seconds", source="gate") == 1_000
    assert value(metrics, "flashsale_journal_age_seconds", sale="1.1") == 0
    clock.ms += RESERVED_DUE_MS + 2_000
    await sampler.sample()
    assert value(metrics, "flashsale_journal_overdue_seconds", sale="1.1") == 2
    assert (
        value(metrics, "flashsale_journal_age_seconds", sale="1.1") == RESERVED_DUE_MS / 1_000 + 2
    )


async def test_a_gate_that_is_silent_shows_no_old_numbers(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """An outage must not look like a sale at rest."""
    await Sampler(
        metrics, board=board, gate=await armed(MemoryStockGate(clock)), clock=clock
    ).sample()
    await Sampler(metrics, board=board, gate=SilentGate(clock), clock=clock).sample()
    assert value(metrics, "flashsale_stock_units", sale="1.1", standing="available") is None
    assert value(metrics, "flashsale_journal_purchases", sale="1.1") is None
    assert value(metrics, "flashsale_sale_armed", sale="1.1") == 0
    assert value(metrics, "flashsale_dependency_up", name="gate") == 0


async def test_an_unarmed_sale_shows_as_such_while_the_gate_is_up(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """One sale's trouble is not the gate's."""
    await Sampler(metrics, board=board, gate=MemoryStockGate(clock), clock=clock).sample()
    assert value(metrics, "flashsale_sale_armed", sale="1.1") == 0
    assert value(metrics, "flashsale_dependency_up", name="gate") == 1


async def test_a_sale_that_left_the_list_leaves_the_page(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """Settled sales must not pile up."""
    gate = await armed(MemoryStockGate(clock))
    sampler = Sampler(metrics, board=board, gate=gate, clock=clock)
    await sampler.sample()
    board.replace([])
    await sampler.sample()
    assert b'sale="1.1"' not in expose(metrics.registry)[0]


async def test_of_too_many_sales_those_that_sell_are_shown(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """What was closed long ago and never settled hides no sale from board and alerts."""

    def sale(item: str, state: SaleState) -> Sale:
        return attrs.evolve(SALE, item_id=ItemId(item), state=state)

    old = [sale(f"a{n}", SaleState.CLOSED) for n in range(SALES_SAMPLED_MAX)]
    board.replace([*old, sale("y", SaleState.OPEN), sale("z", SaleState.HALTED)])
    await Sampler(metrics, board=board, gate=MemoryStockGate(clock), clock=clock).sample()
    assert value(metrics, "flashsale_sales") == SALES_SAMPLED_MAX + 2
    shown = [value(metrics, "flashsale_sale_armed", sale=f"{item}.1") for item in ("y", "z")]
    assert shown == [0, 0]


async def test_consumer_lag_is_read_from_the_subscription(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """Messages that wait, by channel."""
    bus = MemoryBus(PlainCodec(), publish_deadline_ms=1)
    fact = PurchasesAccepted(sale_id=SALE.sale_id, epoch=SALE.epoch, purchases=())
    with pytest.raises(Unavailable):
        await bus.publish([fact, fact])
    async with bus.subscribe(Channel.ACCEPTED, messages_max=1) as subscription:
        await Sampler(
            metrics,
            board=board,
            gate=MemoryStockGate(clock),
            clock=clock,
            subscriptions={Channel.ACCEPTED: subscription},
        ).sample()
    assert value(metrics, "flashsale_consumer_lag_messages", channel="accepted") == 2
    assert value(metrics, "flashsale_consumer_lag_messages", channel="requests") is None
    assert value(metrics, "flashsale_dependency_up", name="bus") == 1


def test_a_look_at_a_payment_is_counted_by_what_it_came_to(
    metrics: Metrics, observer: PrometheusObserver
) -> None:
    """Charged and declined are ends; the others say what a provider is like today."""
    for came_to in ("charged", "unknown", "unknown"):
        observer.paid(PurchaseId("p"), came_to)
    name = "flashsale_payments_total"
    assert value(metrics, name, outcome="charged") == 1
    assert value(metrics, name, outcome="unknown") == 2
    assert value(metrics, name, outcome="declined") is None


async def test_open_payments_are_counted_and_the_oldest_ages(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """Pending ones, those that wait for a person, and for how long; gone with their ends."""
    database = MemoryDatabase(clock)
    terms = SaleTerms(units=5, unit_price_minor=1, currency="CHF")
    sale = await database.catalogue.create(ItemId("1"), terms)
    due = [
        attrs.evolve(decision(), awaits_payment=True, purchase_id=PurchaseId(f"p{n}"))
        for n in range(3)
    ]
    await database.orders.record(due, {sale.sale_id: sale.epoch})
    gate = MemoryStockGate(clock)
    sampler = Sampler(metrics, board=board, gate=gate, clock=clock, payments=database.payments)
    clock.ms += 7_000
    [first, second, _] = await database.payments.claim_due(10, 60_000)
    await database.payments.flag(first, "x")
    await sampler.sample()
    assert value(metrics, "flashsale_open_payments", state="pending") == 2
    assert value(metrics, "flashsale_open_payments", state="flagged") == 1
    assert value(metrics, "flashsale_open_payment_age_seconds") == 7
    await database.payments.settle(second, Charged(reference="ch"))
    await sampler.sample()
    assert value(metrics, "flashsale_open_payments", state="pending") == 1


async def test_parked_messages_and_the_outbox_are_counted_in_the_database(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """What waits for a person, and what waits to be told."""
    database = MemoryDatabase(clock)
    await database.catalogue.create(SALE.item_id, SALE.terms)
    await database.orders.record([decision()], {SALE.sale_id: Epoch(1)})
    await database.parked.park([parked(ParkedStatus.DEAD, "bad-framing")])
    await Sampler(
        metrics,
        board=board,
        gate=MemoryStockGate(clock),
        clock=clock,
        parked=database.parked,
        letters=database.letters,
        outbox=database.outbox,
    ).sample()
    assert value(metrics, "flashsale_parked_messages", status="DEAD") == 1
    assert value(metrics, "flashsale_parked_messages", status="WAITING") == 0
    assert value(metrics, "flashsale_outbox_backlog_events") == 1
    assert value(metrics, "flashsale_dependency_up", name="database") == 1
    assert value(metrics, "flashsale_sampled_timestamp_seconds", source="database") == 1_000


async def test_a_dead_letter_that_holds_a_unit_is_shown_for_as_long_as_it_lies_there(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """A counter rises once, at night; this one stays up until somebody acted."""
    database, name = MemoryDatabase(clock), "flashsale_dead_letters_holding_unit_messages"
    sampler = Sampler(
        metrics,
        board=board,
        gate=MemoryStockGate(clock),
        clock=clock,
        letters=database.letters,
        outbox=database.outbox,
    )
    letter = parked(ParkedStatus.DEAD, "RuntimeError")
    await database.parked.park([attrs.evolve(letter, holds_unit=True)])
    for _ in range(2):
        await sampler.sample()
        assert value(metrics, name) == 1
    await database.letters.discard(1)
    await sampler.sample()
    assert value(metrics, name) == 0


async def test_a_database_that_is_silent_leaves_the_gates_numbers_fresh(
    metrics: Metrics, board: SaleBoard, clock: TurnedClock
) -> None:
    """One source away is one source away, and its own numbers vanish."""
    gate = await armed(MemoryStockGate(clock))
    parked = MemoryDatabase(clock).parked
    outbox = MemoryOutbox(Tables(clock=clock))
    for one in (outbox, SilentOutbox(Tables(clock=clock))):
        await Sampler(
            metrics, board=board, gate=gate, clock=clock, parked=parked, outbox=one
        ).sample()
    assert value(metrics, "flashsale_dependency_up", name="database") == 0
    assert value(metrics, "flashsale_parked_messages", status="DEAD") is None
    backlog = value(metrics, "flashsale_outbox_backlog_events")
    assert backlog is not None
    assert isnan(backlog)
    assert value(metrics, "flashsale_stock_units", sale="1.1", standing="available") == 10


def test_any_dependency_can_be_told_up_or_down(metrics: Metrics) -> None:
    """Readiness checks know more dependencies than the sampler reads."""
    metrics.dependencies({"registry": False, "bus": True})
    assert value(metrics, "flashsale_dependency_up", name="registry") == 0
    assert value(metrics, "flashsale_dependency_up", name="bus") == 1


def test_drift_is_told_by_sale_and_a_settled_sale_no_more(metrics: Metrics) -> None:
    """Anything but zero is wrong, and a sale that is over must not look wrong for ever."""
    metrics.drift({"1.1": 3, "2.1": 0})
    assert value(metrics, "flashsale_drift_purchases", sale="1.1") == 3
    assert value(metrics, "flashsale_drift_purchases", sale="2.1") == 0
    metrics.drift({"2.1": 0})
    assert value(metrics, "flashsale_drift_purchases", sale="1.1") is None


def test_two_registries_do_not_know_each_other() -> None:
    """Nothing is global: an application of the user's own keeps its metrics apart from ours."""
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    PrometheusObserver(one).republished(1)
    assert value(other, "flashsale_republished_total") == 0


def test_the_page_holds_what_the_catalogue_describes_and_no_more(metrics: Metrics) -> None:
    """A metric that is not documented cannot exist, nor one that is not there be documented."""
    text = expose(metrics.registry)[0].decode()
    exposed = {family.name: family.type for family in text_string_to_metric_families(text)}
    described = {one.name.removesuffix("_total"): one.kind.value for one in METRICS}
    assert exposed == described
    assert "_created" not in text


def test_names_end_with_their_unit() -> None:
    """Counters with `_total`; the others with what they count."""
    for one in METRICS:
        assert one.name.endswith("_total") == (one.kind is Kind.COUNTER)
        assert (one.kind is Kind.HISTOGRAM) == bool(one.buckets)


def test_the_document_is_what_the_code_says() -> None:
    """Written by `python -m flashsale_prometheus > docs/metrics.md`."""
    assert DOCUMENT.read_text() == page()
