"""Facts that were written with what made them true, waiting to be told."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from operator import itemgetter

from sqlalchemy import Text, UpdateBase, cast, delete, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import Unavailable
from flashsale_core.events import OrderEvent
from flashsale_core.ports import Outbox
from flashsale_sql.facts import from_texts
from flashsale_sql.schema import from_now, now, outbox
from flashsale_sql.transactions import Transactions

PUBLISH_MS_MAX = 60_000
"""A publish ends within this; a relay that takes longer, or died, gives its facts free."""

Publish = Callable[[Sequence[OrderEvent]], Awaitable[None]]
Claimed = tuple[list[int], list[OrderEvent]]


class SqlOutbox:
    """The table `outbox`."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions

    async def relay(self, publish: Publish, limit: int) -> int:
        """Claim up to `limit` facts, hand them to `publish`, delete them when it returned."""
        if self._transactions.dialect.locks_rows:
            return await self._relay_under_locks(publish, limit)
        return await self._relay_under_lease(publish, limit)

    async def _relay_under_locks(self, publish: Publish, limit: int) -> int:
        """Publish while the transaction holds the rows: one that dies gives them free at once."""
        trouble: Exception | None = None
        async with self._transactions.begun() as transaction:
            await transaction.connection.execute(_ALLOW_PUBLISH)
            _, events = await _claim(transaction.connection, _take(limit))
            try:
                if events:
                    await publish(events)
            except Exception as told:  # noqa: BLE001 - whatever it is, it is the caller's
                # Raised outside: in here it would be taken for a fault of the database.
                trouble = told
            else:
                await transaction.commit()
        if trouble is not None:
            raise trouble
        return len(events)

    async def _relay_under_lease(self, publish: Publish, limit: int) -> int:
        """Publish between two transactions: the one writer must not wait for a broker."""
        ids, events = await self._transactions.write(
            lambda connection: _claim(connection, _lease(limit))
        )
        if not events:
            return 0
        mine = outbox.c.outbox_id.in_(ids)
        try:
            await publish(events)
        except BaseException:
            free = update(outbox).where(mine).values(claimed_until=None)
            # If not even this goes through, the lease ends by itself; the bus's trouble is told.
            with suppress(Unavailable):
                await self._transactions.write(lambda connection: connection.execute(free))
            raise
        told = delete(outbox).where(mine)
        await self._transactions.write(lambda connection: connection.execute(told))
        return len(events)

    async def backlog(self) -> int:
        """Count the facts that wait."""

        async def work(connection: AsyncConnection) -> int:
            counted = await connection.execute(select(func.count()).select_from(outbox))
            return counted.scalar_one()

        return await self._transactions.read(work)

    async def age_ms(self) -> int:
        """Tell for how long the oldest fact has waited, by the database's clock."""
        # The first by its id, which its index knows: a minimum would read what is deleted, too.
        query = select(outbox.c.written_at, now()).order_by(outbox.c.outbox_id).limit(1)

        async def work(connection: AsyncConnection) -> int:
            oldest = (await connection.execute(query)).one_or_none()
            return 0 if oldest is None else max(0, oldest[1] - oldest[0])

        return await self._transactions.read(work)


_ALLOW_PUBLISH = text(f"set local idle_in_transaction_session_timeout = {PUBLISH_MS_MAX}")


def _take(limit: int) -> UpdateBase:
    # Never "id greater than the last one": commits become visible out of the order of their ids.
    free = (
        select(outbox.c.outbox_id)
        .order_by(outbox.c.outbox_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        # A subquery could be run more than once and lock more than the limit; this runs once.
        .cte("free")
    )
    return (
        delete(outbox)
        .where(outbox.c.outbox_id.in_(select(free.c.outbox_id)))
        .returning(outbox.c.outbox_id, cast(outbox.c.fact, Text))
    )


def _lease(limit: int) -> UpdateBase:
    free = (
        select(outbox.c.outbox_id)
        .where(or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now()))
        .order_by(outbox.c.outbox_id)
        .limit(limit)
    )
    return (
        update(outbox)
        .where(outbox.c.outbox_id.in_(free))
        .values(claimed_until=from_now(PUBLISH_MS_MAX))
        .returning(outbox.c.outbox_id, cast(outbox.c.fact, Text))
    )


async def _claim(connection: AsyncConnection, statement: UpdateBase) -> Claimed:
    # By the number, not by the row: rows compare in Python.
    claimed = sorted(await connection.execute(statement), key=itemgetter(0))
    return [number for number, _ in claimed], from_texts([fact for _, fact in claimed])


_: type[Outbox] = SqlOutbox
