"""Orders and stock, with the follow-up facts in the same transaction."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.model import (
    Epoch,
    Order,
    PurchaseId,
    SaleId,
)
from flashsale_core.ports import NOTHING_PROMISED, Decision, OrderRepository, Standing
from flashsale_sql.fences import Fences
from flashsale_sql.recording import Recording
from flashsale_sql.rows import order_of
from flashsale_sql.schema import orders
from flashsale_sql.transactions import Transactions


class SqlOrderRepository:
    """The table `orders`, and what every new row moves with it."""

    def __init__(
        self,
        transactions: Transactions,
        *,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Take the database's transactions; `before_commit` is awaited inside `record`'s."""
        self._transactions = transactions
        self._recording = Recording(transactions.dialect)
        if before_commit is not None:
            self._recording = _BrokenOff(self._recording, before_commit)

    async def record(
        self,
        decisions: Sequence[Decision],
        epochs: Mapping[SaleId, Epoch],
        promised: Mapping[SaleId, Epoch] = NOTHING_PROMISED,
    ) -> list[Standing]:
        """Record a batch in one transaction; see `flashsale_core.ports.OrderRepository`."""
        if not decisions:
            return []
        if len({(one.sale_id, one.purchase_id) for one in decisions}) != len(decisions):
            raise ValueError("a batch names a purchase at most once")

        async def work(connection: AsyncConnection) -> list[Standing]:
            return await self._recording.record(connection, decisions, Fences(epochs, promised))

        return await self._transactions.write(work)

    async def find(
        self, purchase_id: PurchaseId, sale_ids: Sequence[SaleId] | None = None
    ) -> list[Order]:
        """Find a purchase's orders, in the named sales or in all."""
        query = select(orders).where(orders.c.purchase_id == purchase_id)
        if sale_ids is not None:
            query = query.where(orders.c.sale_id.in_(sale_ids))

        async def work(connection: AsyncConnection) -> list[Order]:
            found = await connection.execute(query.order_by(orders.c.sale_id))
            return [order_of(row) for row in found.mappings()]

        return await self._transactions.read(work)

    async def standing(
        self, purchases: Sequence[tuple[SaleId, PurchaseId]]
    ) -> list[Standing | None]:
        """Say how each stands, None where there is no row."""
        if not purchases:
            return []

        async def work(connection: AsyncConnection) -> list[Standing | None]:
            standing = await self._recording.standing(connection, purchases)
            return [standing.get(key) for key in purchases]

        return await self._transactions.read(work)


class _BrokenOff(Recording):
    """The same statements, and a wait before the commit."""

    def __init__(self, recording: Recording, before_commit: Callable[[], Awaitable[None]]) -> None:
        vars(self).update(vars(recording))
        self._before_commit = before_commit

    async def record(
        self, connection: AsyncConnection, decisions: Sequence[Decision], fences: Fences
    ) -> list[Standing]:
        standings = await super().record(connection, decisions, fences)
        await self._before_commit()
        return standings


_: type[OrderRepository] = SqlOrderRepository
