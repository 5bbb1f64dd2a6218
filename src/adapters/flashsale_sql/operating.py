"""What may be wrong with a database and its tables, and what mends each."""

from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import Unavailable
from flashsale_core.operating import Finding, OperateDatabase, Verdict, warning, wrong
from flashsale_core.urls import url_parts
from flashsale_sql.dialects import SQLITE
from flashsale_sql.engines import dialect_of, opened_engines
from flashsale_sql.granted import HELD, rights_of
from flashsale_sql.migrate import HEAD, current_revision, revision_of, upgrade, upgrade_sql
from flashsale_sql.transactions import Transactions

UPGRADE = "flashsale db upgrade"
WRONG_PASSWORD = ("28P01", "28000")
NO_DATABASE = "3D000"
NO_RIGHT = "42501"
TLS_ADVICE = (
    "name the server's authority and host in FLASHSALE_DATABASE_URL "
    "(?sslmode=verify-full&sslrootcert=/path/ca.pem)"
)
_REACHED, _TABLES = "database reachable", "database tables"


class SqlOperator:
    """Looks after the tables; connects and disconnects in each call."""

    def __init__(self, url: str) -> None:
        """Remember where it is. Raises ValueError for another database's URL."""
        self._url = url
        self._dialect = dialect_of(url)

    @property
    def needed(self) -> str:
        """See `DatabaseOperator.needed`."""
        return HEAD

    def sql(self) -> str:
        """See `DatabaseOperator.sql`."""
        return upgrade_sql(self._url)

    async def current(self) -> str | None:
        """See `DatabaseOperator.current`; a SQLite file that is not there is not made."""
        path = self._file()
        if path is not None and not path.exists():
            return None
        return await current_revision(self._url)

    async def upgrade(self) -> None:
        """See `DatabaseOperator.upgrade`; a SQLite file's folder is made too."""
        path = self._file()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        await upgrade(self._url)

    async def diagnose(self) -> list[Finding]:
        """See `DatabaseOperator.diagnose`; without an answer there is one finding only."""
        path = self._file()
        if path is not None and not path.exists():
            return [Finding(name=_REACHED, said=f"{path} is made at the first start")]
        try:
            async with opened_engines(self._url, pool_size=1) as engines:
                findings: list[Finding] = await Transactions(engines).read(self._look)
                return findings
        except Unavailable as away:
            return [_away(away, unquote(url_parts(self._url).path.removeprefix("/")))]

    async def _look(self, connection: AsyncConnection) -> list[Finding]:
        tables = _tables(await revision_of(connection))
        if self._dialect is SQLITE:
            return [Finding(name=_REACHED, said="SQLite"), tables]
        row = await connection.execute(
            text(
                "select current_setting('server_version'), pg_is_in_recovery(),"
                " current_setting('fsync'), current_setting('synchronous_commit')"
            )
        )
        version, is_standby, fsync, commit = row.one()
        reached = Finding(name=_REACHED, said=f"PostgreSQL {version}")
        rights = []
        if tables.verdict is Verdict.OK:
            held = await connection.execute(HELD)
            rights = [rights_of(held.mappings().one())]
        writable = _writable(is_standby=is_standby)
        return [reached, tables, *rights, writable, _durable(fsync, commit)]

    def _file(self) -> Path | None:
        if self._dialect is not SQLITE:
            return None
        database = make_url(self._url).database
        return Path(database) if database else None


def _tables(found: str | None) -> Finding:
    if found == HEAD:
        return Finding(name=_TABLES, said=f"revision {found}")
    at = "there are none" if found is None else f"they are at revision {found}"
    return wrong(_TABLES, f"{at}; this version needs {HEAD}", UPGRADE)


def _writable(*, is_standby: bool) -> Finding:
    name = "database writable"
    if not is_standby:
        return Finding(name=name)
    return wrong(name, "this is a standby server", "name the primary in FLASHSALE_DATABASE_URL")


def _durable(fsync: str, synchronous_commit: str) -> Finding:
    name = "database durability"
    for setting, value in (("fsync", fsync), ("synchronous_commit", synchronous_commit)):
        if value == "off":
            problem = f"{setting} is off: a power cut loses orders that were committed"
            fix = f"psql -c \"ALTER SYSTEM SET {setting} = 'on'\" -c 'SELECT pg_reload_conf()'"
            return warning(name, problem, fix)
    return Finding(name=name, said="commits are on disk")


def _away(away: Unavailable, database: str) -> Finding:
    state = _sqlstate(away)
    if state in WRONG_PASSWORD:
        fix = "put the right user and password into FLASHSALE_DATABASE_URL (…://USER:PASSWORD@…)"
        return wrong("database login", away.detail, fix)
    if state == NO_DATABASE:
        return wrong(_REACHED, away.detail, f"createdb {database}, then {UPGRADE}")
    if state == NO_RIGHT:
        return wrong("database rights", away.detail, "grant what docs/security.md lists, as owner")
    if "certificate" in away.detail or "SSL" in away.detail:
        return wrong("database TLS", away.detail, TLS_ADVICE)
    fix = "start PostgreSQL, or correct FLASHSALE_DATABASE_URL; try: pg_isready -h HOST -p PORT"
    return wrong(_REACHED, away.detail, fix)


def _sqlstate(away: Unavailable) -> str | None:
    """Read the server's own code out of the error that stands behind."""
    cause: BaseException | None = away.__cause__
    while cause is not None:
        original = cause.orig if isinstance(cause, DBAPIError) else cause
        state = getattr(original, "sqlstate", None)
        if isinstance(state, str):
            return state
        cause = cause.__cause__
    return None


_: OperateDatabase = SqlOperator
