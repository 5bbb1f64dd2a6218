"""The sales and their terms in memory; one unsettled sale per item."""

from collections.abc import Sequence

import attrs

from flashsale_core.errors import Conflict, Corrupt, StaleEpoch
from flashsale_core.events import ParkedMessage, ParkedStatus
from flashsale_core.model import (
    Epoch,
    GateRecord,
    ItemId,
    Order,
    OrderStatus,
    PurchaseState,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
)
from flashsale_core.ports import SaleBooks, SaleCatalogue
from flashsale_memory.tables import Tables

_ENDED = (ParkedStatus.REPLAYED, ParkedStatus.DISCARDED)
_STATE_OF_ROW = {
    OrderStatus.PENDING_PAYMENT: PurchaseState.QUEUED,
    OrderStatus.CONFIRMED: PurchaseState.SOLD,
    OrderStatus.REJECTED: PurchaseState.ENDED,
}


class MemorySaleCatalogue:
    """The sales and their terms; one unsettled sale per item."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables

    async def current(self) -> list[Sale]:
        """List the latest sale of every item."""
        latest = {sale.item_id: sale for sale in self._tables.sales.values()}
        return sorted(latest.values(), key=lambda sale: sale.sale_id)

    async def get(self, sale_id: SaleId) -> Sale | None:
        """Read one sale."""
        return self._tables.sales.get(sale_id)

    async def create(self, item_id: ItemId, terms: SaleTerms) -> Sale:
        """Make the item's next sale, or return its unsettled one when the terms are the same."""
        rounds = [sale for sale in self._tables.sales.values() if sale.item_id == item_id]
        if rounds and rounds[-1].state is not SaleState.SETTLED:
            if rounds[-1].terms != terms:
                raise Conflict(
                    "other-terms",
                    f"item {item_id} is being sold by {rounds[-1].sale_id} under other terms; "
                    f"close and settle that sale before the next one",
                )
            return rounds[-1]
        sale = Sale(
            item_id=item_id,
            round=len(rounds) + 1,
            terms=terms,
            state=SaleState.OPEN,
            epoch=Epoch(1),
            armed_epoch=Epoch(0),
            available=terms.units,
            pending=0,
            sold=0,
        )
        self._tables.sales[sale.sale_id] = sale
        return sale

    async def change_state(
        self, sale_id: SaleId, to: SaleState, *, expected: Sequence[SaleState]
    ) -> Sale:
        """Move a sale to another state; the same state is a no-op."""
        sale = self._known(sale_id)
        if sale.state is not to and sale.state not in expected:
            raise Conflict(
                "wrong-state",
                f"{sale_id} is {sale.state.value}; only a sale that is "
                f"{' or '.join(one.value for one in expected)} can become {to.value}",
            )
        return self._put(attrs.evolve(sale, state=to))

    async def raise_epoch(self, sale_id: SaleId) -> Sale:
        """Begin the next life of the sale's gate."""
        sale = self._known(sale_id)
        return self._put(attrs.evolve(sale, epoch=Epoch(sale.epoch + 1)))

    async def books(self, sale_id: SaleId, epoch: Epoch) -> SaleBooks:
        """Set `armed_epoch = epoch` and read all that a gate is loaded from."""
        known = self._known(sale_id)
        if not known.armed_epoch < epoch == known.epoch:
            raise StaleEpoch(f"{sale_id}: epoch {epoch} is not to be loaded")
        books = await self.read_books(sale_id)
        return attrs.evolve(books, sale=self._put(attrs.evolve(known, armed_epoch=epoch)))

    async def read_books(self, sale_id: SaleId) -> SaleBooks:
        """Read the same and change nothing."""
        known = self._known(sale_id)
        records = {
            order.purchase_id: _record(order)
            for order in self._tables.orders.values()
            if order.sale_id == sale_id
        }
        for one in self._tables.parked.values():
            parked = one.message
            if parked.holds_unit and parked.sale_id == sale_id and parked.status not in _ENDED:
                unit = _unit(parked)
                # One that was parked while its row was written stands by the row.
                records.setdefault(unit.purchase_id, unit)
        return SaleBooks(sale=known, records=tuple(records.values()))

    def _known(self, sale_id: SaleId) -> Sale:
        sale = self._tables.sales.get(sale_id)
        if sale is None:
            raise Conflict("unknown-sale", f"no sale {sale_id} was ever made")
        return sale

    async def settled(self, *, after_ms: int, until_ms: int) -> list[SaleId]:
        """List the sales that have been SETTLED for at least `after_ms`, and not for `until_ms`."""
        now_ms, since = self._tables.clock.now_ms(), self._tables.state_since
        return [
            sale.sale_id
            for sale in self._tables.sales.values()
            if sale.state is SaleState.SETTLED
            and after_ms <= now_ms - since[sale.sale_id] < until_ms
        ]

    def _put(self, sale: Sale) -> Sale:
        before = self._tables.sales.get(sale.sale_id)
        if before is None or before.state is not sale.state:
            self._tables.state_since[sale.sale_id] = self._tables.clock.now_ms()
        self._tables.sales[sale.sale_id] = sale
        return sale


def _record(order: Order) -> GateRecord:
    return GateRecord(
        purchase_id=order.purchase_id,
        state=_STATE_OF_ROW[order.status],
        user_id=order.user_id,
        quantity=order.quantity,
        reason=order.reason,
    )


def _unit(parked: ParkedMessage) -> GateRecord:
    if parked.purchase_id is None or parked.user_id is None or parked.quantity is None:
        raise Corrupt(
            "unit-unnamed",
            f"parked message {parked.parked_id} holds a unit of {parked.sale_id} "
            f"and does not say whose",
        )
    return GateRecord(
        purchase_id=parked.purchase_id,
        state=PurchaseState.QUEUED,
        user_id=parked.user_id,
        quantity=parked.quantity,
    )


_: type[SaleCatalogue] = MemorySaleCatalogue
