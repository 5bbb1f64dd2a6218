"""Orders and stock in memory, with the follow-up facts in the same step."""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from flashsale_core.charges import Charge
from flashsale_core.errors import StaleEpoch
from flashsale_core.model import (
    Epoch,
    Order,
    OrderStatus,
    PurchaseId,
    Reason,
    Sale,
    SaleId,
    SaleState,
)
from flashsale_core.occurrence import order_event, payment_key
from flashsale_core.ports import NOTHING_PROMISED, Decision, OrderRepository, Standing
from flashsale_memory.tables import Key, PaymentRow, Tables, WaitingFact


class MemoryOrderRepository:
    """Orders and stock, with the follow-up facts in the same step."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables

    async def record(
        self,
        decisions: Sequence[Decision],
        epochs: Mapping[SaleId, Epoch],
        promised: Mapping[SaleId, Epoch] = NOTHING_PROMISED,
    ) -> list[Standing]:
        """Record a batch; see `flashsale_core.ports.OrderRepository`."""
        keys = [_key_of(one) for one in decisions]
        if len(set(keys)) != len(keys):
            raise ValueError("a batch names a purchase at most once")
        new = [one for one in decisions if _key_of(one) not in self._tables.orders]
        self._refuse_stale(new, epochs)
        self._refuse_unpromised(new, promised)
        reasons = self._take_units(new)
        now_ms = self._tables.clock.now_ms()
        for one in new:
            key = _key_of(one)
            sale = self._tables.sales.get(one.sale_id)
            order = self._tables.orders[key] = _order(one, reasons[key], sale, now_ms)
            if order.status is OrderStatus.PENDING_PAYMENT:
                self._tables.payments[key] = _payment(one, order)
            else:
                event = order_event(one, reasons[key], now_ms)
                self._tables.outbox.append(WaitingFact(event, written_at_ms=now_ms))
        return [_standing(self._tables.orders[key], is_new=key in reasons) for key in keys]

    def _refuse_stale(self, new: Iterable[Decision], epochs: Mapping[SaleId, Epoch]) -> None:
        for sale_id, epoch in epochs.items():
            sale = self._tables.sales.get(sale_id)
            if sale is None or sale.epoch != epoch:
                raise StaleEpoch(f"{sale_id} is no longer in epoch {epoch}")
        known = {sale.item_id for sale in self._tables.sales.values()}
        for one in new:
            if one.reason == Reason.UNKNOWN_ITEM and one.item_id in known:
                raise StaleEpoch(f"item {one.item_id} has a sale by now")

    def _refuse_unpromised(self, new: Iterable[Decision], promised: Mapping[SaleId, Epoch]) -> None:
        for sale_id in {one.sale_id for one in new if one.sale_id in promised}:
            sale, epoch = self._tables.sales.get(sale_id), promised[sale_id]
            if sale is None or not epoch == sale.armed_epoch < sale.epoch:
                raise StaleEpoch(f"{sale_id} is not between epoch {epoch} and its next life")

    def _take_units(self, new: Iterable[Decision]) -> dict[Key, str | None]:
        """Hand out what is left in the batch's order, and say how each of the batch stands."""
        reasons: dict[Key, str | None] = {}
        for one in new:
            reasons[_key_of(one)] = one.reason
            if one.reason is not None:
                continue
            sale = self._tables.sales.get(one.sale_id)
            if sale is not None and one.quantity <= sale.available:
                pending = one.quantity if one.awaits_payment else 0
                self._tables.sales[one.sale_id] = attrs.evolve(
                    sale,
                    available=sale.available - one.quantity,
                    pending=sale.pending + pending,
                    sold=sale.sold + one.quantity - pending,
                )
                continue
            reasons[_key_of(one)] = Reason.GATE_DRIFT.value
            if sale is not None and sale.state is not SaleState.SETTLED:
                self._tables.sales[one.sale_id] = attrs.evolve(sale, state=SaleState.HALTED)
        return reasons

    async def find(
        self, purchase_id: PurchaseId, sale_ids: Sequence[SaleId] | None = None
    ) -> list[Order]:
        """Find a purchase's orders, in the named sales or in all."""
        found = [
            order
            for (sale_id, found_id), order in self._tables.orders.items()
            if found_id == purchase_id and (sale_ids is None or sale_id in sale_ids)
        ]
        return sorted(found, key=lambda order: order.sale_id)

    async def standing(
        self, purchases: Sequence[tuple[SaleId, PurchaseId]]
    ) -> list[Standing | None]:
        """Say how each stands, None where there is no row."""
        rows = (self._tables.orders.get(key) for key in purchases)
        return [None if row is None else _standing(row, is_new=False) for row in rows]


def _key_of(decision: Decision) -> Key:
    return decision.sale_id, decision.purchase_id


def _order(one: Decision, reason: str | None, sale: Sale | None, now_ms: int) -> Order:
    return Order(
        sale_id=one.sale_id,
        purchase_id=one.purchase_id,
        item_id=one.item_id,
        user_id=one.user_id,
        quantity=one.quantity,
        unit_price_minor=sale.terms.unit_price_minor if sale is not None else None,
        currency=sale.terms.currency if sale is not None else None,
        source=one.source,
        event_id=one.event_id,
        door=one.door,
        requested_at_ms=one.requested_at_ms,
        accepted_at_ms=one.accepted_at_ms,
        recorded_at_ms=now_ms,
        status=_status(one, reason),
        reason=reason,
    )


def _status(one: Decision, reason: str | None) -> OrderStatus:
    if reason is not None:
        return OrderStatus.REJECTED
    return OrderStatus.PENDING_PAYMENT if one.awaits_payment else OrderStatus.CONFIRMED


def _payment(one: Decision, order: Order) -> PaymentRow:
    if order.unit_price_minor is None or order.currency is None:
        raise ValueError("a purchase without a price cannot await payment")
    charge = Charge(
        key=payment_key(one.sale_id, one.purchase_id),
        sale_id=one.sale_id,
        purchase_id=one.purchase_id,
        amount_minor=order.unit_price_minor * order.quantity,
        currency=order.currency,
        payment_token=one.payment_token,
    )
    return PaymentRow(
        charge=charge,
        traceparent=one.traceparent,
        due_at_ms=order.recorded_at_ms,
        made_at_ms=order.recorded_at_ms,
    )


def _standing(order: Order, *, is_new: bool) -> Standing:
    return Standing(
        sale_id=order.sale_id,
        purchase_id=order.purchase_id,
        status=order.status,
        reason=order.reason,
        is_new=is_new,
    )


_: type[OrderRepository] = MemoryOrderRepository
