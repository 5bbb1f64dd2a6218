"""What rebuilds agree on: an advisory lock, and the table `barriers`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.ports import Rebuilds
from flashsale_sql.dialects import POSTGRESQL
from flashsale_sql.schema import barriers, from_now, now
from flashsale_sql.transactions import Transactions

REBUILD_LOCK = 0x466C_6173_6852_6562
"""PostgreSQL's advisory lock of whoever rebuilds gates; spells FlashReb."""
BARRIERS_KEPT_MS = 86_400_000
"""A day: no rebuild lasts longer, and a person may want to see how the last ones went."""

_TRY_LOCK = text("select pg_try_advisory_xact_lock(:key)")
_REST_LONG = text("set local idle_in_transaction_session_timeout = 0")


class SqlRebuilds:
    """One rebuild at a time, and how far the barriers have come."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions
        self._here = asyncio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Enter as the only rebuild, or be told False at once.

        PostgreSQL's lock lives as long as its transaction, so it ends with its holder and also
        behind a pooler that shares connections. A SQLite file has one process that rebuilds.
        """
        if self._here.locked():
            yield False
            return
        async with self._here:
            if not self._transactions.dialect.has_advisory_locks:
                yield True
                return
            async with self._transactions.begun() as transaction:
                await transaction.connection.execute(_REST_LONG)
                is_mine = await transaction.connection.scalar(_TRY_LOCK, {"key": REBUILD_LOCK})
                yield bool(is_mine)

    async def pass_barrier(self, rebuild_id: str, partition: int) -> None:
        """Note a passed barrier, and forget those of long ago."""
        is_postgresql = self._transactions.dialect is POSTGRESQL
        insert = (postgresql_insert if is_postgresql else sqlite_insert)(barriers)
        note = insert.values(
            rebuild_id=rebuild_id, partition=partition, passed_at=now()
        ).on_conflict_do_nothing()
        forget = delete(barriers).where(barriers.c.passed_at < from_now(-BARRIERS_KEPT_MS))

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(note)
            await connection.execute(forget)

        await self._transactions.write(work)

    async def passed(self, rebuild_id: str) -> frozenset[int]:
        """Tell which partitions' barriers were passed."""
        query = select(barriers.c.partition).where(barriers.c.rebuild_id == rebuild_id)

        async def work(connection: AsyncConnection) -> frozenset[int]:
            return frozenset((await connection.execute(query)).scalars())

        return await self._transactions.read(work)


_: type[Rebuilds] = SqlRebuilds
