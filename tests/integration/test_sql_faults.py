"""What the adapter makes of a database that is away, slow, cut off in the middle, or unwilling."""

from __future__ import annotations

import asyncio
import inspect
import socket
import sqlite3
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from asyncpg import exceptions as driver_errors
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import Corrupt, Transient, Unavailable, Why
from flashsale_core.model import ItemId, PurchaseId, Sale, SaleTerms, UserId
from flashsale_core.testing.order_repository import decision, epochs_of, told_events
from flashsale_sql import SqlDatabase, open_database
from flashsale_sql.engines import CLOSE_S, Waits, opened_engines, postgresql_arguments
from flashsale_sql.faults import (
    SQLITE_CODES,
    SQLSTATE_CLASSES,
    Fault,
    fault_of,
    translated,
)
from tests.integration.sql_proxy import Cut, Proxy, proxy_before
from tests.integration.sql_world import (
    ask,
    copied,
    emptied,
    plain_connection,
    postgresql_url,
    sessions_in_transaction,
    sqlite_template,
    sqlite_url,
    until_waiting,
)
from tests.servers import Postgres
from tests.servers.authority import Authority
from tests.servers.postgres import running_postgres

HASTY = Waits(connect_ms=300, pool_ms=200, statement_ms=300, lock_ms=100)
QUICK_S = 6.0
"""Above all waits of HASTY together on a busy machine, and far below any default of the drivers."""


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> Iterator[str]:
    """Make one database for all."""
    with postgresql_url(postgres_server) as made:
        yield made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one SQLite file to copy."""
    return sqlite_template(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
async def direct(url: str) -> AsyncIterator[SqlDatabase]:
    """Open the database past the proxy: what a test compares with."""
    async with emptied(url) as database:
        yield database


@pytest.fixture
async def sale(direct: SqlDatabase) -> Sale:
    """Open a sale."""
    return await direct.catalogue.create(ItemId("shoe"), SaleTerms(units=10))


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Stand before the server."""
    async with proxy_before(url) as proxy:
        yield proxy


@pytest.fixture
async def database(proxy: Proxy) -> AsyncIterator[SqlDatabase]:
    """Open the database by way of the proxy, with one connection and little patience."""
    async with open_database(proxy.url, pool_size=1, waits=HASTY) as database:
        yield database


# ── away ────────────────────────────────────────────────────────────────────────────────────────


def unused_port() -> int:
    """Find a port where nobody listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def expect_away(url: str) -> Unavailable:
    """Find the database of a URL away, and soon."""
    began = time.monotonic()
    async with open_database(url, waits=HASTY) as database:
        with pytest.raises(Unavailable) as caught:
            await database.check()
    assert time.monotonic() - began < QUICK_S
    assert caught.value.why is Why.DATABASE_AWAY
    assert not caught.value.may_have_happened
    return caught.value


async def test_a_refused_connection_is_a_database_away_and_tells_no_secret() -> None:
    """The detail goes to the log."""
    url = f"postgresql+asyncpg://ann:verysecret@127.0.0.1:{unused_port()}/flashsale"
    away = await expect_away(url)
    assert "verysecret" not in str(away)


async def test_a_server_that_never_answers_is_given_up_soon() -> None:
    """A connection that nobody accepts would else hang for a minute."""
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        away = await expect_away(
            f"postgresql+asyncpg://ann@127.0.0.1:{silent.getsockname()[1]}/flashsale"
        )
    assert away.detail == "no answer in time", "not how the waiting was ended"


async def test_a_missing_database_and_a_missing_role_are_told(url: str) -> None:
    """In the server's own words."""
    parts = urlsplit(url)
    assert "ghost" in str(await expect_away(parts._replace(path="/ghost").geturl()))
    nobody = parts._replace(netloc=f"nobody@{parts.hostname}:{parts.port}")
    assert "nobody" in str(await expect_away(nobody.geturl()))


async def test_a_file_that_cannot_be_opened_is_a_database_away(tmp_path: Path) -> None:
    """SQLite makes no folders."""
    away = await expect_away(sqlite_url(tmp_path / "missing" / "flashsale.db"))
    assert "unable to open" in str(away)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://localhost/flashsale", "mysql"),
        ("postgresql://localhost/flashsale", "postgresql+asyncpg://"),
        ("flashsale.db", "sqlite+aiosqlite://"),
        ("sqlite+aiosqlite://", "file"),
        ("sqlite+aiosqlite:///:memory:", "file"),
    ],
)
async def test_a_url_of_no_database_is_refused_at_once(url: str, says: str) -> None:
    """Before anything is opened, in words that say what would do."""
    with pytest.raises(ValueError, match=says.replace("+", r"\+")):
        async with open_database(url):
            pass


async def test_a_restarted_server_costs_one_failed_call(url: str, direct: SqlDatabase) -> None:
    """The connections that died are thrown away together, and new ones made."""
    await asyncio.gather(*(direct.outbox.backlog() for _ in range(5)))
    await ask(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    with pytest.raises(Unavailable):
        await direct.outbox.backlog()
    assert await asyncio.gather(*(direct.outbox.backlog() for _ in range(5))) == [0] * 5


async def test_a_pool_that_is_exhausted_is_a_database_away(
    url: str, direct: SqlDatabase, sale: Sale
) -> None:
    """Soon, so that the worker pauses instead of piling up."""
    await direct.orders.record([decision(sale, "p1")], epochs_of(sale))
    async with open_database(url, pool_size=1, waits=HASTY) as database:
        is_told = asyncio.Event()

        async def ask_meanwhile(_: object) -> None:
            with pytest.raises(Unavailable) as caught:
                await database.orders.find(PurchaseId("p1"))
            assert caught.value.why is Why.DATABASE_AWAY
            is_told.set()

        assert await database.outbox.relay(ask_meanwhile, 1) == 1
        assert is_told.is_set()


# ── slow ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_lock_that_takes_too_long_is_given_up_with_nothing_written(
    url: str, direct: SqlDatabase, sale: Sale
) -> None:
    """After its quick tries; the caller knows that nothing happened."""
    holder = await plain_connection(url)
    async with open_database(url, waits=HASTY) as database, holder.transaction():
        await holder.execute("SELECT 1 FROM sales FOR UPDATE")
        with pytest.raises(Unavailable) as caught:
            await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    await holder.close()
    assert "lock timeout" in caught.value.detail
    assert not caught.value.may_have_happened
    assert await direct.orders.find(PurchaseId("p1")) == []


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    url: str, direct: SqlDatabase, sale: Sale
) -> None:
    """The server ends it, so no lock outlives the caller's patience."""
    holder = await plain_connection(url)
    patient_with_locks = attrs.evolve(HASTY, lock_ms=60_000)
    async with open_database(url, waits=patient_with_locks) as database, holder.transaction():
        await holder.execute("SELECT 1 FROM sales FOR UPDATE")
        with pytest.raises(Unavailable, match="statement timeout"):
            await database.catalogue.raise_epoch(sale.sale_id)
    await holder.close()
    assert (await direct.catalogue.raise_epoch(sale.sale_id)).epoch == 2


async def test_a_server_that_hangs_is_given_up_and_used_again_when_it_answers(
    proxy: Proxy, database: SqlDatabase, direct: SqlDatabase, sale: Sale
) -> None:
    """The driver's own timeout ends what the server's cannot."""
    await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    proxy.freeze()
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await database.orders.record([decision(sale, "p2")], epochs_of(sale))
    assert time.monotonic() - began < QUICK_S
    assert not caught.value.may_have_happened
    assert caught.value.detail == "no answer in time"
    proxy.thaw()
    [standing] = await database.orders.record([decision(sale, "p2")], epochs_of(sale))
    assert standing.is_new
    assert (await direct.catalogue.current())[0].sold == 2


async def test_a_server_that_hangs_does_not_hold_up_the_end() -> None:
    """A worker told to stop leaves; its connections are cut off where nobody says goodbye."""
    loop = asyncio.get_running_loop()
    with running_postgres(ours=True) as server:
        async with opened_engines(server.url, pool_size=3) as engines, AsyncExitStack() as used:
            for _ in range(3):
                connection = await used.enter_async_context(engines.readers.connect())
                await connection.execute(text("SELECT 1"))
            await used.aclose()
            await asyncio.to_thread(server.freeze)
            began = loop.time()
        took_s = loop.time() - began
        server.thaw()
    assert took_s < 2 * CLOSE_S


async def test_the_server_is_told_every_wait(url: str) -> None:
    """What the client asks for is what the server does, whatever its own configuration says."""
    async with open_database(url) as database:

        async def show(connection: AsyncConnection) -> list[Any]:
            names = (
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "transaction_isolation",
                "application_name",
            )
            return [await connection.scalar(text(f"SHOW {name}")) for name in names]

        told = await database._transactions.read(show)
    assert told == ["10s", "2s", "10s", "read committed", "flashsale"]


# ── cut off in the middle ───────────────────────────────────────────────────────────────────────


async def test_a_lost_commit_reply_is_an_unknown_outcome_that_a_repeat_resolves(
    proxy: Proxy, database: SqlDatabase, direct: SqlDatabase, sale: Sale
) -> None:
    """The rows are there and nobody told us: the whole batch again has no second effect."""
    batch = [decision(sale, "p1"), decision(sale, "p2")]
    await database.outbox.backlog()
    proxy.arm(b"COMMIT", Cut.AFTER)
    with pytest.raises(Unavailable) as caught:
        await database.orders.record(batch, epochs_of(sale))
    assert caught.value.may_have_happened
    assert len(await direct.orders.find(PurchaseId("p1"))) == 1
    again = await database.orders.record(batch, epochs_of(sale))
    assert [standing.is_new for standing in again] == [False, False]
    assert (await direct.catalogue.current())[0].sold == 2
    assert await direct.outbox.backlog() == 2


async def test_a_commit_that_never_arrived_is_an_unknown_outcome_too(
    proxy: Proxy, database: SqlDatabase, direct: SqlDatabase, sale: Sale
) -> None:
    """From this side both look the same; the repeat writes it."""
    await database.outbox.backlog()
    proxy.arm(b"COMMIT", Cut.BEFORE)
    with pytest.raises(Unavailable) as caught:
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    assert caught.value.may_have_happened
    assert await direct.orders.find(PurchaseId("p1")) == []
    [standing] = await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    assert standing.is_new


async def test_a_connection_lost_before_the_commit_wrote_nothing(
    proxy: Proxy, database: SqlDatabase, direct: SqlDatabase, sale: Sale
) -> None:
    """And the caller knows it."""
    await database.orders.record([decision(sale, "p0")], epochs_of(sale))
    proxy.arm(b"purchase-to-lose", Cut.BEFORE)
    with pytest.raises(Unavailable) as caught:
        await database.orders.record([decision(sale, "purchase-to-lose")], epochs_of(sale))
    assert not caught.value.may_have_happened
    assert (await direct.catalogue.current())[0].sold == 1


async def test_a_relay_that_loses_its_connection_gives_its_facts_free(
    url: str, direct: SqlDatabase, sale: Sale
) -> None:
    """Nobody waits for a lease: the locks end with the connection."""
    await direct.orders.record([decision(sale, "p1")], epochs_of(sale))
    async with proxy_before(url) as proxy, open_database(proxy.url, waits=HASTY) as database:

        async def lose_connection(_: object) -> None:
            await proxy.close()

        with pytest.raises(Unavailable):
            await database.outbox.relay(lose_connection, 1)
    assert [event.purchase_id for event in await told_events(direct)] == ["p1"]


async def test_a_relay_may_publish_for_longer_than_others_may_idle(
    url: str, direct: SqlDatabase, sale: Sale
) -> None:
    """Whoever else sits in a transaction doing nothing is thrown out, with the locks it holds."""
    await direct.orders.record([decision(sale, "p1")], epochs_of(sale))
    restless = attrs.evolve(HASTY, idle_in_transaction_ms=100)
    async with open_database(url, waits=restless) as database:

        async def publish_slowly(_: object) -> None:
            await asyncio.sleep(0.5)

        assert await database.outbox.relay(publish_slowly, 1) == 1

        async def idle(connection: AsyncConnection) -> None:
            await connection.execute(text("SELECT 1"))
            await asyncio.sleep(0.5)
            await connection.execute(text("SELECT 1"))

        with pytest.raises(Unavailable):
            await database._transactions.write(idle)


# ── cancelled ───────────────────────────────────────────────────────────────────────────────────


async def test_a_call_cancelled_while_it_waits_leaves_nothing_behind(
    url: str, direct: SqlDatabase, sale: Sale
) -> None:
    """No row, no lock, no session in a transaction; the next call works on the same pool."""
    holder = await plain_connection(url)
    async with open_database(url, pool_size=1) as database:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM sales FOR UPDATE")
            waiting = asyncio.ensure_future(
                database.orders.record([decision(sale, "p1")], epochs_of(sale))
            )
            await until_waiting(url)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert await sessions_in_transaction(url) == 0
        assert await direct.orders.find(PurchaseId("p1")) == []
        [standing] = await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        assert standing.is_new
    await holder.close()


async def test_a_call_cancelled_in_its_commit_waits_until_the_outcome_is_known(
    url: str, proxy: Proxy, direct: SqlDatabase, sale: Sale
) -> None:
    """A connection cut off there would be in nobody knows what state; the row stands."""
    async with open_database(proxy.url, pool_size=1) as database:
        await database.outbox.backlog()
        proxy.arm(b"COMMIT", Cut.HELD)
        committing = asyncio.ensure_future(
            database.orders.record([decision(sale, "p1")], epochs_of(sale))
        )
        await asyncio.wait_for(proxy.met.wait(), QUICK_S)
        for _ in range(3):
            committing.cancel()
            await asyncio.wait({committing}, timeout=0.05)
            assert not committing.done()
        proxy.thaw()
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert len(await direct.orders.find(PurchaseId("p1"))) == 1
        assert await sessions_in_transaction(url) == 0
        backends = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flashsale' "
            "AND datname = current_database()"
        )
        before = await ask(url, backends)
        assert (await database.orders.find(PurchaseId("p1")))[0].quantity == 1
        assert await ask(url, backends) == before, "the connection was kept"


# ── content ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["postgresql", "sqlite"])
async def either(
    request: pytest.FixtureRequest, url: str, template: Path, tmp_path: Path
) -> AsyncIterator[SqlDatabase]:
    """Open each database in turn."""
    opened = emptied(url) if request.param == "postgresql" else copied(template, tmp_path)
    async with opened as database:
        yield database


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": UserId("nul\x00")},
        {"purchase_id": PurchaseId("\x00")},
        {"quantity": 2**31},
        {"quantity": 2**70},
        {"quantity": 0},
        {"user_id": UserId("half a pair \ud800")},
    ],
    ids=str,
)
async def test_content_that_cannot_be_stored_is_corrupt_and_nothing_is_written(
    either: SqlDatabase, wrong: dict[str, Any]
) -> None:
    """The edge refuses it; should it come this far, the answer is clear and the rest unharmed."""
    sale = await either.catalogue.create(ItemId("shoe"), SaleTerms(units=10))
    good = decision(sale, "p1")
    with pytest.raises(Corrupt) as caught:
        await either.orders.record(
            [good, attrs.evolve(decision(sale, "p2"), **wrong)], epochs_of(sale)
        )
    assert caught.value.code == "unstorable"
    assert caught.value.detail
    assert await either.orders.find(PurchaseId("p1")) == []
    [standing] = await either.orders.record([good], epochs_of(sale))
    assert standing.is_new


# ── TLS and the URL's parameters ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["sslmode", "ssl"])
async def test_tls_is_verified_as_the_url_says(url: str, name: str, tmp_path: Path) -> None:
    """With the authority that the URL names, and with no other."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    authority, stranger = Authority(ours), Authority(theirs)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(authority.server_pem())
    async with proxy_before(url, server) as proxy:
        verified = f"{proxy.url}?{name}=verify-full&sslrootcert={authority.certificate}"
        async with open_database(verified, waits=HASTY) as database:
            await database.check()
        wrong = f"{proxy.url}?{name}=verify-full&sslrootcert={stranger.certificate}"
        assert "certificate" in str(await expect_away(wrong)).lower()


async def test_a_server_without_tls_is_not_talked_to_when_the_url_wants_it(url: str) -> None:
    """Silence about a downgrade would be the worst answer."""
    assert "SSL" in str(await expect_away(f"{url}?sslmode=require"))


def test_the_url_s_own_parameters_reach_the_driver() -> None:
    """Two caches as numbers, for pgbouncer; the rest in the URL, which the driver reads whole."""
    arguments = postgresql_arguments(
        "postgresql+asyncpg://a%40b:p%2Fw@h1:5432,h2:5433/shop"
        "?prepared_statement_cache_size=0&statement_cache_size=0"
        "&target_session_attrs=read-write&sslrootcert=%2Fca.pem&ssl=verify-ca",
        Waits(connect_ms=1_500, statement_ms=4_000),
    )
    assert arguments["prepared_statement_cache_size"] == 0
    assert arguments["statement_cache_size"] == 0
    assert (arguments["timeout"], arguments["command_timeout"]) == (1.5, 6.0)
    assert arguments["dsn"] == (
        "postgresql://a%40b:p%2Fw@h1:5432,h2:5433/shop"
        "?target_session_attrs=read-write&sslrootcert=%2Fca.pem&sslmode=verify-ca"
    )


# ── the map of faults ───────────────────────────────────────────────────────────────────────────


def asyncpg_errors() -> list[type[Exception]]:
    """List every error class that the driver has."""
    return [
        kind
        for _, kind in inspect.getmembers(driver_errors, inspect.isclass)
        if issubclass(kind, Exception) and not issubclass(kind, Warning)
    ]


def test_every_error_class_of_the_postgresql_driver_is_mapped() -> None:
    """A new one must be looked at, and classed, by a person."""
    states = {getattr(kind, "sqlstate", None) for kind in asyncpg_errors()} - {None}
    assert len(states) > 200
    assert {str(state)[:2] for state in states} <= set(SQLSTATE_CLASSES)
    without = [kind for kind in asyncpg_errors() if getattr(kind, "sqlstate", None) is None]
    assert {kind.__name__ for kind in without} == {
        "ClientConfigurationError",
        "FatalPostgresError",
        "InterfaceError",
        "InternalClientError",
        "OutdatedSchemaCacheError",
        "PostgresError",
        "ProtocolError",
        "TargetServerAttributeNotMatched",
        "UnknownPostgresError",
        "UnsupportedClientFeatureError",
        "UnsupportedServerFeatureError",
    }
    for kind in without:
        assert fault_of(exc.DBAPIError("", None, kind("told"))) is Fault.AWAY


def test_every_error_class_of_the_sqlite_driver_is_mapped() -> None:
    """By its code, where it has one; misuse of the driver stays visible as the bug it is."""
    for kind in (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.DataError):
        for code in (*SQLITE_CODES, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
            error = kind("told")
            error.sqlite_errorcode = code
            expected = SQLITE_CODES.get(code, Fault.AWAY)
            assert fault_of(exc.DBAPIError("", None, error)) is expected
    assert fault_of(exc.DBAPIError("", None, sqlite3.ProgrammingError("misuse"))) is None
    assert {kind.__name__ for kind in sqlite3.Error.__subclasses__()} == {
        "DatabaseError",
        "InterfaceError",
    }


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40P01", Transient),
        ("40001", Transient),
        ("55P03", Transient),
        ("22021", Corrupt),
        ("22003", Corrupt),
        ("23514", Corrupt),
        ("57014", Unavailable),
        ("57P01", Unavailable),
        ("53300", Unavailable),
        ("28P01", Unavailable),
        ("42P01", Unavailable),
        ("25006", Unavailable),
        ("XX001", Unavailable),
        ("ZZZZZ", Unavailable),
    ],
)
def test_only_what_the_content_brought_about_is_blamed_on_it(
    state: str, kind: type[Exception]
) -> None:
    """A message that is parked for the database's fault would be a lost purchase."""

    class Told(Exception):
        sqlstate = state

    told = translated(exc.DBAPIError("", None, Told("told")), committing=False)
    assert type(told) is kind
    assert ("flashsale db upgrade" in str(told)) is (state == "42P01")


@pytest.mark.parametrize("state", ["57P01", "40003", "08006"])
def test_an_error_in_a_commit_says_that_it_may_have_happened(state: str) -> None:
    """The server may have written it before it lost its voice."""

    class Told(Exception):
        sqlstate = state

    told = translated(exc.DBAPIError("", None, Told("told")), committing=True)
    assert isinstance(told, Unavailable)
    assert told.may_have_happened


@pytest.mark.parametrize("state", ["40P01", "40001"])
def test_a_commit_that_the_server_undid_is_tried_again(state: str) -> None:
    """It said so: nothing was written."""

    class Told(Exception):
        sqlstate = state

    told = translated(exc.DBAPIError("", None, Told("told")), committing=True)
    assert isinstance(told, Transient)
    assert not told.may_have_happened
