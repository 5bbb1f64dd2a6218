"""The books that a gate is loaded from: a sale's rows, and the units that parked messages hold."""

from collections.abc import AsyncIterator

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import Corrupt
from flashsale_core.events import ParkedStatus
from flashsale_core.model import (
    GateRecord,
    OrderStatus,
    PurchaseState,
    Sale,
    SaleId,
)
from flashsale_core.ports import SaleBooks
from flashsale_sql.schema import orders, parked_messages

BOOKS_CHUNK = 5_000
"""Rows of the books fetched at once: about a megabyte, beside the records that are kept anyway."""
_UNSETTLED_PARKED = (
    ParkedStatus.WAITING.value,
    ParkedStatus.RETRYING.value,
    ParkedStatus.DEAD.value,
)
_STATE_OF_ROW = {
    OrderStatus.PENDING_PAYMENT.value: PurchaseState.QUEUED,
    OrderStatus.CONFIRMED.value: PurchaseState.SOLD,
    OrderStatus.REJECTED.value: PurchaseState.ENDED,
}


async def books_of(connection: AsyncConnection, sale: Sale) -> SaleBooks:
    """Read a sale's books in the connection's transaction."""
    records = [record async for record in _records(connection, sale.sale_id)]
    return SaleBooks(sale=sale, records=tuple(records))


async def _records(connection: AsyncConnection, sale_id: SaleId) -> AsyncIterator[GateRecord]:
    """Read rows and parked units chunk by chunk, so that no more than the records is kept."""
    rows = await connection.stream(
        select(
            orders.c.purchase_id,
            orders.c.status,
            orders.c.user_id,
            orders.c.quantity,
            orders.c.reason,
        ).where(orders.c.sale_id == sale_id),
        execution_options={"yield_per": BOOKS_CHUNK},
    )
    seen = set()
    # Not row by row: each step into the driver's thread of control costs ten times a row.
    async for chunk in rows.partitions(BOOKS_CHUNK):
        for purchase_id, status, user_id, quantity, reason in chunk:
            seen.add(purchase_id)
            yield GateRecord(
                purchase_id=purchase_id,
                state=_STATE_OF_ROW[status],
                user_id=user_id,
                quantity=quantity,
                reason=reason,
            )
    for record in await _parked_units(connection, sale_id):
        # One that was parked while its row was written stands by the row.
        if record.purchase_id not in seen:
            seen.add(record.purchase_id)
            yield record


async def _parked_units(connection: AsyncConnection, sale_id: SaleId) -> list[GateRecord]:
    columns = parked_messages.c
    parked = await connection.execute(
        select(columns.parked_id, columns.purchase_id, columns.user_id, columns.quantity)
        .where(columns.sale_id == sale_id, columns.holds_unit)
        .where(columns.status.in_(_UNSETTLED_PARKED))
        .order_by(columns.parked_id)
    )
    records = []
    for parked_id, purchase_id, user_id, quantity in parked:
        if purchase_id is None or user_id is None or quantity is None:
            raise Corrupt(
                "unit-unnamed",
                f"parked message {parked_id} holds a unit of {sale_id} and does not say whose",
            )
        records.append(
            GateRecord(
                purchase_id=purchase_id,
                state=PurchaseState.QUEUED,
                user_id=user_id,
                quantity=quantity,
            )
        )
    return records
