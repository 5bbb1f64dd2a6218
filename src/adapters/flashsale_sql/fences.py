"""Between which lives of a gate a batch may commit, judged while the sales' rows are locked."""

from collections.abc import Container, Iterable, Mapping

import attrs
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import StaleEpoch
from flashsale_core.model import Epoch, SaleId
from flashsale_sql.schema import sales


@attrs.frozen(kw_only=True)
class Held:
    """A sale's row while this transaction holds it."""

    epoch: Epoch
    armed_epoch: Epoch
    available: int


@attrs.frozen
class Fences:
    """Between which epochs a batch may commit; see `OrderRepository.record`."""

    epochs: Mapping[SaleId, Epoch]
    promised: Mapping[SaleId, Epoch]

    def check(self, held: Mapping[SaleId, Held], with_new_rows: Container[SaleId]) -> None:
        """Raise StaleEpoch unless each sale, now locked, is where the batch believes it to be."""
        for sale_id, epoch in self.epochs.items():
            if sale_id not in held or held[sale_id].epoch != epoch:
                raise StaleEpoch(f"{sale_id} is no longer in epoch {epoch}")
        for sale_id, epoch in self.promised.items():
            row = held.get(sale_id)
            if sale_id not in with_new_rows:
                continue
            if row is None or not epoch == row.armed_epoch < row.epoch:
                raise StaleEpoch(f"{sale_id} is not between epoch {epoch} and its next life")


async def lock_sales(connection: AsyncConnection, sale_ids: Iterable[SaleId]) -> dict[SaleId, Held]:
    """Lock the sales' rows in ascending order; what is read is what the last holder left."""
    rows = await connection.execute(
        select(sales.c.sale_id, sales.c.epoch, sales.c.armed_epoch, sales.c.available)
        .where(sales.c.sale_id.in_(sorted(sale_ids)))
        .order_by(sales.c.sale_id)
        .with_for_update()
    )
    return {
        row.sale_id: Held(epoch=row.epoch, armed_epoch=row.armed_epoch, available=row.available)
        for row in rows
    }
