"""The engine's facts as records of field names and values, and back.

In a record a time is its milliseconds and an enum its symbol, whether Avro or JSON carried it.
What is missing, unknown or out of range is told all at once, by `Invalid`.
"""

from collections.abc import Mapping
from typing import Any, Final, assert_never

from flashsale_avro import field_rules
from flashsale_avro.field_rules import SOURCES, is_right_at_a_glance, not_a_source, values_of
from flashsale_avro.schema_files import SchemaName
from flashsale_core.errors import Invalid, Violation
from flashsale_core.events import (
    Barrier,
    OrderEvent,
    OrderEventType,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import Epoch, PurchaseRequest, SaleId, Source
from flashsale_core.validation import well_formed

Fact = PurchaseRequest | PurchasesAccepted | Barrier | OrderEvent
Record = dict[str, Any]

_REQUEST_ATTRIBUTES: Final[Mapping[str, str]] = {
    "purchaseId": "purchase_id",
    "userId": "user_id",
    "itemId": "item_id",
    "quantity": "quantity",
    "requestedAt": "requested_at_ms",
    "source": "source",
    "eventId": "event_id",
}


def fact_from(name: SchemaName, record: Record, traceparent: str | None) -> Fact:
    """Build the fact that a record of this name tells. Raises Invalid."""
    match name:
        case SchemaName.PURCHASE_REQUEST | SchemaName.AVRO_PURCHASE_REQUEST:
            return _request_from(record, traceparent)
        case SchemaName.PURCHASES_ACCEPTED:
            return _accepted_from(record)
        case SchemaName.BARRIER:
            return _barrier_from(record)
        case SchemaName.ORDER_CREATED:
            return _event_from(OrderEventType.ORDER_CREATED, record, traceparent)
        case SchemaName.PURCHASE_REJECTED:
            return _event_from(OrderEventType.PURCHASE_REJECTED, record, traceparent)
    assert_never(name)


def _request_from(record: Record, traceparent: str | None) -> PurchaseRequest:
    try:
        if record.keys() <= _REQUEST_ATTRIBUTES.keys():
            return PurchaseRequest(
                purchase_id=record["purchaseId"],
                user_id=record["userId"],
                item_id=record["itemId"],
                quantity=record["quantity"],
                requested_at_ms=record["requestedAt"],
                source=SOURCES[record["source"]],
                event_id=record.get("eventId"),
                traceparent=traceparent,
            )
    except (Invalid, KeyError, TypeError):
        # One problem is known. The sender is told all of them.
        pass
    raise Invalid(_request_problems(record))


def _request_problems(record: Record) -> list[Violation]:
    fields = {
        attribute: record.get(name)
        for name, attribute in _REQUEST_ATTRIBUTES.items()
        if name != "source"
    }
    problems: dict[str, str] = {}
    try:
        well_formed(**fields)
    except Invalid as broken:
        problems = {violation.field: violation.problem for violation in broken.violations}
    written = record.get("source")
    if type(written) is not str or written not in SOURCES:
        problems["source"] = not_a_source(written)
    for name in _REQUEST_ATTRIBUTES:
        if name not in record and name != "eventId":
            problems[name] = "is missing"
    for name in record:
        if name not in _REQUEST_ATTRIBUTES:
            problems[name[: field_rules.NAME_CHARS_MAX]] = "is not known"
    return [Violation(field=name, problem=problem) for name, problem in problems.items()]


def _accepted_from(record: Record) -> PurchasesAccepted:
    wrong: list[Violation] = []
    values = values_of(field_rules.PURCHASES_ACCEPTED, record, "", wrong)
    if wrong:
        raise Invalid(wrong)
    purchases = []
    for number, purchase in enumerate(values["purchases"]):
        if not is_right_at_a_glance(purchase):
            values_of(field_rules.PURCHASE_ACCEPTED, purchase, f"purchases[{number}].", wrong)
            if wrong:
                raise Invalid(wrong)
        purchases.append(_purchase_from(purchase))
    return PurchasesAccepted(
        sale_id=values["sale_id"], epoch=values["epoch"], purchases=tuple(purchases)
    )


def _purchase_from(record: Record) -> PurchaseAccepted:
    return PurchaseAccepted(
        purchase_id=record["purchaseId"],
        user_id=record["userId"],
        quantity=record["quantity"],
        accepted_at_ms=record["acceptedAt"],
        requested_at_ms=record["requestedAt"],
        source=SOURCES[record["source"]],
        event_id=record.get("eventId"),
        payment_token=record.get("paymentToken"),
        traceparent=record.get("traceparent"),
    )


def _barrier_from(record: Record) -> Barrier:
    wrong: list[Violation] = []
    values = values_of(field_rules.BARRIER, record, "", wrong)
    if wrong:
        raise Invalid(wrong)
    epochs: list[tuple[SaleId, Epoch]] = []
    for number, entry in enumerate(values["epochs"]):
        fields = values_of(field_rules.SALE_EPOCH, entry, f"epochs[{number}].", wrong)
        if wrong:
            raise Invalid(wrong)
        epochs.append((fields["sale_id"], fields["epoch"]))
    return Barrier(rebuild_id=values["rebuild_id"], epochs=tuple(epochs))


def _event_from(kind: OrderEventType, record: Record, traceparent: str | None) -> OrderEvent:
    is_rejected = kind is OrderEventType.PURCHASE_REJECTED
    rules = field_rules.PURCHASE_REJECTED if is_rejected else field_rules.ORDER_CREATED
    wrong: list[Violation] = []
    values = values_of(rules, record, "", wrong)
    if wrong:
        raise Invalid(wrong)
    values["source"] = SOURCES[values["source"]]
    return OrderEvent(type=kind, traceparent=traceparent, **values)


def record_of(fact: Fact, sources: Mapping[Source, object]) -> tuple[SchemaName, Record]:
    """Tell a fact as a record, with each source written as `sources` says."""
    match fact:
        case PurchaseRequest():
            return _request_record(fact, sources)
        case PurchasesAccepted():
            if not fact.purchases:
                raise Invalid([Violation(field="purchases", problem="must be at least one")])
            return SchemaName.PURCHASES_ACCEPTED, {
                "saleId": fact.sale_id,
                "epoch": fact.epoch,
                "purchases": [_accepted_record(one, sources) for one in fact.purchases],
            }
        case Barrier():
            epochs = [{"saleId": sale_id, "epoch": epoch} for sale_id, epoch in fact.epochs]
            return SchemaName.BARRIER, {"rebuildId": fact.rebuild_id, "epochs": epochs}
        case OrderEvent():
            return _event_record(fact, sources)
    assert_never(fact)


def _request_record(
    request: PurchaseRequest, sources: Mapping[Source, object]
) -> tuple[SchemaName, Record]:
    if request.payment_token is not None:
        problem = "has no field in a purchase request's message"
        raise Invalid([Violation(field="paymentToken", problem=problem)])
    record: Record = {
        "purchaseId": request.purchase_id,
        "userId": request.user_id,
        "itemId": request.item_id,
        "quantity": request.quantity,
        "requestedAt": request.requested_at_ms,
        "source": sources[request.source],
    }
    if request.event_id is None:
        return SchemaName.PURCHASE_REQUEST, record
    return SchemaName.AVRO_PURCHASE_REQUEST, {"eventId": request.event_id, **record}


def _accepted_record(purchase: PurchaseAccepted, sources: Mapping[Source, object]) -> Record:
    return {
        "purchaseId": purchase.purchase_id,
        "userId": purchase.user_id,
        "quantity": purchase.quantity,
        "acceptedAt": purchase.accepted_at_ms,
        "requestedAt": purchase.requested_at_ms,
        "source": sources[purchase.source],
        "eventId": purchase.event_id,
        "paymentToken": purchase.payment_token,
        "traceparent": purchase.traceparent,
    }


def _event_record(event: OrderEvent, sources: Mapping[Source, object]) -> tuple[SchemaName, Record]:
    record: Record = {
        "eventId": event.occurrence_id,
        "purchaseId": event.purchase_id,
        "userId": event.user_id,
        "itemId": event.item_id,
        "saleId": event.sale_id,
        "quantity": event.quantity,
        "source": sources[event.source],
        "requestedAt": event.requested_at_ms,
        "occurredAt": event.occurred_at_ms,
        "flashSaleEventId": event.event_id,
    }
    match event.type:
        case OrderEventType.ORDER_CREATED:
            return SchemaName.ORDER_CREATED, record
        case OrderEventType.PURCHASE_REJECTED:
            return SchemaName.PURCHASE_REJECTED, {**record, "reason": event.reason or ""}
    assert_never(event.type)
