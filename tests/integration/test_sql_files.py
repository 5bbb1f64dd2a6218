"""A file as a database: several connections, several processes, one writer at a time."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import ItemId, Sale, SaleTerms
from flashsale_core.testing.order_repository import decision, epochs_of, told_events
from flashsale_core.testing.outbox import PATIENCE_S, Telling
from flashsale_sql import SqlDatabase, open_database, upgrade
from flashsale_sql import outbox as sql_outbox
from flashsale_sql.engines import Waits
from tests.integration.sql_world import sqlite_url


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """Make and migrate a file."""
    path = tmp_path / "flashsale.db"
    await upgrade(sqlite_url(path))
    return path


@pytest.fixture
async def database(file: Path) -> AsyncIterator[SqlDatabase]:
    """Open it."""
    async with open_database(sqlite_url(file)) as database:
        yield database


@pytest.fixture
async def sale(database: SqlDatabase) -> Sale:
    """Open a sale."""
    return await database.catalogue.create(ItemId("shoe"), SaleTerms(units=1_000))


async def test_every_connection_is_set_up(database: SqlDatabase) -> None:
    """Readers beside the writer; a commit is on the disk; nothing waits for ever."""
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")

    async def read(connection: object) -> list[object]:
        return [await connection.scalar(text(f"PRAGMA {name}")) for name in names]  # type: ignore[attr-defined]

    expected = ["wal", 2, 1, 3_000]
    assert await database._transactions.read(read) == expected
    assert await database._transactions.write(read) == expected


async def test_readers_do_not_wait_for_the_writer(
    file: Path, database: SqlDatabase, sale: Sale
) -> None:
    """A buyer's question is answered while a batch is written."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE sales SET epoch = 7")
        assert (await database.catalogue.current())[0].epoch == sale.epoch
        other.execute("COMMIT")
    assert (await database.catalogue.current())[0].epoch == 7


async def test_a_writer_waits_for_another_process_and_then_gives_up(file: Path, sale: Sale) -> None:
    """Soon, with nothing written."""
    hasty = Waits(pool_ms=200)
    async with open_database(sqlite_url(file), waits=hasty) as database:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                await database.orders.record([decision(sale, "p1")], epochs_of(sale))
            assert time.monotonic() - began < 5
            assert caught.value.why is Why.DATABASE_AWAY
            assert not caught.value.may_have_happened
            other.execute("ROLLBACK")
        [standing] = await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        assert standing.is_new


async def test_two_processes_write_the_same_purchases_once(
    file: Path, database: SqlDatabase, sale: Sale
) -> None:
    """Neither meets a lock that it cannot wait for: writers begin as writers."""
    async with open_database(sqlite_url(file)) as other:
        for number in range(30):
            batch = [decision(sale, f"r{number}-{n}") for n in range(10)]
            barrier = asyncio.Barrier(2)

            async def record(
                into: SqlDatabase, *, backwards: bool, barrier: asyncio.Barrier = barrier
            ) -> int:
                order = batch[::-1] if backwards else batch  # noqa: B023 - awaited in this round
                await barrier.wait()
                standings = await into.orders.record(order, epochs_of(sale))
                return sum(standing.is_new for standing in standings)

            new = await asyncio.gather(
                record(database, backwards=False), record(other, backwards=True)
            )
            assert sorted(new) == [0, 10]
    assert (await database.catalogue.current())[0].sold == 300


async def test_two_processes_that_read_before_they_write_do_not_fail(
    file: Path, database: SqlDatabase
) -> None:
    """A transaction that began as a reader could not become a writer beside another."""
    async with open_database(sqlite_url(file)) as other:
        for number in range(30):
            barrier = asyncio.Barrier(2)

            async def create(
                by: SqlDatabase, item: str = f"item-{number}", barrier: asyncio.Barrier = barrier
            ) -> Sale:
                await barrier.wait()
                return await by.catalogue.create(ItemId(item), SaleTerms(units=1))

            one, same = await asyncio.gather(create(database), create(other))
            assert one == same


async def test_a_relay_that_died_gives_its_facts_free_by_itself(
    file: Path, database: SqlDatabase, sale: Sale
) -> None:
    """A file has no locks that end with a process; the lease ends instead."""
    await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    with closing(sqlite3.connect(file, isolation_level=None)) as died:
        died.execute("UPDATE outbox SET claimed_until = 32503680000000")
    assert await told_events(database) == []
    with closing(sqlite3.connect(file, isolation_level=None)) as later:
        later.execute("UPDATE outbox SET claimed_until = 1")
    assert [event.purchase_id for event in await told_events(database)] == ["p1"]


async def test_a_relay_that_outlived_its_lease_deletes_nothing_that_came_later(
    database: SqlDatabase, sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of the outbox are never used again, so it cannot forget a fact that nobody told."""
    await database.orders.record([decision(sale, "p1")], epochs_of(sale))
    monkeypatch.setattr(sql_outbox, "PUBLISH_MS_MAX", -1)
    late = Telling()
    relay = asyncio.ensure_future(database.outbox.relay(late, 10))
    await asyncio.wait_for(late.began.wait(), PATIENCE_S)
    assert [event.purchase_id for event in await told_events(database)] == ["p1"]
    await database.orders.record([decision(sale, "p2")], epochs_of(sale))
    late.may_end.set()
    await relay
    assert [event.purchase_id for event in await told_events(database)] == ["p2"]
