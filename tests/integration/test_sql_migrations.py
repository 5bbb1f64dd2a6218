"""The tables: how they are made, what they refuse, and who is told when they are not current."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from blockbuster import blockbuster_ctx
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import ItemId, PurchaseId, SaleId, SaleTerms
from flashsale_core.testing.order_repository import decision, epochs_of, told_events
from flashsale_core.testing.payment_claims import unpaid
from flashsale_sql import current_revision, open_database, upgrade, upgrade_sql
from flashsale_sql.migrate import HEAD, UPGRADE_LOCK
from flashsale_sql.schema import METADATA
from flashsale_sql.transactions import Transactions
from tests.integration.sql_world import (
    ask,
    plain_connection,
    postgresql_url,
    sqlite_url,
    until_waiting,
)
from tests.servers import Postgres


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Name each database in turn, without tables."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "flashsale.db")
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    made = server.create_database("migrations")
    yield made
    server.drop_database(made)


@pytest.fixture
def postgresql(postgres_server: Postgres) -> Iterator[str]:
    """Name a PostgreSQL database without tables."""
    made = postgres_server.create_database("migrations")
    yield made
    postgres_server.drop_database(made)


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def migrated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Name each database in turn, with tables, for tests that leave no rows."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("migrated") / "flashsale.db"
        asyncio.run(upgrade(sqlite_url(path)))
        yield sqlite_url(path)
        return
    with postgresql_url(request.getfixturevalue("postgres_server")) as made:
        yield made


@pytest.fixture
async def transactions(migrated: str) -> AsyncIterator[Transactions]:
    """Open a migrated database for statements of a test's own."""
    async with open_database(migrated) as database:
        yield database._transactions


def test_the_statements_are_written_for_the_newest_migration() -> None:
    """A step that is added must be named where the statements rely on it."""
    config = Config()
    config.set_main_option("script_location", str(files("flashsale_sql") / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_an_upgrade_makes_the_tables_and_again_changes_nothing(url: str) -> None:
    """A file of our own is upgraded at every start."""
    assert await current_revision(url) is None
    await upgrade(url)
    assert await current_revision(url) == HEAD
    async with open_database(url) as database:
        sale = await database.catalogue.create(ItemId("shoe"), SaleTerms(units=1))
        await upgrade(url)
        await database.check()
        assert await database.catalogue.get(sale.sale_id) == sale


async def test_orders_of_before_payment_are_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upgrade that lets an order be pending changes no row; SQLite writes its table anew."""
    run = command.upgrade
    with monkeypatch.context() as older:
        older.setattr(command, "upgrade", lambda config, _: run(config, "0001"))
        await upgrade(url)
    assert await current_revision(url) == "0001"
    async with open_database(url) as database:
        terms = SaleTerms(units=5, unit_price_minor=100, currency="CHF")
        sale = await database.catalogue.create(ItemId("shoe"), terms)
        first = [decision(sale, "p1", quantity=2), decision(sale, "p2", reason="CLOSED")]
        await database.orders.record(first, epochs_of(sale))
        before = [await database.orders.find(PurchaseId(one)) for one in ("p1", "p2")]
        await upgrade(url)
        after = [await database.orders.find(PurchaseId(one)) for one in ("p1", "p2")]
        assert after == before
        await database.orders.record([unpaid(sale, "p3")], epochs_of(sale))
        assert (await database.payments.counts()).pending == 1


async def test_upgrades_at_once_do_not_disturb_each_other(url: str) -> None:
    """Several processes of a deployment start together."""
    await asyncio.gather(*(upgrade(url) for _ in range(4)))
    assert await current_revision(url) == HEAD


async def test_an_upgrade_waits_for_another_process_s(postgresql: str) -> None:
    """The second one then finds everything done."""
    first = await plain_connection(postgresql)
    await first.execute("SELECT pg_advisory_lock($1)", UPGRADE_LOCK)
    second = asyncio.ensure_future(upgrade(postgresql))
    await until_waiting(postgresql)
    assert await current_revision(postgresql) is None
    await first.close()
    await second
    assert await current_revision(postgresql) == HEAD


async def test_an_upgrade_does_not_hold_up_the_event_loop(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads files and may take long, so it runs in a thread of its own."""
    ran_in: list[int] = []
    run = command.upgrade

    def note(config: Config, revision: str) -> None:
        ran_in.append(threading.get_ident())
        run(config, revision)

    monkeypatch.setattr(command, "upgrade", note)
    await upgrade(url)
    assert len(ran_in) == 1
    assert ran_in[0] != threading.get_ident()


async def test_opening_and_recording_do_not_hold_up_the_event_loop(url: str) -> None:
    """Neither does a file's database, whose driver has threads of its own."""
    await upgrade(url)
    async with AsyncExitStack() as stack:
        with blockbuster_ctx():
            database = await stack.enter_async_context(open_database(url))
        # Left out: asyncpg looks for ~/.pgpass whenever it connects.
        await database.check()
        with blockbuster_ctx():
            sale = await database.catalogue.create(ItemId("shoe"), SaleTerms(units=1))
            await database.orders.record([decision(sale, "p1")], epochs_of(sale))
            assert len(await told_events(database)) == 1


async def test_a_database_without_tables_is_told_how_to_get_them(url: str) -> None:
    """By the check at the start, and by whatever is called without it."""
    async with open_database(url) as database:
        for call in (
            database.check(),
            database.outbox.backlog(),
            database.orders.find(PurchaseId("p1")),
            database.catalogue.raise_epoch(SaleId("shoe.1")),
        ):
            with pytest.raises(Unavailable, match="flashsale db upgrade") as caught:
                await call
            assert caught.value.why is Why.DATABASE_AWAY


async def test_a_database_of_another_revision_is_told_what_is_needed(url: str) -> None:
    """An older or a newer one: which, and which this version needs."""

    async def pretend(connection: Any) -> None:
        await connection.execute(text("UPDATE flashsale_revision SET version_num = 'ffff'"))

    await upgrade(url)
    async with open_database(url) as database:
        await database._transactions.write(pretend)
        with pytest.raises(Unavailable) as caught:
            await database.check()
    for word in ("ffff", HEAD, "flashsale db upgrade"):
        assert word in caught.value.detail


async def test_the_tables_are_what_the_statements_believe(
    transactions: Transactions,
) -> None:
    """Same tables, same columns, same ones that may be absent."""

    def seen(connection: Any) -> dict[str, dict[str, bool]]:
        inspector = inspect(connection)
        return {
            table: {column["name"]: column["nullable"] for column in inspector.get_columns(table)}
            for table in inspector.get_table_names()
            if not table.startswith("sqlite_")
        }

    found = await transactions.read(lambda connection: connection.run_sync(seen))
    assert found == {
        table.name: {column.name: bool(column.nullable) for column in table.columns}
        for table in METADATA.tables.values()
    }


async def test_the_written_out_sql_makes_the_same_database(postgresql: str) -> None:
    """For whoever may not let a program change tables."""
    connection = await plain_connection(postgresql)
    await connection.execute(upgrade_sql(postgresql))
    await connection.close()
    async with open_database(postgresql) as database:
        await database.check()
        await database.catalogue.create(ItemId("shoe"), SaleTerms(units=1))


def test_the_sql_of_a_file_is_written_out_too() -> None:
    """Without a server, and without the file."""
    assert "CREATE TABLE orders" in upgrade_sql("sqlite+aiosqlite:///nowhere/at-all.db")


async def test_times_are_times_to_whoever_reads_the_tables(postgresql: str) -> None:
    """With psql, at two in the morning."""
    await upgrade(postgresql)
    kinds = await ask(
        postgresql,
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' AND (column_name LIKE '%\\_at' OR column_name LIKE "
        "'%\\_since' OR column_name LIKE '%\\_until')",
    )
    assert len(kinds) == 21
    assert {row[1] for row in kinds} == {"timestamp with time zone"}
    async with open_database(postgresql) as database:
        sale = await database.catalogue.create(ItemId("shoe"), SaleTerms(units=1))
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    [row] = await ask(
        postgresql,
        "SELECT requested_at = '2023-11-14 22:13:20.123Z', accepted_at = "
        "'2023-11-14 22:13:20.456Z', abs(extract(epoch FROM now() - recorded_at)) < 60, "
        "fact ->> 'purchase_id' FROM orders, outbox",
    )
    assert tuple(row) == (True, True, True, "p1")


SALE = {
    "sale_id": "shoe.1",
    "item_id": "shoe",
    "round": 1,
    "state": "OPEN",
    "initial": 10,
    "available": 10,
    "pending": 0,
    "sold": 0,
    "opens_at": None,
    "closes_at": None,
    "per_user_limit": None,
    "unit_price_minor": None,
    "currency": None,
    "epoch": 1,
    "armed_epoch": 0,
}
ORDER = {
    "sale_id": "shoe.1",
    "purchase_id": "p1",
    "item_id": "shoe",
    "user_id": "ann",
    "quantity": 1,
    "source": "WEB",
    "door": "http",
    "unit_price_minor": None,
    "currency": None,
    "status": "CONFIRMED",
    "reason": None,
}
PARKED = {
    "origin": "o:1",
    "channel": "requests",
    "partition": 0,
    "headers": "[]",
    "status": "DEAD",
    "reason": "r",
    "detail": "",
    "holds_unit": False,
    "attempts": 0,
}


@pytest.mark.parametrize(
    ("table", "row", "wrong", "constraint"),
    [
        ("sales", SALE, {"available": -1, "sold": 11}, "sales_never_oversold"),
        ("sales", SALE, {"available": 9}, "sales_units_conserved"),
        ("sales", SALE, {"pending": -1, "sold": 1}, "sales_pending_not_negative"),
        ("sales", SALE, {"sold": -1, "pending": 1}, "sales_sold_not_negative"),
        ("sales", SALE, {"initial": 0, "available": 0}, "sales_initial_positive"),
        ("sales", SALE, {"state": "LOST"}, "sales_state_known"),
        ("sales", SALE, {"sale_id": "shoe.2"}, "sales_id_names_item_round"),
        ("sales", SALE, {"sale_id": "shoe.0", "round": 0}, "sales_round_from_one"),
        ("sales", SALE, {"per_user_limit": 0}, "sales_limit_positive"),
        ("sales", SALE, {"unit_price_minor": -1, "currency": "CHF"}, "sales_price_not_negative"),
        ("sales", SALE, {"unit_price_minor": 5}, "sales_price_has_currency"),
        ("sales", SALE, {"epoch": 0}, "sales_epoch_from_one"),
        ("sales", SALE, {"armed_epoch": 2}, "sales_armed_epoch_was_an_epoch"),
        ("orders", ORDER, {"quantity": 0}, "orders_quantity_in_range"),
        ("orders", ORDER, {"source": "FAX"}, "orders_source_known"),
        ("orders", ORDER, {"door": "window"}, "orders_door_known"),
        ("orders", ORDER, {"status": "MAYBE"}, "orders_status_known"),
        ("orders", ORDER, {"status": "REJECTED"}, "orders_rejected_has_reason"),
        ("orders", ORDER, {"reason": "SOLD_OUT"}, "orders_rejected_has_reason"),
        ("orders", ORDER, {"currency": "CHF"}, "orders_price_has_currency"),
        ("parked_messages", PARKED, {"channel": "post"}, "parked_channel_known"),
        ("parked_messages", PARKED, {"status": "LOST"}, "parked_status_known"),
        ("parked_messages", PARKED, {"status": "WAITING"}, "parked_due_while_alive"),
        ("parked_messages", PARKED, {"attempts": -1}, "parked_attempts_not_negative"),
    ],
)
async def test_the_tables_refuse_what_must_never_be(
    transactions: Transactions,
    table: str,
    row: dict[str, Any],
    wrong: dict[str, Any],
    constraint: str,
) -> None:
    """Whatever a program or a person tries: the books are kept by the database itself."""
    times = {
        "sales": ("created_at", "state_since"),
        "orders": ("requested_at", "recorded_at"),
        "parked_messages": ("parked_at", "changed_at"),
    }[table]
    time = "now()" if transactions.dialect.name == "postgresql" else "0"

    async def insert(connection: Any, values: dict[str, Any]) -> None:
        names = ", ".join((*values, *times))
        given = ", ".join((*(f":{name}" for name in values), time, time))
        await connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({given})"), values)

    async def attempt(connection: Any) -> None:
        with pytest.raises(IntegrityError, match=constraint):
            await insert(connection, row | wrong)

    async def succeed(connection: Any) -> None:
        await insert(connection, row)

    await transactions.read(attempt)
    await transactions.read(succeed)


async def test_a_sale_cannot_close_before_it_opens(postgresql: str) -> None:
    """Not even by hand."""
    await upgrade(postgresql)
    async with open_database(postgresql) as database:
        terms = SaleTerms(units=1, opens_at_ms=1_000, closes_at_ms=2_000)
        await database.catalogue.create(ItemId("shoe"), terms)
    with pytest.raises(asyncpg.CheckViolationError, match="sales_closes_after_it_opens"):
        await ask(postgresql, "UPDATE sales SET closes_at = opens_at")


async def test_an_item_has_at_most_one_unsettled_sale(transactions: Transactions) -> None:
    """A request names the item, so there must be one sale that it means."""
    time = "now()" if transactions.dialect.name == "postgresql" else "0"
    rounds = (
        "INSERT INTO sales (sale_id, item_id, round, state, initial, available, pending, sold, "
        "epoch, armed_epoch, created_at, state_since) "
        f"VALUES ('shoe.{{0}}', 'shoe', {{0}}, '{{1}}', 1, 1, 0, 0, 1, 0, {time}, {time})"
    )

    async def insert(connection: Any) -> None:
        await connection.execute(text(rounds.format(1, "SETTLED")))
        await connection.execute(text(rounds.format(2, "CLOSED")))
        with pytest.raises(IntegrityError):
            await connection.execute(text(rounds.format(3, "OPEN")))

    await transactions.read(insert)
