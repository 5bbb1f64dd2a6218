"""Facts keep their id and their content on the way through the outbox."""

import json
from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import Door, PurchaseId, SaleId
from flashsale_core.occurrence import NAMESPACE, occurrence_id, order_event
from flashsale_core.ports import Decision
from flashsale_core.testing.strategies import order_events, purchase_ids, sale_ids
from flashsale_sql.facts import from_texts, row_of, to_json


@given(sale_ids(), purchase_ids(), st.sampled_from(OrderEventType))
def test_an_occurrence_s_id_is_the_uuid_of_sale_purchase_and_type(
    sale_id: SaleId, purchase_id: PurchaseId, type_: OrderEventType
) -> None:
    """As the standard library makes it, so that anybody can."""
    expected = uuid5(NAMESPACE, f"{sale_id}/{purchase_id}/{type_.value}")
    assert occurrence_id(sale_id, purchase_id, type_) == str(expected)


def test_an_occurrence_s_id_never_changes() -> None:
    """Consumers remember ids for as long as they like."""
    found = occurrence_id(SaleId("shoe.1"), PurchaseId("p1"), OrderEventType.ORDER_CREATED)
    assert found == "cc39b110-25cf-519d-a7f9-993fe1384d67"


@given(order_events())
def test_a_fact_comes_out_of_the_outbox_as_it_went_in(event: OrderEvent) -> None:
    """Every field, whatever is absent."""
    written = to_json(event)
    assert from_texts([written, written]) == [event, event]
    assert written == json.dumps(json.loads(written), separators=(",", ":"), ensure_ascii=False)


@given(order_events(), st.none() | st.just("SOLD_OUT"))
def test_a_new_row_s_fact_is_the_one_that_the_core_would_make(
    event: OrderEvent, reason: str | None
) -> None:
    """The worker writes it without making it first."""
    decision = Decision(
        sale_id=event.sale_id,
        item_id=event.item_id,
        purchase_id=event.purchase_id,
        user_id=event.user_id,
        quantity=event.quantity,
        source=event.source,
        event_id=event.event_id,
        door=Door.HTTP,
        requested_at_ms=event.requested_at_ms,
        accepted_at_ms=event.requested_at_ms,
        reason=reason,
        traceparent=event.traceparent,
    )
    made = order_event(decision, reason, event.occurred_at_ms)
    told, written = row_of(decision, reason, event.occurred_at_ms)
    assert told == made.occurrence_id
    assert from_texts([written]) == [made]
