"""One purchase, told by each message: the examples of the document."""

from typing import Any, Final

from flashsale_avro.facts import Fact, record_of
from flashsale_avro.json_form import SYMBOLS
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
    Epoch,
    EventId,
    ItemId,
    PurchaseId,
    PurchaseRequest,
    Reason,
    SaleId,
    Source,
    UserId,
)
from flashsale_core.occurrence import occurrence_id

PURCHASE: Final = PurchaseId("0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d")
ITEM: Final = ItemId("1")
SALE: Final = SaleId("1.1")
USER: Final = UserId("101")
SALE_EVENT: Final = EventId("black-friday")
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASKED_MS: Final = 1_795_802_400_000
"""2026-11-27, 18:00 UTC."""
ACCEPTED_MS: Final = ASKED_MS + 12
RECORDED_MS: Final = ASKED_MS + 250


def _event(type_: OrderEventType, reason: Reason | None) -> OrderEvent:
    return OrderEvent(
        occurrence_id=occurrence_id(SALE, PURCHASE, type_),
        type=type_,
        purchase_id=PURCHASE,
        user_id=USER,
        item_id=ITEM,
        sale_id=SALE,
        quantity=1,
        source=Source.WEB,
        requested_at_ms=ASKED_MS,
        occurred_at_ms=RECORDED_MS,
        event_id=SALE_EVENT,
        reason=reason,
        traceparent=TRACEPARENT,
    )


def _request(event_id: EventId | None) -> PurchaseRequest:
    return PurchaseRequest(
        purchase_id=PURCHASE,
        user_id=USER,
        item_id=ITEM,
        quantity=1,
        requested_at_ms=ASKED_MS,
        source=Source.WEB,
        event_id=event_id,
        traceparent=TRACEPARENT,
    )


FACTS: Final[tuple[Fact, ...]] = (
    _request(None),
    _request(SALE_EVENT),
    PurchasesAccepted(
        sale_id=SALE,
        epoch=Epoch(1),
        purchases=(
            PurchaseAccepted(
                purchase_id=PURCHASE,
                user_id=USER,
                quantity=1,
                accepted_at_ms=ACCEPTED_MS,
                requested_at_ms=ASKED_MS,
                source=Source.WEB,
                event_id=SALE_EVENT,
                payment_token=None,
                traceparent=TRACEPARENT,
            ),
        ),
    ),
    Barrier(rebuild_id="0197a1c2-8000-7000-8000-000000000001", epochs=((SALE, Epoch(2)),)),
    _event(OrderEventType.ORDER_CREATED, None),
    _event(OrderEventType.PURCHASE_REJECTED, Reason.SOLD_OUT),
)

EXAMPLES: Final[dict[str, Fact]] = {str(record_of(fact, SYMBOLS)[0]): fact for fact in FACTS}
"""A fact for each record, by the record's full name."""


def payload_of(fact: Fact) -> dict[str, Any]:
    """Write a fact as its record's fields; enums by symbol."""
    return record_of(fact, SYMBOLS)[1]


def dead_letter(origin: str) -> ParkedMessage:
    """Make a message that could not be read, as it came from there."""
    message = Message(
        channel=Channel.REQUESTS,
        body=b"\x07",
        key=PURCHASE.encode(),
        origin=origin,
        written_at_ms=ASKED_MS,
    )
    return ParkedMessage(
        message=message,
        status=ParkedStatus.DEAD,
        reason="bad-framing",
        detail="begins with 07; 00 or c301 say which schema wrote a message",
        purchase_id=PURCHASE,
    )
