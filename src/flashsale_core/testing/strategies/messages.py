"""Facts, and the messages that carry them."""

import string

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from flashsale_core.events import (
    Barrier,
    Channel,
    Message,
    OrderEvent,
    OrderEventType,
    ParkedMessage,
    ParkedStatus,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import (
    sale_id_of,
)
from flashsale_core.occurrence import occurrence_id
from flashsale_core.testing.strategies.building import Fields, T, built
from flashsale_core.testing.strategies.words import (
    epochs,
    event_ids,
    item_ids,
    payment_tokens,
    purchase_ids,
    quantities,
    reasons,
    rounds,
    sale_ids,
    sources,
    times_ms,
    traceparents,
    user_ids,
)


def accepted_purchases(**fields: Fields) -> SearchStrategy[PurchaseAccepted]:
    """Draw single purchases whose units are taken."""
    return built(
        PurchaseAccepted,
        fields,
        purchase_id=purchase_ids(),
        user_id=user_ids(),
        quantity=quantities(),
        accepted_at_ms=times_ms(),
        requested_at_ms=times_ms(),
        source=sources(),
        event_id=st.none() | event_ids(),
        payment_token=st.none() | payment_tokens(),
        traceparent=st.none() | traceparents(),
    )


def purchases_accepted(**fields: Fields) -> SearchStrategy[PurchasesAccepted]:
    """Draw what calls of a gate accepted: at least one purchase, all of one sale."""
    some = st.lists(accepted_purchases(), min_size=1, max_size=5, unique_by=lambda p: p.purchase_id)
    return built(
        PurchasesAccepted, fields, sale_id=sale_ids(), epoch=epochs(), purchases=some.map(tuple)
    )


def barriers(**fields: Fields) -> SearchStrategy[Barrier]:
    """Draw markers of rebuilds."""
    some = st.dictionaries(sale_ids(), epochs(), max_size=5)
    return built(
        Barrier,
        fields,
        rebuild_id=st.uuids().map(str),
        epochs=some.map(lambda chosen: tuple(chosen.items())),
    )


@st.composite
def order_events(draw: st.DrawFn, /, **fields: Fields) -> OrderEvent:
    """Draw follow-up facts: with the id that their sale, purchase and type give them."""
    item_id = draw(fields.pop("item_id", item_ids()))
    type_ = draw(fields.pop("type", st.sampled_from(OrderEventType)))
    is_rejected = type_ is OrderEventType.PURCHASE_REJECTED
    # Round 0 is no sale: nobody knew the item.
    its_rounds = rounds() | st.just(0) if is_rejected else rounds()
    sale_id = draw(
        fields.pop("sale_id", its_rounds.map(lambda round_: sale_id_of(item_id, round_)))
    )
    purchase_id = draw(fields.pop("purchase_id", purchase_ids()))
    return draw(
        built(
            OrderEvent,
            fields,
            occurrence_id=st.just(occurrence_id(sale_id, purchase_id, type_)),
            type=st.just(type_),
            purchase_id=st.just(purchase_id),
            user_id=user_ids(),
            item_id=st.just(item_id),
            sale_id=st.just(sale_id),
            quantity=quantities(),
            source=sources(),
            requested_at_ms=times_ms(),
            occurred_at_ms=times_ms(),
            event_id=st.none() | event_ids(),
            reason=reasons() if is_rejected else st.none(),
            traceparent=st.none() | traceparents(),
        )
    )


def messages(**fields: Fields) -> SearchStrategy[Message]:
    """Draw messages as they are taken from a channel; their bytes mean nothing."""
    header = st.tuples(st.text(string.ascii_lowercase + "-_", min_size=1), st.binary(max_size=64))
    return built(
        Message,
        fields,
        channel=st.sampled_from(Channel),
        body=st.none() | st.binary(max_size=256),
        key=st.none() | st.binary(max_size=64),
        headers=st.lists(header, max_size=4).map(tuple),
        content_type=st.sampled_from([None, "application/avro", "application/json"]),
        origin=st.builds("topic:{}:{}".format, st.integers(0, 63), st.integers(0, 2**63 - 1)),
        partition=st.integers(0, 63),
        written_at_ms=st.none() | times_ms(),
    )


@st.composite
def parked_messages(draw: st.DrawFn, /, **fields: Fields) -> ParkedMessage:
    """Draw messages that were set aside, not stored yet; one that holds a unit says whose."""
    holds_unit = draw(fields.pop("holds_unit", st.booleans()))

    def known(strategy: SearchStrategy[T]) -> SearchStrategy[T | None]:
        return strategy if holds_unit else st.none() | strategy

    return draw(
        built(
            ParkedMessage,
            fields,
            message=messages(),
            status=st.sampled_from(ParkedStatus),
            reason=st.sampled_from(["bad-record", "paused", "invalid"]),
            detail=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=64),
            sale_id=known(sale_ids()),
            purchase_id=known(purchase_ids()),
            holds_unit=st.just(holds_unit),
            user_id=known(user_ids()),
            quantity=known(quantities()),
            attempts=st.integers(0, 5),
        )
    )
