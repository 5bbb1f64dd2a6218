"""What a buyer is charged, and what a gateway answers."""

import string

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from flashsale_core.charges import (
    Charge,
    ChargeAnswer,
    Charged,
    Declined,
    DuePayment,
    FlaggedPayment,
    InProgress,
    LookUpAnswer,
    NeverHeard,
    PaymentCounts,
)
from flashsale_core.model import PRICE_MINOR_MAX
from flashsale_core.occurrence import payment_key
from flashsale_core.testing.strategies.building import Fields, built
from flashsale_core.testing.strategies.words import (
    payment_tokens,
    purchase_ids,
    sale_ids,
    traceparents,
)

_REFERENCES = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)


@st.composite
def charges(draw: st.DrawFn, /, **fields: Fields) -> Charge:
    """Draw charges, each under its purchase's key."""
    sale_id = draw(fields.pop("sale_id", sale_ids()))
    purchase_id = draw(fields.pop("purchase_id", purchase_ids()))
    return draw(
        built(
            Charge,
            fields,
            key=st.just(payment_key(sale_id, purchase_id)),
            sale_id=st.just(sale_id),
            purchase_id=st.just(purchase_id),
            amount_minor=st.integers(1, PRICE_MINOR_MAX),
            currency=st.text(string.ascii_uppercase, min_size=3, max_size=3),
            payment_token=st.none() | payment_tokens(),
        )
    )


def charge_answers() -> SearchStrategy[ChargeAnswer]:
    """Draw what a gateway answers to a charge."""
    return st.one_of(
        st.builds(Charged, reference=_REFERENCES),
        st.builds(Declined, reason=_REFERENCES),
        st.just(InProgress()),
    )


def look_up_answers() -> SearchStrategy[LookUpAnswer]:
    """Draw what a gateway answers to a look-up."""
    return charge_answers() | st.just(NeverHeard())


def due_payments(**fields: Fields) -> SearchStrategy[DuePayment]:
    """Draw payments that a worker holds."""
    return built(
        DuePayment,
        fields,
        charge=charges(),
        attempt=st.integers(1, 1_000),
        asked_for_ms=st.integers(0, 10**9),
        traceparent=st.none() | traceparents(),
    )


@st.composite
def flagged_payments(draw: st.DrawFn, /, **fields: Fields) -> FlaggedPayment:
    """Draw payments that wait for a person."""
    charge = draw(charges())
    return draw(
        built(
            FlaggedPayment,
            fields,
            sale_id=st.just(charge.sale_id),
            purchase_id=st.just(charge.purchase_id),
            key=st.just(charge.key),
            amount_minor=st.just(charge.amount_minor),
            currency=st.just(charge.currency),
            attempt=st.integers(1, 1_000),
            detail=st.text(max_size=100),
        )
    )


def payment_counts(**fields: Fields) -> SearchStrategy[PaymentCounts]:
    """Draw how many payments are not final."""
    return built(
        PaymentCounts,
        fields,
        pending=st.integers(0, 10**9),
        flagged=st.integers(0, 10**9),
        oldest_ms=st.integers(0, 10**12),
    )
