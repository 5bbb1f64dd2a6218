"""How a transaction is run: tried again when that helps, committed out of a canceller's reach."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import stamina
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flashsale_core.errors import Transient
from flashsale_core.retry import TRANSIENT_TRIES_MAX
from flashsale_sql.dialects import Dialect
from flashsale_sql.engines import Engines
from flashsale_sql.faults import DRIVER_ERRORS, translated

T = TypeVar("T")

RETRY_WAIT_S = 0.01
RETRY_WAIT_MAX_S = 0.1
RETRY_JITTER_S = 0.05
"""About as long as a batch: two that met must not meet again at the same moment."""


class Transaction:
    """One open transaction; leaving it without `commit` undoes it."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Begin with the connection's first statement."""
        self.connection = connection
        self.is_committing = False

    async def commit(self) -> None:
        """Commit; a cancellation meanwhile waits until the outcome is known.

        A commit that was cut off in the middle could leave the connection, with its locks, in
        a state that nobody knows. The driver's own timeout ends the wait.
        """
        self.is_committing = True
        commit = asyncio.ensure_future(self.connection.commit())
        cancelled: asyncio.CancelledError | None = None
        while not commit.done():
            try:
                await asyncio.wait({commit})
            except asyncio.CancelledError as caught:
                cancelled = caught
        if cancelled is not None:
            # Its outcome is nobody's any more; reading it keeps asyncio from complaining.
            commit.exception()
            raise cancelled
        await commit
        self.is_committing = False


class Transactions:
    """Runs work in transactions of one database."""

    def __init__(self, engines: Engines) -> None:
        """Take engines that somebody else closes."""
        self._engines = engines

    @property
    def dialect(self) -> Dialect:
        """Which database it is."""
        return self._engines.dialect

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run work that writes nothing."""
        async with _transaction(self._engines.readers) as transaction:
            return await work(transaction.connection)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run work and commit it; a deadlock or the like begins the whole of it again."""
        async for attempt in stamina.retry_context(
            on=Transient,
            attempts=TRANSIENT_TRIES_MAX,
            timeout=None,
            wait_initial=RETRY_WAIT_S,
            wait_max=RETRY_WAIT_MAX_S,
            wait_jitter=RETRY_JITTER_S,
        ):
            with attempt:
                async with self.begun() as transaction:
                    result = await work(transaction.connection)
                    await transaction.commit()
                    return result
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[Transaction]:
        """Begin a transaction that the caller commits, or leaves to be undone; tried once."""
        async with _transaction(self._engines.writers) as transaction:
            yield transaction


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[Transaction]:
    transaction: Transaction | None = None
    try:
        async with engine.connect() as connection:
            transaction = Transaction(connection)
            yield transaction
    except DRIVER_ERRORS as error:
        committing = transaction is not None and transaction.is_committing
        told = translated(error, committing=committing)
        if told is error:
            raise
        raise told from error
