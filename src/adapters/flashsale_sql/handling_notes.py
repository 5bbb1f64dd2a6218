"""Which messages somebody has in hand."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.handling import HandlingNotes
from flashsale_sql.dialects import POSTGRESQL
from flashsale_sql.schema import from_now, handling_notes, now
from flashsale_sql.transactions import Transactions

NOTE_KEPT_MS = 7 * 86_400_000
"""A note whose message never came again (its topic was cleared) goes after this."""
_columns = handling_notes.c


class SqlHandlingNotes:
    """The table `handling_notes`: a row per message and life of a worker."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions

    async def note(self, keys: Sequence[str], life: str) -> None:
        """Note that this life takes them in hand."""
        if not keys:
            return
        own = postgresql_insert if self._transactions.dialect is POSTGRESQL else sqlite_insert
        insert = own(handling_notes).on_conflict_do_nothing()
        # In one order for everybody, so that two workers with the same messages do not deadlock.
        rows = [{"message_key": key, "life": life} for key in sorted(set(keys))]

        async def work(connection: AsyncConnection) -> None:
            at_ms: int = (await connection.execute(select(now()))).scalar_one()
            await connection.execute(insert, [{**row, "noted_at": at_ms} for row in rows])
            old = _columns.noted_at < from_now(-NOTE_KEPT_MS)
            await connection.execute(delete(handling_notes).where(old))

        await self._transactions.write(work)

    async def deaths(self, keys: Sequence[str], life: str) -> list[int]:
        """Count the other lives that noted each."""
        query = (
            select(_columns.message_key, func.count())
            .where(_columns.message_key.in_(set(keys)), _columns.life != life)
            .group_by(_columns.message_key)
        )

        async def work(connection: AsyncConnection) -> list[int]:
            found = {row[0]: row[1] for row in await connection.execute(query)}
            return [found.get(key, 0) for key in keys]

        return await self._transactions.read(work)

    async def take_back(self, keys: Sequence[str], life: str) -> None:
        """Forget this life's note of each."""
        await self._delete(keys, life)

    async def clear(self, keys: Sequence[str]) -> None:
        """Forget every note of each."""
        await self._delete(keys, None)

    async def _delete(self, keys: Sequence[str], life: str | None) -> None:
        gone = delete(handling_notes).where(_columns.message_key.in_(set(keys)))
        if life is not None:
            gone = gone.where(_columns.life == life)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(gone)

        await self._transactions.write(work)


_: type[HandlingNotes] = SqlHandlingNotes
