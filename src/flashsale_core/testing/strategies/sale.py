"""What is sold, to whom, and how it stands in gate and database."""

import string

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from flashsale_core.model import (
    PRICE_MINOR_MAX,
    UNITS_MAX,
    Door,
    Epoch,
    GateRecord,
    Order,
    OrderStatus,
    PurchaseRequest,
    PurchaseState,
    Sale,
    SaleState,
    SaleTerms,
    sale_id_of,
)
from flashsale_core.testing.strategies.building import Fields, built
from flashsale_core.testing.strategies.words import (
    epochs,
    event_ids,
    item_ids,
    payment_tokens,
    purchase_ids,
    quantities,
    reasons,
    rounds,
    sources,
    times_ms,
    traceparents,
    user_ids,
)


def purchase_requests(**fields: Fields) -> SearchStrategy[PurchaseRequest]:
    """Draw what buyers ask for."""
    return built(
        PurchaseRequest,
        fields,
        purchase_id=purchase_ids(),
        user_id=user_ids(),
        item_id=item_ids(),
        quantity=quantities(),
        requested_at_ms=times_ms(),
        source=sources(),
        event_id=st.none() | event_ids(),
        payment_token=st.none() | payment_tokens(),
        traceparent=st.none() | traceparents(),
    )


@st.composite
def sale_terms(draw: st.DrawFn, /, **fields: Fields) -> SaleTerms:
    """Draw terms of a sale: closing later than opening, a price with its currency."""
    opens, closes = sorted(draw(st.lists(times_ms(), min_size=2, max_size=2, unique=True)))
    is_priced = draw(st.booleans())
    price = st.integers(0, PRICE_MINOR_MAX) if is_priced else st.none()
    currency = st.text(string.ascii_uppercase, min_size=3, max_size=3) if is_priced else st.none()
    return draw(
        built(
            SaleTerms,
            fields,
            units=st.integers(1, UNITS_MAX),
            per_user_limit=st.none() | st.integers(1, UNITS_MAX),
            opens_at_ms=st.sampled_from([None, opens]),
            closes_at_ms=st.sampled_from([None, closes]),
            unit_price_minor=price,
            currency=currency,
        )
    )


@st.composite
def sales(draw: st.DrawFn, /, **fields: Fields) -> Sale:
    """Draw sales whose books agree: `initial = available + pending + sold`."""
    terms = draw(fields.pop("terms", sale_terms()))
    taken = draw(st.integers(0, terms.units))
    sold = draw(st.integers(0, taken))
    epoch = draw(fields.pop("epoch", epochs()))
    return draw(
        built(
            Sale,
            fields,
            item_id=item_ids(),
            round=rounds(),
            terms=st.just(terms),
            state=st.sampled_from(SaleState),
            epoch=st.just(epoch),
            armed_epoch=st.integers(0, epoch).map(Epoch),
            available=st.just(terms.units - taken),
            pending=st.just(taken - sold),
            sold=st.just(sold),
        )
    )


@st.composite
def gate_records(draw: st.DrawFn, /, **fields: Fields) -> GateRecord:
    """Draw what a gate keeps of purchases; final ones are cut to what decides a replay."""
    state = draw(fields.pop("state", st.sampled_from(PurchaseState)))
    kept: dict[str, Fields] = {
        "purchase_id": purchase_ids(),
        "state": st.just(state),
        "user_id": user_ids(),
        "quantity": quantities(),
    }
    if state is PurchaseState.ENDED:
        kept["reason"] = reasons()
    if not state.is_final:
        kept |= {
            "epoch": epochs(),
            "accepted_at_ms": times_ms(),
            "requested_at_ms": times_ms(),
            "source": sources(),
            "event_id": st.none() | event_ids(),
            "payment_token": st.none() | payment_tokens(),
            "traceparent": st.none() | traceparents(),
        }
    return draw(built(GateRecord, fields, **kept))


@st.composite
def orders(draw: st.DrawFn, /, **fields: Fields) -> Order:
    """Draw rows: a reason where REJECTED and nowhere else, a price with its currency."""
    item_id = draw(fields.pop("item_id", item_ids()))
    status = draw(fields.pop("status", st.sampled_from(OrderStatus)))
    terms = draw(sale_terms())
    return draw(
        built(
            Order,
            fields,
            sale_id=rounds().map(lambda round_: sale_id_of(item_id, round_)),
            purchase_id=purchase_ids(),
            item_id=st.just(item_id),
            user_id=user_ids(),
            quantity=quantities(),
            unit_price_minor=st.just(terms.unit_price_minor),
            currency=st.just(terms.currency),
            source=sources(),
            event_id=st.none() | event_ids(),
            door=st.sampled_from(Door),
            requested_at_ms=times_ms(),
            accepted_at_ms=times_ms(),
            recorded_at_ms=times_ms(),
            status=st.just(status),
            reason=reasons() if status is OrderStatus.REJECTED else st.none(),
        )
    )
