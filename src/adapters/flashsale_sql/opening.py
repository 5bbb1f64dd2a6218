"""How `postgresql+asyncpg://` and `sqlite+aiosqlite://` are opened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from flashsale_core.opening import DatabaseOptions, OpenDatabase
from flashsale_sql.database import SqlDatabase
from flashsale_sql.database import open_database as open_sql_database
from flashsale_sql.migrate import HEAD, current_revision, upgrade

_SQLITE_READERS = 4
"""A file has one writer; a few readers beside it keep its page cache small."""


@asynccontextmanager
async def open_server_database(url: str, options: DatabaseOptions) -> AsyncIterator[SqlDatabase]:
    """Open a PostgreSQL database; its tables are the operator's to upgrade."""
    async with open_sql_database(
        url, pool_size=options.pool_size, before_commit=options.before_commit
    ) as database:
        yield database


@asynccontextmanager
async def open_file_database(url: str, options: DatabaseOptions) -> AsyncIterator[SqlDatabase]:
    """Open a SQLite file, made with its folder where there is none, and migrated."""
    path = make_url(url).database
    if path and path != ":memory:":
        await asyncio.to_thread(Path(path).parent.mkdir, parents=True, exist_ok=True)
        if await current_revision(url) != HEAD:
            await upgrade(url)
    pool_size = min(options.pool_size, _SQLITE_READERS)
    async with open_sql_database(
        url, pool_size=pool_size, before_commit=options.before_commit
    ) as database:
        yield database


_server: OpenDatabase = open_server_database
_file: OpenDatabase = open_file_database
