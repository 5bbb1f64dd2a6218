"""Bring a database's tables to what this version needs, and tell where they stand."""

import asyncio
import io
import threading
from importlib.resources import as_file, files

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_sql.engines import Waits, dialect_of, opened_engines
from flashsale_sql.schema import revision
from flashsale_sql.transactions import Transactions

HEAD = "0004"
"""The migration that the statements are written for; a test compares it with the files."""
UPGRADE_LOCK = 0x466C_6173_6853_616C
"""PostgreSQL's advisory lock of two upgrades that begin at the same moment; spells FlashSal."""
UPGRADE_WAITS = Waits(statement_ms=3_600_000, lock_ms=30_000)
"""A step may write a big table anew; for a lock it waits only as long as a deployment may."""

_one_at_a_time = threading.Lock()
"""Alembic's `op` and `context` are globals of the process."""


async def upgrade(url: str) -> None:
    """Make or mend the tables, in one transaction; harmless when they are current.

    Raises Unavailable when the database is away.
    """
    # Alembic reads its files as it goes, which would hold up an event loop that serves others.
    await asyncio.to_thread(lambda: asyncio.run(_upgrade(url)))


async def _upgrade(url: str) -> None:
    async def work(connection: AsyncConnection) -> None:
        if connection.dialect.name == "postgresql":
            await connection.execute(
                text("select pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK}
            )
        await connection.run_sync(_run_steps)

    async with opened_engines(url, pool_size=1, waits=UPGRADE_WAITS) as engines:
        await Transactions(engines).write(work)


def _run_steps(connection: Connection) -> None:
    # Here and not above: a start that finds its tables current need not wait for the import.
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    with _one_at_a_time, as_file(files("flashsale_sql") / "migrations") as folder:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder))
        command.upgrade(config, "head")


def upgrade_sql(url: str) -> str:
    """Write out the SQL that makes the tables from nothing, for whoever must read it first."""
    from alembic import command  # noqa: PLC0415 - as above
    from alembic.config import Config  # noqa: PLC0415 - as above

    written = io.StringIO()
    with _one_at_a_time, as_file(files("flashsale_sql") / "migrations") as folder:
        config = Config(attributes={"dialect": dialect_of(url).name}, output_buffer=written)
        config.set_main_option("script_location", str(folder))
        command.upgrade(config, "head", sql=True)
    return written.getvalue()


async def current_revision(url: str) -> str | None:
    """Tell which migration the database is at; None when it has no tables of ours.

    Raises Unavailable when the database is away.
    """
    async with opened_engines(url, pool_size=1) as engines:
        return await Transactions(engines).read(revision_of)


async def revision_of(connection: AsyncConnection) -> str | None:
    """Read Alembic's note."""

    def exists(sync_connection: Connection) -> bool:
        return inspect(sync_connection).has_table(revision.name)

    if not await connection.run_sync(exists):
        return None
    found: str | None = await connection.scalar(select(revision.c.version_num))
    return found
