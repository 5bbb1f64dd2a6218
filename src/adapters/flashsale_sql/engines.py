"""Open the engines of a URL, every wait written out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attrs
from sqlalchemy import event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from flashsale_core.urls import url_parts
from flashsale_sql.dialects import POSTGRESQL, SQLITE, Dialect

APPLICATION_NAME = "flashsale"
COMMAND_GRACE_MS = 2_000
"""The driver waits this much longer than the server, so that the server ends a statement itself."""
CLOSE_S = 1.0
"""For the goodbyes of a pool: a server that hangs is left without one."""
CUT_OFF_S = 0.05
"""For each further connection to a server that did not say goodbye on the first."""


@attrs.frozen(kw_only=True)
class Waits:
    """How long anything may take, in milliseconds."""

    connect_ms: int = 3_000
    """A server that is up answers within a second, even with TLS."""
    pool_ms: int = 3_000
    """For a free connection: longer means that the database does not keep up."""
    statement_ms: int = 10_000
    """A batch takes milliseconds; a statement this slow holds locks that others wait for."""
    lock_ms: int = 2_000
    """For one lock, tried thrice: another batch holds its rows for milliseconds."""
    idle_in_transaction_ms: int = 10_000
    """A worker that vanished holds a sale's row no longer than this; a relay allows itself more."""


@attrs.frozen(kw_only=True)
class Engines:
    """The same engine twice in PostgreSQL; in SQLite the one writer has an engine of its own."""

    dialect: Dialect
    readers: AsyncEngine
    writers: AsyncEngine


def dialect_of(url: str) -> Dialect:
    """Tell which database a URL means. Raises ValueError for any other."""
    for dialect in (POSTGRESQL, SQLITE):
        if url.startswith(dialect.driver_url):
            return dialect
    raise ValueError(
        f"a database URL begins with {POSTGRESQL.driver_url} or {SQLITE.driver_url}, "
        f"not with {url.partition('://')[0] or 'nothing'}:"
    )


@asynccontextmanager
async def opened_engines(
    url: str, *, pool_size: int, waits: Waits | None = None
) -> AsyncIterator[Engines]:
    """Make engines that connect when they are first used, and close what they opened."""
    # The first engine imports its driver, which would hold up an event loop that serves others.
    engines = await asyncio.to_thread(_engines, url, pool_size, waits or Waits())
    try:
        yield engines
    finally:
        # A cancelled shutdown would else leave connections, and their threads, behind.
        await asyncio.shield(_dispose(engines))


def _engines(url: str, pool_size: int, waits: Waits) -> Engines:
    dialect = dialect_of(url)
    if dialect is POSTGRESQL:
        engine = _postgresql(url, pool_size, waits)
        return Engines(dialect=dialect, readers=engine, writers=engine)
    return Engines(
        dialect=dialect,
        readers=_sqlite(url, pool_size, waits, begin="BEGIN"),
        # Writers stand in one fair queue here, instead of polling for the file's lock.
        writers=_sqlite(url, 1, waits, begin="BEGIN IMMEDIATE"),
    )


async def _dispose(engines: Engines) -> None:
    for engine in {engines.readers, engines.writers}:
        await _close(engine)


async def _close(engine: AsyncEngine) -> None:
    """Close a pool; the driver itself would wait for ever for a server that hangs."""
    loop = asyncio.get_running_loop()
    until = loop.time() + CLOSE_S
    while True:
        try:
            async with asyncio.timeout_at(until):
                return await engine.dispose()
        except TimeoutError:
            # That connection is gone from the pool, cut off; those behind it had no turn yet.
            until = loop.time() + CUT_OFF_S


def _engine(url: str, pool_size: int, waits: Waits, connect_args: dict[str, Any]) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=waits.pool_ms / 1_000,
        pool_use_lifo=True,
        # A ping before every use costs a round trip; a connection that died is noticed by its
        # first statement, which throws all of its age away.
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args=connect_args,
    )


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────


def _postgresql(url: str, pool_size: int, waits: Waits) -> AsyncEngine:
    return _engine(POSTGRESQL.driver_url, pool_size, waits, postgresql_arguments(url, waits))


def postgresql_arguments(url: str, waits: Waits) -> dict[str, Any]:
    """Say how asyncpg shall connect.

    It gets the URL whole, because it reads all of libpq's parameters there (`sslmode`,
    `sslrootcert`, several hosts, …). `ssl`, as SQLAlchemy's URLs call it, means `sslmode`.
    pgbouncer in transaction mode wants `prepared_statement_cache_size=0&statement_cache_size=0`,
    and `ignore_startup_parameters` for the timeouts below.
    """
    parts = url_parts(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "ssl" in query:
        query.setdefault("sslmode", query.pop("ssl"))
    caches: dict[str, Any] = {
        name: int(query.pop(name))
        for name in ("prepared_statement_cache_size", "statement_cache_size")
        if name in query
    }
    hosts = ",".join(map(str, parts.hosts))
    if any(":" in host.name for host in parts.hosts[1:]):
        # The driver splits as Python does: newer ones take no later host in brackets there.
        query["host"], hosts = hosts, ""
    login = f"{parts.login}@" if parts.login else ""
    dsn = f"postgresql://{login}{hosts}{parts.path}?{urlencode(query)}"
    return {
        "dsn": dsn,
        "timeout": waits.connect_ms / 1_000,
        "command_timeout": (waits.statement_ms + COMMAND_GRACE_MS) / 1_000,
        "server_settings": {
            "application_name": APPLICATION_NAME,
            "statement_timeout": str(waits.statement_ms),
            "lock_timeout": str(waits.lock_ms),
            "idle_in_transaction_session_timeout": str(waits.idle_in_transaction_ms),
            # A statement after a lock must see what the lock's last holder committed.
            "default_transaction_isolation": "read committed",
        },
        **caches,
    }


# ── SQLite ──────────────────────────────────────────────────────────────────────────────────────


def _sqlite(url: str, pool_size: int, waits: Waits, *, begin: str) -> AsyncEngine:
    if make_url(url).database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file: every connection to :memory: has one of its own")
    engine = _engine(url, pool_size, waits, {"timeout": waits.pool_ms / 1_000})

    def prepare(connection: Any, _: ConnectionPoolEntry) -> None:
        # The driver must not begin transactions by itself: `begin_transaction` does.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout = {waits.pool_ms}",
            "journal_mode = WAL",
            # A commit is on the disk when it returns, also when the power goes next.
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", begin_transaction)
    return engine
