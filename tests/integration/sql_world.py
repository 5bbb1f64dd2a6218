"""Databases for tests: made and migrated once a run, empty for each test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from flashsale_sql import SqlDatabase, open_database, upgrade
from tests.servers import Postgres

TABLES = "sales, orders, outbox, payments, parked_messages, barriers, parked_trail, handling_notes"
PATIENCE_S = 20.0
"""How long a test waits for another session to reach a lock."""
POLL_S = 0.01


@contextmanager
def postgresql_url(server: Postgres) -> Iterator[str]:
    """Make and migrate a database of this module's own."""
    url = server.create_database("sql")
    try:
        asyncio.run(upgrade(url))
        yield url
    finally:
        server.drop_database(url)


def sqlite_template(folder: Path) -> Path:
    """Make and migrate a file to copy: quicker than migrating each."""
    template = folder / "template.db"
    asyncio.run(upgrade(sqlite_url(template)))
    return template


def sqlite_url(path: Path) -> str:
    """Name a file as a database."""
    return f"sqlite+aiosqlite:///{path}"


@asynccontextmanager
async def emptied(url: str, **options: Any) -> AsyncIterator[SqlDatabase]:
    """Open a PostgreSQL database without rows."""
    await ask(url, f"TRUNCATE {TABLES} RESTART IDENTITY")
    async with open_database(url, **options) as database:
        yield database


@asynccontextmanager
async def copied(template: Path, folder: Path, **options: Any) -> AsyncIterator[SqlDatabase]:
    """Open a SQLite database of its own."""
    path = folder / "flashsale.db"
    shutil.copy(template, path)
    async with open_database(sqlite_url(path), **options) as database:
        yield database


async def ask(url: str, sql: str, *arguments: object) -> list[Any]:
    """Ask PostgreSQL past the adapter, as somebody with psql would."""
    connection = await plain_connection(url)
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


async def plain_connection(url: str) -> Any:
    """Connect past the adapter."""
    return await asyncpg.connect(url.replace("+asyncpg", ""))


async def sessions_in_transaction(url: str) -> int:
    """Count the sessions that hold something open."""
    [row] = await ask(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND state LIKE 'idle in transaction%'",
    )
    count: int = row[0]
    return count


async def until_waiting(url: str, sessions: int = 1) -> None:
    """Return once so many sessions wait for a lock."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            [row] = await ask(
                url,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock'",
            )
            if row[0] >= sessions:
                return
            await asyncio.sleep(POLL_S)
