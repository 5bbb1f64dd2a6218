"""Open a database as the ports that it is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs

from flashsale_core.errors import Unavailable, Why
from flashsale_sql.dead_letters import SqlDeadLetters
from flashsale_sql.engines import Waits, opened_engines
from flashsale_sql.faults import UPGRADE_HINT
from flashsale_sql.handling_notes import SqlHandlingNotes
from flashsale_sql.migrate import HEAD, revision_of
from flashsale_sql.order_repository import SqlOrderRepository
from flashsale_sql.outbox import SqlOutbox
from flashsale_sql.parked_messages import SqlParkedMessages
from flashsale_sql.payments import SqlPayments
from flashsale_sql.rebuilds import SqlRebuilds
from flashsale_sql.sale_catalogue import SqlSaleCatalogue
from flashsale_sql.transactions import Transactions

POOL_SIZE_DEFAULT = 10
"""One a partition in work, one a relay, a few for questions; a server has about a hundred."""


@attrs.frozen(kw_only=True)
class SqlDatabase:
    """An opened database; it connects when it is first used, so it may be away until then."""

    orders: SqlOrderRepository
    catalogue: SqlSaleCatalogue
    outbox: SqlOutbox
    parked: SqlParkedMessages
    rebuilds: SqlRebuilds
    letters: SqlDeadLetters
    notes: SqlHandlingNotes
    payments: SqlPayments
    _transactions: Transactions

    async def check(self) -> None:
        """Raise Unavailable unless the database answers and its tables are current."""
        found = await self._transactions.read(revision_of)
        if found != HEAD:
            where = f"at revision {found}" if found else "without tables"
            detail = f"the database is {where}, this version needs revision {HEAD}: {UPGRADE_HINT}"
            raise Unavailable(Why.DATABASE_AWAY, detail)


@asynccontextmanager
async def open_database(
    url: str,
    *,
    pool_size: int = POOL_SIZE_DEFAULT,
    waits: Waits | None = None,
    before_commit: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[SqlDatabase]:
    """Open the database of a URL; leaving the context closes its connections.

    Raises ValueError for a URL that is neither PostgreSQL's nor a SQLite file's.
    """
    async with opened_engines(url, pool_size=pool_size, waits=waits) as engines:
        transactions = Transactions(engines)
        yield await asyncio.to_thread(_assemble, transactions, before_commit)


def _assemble(
    transactions: Transactions, before_commit: Callable[[], Awaitable[None]] | None
) -> SqlDatabase:
    """Put the ports together; they read their statements' files, so not in the event loop."""
    return SqlDatabase(
        orders=SqlOrderRepository(transactions, before_commit=before_commit),
        catalogue=SqlSaleCatalogue(transactions),
        outbox=SqlOutbox(transactions),
        parked=SqlParkedMessages(transactions),
        rebuilds=SqlRebuilds(transactions),
        letters=SqlDeadLetters(transactions),
        notes=SqlHandlingNotes(transactions),
        payments=SqlPayments(transactions),
        transactions=transactions,
    )
