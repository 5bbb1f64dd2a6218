"""How a purchase stands: what a buyer may ask at any time after the answer."""

from collections.abc import Sequence
from enum import StrEnum

import attrs

from flashsale_core.board import SaleBoard
from flashsale_core.errors import Conflict, Unavailable
from flashsale_core.model import (
    Epoch,
    GateRecord,
    ItemId,
    Order,
    PurchaseId,
    PurchaseState,
    SaleId,
)
from flashsale_core.ports import OrderRepository, ParkedMessages, StockGate


class PurchaseStatus(StrEnum):
    """A purchase's status as a buyer sees it."""

    RESERVED = "RESERVED"
    ACCEPTED = "ACCEPTED"
    PENDING_PAYMENT = "PENDING_PAYMENT"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    PARKED = "PARKED"


@attrs.frozen(kw_only=True)
class PurchaseView:
    """A purchase without its user: whoever knows the id may ask."""

    purchase_id: PurchaseId
    sale_id: SaleId
    quantity: int
    status: PurchaseStatus
    reason: str | None = None
    requested_at_ms: int | None = None
    accepted_at_ms: int | None = None
    recorded_at_ms: int | None = None


class Inquiry:
    """Looks a purchase up: the row first, then the gates of all unsettled sales."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        orders: OrderRepository,
        parked: ParkedMessages,
    ) -> None:
        """Take the ports."""
        self._board = board
        self._gate = gate
        self._orders = orders
        self._parked = parked

    async def find(
        self,
        purchase_id: PurchaseId,
        *,
        item_id: ItemId | None = None,
        sale_id: SaleId | None = None,
    ) -> PurchaseView | None:
        """Say how it stands; None only when every place that could know it was asked.

        What was answered ACCEPTED is never None: Unavailable is raised while the database or one
        of the gates is silent. Raises Conflict("ambiguous") when the id is known in several sales.
        """
        before = self._gates()
        view = await self._look(purchase_id, item_id, sale_id)
        if view is None:
            # Another process may have made a sale, and sold, since the list was read.
            await self._board.refresh()
            if self._gates() != before:
                view = await self._look(purchase_id, item_id, sale_id)
        return view

    def _gates(self) -> list[tuple[SaleId, Epoch]]:
        return [(sale.sale_id, sale.epoch) for sale in self._board.unsettled()]

    async def _look(
        self, purchase_id: PurchaseId, item_id: ItemId | None, sale_id: SaleId | None
    ) -> PurchaseView | None:
        rows = [
            row
            for row in await self._orders.find(purchase_id, [sale_id] if sale_id else None)
            if item_id is None or row.item_id == item_id
        ]
        found = {row.sale_id: _of_row(row) for row in rows}
        sales = [
            sale
            for sale in self._board.unsettled()
            if item_id in (None, sale.item_id) and sale_id in (None, sale.sale_id)
        ]
        keys = [(sale.sale_id, sale.epoch) for sale in sales if sale.sale_id not in found]
        silent: Unavailable | None = None
        for (of_sale, _), record in zip(
            keys, await self._gate.find(keys, purchase_id) if keys else [], strict=True
        ):
            if isinstance(record, Unavailable):
                silent = record
            elif record is not None:
                found[of_sale] = _of_record(of_sale, record)
        if len(found) > 1:
            raise Conflict("ambiguous", f"known in {', '.join(sorted(found))}; name one of them")
        if found and next(iter(found.values())).status in _HAS_ROW:
            return next(iter(found.values()))
        if silent is not None:
            raise silent
        parked = await self._parked.of_purchases([purchase_id])
        parked_in = [one.sale_id for one in parked if one.sale_id and one.is_its_purchase]
        parked_in = [one for one in parked_in if _is_meant(one, item_id, sale_id)]
        return _with_parked(found, parked_in, purchase_id)


def _is_meant(of_sale: SaleId, item_id: ItemId | None, sale_id: SaleId | None) -> bool:
    return sale_id in (None, of_sale) and item_id in (None, of_sale.rpartition(".")[0])


_HAS_ROW = (
    PurchaseStatus.PENDING_PAYMENT,
    PurchaseStatus.CONFIRMED,
    PurchaseStatus.REJECTED,
)
"""The row is the truth: nobody else need be asked."""


def _with_parked(
    found: dict[SaleId, PurchaseView], parked_in: Sequence[SaleId], purchase_id: PurchaseId
) -> PurchaseView | None:
    for view in found.values():
        if view.sale_id in parked_in:
            return attrs.evolve(view, status=PurchaseStatus.PARKED)
        return view
    if parked_in:
        return PurchaseView(
            purchase_id=purchase_id,
            sale_id=parked_in[0],
            quantity=0,
            status=PurchaseStatus.PARKED,
        )
    return None


def _of_row(row: Order) -> PurchaseView:
    return PurchaseView(
        purchase_id=row.purchase_id,
        sale_id=row.sale_id,
        quantity=row.quantity,
        status=PurchaseStatus(row.status.value),
        reason=row.reason,
        requested_at_ms=row.requested_at_ms,
        accepted_at_ms=row.accepted_at_ms or None,
        recorded_at_ms=row.recorded_at_ms,
    )


_STATUS = {
    PurchaseState.RESERVED: PurchaseStatus.RESERVED,
    PurchaseState.OUTSIDE: PurchaseStatus.RESERVED,
    PurchaseState.QUEUED: PurchaseStatus.ACCEPTED,
    PurchaseState.SOLD: PurchaseStatus.CONFIRMED,
    PurchaseState.ENDED: PurchaseStatus.REJECTED,
}


def _of_record(sale_id: SaleId, record: GateRecord) -> PurchaseView:
    return PurchaseView(
        purchase_id=record.purchase_id,
        sale_id=sale_id,
        quantity=record.quantity,
        status=_STATUS[record.state],
        reason=record.reason,
        requested_at_ms=record.requested_at_ms or None,
        accepted_at_ms=record.accepted_at_ms or None,
    )
