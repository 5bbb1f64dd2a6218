"""Answers of a gate and to a buyer."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from flashsale_core.model import (
    UNITS_MAX,
    PurchaseState,
)
from flashsale_core.outcomes import (
    Accepted,
    BuyAnswer,
    Closed,
    Ended,
    GateAnswer,
    KeyReused,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    RateLimited,
    Refusal,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
    UnknownItem,
)
from flashsale_core.testing.strategies.sale import gate_records
from flashsale_core.testing.strategies.words import (
    epochs,
    item_ids,
    purchase_ids,
    reasons,
    refusal_codes,
    sale_ids,
    times_ms,
)


def refusals() -> SearchStrategy[Refusal]:
    """Draw what a gate may answer instead of taking units."""
    return st.one_of(
        st.builds(SoldOut, available=st.integers(-UNITS_MAX, UNITS_MAX)),
        st.builds(LimitReached, limit=st.integers(1, UNITS_MAX), held=st.integers(0, UNITS_MAX)),
        st.builds(NotOpen, opens_at_ms=times_ms()),
        st.just(Closed()),
        st.builds(Refused, code=refusal_codes(), detail=st.text(max_size=64)),
    )


def gate_answers() -> SearchStrategy[GateAnswer]:
    """Draw answers of a gate to one claim; a Reserved holds units, a Replayed stands anywhere."""
    holding = st.sampled_from([PurchaseState.RESERVED, PurchaseState.OUTSIDE, PurchaseState.QUEUED])
    return st.one_of(
        st.builds(Reserved, record=gate_records(state=holding)),
        st.builds(Replayed, record=gate_records()),
        st.just(KeyReused()),
        rate_limits_reached(),
        refusals(),
    )


def rate_limits_reached() -> SearchStrategy[RateLimited]:
    """Draw the answer to somebody who asks too often."""
    return st.builds(RateLimited, retry_after_ms=st.integers(1, 10_000))


def buy_answers() -> SearchStrategy[BuyAnswer]:
    """Draw answers to a buyer."""
    return st.one_of(
        st.builds(
            Accepted,
            purchase_id=purchase_ids(),
            sale_id=sale_ids(),
            epoch=epochs(),
            is_sold=st.booleans(),
        ),
        st.builds(Ended, purchase_id=purchase_ids(), reason=reasons()),
        st.builds(OutcomeUnknown, purchase_id=purchase_ids()),
        st.builds(UnknownItem, item_id=item_ids()),
        st.just(KeyReused()),
        rate_limits_reached(),
        refusals(),
    )
