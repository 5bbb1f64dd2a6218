"""The public strategies draw every value of the domain, valid and consistent."""

import inspect
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from flashsale_core import charges, events, model, outcomes
from flashsale_core.events import (
    Barrier,
    Message,
    OrderEvent,
    OrderEventType,
    ParkedMessage,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import (
    IDENTIFIER,
    TRACEPARENT,
    GateRecord,
    ItemId,
    Order,
    OrderStatus,
    PurchaseRequest,
    PurchaseState,
    Sale,
    SaleTerms,
    sale_id_of,
)
from flashsale_core.occurrence import occurrence_id
from flashsale_core.outcomes import (
    Accepted,
    Closed,
    Ended,
    KeyReused,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
    UnknownItem,
)
from flashsale_core.testing import strategies
from flashsale_core.testing.strategies import (
    buy_answers,
    gate_answers,
    gate_records,
    identifiers,
    order_events,
    orders,
    parked_messages,
    payment_tokens,
    purchase_requests,
    purchases_accepted,
    quantities,
    reasons,
    refusal_codes,
    sale_terms,
    sales,
    traceparents,
)

QUICK = settings(max_examples=50, deadline=None)


def values_of(module: ModuleType) -> list[type]:
    """List the frozen values that a module defines."""
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if attrs.has(kind) and kind.__module__ == module.__name__
    ]


DRAWN_BY: dict[type, st.SearchStrategy[Any]] = {
    PurchaseRequest: purchase_requests(),
    SaleTerms: sale_terms(),
    Sale: sales(),
    GateRecord: gate_records(),
    Order: orders(),
    PurchaseAccepted: strategies.accepted_purchases(),
    PurchasesAccepted: purchases_accepted(),
    Barrier: strategies.barriers(),
    OrderEvent: order_events(),
    Message: strategies.messages(),
    ParkedMessage: parked_messages(),
    **dict.fromkeys((Reserved, Replayed), gate_answers()),
    **dict.fromkeys((SoldOut, LimitReached, NotOpen, Closed, Refused), strategies.refusals()),
    RateLimited: strategies.rate_limits_reached(),
    charges.Charge: strategies.charges(),
    **dict.fromkeys(
        (charges.Charged, charges.Declined, charges.InProgress, charges.NeverHeard),
        strategies.look_up_answers(),
    ),
    charges.DuePayment: strategies.due_payments(),
    charges.FlaggedPayment: strategies.flagged_payments(),
    charges.PaymentCounts: strategies.payment_counts(),
    **dict.fromkeys((Accepted, Ended, OutcomeUnknown, UnknownItem, KeyReused), buy_answers()),
}


@pytest.mark.parametrize(
    "kind", [k for m in (model, events, outcomes, charges) for k in values_of(m)]
)
def test_every_value_of_the_domain_is_drawn(kind: type) -> None:
    """Who adds a value to the domain adds a strategy for it."""
    assert kind in DRAWN_BY, f"no strategy draws {kind.__name__}"
    # Without shrinking: any example will do.
    generate = settings(deadline=None, max_examples=1_000, phases=[Phase.generate], database=None)
    assert find(DRAWN_BY[kind], lambda value: isinstance(value, kind), settings=generate)


@QUICK
@given(st.one_of(*dict.fromkeys(DRAWN_BY.values())))
def test_whatever_is_drawn_can_be_built_again(value: Any) -> None:
    """Every drawn value is equal to itself built anew, so it passed its own validators."""
    assert attrs.evolve(value) == value


@QUICK
@given(identifiers(), payment_tokens(), traceparents(), refusal_codes(), reasons())
def test_words_keep_the_domain_s_own_patterns(
    identifier: str, token: str, traceparent: str, code: str, reason: str
) -> None:
    """The strategies repeat no rule of the domain wrongly."""
    assert IDENTIFIER.fullmatch(identifier)
    assert "\x00" not in token
    assert token.encode()
    assert TRACEPARENT.fullmatch(traceparent)
    assert Refused(code=code).code == code
    assert reason


@QUICK
@given(sales())
def test_a_sale_s_books_agree(sale: Sale) -> None:
    """Conservation holds in every drawn sale, and none is armed ahead of its epoch."""
    assert sale.terms.units == sale.available + sale.pending + sale.sold
    assert 0 <= sale.armed_epoch <= sale.epoch


@QUICK
@given(gate_records())
def test_a_final_record_is_cut(record: GateRecord) -> None:
    """At S and X a gate keeps state, quantity, user and reason, so nothing else is drawn."""
    if record.state.is_final:
        assert record.epoch == record.accepted_at_ms == record.requested_at_ms == 0
        assert record.event_id is record.payment_token is record.traceparent is None
    assert (record.reason is not None) == (record.state is PurchaseState.ENDED)


@QUICK
@given(orders())
def test_an_order_has_a_reason_where_it_is_rejected(order: Order) -> None:
    """Status and reason, price and currency, item and sale go together."""
    assert (order.reason is not None) == (order.status is OrderStatus.REJECTED)
    assert (order.unit_price_minor is None) == (order.currency is None)
    assert order.sale_id.rpartition(".")[0] == order.item_id


@QUICK
@given(order_events())
def test_an_event_s_id_is_the_one_its_purchase_gives_it(event: OrderEvent) -> None:
    """Consumers drop repeats by it."""
    assert event.occurrence_id == occurrence_id(event.sale_id, event.purchase_id, event.type)
    assert (event.reason is not None) == (event.type is OrderEventType.PURCHASE_REJECTED)
    assert event.sale_id.rpartition(".")[0] == event.item_id


@QUICK
@given(parked_messages())
def test_a_parked_unit_says_whose_it_is(parked: ParkedMessage) -> None:
    """The books that a gate is loaded from need sale, purchase, user and quantity."""
    if parked.holds_unit:
        whose = (parked.sale_id, parked.purchase_id, parked.user_id, parked.quantity)
        assert None not in whose


@pytest.mark.parametrize(
    ("strategy", "field", "wanted"),
    [
        (purchase_requests(quantity=quantities(1)), "quantity", 1),
        (sale_terms(per_user_limit=st.just(2)), "per_user_limit", 2),
        (sales(item_id=st.just("shoe")), "item_id", "shoe"),
        (gate_records(state=st.just(PurchaseState.QUEUED)), "state", PurchaseState.QUEUED),
        (orders(status=st.just(OrderStatus.REJECTED)), "status", OrderStatus.REJECTED),
        (order_events(sale_id=st.just(sale_id_of(ItemId("shoe"), 1))), "sale_id", "shoe.1"),
        (parked_messages(attempts=st.just(3)), "attempts", 3),
    ],
)
def test_any_field_can_be_replaced(
    strategy: st.SearchStrategy[Any], field: str, wanted: Any
) -> None:
    """A user narrows one field and keeps the rest."""

    @settings(max_examples=10, deadline=None)
    @given(strategy)
    def check(value: Any) -> None:
        assert getattr(value, field) == wanted

    check()
