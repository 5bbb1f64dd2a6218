"""What was accepted is charged once, and is an order or back on sale when that is known."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from flashsale_core.errors import Corrupt, Invalid, Unavailable, Why
from flashsale_core.events import OrderEventType
from flashsale_core.inquiry import PurchaseStatus
from flashsale_core.model import (
    ItemId,
    OrderStatus,
    PurchaseId,
    PurchaseState,
    Reason,
    SaleId,
    SaleTerms,
)
from flashsale_core.occurrence import payment_key
from flashsale_core.outcomes import Accepted, Ended, KeyReused, Refused
from flashsale_core.payment import CHARGE_WINDOW_MS, Cashier, Held, PaymentWaits
from flashsale_core.ports import Alarm
from flashsale_core.validation import TOKEN_MISSING
from flashsale_memory.payment_gateway import MemoryPaymentGateway
from tests.unit.world import World, request

TOKEN = "tok-4111"
PRICE = 4_990
KEY = payment_key(SaleId("1.1"), PurchaseId("p1"))
WAITS = PaymentWaits(
    deadline_ms=10_000, lease_ms=60_000, retry_initial_ms=1_000, retry_max_ms=300_000
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Till:
    """A world whose sale is paid for, and a cashier who works when told."""

    def __init__(self) -> None:
        """Wire it."""
        self.gateway = MemoryPaymentGateway()
        self.world = World(gateway=self.gateway)
        self.cashier = self.another()

    def another(self) -> Cashier:
        """Have another worker's cashier beside this one."""
        world = self.world
        return Cashier(
            payments=world.database.payments,
            gateway=self.gateway,
            gate=world.gate,
            observer=world.witness,
            clock=world.clock,
            waits=WAITS,
            chance=lambda: 1.0,
        )

    async def open(self, **terms: Any) -> None:
        """Open a sale of ten units with a price."""
        wanted = {"units": 10, "unit_price_minor": PRICE, "currency": "CHF", **terms}
        await self.world.selling.init(ItemId("1"), SaleTerms(**wanted))

    async def buy(self, purchase: str = "p1", token: str | None = TOKEN, **how: Any) -> Any:
        """Buy over HTTP, recorded by a worker."""
        async with self.world.worker():
            return await self.world.desk.buy(request(purchase, token=token, **how))

    async def work(self) -> int:
        """Handle all that is due; say how much that was."""
        claimed = await self.cashier.claim(100)
        for held in claimed:
            await self.cashier.handle(held)
        return len(claimed)

    async def status(self, purchase: str = "p1") -> tuple[OrderStatus, str | None]:
        """Say how the row stands."""
        order = await self.world.order(purchase)
        assert order is not None
        return order.status, order.reason

    async def counts(self) -> tuple[int, int, int]:
        """Show the database's units and see that the gate's agree."""
        sale = await self.world.database.catalogue.get(SaleId("1.1"))
        assert sale is not None
        books = await self.world.books()
        assert books.available == sale.available
        assert (books.reserved, books.outside) == (0, 0)
        assert (books.queued, books.sold) == (sale.pending, sale.sold)
        return sale.available, sale.pending, sale.sold

    def turn(self, ms: int) -> None:
        """Let time pass."""
        self.world.clock.ms += ms


@pytest.fixture
async def till() -> Till:
    """Open a sale that is paid for."""
    till = Till()
    await till.open()
    return till


PENDING = (OrderStatus.PENDING_PAYMENT, None)
CONFIRMED = (OrderStatus.CONFIRMED, None)
DECLINED = (OrderStatus.REJECTED, Reason.PAYMENT_DECLINED.value)


# ── the way of a payment ────────────────────────────────────────────────────────────────────────


async def test_what_was_accepted_is_pending_until_it_is_paid(till: Till) -> None:
    """The row stands before anybody is charged; the units are held, and nothing is told."""
    assert isinstance(await till.buy(), Accepted)
    assert await till.status() == PENDING
    assert await till.counts() == (9, 1, 0)
    assert till.gateway.calls == []
    assert await till.world.events() == []


async def test_a_paid_purchase_is_an_order_and_its_unit_is_sold(till: Till) -> None:
    """Charged once, with the price of all its units; one event; the gate follows."""
    await till.buy(quantity=3)
    assert await till.work() == 1
    assert await till.status() == CONFIRMED
    assert await till.counts() == (7, 0, 3)
    [charge] = till.gateway.charges.values()
    assert (charge.amount_minor, charge.currency, charge.key) == (3 * PRICE, "CHF", KEY)
    [event] = await till.world.events()
    assert event.type is OrderEventType.ORDER_CREATED
    assert till.world.witness.payments == ["charged"]


async def test_a_declined_purchase_returns_its_unit_once_and_it_can_be_bought_again(
    till: Till,
) -> None:
    """REJECTED with its event, then the unit; the id stays burned."""
    await till.buy(token="declined-card", quantity=10)
    await till.work()
    assert await till.status() == DECLINED
    assert await till.counts() == (10, 0, 0)
    [event] = await till.world.events()
    assert (event.type, event.reason) == (
        OrderEventType.PURCHASE_REJECTED,
        Reason.PAYMENT_DECLINED.value,
    )
    again = await till.buy(token="tok", quantity=10)
    assert again == Ended(purchase_id=PurchaseId("p1"), reason=Reason.PAYMENT_DECLINED.value)
    assert isinstance(await till.buy("p2", quantity=10), Accepted)
    assert await till.work() == 1
    assert await till.counts() == (0, 0, 10)


async def test_a_limit_is_free_again_after_a_decline() -> None:
    """A buyer whose card failed may try with another."""
    till = Till()
    await till.open(per_user_limit=1)
    await till.buy(token="declined")
    await till.work()
    assert isinstance(await till.buy("p2"), Accepted)


async def test_the_gate_follows_the_row_and_never_the_other_way(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the gate hears of a release, the REJECTED row stands already."""
    await till.buy(token="declined")
    seen = []
    follow = till.world.gate.follow

    async def watched(batches: Any) -> Any:
        seen.append(await till.status())
        return await follow(batches)

    monkeypatch.setattr(till.world.gate, "follow", watched)
    await till.work()
    assert seen == [DECLINED]


async def test_a_terminal_state_is_told_with_its_traceparent(till: Till) -> None:
    """The log line of an end names purchase and trace."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with till.world.worker():
        await till.world.desk.buy(attrs.evolve(request(token=TOKEN), traceparent=trace))
    await till.work()
    ends = [(one.status, one.purchase_id, one.traceparent) for one in till.world.witness.rows]
    assert ends == [
        (OrderStatus.PENDING_PAYMENT, "p1", trace),
        (OrderStatus.CONFIRMED, "p1", trace),
    ]
    assert [one.traceparent for one in await till.world.events()] == [trace]


# ── unknown outcomes ────────────────────────────────────────────────────────────────────────────


def _lose(calls: int, *, what: str = "charge") -> Callable[[str, str], None]:
    """Make the provider silent, so many times."""
    left = [calls]

    def before(call: str, _: str) -> None:
        if call == what and left[0]:
            left[0] -= 1
            raise Unavailable(Why.PAYMENT_AWAY, "silent", may_have_happened=True)

    return before


async def test_a_charge_whose_reply_was_lost_is_looked_up_and_not_made_again(till: Till) -> None:
    """It was made: the look-up says so."""
    await till.buy(token="lost-reply")
    await till.work()
    assert await till.status() == PENDING
    assert await till.counts() == (9, 1, 0)
    till.turn(1_000)
    await till.work()
    assert await till.status() == CONFIRMED
    assert [call for call, _ in till.gateway.calls] == ["charge", "look_up"]
    assert till.world.witness.payments == ["unknown", "charged"]


async def test_a_charge_that_never_arrived_is_asked_again_under_the_same_key(till: Till) -> None:
    """The gateway never heard of it, so nobody was charged."""
    till.gateway.before = _lose(1)
    await till.buy()
    await till.work()
    till.turn(1_000)
    await till.work()
    assert await till.status() == CONFIRMED
    assert till.gateway.calls == [("charge", KEY), ("look_up", KEY), ("charge", KEY)]
    assert len(till.gateway.charges) == 1


async def test_a_charge_in_progress_is_looked_up_until_it_ends(till: Till) -> None:
    """And never asked again meanwhile."""
    await till.buy(token="slow")
    for _ in range(3):
        assert await till.status() == PENDING
        await till.work()
        till.turn(300_000)
    assert await till.status() == CONFIRMED
    assert [call for call, _ in till.gateway.calls] == ["charge", "look_up", "look_up"]


async def test_nothing_is_released_while_the_provider_is_away(till: Till) -> None:
    """For hours: every purchase stays pending, and none is lost when it comes back."""
    for number in range(5):
        await till.buy(f"p{number}", user=f"u{number}")
    away = True

    def before(_call: str, _key: str) -> None:
        if away:
            raise Unavailable(Why.PAYMENT_AWAY, "connection refused")

    till.gateway.before = before
    for _ in range(30):
        await till.work()
        till.turn(300_000)
    assert await till.counts() == (5, 5, 0)
    away = False
    await till.work()
    assert await till.counts() == (5, 0, 5)
    assert len(till.gateway.charges) == 5
    assert len(await till.world.events()) == 5


async def test_the_waits_double_up_to_their_limit(till: Till) -> None:
    """A provider that is down is not stormed."""
    till.gateway.before = _lose(100, what="look_up")
    await till.buy(token="lost")
    waits = []
    for _ in range(12):
        assert await till.work() == 1
        before = till.world.clock.ms
        while not (claimed := await till.cashier.claim(1)):
            till.turn(1_000)
        waits.append((till.world.clock.ms - before) // 1_000)
        for held in claimed:
            await till.cashier.handle(held)
        till.turn(300_000)
    assert waits[0] == 1
    assert max(waits) == 300
    assert waits == sorted(waits)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
async def test_every_wait_is_within_its_bounds(attempt: int, chance: float) -> None:
    """Whatever the attempt's number and the dice say: at least half, at most the longest."""
    till = Till()
    await till.open()
    await till.buy(token="lost")
    till.cashier._chance = lambda: chance
    [held] = await till.cashier.claim(1)
    row = till.world.database.payments._tables.payments[SaleId("1.1"), PurchaseId("p1")]
    row.attempt = attempt
    due = attrs.evolve(held.due, attempt=attempt)
    await till.cashier._later(attrs.evolve(held, due=due), "unknown", "x")
    wait_ms = row.due_at_ms - till.world.clock.ms
    bound_ms = min(300_000, 1_000 * 2 ** min(attempt - 1, 32))
    assert bound_ms // 2 <= wait_ms <= bound_ms


# ── the window in which a key may charge ────────────────────────────────────────────────────────


async def _asked_long_ago(till: Till) -> None:
    """Ask once, never arrive, and let the window pass."""
    till.gateway.before = _lose(1)
    await till.buy()
    await till.work()
    till.turn(CHARGE_WINDOW_MS)


async def test_no_charge_is_asked_later_than_20_h_after_the_first(till: Till) -> None:
    """Only a look-up; what the provider never heard of is left to a person, and still held."""
    await _asked_long_ago(till)
    await till.work()
    assert [call for call, _ in till.gateway.calls] == ["charge", "look_up"]
    assert till.gateway.charges == {}
    assert await till.status() == PENDING
    assert await till.counts() == (9, 1, 0)
    assert till.world.witness.alarms == [Alarm.PAYMENT_FLAGGED]
    [flagged] = await till.world.database.payments.flagged(10)
    assert flagged.purchase_id == "p1"
    till.turn(CHARGE_WINDOW_MS)
    assert await till.work() == 0


async def test_shortly_before_20_h_a_charge_is_asked_still(till: Till) -> None:
    """The limit is the limit, and not earlier."""
    till.gateway.before = _lose(1)
    await till.buy()
    await till.work()
    till.turn(CHARGE_WINDOW_MS - 1)
    await till.work()
    assert await till.status() == CONFIRMED


async def test_what_was_charged_long_ago_is_found_by_the_look_up(till: Till) -> None:
    """However late: the charge was made, so the order is."""
    await till.buy(token="lost")
    await till.work()
    till.turn(3 * CHARGE_WINDOW_MS)
    await till.work()
    assert await till.status() == CONFIRMED


async def test_a_provider_that_is_away_past_the_window_is_asked_on(till: Till) -> None:
    """By look-ups alone, until it says how it stands."""
    await _asked_long_ago(till)
    till.gateway.before = _lose(2, what="look_up")
    for _ in range(2):
        await till.work()
        till.turn(300_000)
    assert await till.status() == PENDING
    assert till.world.witness.alarms == []
    assert [call for call, _ in till.gateway.calls].count("charge") == 1


async def test_time_that_a_worker_stood_still_counts_too(till: Till) -> None:
    """One that was frozen between its claim and its call does not charge by an old claim."""
    await till.buy()
    [held] = await till.cashier.claim(1)
    till.turn(WAITS.lease_ms - WAITS.deadline_ms)
    await till.cashier.handle(held)
    assert till.gateway.calls == []
    assert till.world.witness.payments == ["abandoned"]
    till.turn(WAITS.deadline_ms)
    await till.work()
    assert await till.status() == CONFIRMED


async def test_a_machine_that_slept_does_not_charge_by_an_old_claim(till: Till) -> None:
    """The monotonic clock may stand still meanwhile; the wall clock does not."""
    await till.buy()
    [held] = await till.cashier.claim(1)
    slept = Held(due=held.due, since_ms=held.since_ms, since_wall_ms=held.since_wall_ms - 60_000)
    await till.cashier.handle(slept)
    assert till.gateway.calls == []


def test_a_lease_is_longer_than_the_calls_of_a_claim() -> None:
    """Else two workers would call at once."""
    with pytest.raises(ValueError, match="two deadlines"):
        attrs.evolve(WAITS, lease_ms=20_000)


# ── leases ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_that_lost_its_lease_stores_nothing(till: Till) -> None:
    """Its late decline cannot undo what another stored; the gate does not follow it either."""
    await till.buy()
    [old] = await till.cashier.claim(1)
    till.turn(WAITS.lease_ms)
    await till.work()
    assert await till.status() == CONFIRMED
    late = attrs.evolve(old, since_ms=till.world.clock.ms, since_wall_ms=till.world.clock.ms)
    await till.cashier.handle(late)
    assert till.world.witness.payments == ["charged", "lease-lost"]
    assert await till.counts() == (9, 0, 1)
    assert len(till.gateway.charges) == 1
    assert len(await till.world.events()) == 1


async def test_two_cashiers_side_by_side_handle_each_payment_once(till: Till) -> None:
    """What one holds the other does not get."""
    for number in range(6):
        await till.buy(f"p{number}", user=f"u{number}")
    other = till.another()
    mine, theirs = await till.cashier.claim(3), await other.claim(10)
    assert len(mine) == len(theirs) == 3
    for held in mine:
        await till.cashier.handle(held)
    for held in theirs:
        await other.handle(held)
    assert len(till.gateway.calls) == 6
    assert await till.counts() == (4, 0, 6)


# ── for a person ────────────────────────────────────────────────────────────────────────────────


async def test_a_question_that_the_gateway_refuses_is_left_to_a_person(till: Till) -> None:
    """Wrong credentials are no buyer's decline: flagged, alarmed, held."""
    await till.buy(token="broken")
    await till.work()
    assert till.world.witness.payments == ["flagged"]
    assert till.world.witness.alarms == [Alarm.PAYMENT_FLAGGED]
    assert await till.counts() == (9, 1, 0)


async def test_a_person_resumes_what_was_flagged(till: Till) -> None:
    """Then it is looked up, and asked again under the same key."""

    def broken(call: str, _: str) -> None:
        if call == "charge":
            raise Corrupt("payment-refused", "answered 401")

    till.gateway.before = broken
    await till.buy()
    await till.work()
    till.gateway.before = _lose(0)
    assert await till.world.database.payments.resume(SaleId("1.1"), PurchaseId("p1"))
    await till.work()
    assert await till.status() == CONFIRMED
    assert {key for _, key in till.gateway.calls} == {KEY}


async def test_a_promise_without_a_token_is_left_to_a_person() -> None:
    """It was given before the sale took payment: nobody is charged, nothing is released."""
    till = Till()
    await till.open()
    till.world.desk._rules = ()
    await till.buy(token=None)
    await till.work()
    assert till.gateway.calls == []
    [flagged] = await till.world.database.payments.flagged(10)
    assert TOKEN_MISSING in flagged.detail


# ── doors and sales ─────────────────────────────────────────────────────────────────────────────


async def test_a_new_purchase_without_a_token_is_refused_at_both_doors(till: Till) -> None:
    """Before a unit is taken; over the topic as a REJECTED row with that reason."""
    refused = await till.buy(token=None)
    assert isinstance(refused, Refused)
    assert refused.code == TOKEN_MISSING
    assert "paymentToken" in refused.detail
    message = till.world.message(request("p2"))
    assert (await till.world.fulfilment.process([message])).left == [[]]
    assert await till.status("p2") == (OrderStatus.REJECTED, TOKEN_MISSING)
    assert await till.counts() == (10, 0, 0)


async def test_a_repeat_without_its_token_gets_its_old_answer(till: Till) -> None:
    """The token is no part of the fingerprint: what is held needs no second one."""
    await till.buy()
    assert isinstance(await till.buy(token=None), Accepted)
    assert isinstance(await till.buy(user="bob"), KeyReused)
    await till.work()
    again = await till.buy(token=None)
    assert isinstance(again, Accepted)
    assert again.is_sold


async def test_a_message_of_another_service_with_the_same_id_costs_no_token(till: Till) -> None:
    """It has no field for one, and may come before the buyer's own message does."""
    # Without a worker the memory bus confirms nothing in time: the outcome is unknown.
    await till.world.desk.buy(request("p1", token=TOKEN))
    message = till.world.message(request("p1"))
    assert (await till.world.fulfilment.process([message])).left == [[]]
    assert await till.status() == PENDING
    await till.work()
    assert await till.status() == CONFIRMED


async def test_a_repeat_while_pending_is_answered_and_charges_nobody(till: Till) -> None:
    """Q says that the promise is safe; the row stays pending."""
    await till.buy()
    for _ in range(3):
        answer = await till.buy()
        assert isinstance(answer, Accepted)
        assert not answer.is_sold
    assert await till.work() == 1
    assert len(till.gateway.charges) == 1


async def test_a_message_that_comes_again_leaves_a_pending_purchase_alone(till: Till) -> None:
    """Neither sold nor released: the gate keeps it queued, whoever follows."""
    await till.buy()
    record = (await till.world.gate.find([(SaleId("1.1"), 1)], PurchaseId("p1")))[0]  # type: ignore[list-item]
    assert getattr(record, "state", None) is PurchaseState.QUEUED
    till.turn(24 * 3_600_000)
    assert await till.world.sweeper.sweep() == 0
    assert await till.counts() == (9, 1, 0)


async def test_an_inquiry_shows_that_the_payment_is_pending(till: Till) -> None:
    """As the row says it, also while another sale's gate is silent."""
    await till.buy()
    other = SaleTerms(units=1, unit_price_minor=0, currency="CHF")
    view = await till.world.selling.init(ItemId("2"), other)
    await till.world.database.catalogue.raise_epoch(view.sale.sale_id)
    await till.world.board.refresh()
    pending = await till.world.inquiry.find(PurchaseId("p1"))
    assert pending is not None
    assert pending.status is PurchaseStatus.PENDING_PAYMENT
    await till.work()
    paid = await till.world.inquiry.find(PurchaseId("p1"))
    assert paid is not None
    assert paid.status is PurchaseStatus.CONFIRMED


async def test_a_sale_is_not_settled_while_a_payment_is_pending(till: Till) -> None:
    """It says what it waits for."""
    await till.buy()
    await till.world.selling.close(SaleId("1.1"))
    with pytest.raises(Exception, match="1 units pending payment"):
        await till.world.selling.settle(SaleId("1.1"))
    await till.work()
    await till.world.selling.settle(SaleId("1.1"))


async def test_with_a_gateway_a_sale_needs_a_price(till: Till) -> None:
    """Both fields are named at once."""
    with pytest.raises(Invalid) as wrong:
        await till.world.selling.init(ItemId("2"), SaleTerms(units=1))
    assert [one.field for one in wrong.value.violations] == ["unitPriceMinor", "currency"]


@pytest.mark.parametrize("price", [None, 0])
async def test_what_costs_nothing_is_an_order_at_once(price: int | None) -> None:
    """A free sale, and one that was made before the gateway was configured."""
    till = Till()
    till.world.selling._has_gateway = False
    terms = {"unit_price_minor": price, "currency": None if price is None else "CHF"}
    await till.open(**terms)
    await till.buy(token=None)
    assert await till.status() == CONFIRMED
    assert await till.counts() == (9, 0, 1)
    assert await till.work() == 0


async def test_without_a_gateway_nothing_is_paid_for() -> None:
    """Today's behaviour, whatever the sale costs."""
    world = World()
    wanted = SaleTerms(units=1, unit_price_minor=PRICE, currency="CHF")
    await world.selling.init(ItemId("1"), wanted)
    async with world.worker():
        await world.desk.buy(request())
    order = await world.order("p1")
    assert order is not None
    assert order.status is OrderStatus.CONFIRMED


# ── the gate is not there ───────────────────────────────────────────────────────────────────────


async def test_while_the_gate_is_unarmed_the_row_ends_and_nothing_follows(till: Till) -> None:
    """A rebuild reads the rows, ended ones and pending ones."""
    from flashsale_core.arming import rebuild_stopped  # noqa: PLC0415 - used here alone

    await till.buy(token="declined")
    await till.buy("p2", user="bob")
    world, sale_id = till.world, SaleId("1.1")
    await world.database.catalogue.raise_epoch(sale_id)
    [first, second] = await till.cashier.claim(2)
    await till.cashier.handle(first)
    assert await till.status() == DECLINED
    await rebuild_stopped(world.database.catalogue, world.gate, sale_id)
    await world.board.refresh()
    assert await till.counts() == (9, 1, 0)
    await till.cashier.handle(second)
    assert await till.counts() == (9, 0, 1)


async def test_a_gate_that_is_away_is_followed_by_the_sweeper_later(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row stands; its unit returns when the journal entry is overdue, once."""
    await till.buy(token="declined")

    async def away(_: Any) -> Any:
        raise Unavailable(Why.GATE_AWAY, "no answer", may_have_happened=True)

    with monkeypatch.context() as patched:
        patched.setattr(till.world.gate, "follow", away)
        await till.work()
    assert await till.status() == DECLINED
    assert (await till.world.books()).available == 9
    till.turn(24 * 3_600_000)
    await till.world.sweeper.sweep()
    assert await till.counts() == (10, 0, 0)


async def test_the_gate_follows_under_the_epoch_of_the_settling_transaction(till: Till) -> None:
    """A cashier needs no list of sales that could be old."""
    from flashsale_core.arming import rebuild_stopped  # noqa: PLC0415 - used here alone

    await till.buy()
    await rebuild_stopped(till.world.database.catalogue, till.world.gate, SaleId("1.1"))
    await till.work()
    await till.world.board.refresh()
    assert await till.counts() == (9, 0, 1)


# ── the token ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("token", ["tok-secret-1", "declined-secret-1"])
async def test_the_token_is_erased_at_the_end(till: Till, token: str) -> None:
    """From the row and from the gate; it was never in an event nor in what is shown."""
    await till.buy(token=token)
    [held] = await till.cashier.claim(1)
    assert token not in repr(held)
    await till.cashier.handle(held)
    tables = till.world.database.payments._tables
    assert tables.payments == {}
    shown = repr((tables.orders, await till.world.events(), till.world.witness.__dict__))
    assert "secret" not in shown
    assert "secret" not in repr(vars(till.world.gate))
    [record] = await till.world.gate.find([(SaleId("1.1"), 1)], PurchaseId("p1"))  # type: ignore[list-item]
    assert getattr(record, "payment_token", "there") is None
