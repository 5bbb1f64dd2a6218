"""Workers, operators and rebuilds at the same rows at the same moment, in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import attrs
import pytest

from flashsale_core.errors import StaleEpoch
from flashsale_core.model import (
    ItemId,
    OrderStatus,
    PurchaseId,
    Reason,
    Sale,
    SaleState,
    SaleTerms,
)
from flashsale_core.ports import Decision, Standing
from flashsale_core.testing.order_repository import decision, epochs_of, told_events, unknown_item
from flashsale_core.testing.parked_messages import parked
from flashsale_sql import SqlDatabase, open_database
from flashsale_sql.dialects import item_key
from flashsale_sql.engines import Waits
from tests.integration.sql_world import (
    PATIENCE_S,
    ask,
    emptied,
    plain_connection,
    postgresql_url,
    until_waiting,
)
from tests.servers import Postgres

ROUNDS = 60
PATIENT = Waits(lock_ms=60_000, statement_ms=90_000)
"""A test that holds a lock on purpose must not run into the waits that other tests are about."""


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> Iterator[str]:
    """Make one database for all."""
    with postgresql_url(postgres_server) as made:
        yield made


@pytest.fixture
async def database(url: str) -> AsyncIterator[SqlDatabase]:
    """Open it without rows."""
    async with emptied(url, waits=PATIENT) as database:
        yield database


@pytest.fixture
async def sale(database: SqlDatabase) -> Sale:
    """Open a sale."""
    return await database.catalogue.create(ItemId("shoe"), SaleTerms(units=10))


@pytest.fixture
async def outsider(url: str) -> AsyncIterator[Any]:
    """Connect past the adapter, to hold locks by hand."""
    connection = await plain_connection(url)
    yield connection
    await connection.close()


async def deadlocks(url: str) -> int:
    """Read how many deadlocks the server had to resolve here."""
    await ask(url, "SELECT pg_stat_clear_snapshot()")
    [row] = await ask(
        url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    count: int = row[0]
    return count


async def test_workers_with_the_same_purchases_in_opposite_orders_never_deadlock(
    url: str, database: SqlDatabase
) -> None:
    """Not even one that a retry would hide: all lock in one order, whatever theirs is.

    Workers with connections of their own meet at one barrier, again and again, with the same
    purchases of the same sales.
    """
    sales = [
        await database.catalogue.create(ItemId(f"item-{number}"), SaleTerms(units=100_000))
        for number in range(3)
    ]
    before = await deadlocks(url)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(open_database(url)) for _ in range(3)]
        for number in range(ROUNDS):
            batch = [decision(sale, f"r{number}-{n:02}") for n in range(40) for sale in sales]
            orders = (batch, batch[::-1], batch[60:] + batch[:60])
            barrier = asyncio.Barrier(len(workers))
            answers = await asyncio.gather(
                *(
                    record_at(barrier, worker, order, sales)
                    for worker, order in zip(workers, orders, strict=True)
                )
            )
            new = [row for standings in answers for row in standings if row.is_new]
            assert len({(row.sale_id, row.purchase_id) for row in new}) == len(new) == len(batch)
            assert all(
                row.status is OrderStatus.CONFIRMED for standings in answers for row in standings
            )
    assert [sale.sold for sale in await database.catalogue.current()] == [ROUNDS * 40] * 3
    assert await database.outbox.backlog() == ROUNDS * 120
    assert await deadlocks(url) == before


async def record_at(
    barrier: asyncio.Barrier,
    worker: SqlDatabase,
    batch: Sequence[Decision],
    sales: Sequence[Sale],
) -> list[Standing]:
    """Record a batch from the moment on when all are there."""
    await barrier.wait()
    return await worker.orders.record(batch, epochs_of(*sales))


@pytest.mark.parametrize(("held", "holding"), [("a.1", set[str]()), ("b.1", {"a.1"})])
async def test_sales_are_locked_in_ascending_order(
    url: str, database: SqlDatabase, outsider: Any, held: str, holding: set[str]
) -> None:
    """Whatever the batch's own order is: one that waits for a sale holds the earlier ones alone."""
    sales = [
        await database.catalogue.create(ItemId(item), SaleTerms(units=2)) for item in ("b", "a")
    ]
    async with outsider.transaction():
        await outsider.execute("SELECT 1 FROM sales WHERE sale_id = $1 FOR UPDATE", held)
        recording = asyncio.ensure_future(
            database.orders.record([decision(sale, "p") for sale in sales], epochs_of(*sales))
        )
        await until_waiting(url)
        unlocked = await ask(url, "SELECT sale_id FROM sales FOR UPDATE SKIP LOCKED")
    assert {"a.1", "b.1"} - {row[0] for row in unlocked} - {held} == holding
    await recording


async def test_workers_that_find_units_missing_never_deadlock_either(
    url: str, database: SqlDatabase
) -> None:
    """Drift changes rows after the sales are locked: its own alone, which nobody waits for."""
    before = await deadlocks(url)
    async with open_database(url) as one, open_database(url) as other:
        for number in range(20):
            sales = [
                await database.catalogue.create(ItemId(f"i{number}-{n}"), SaleTerms(units=15))
                for n in range(2)
            ]
            batch = [decision(sale, f"p{n:02}") for n in range(20) for sale in sales]
            barrier = asyncio.Barrier(2)
            answers = await asyncio.gather(
                record_at(barrier, one, batch, sales), record_at(barrier, other, batch[::-1], sales)
            )
            assert sum(row.is_new for standings in answers for row in standings) == len(batch)
            for row, again in zip(answers[0], answers[1][::-1], strict=True):
                assert (row.status, row.reason) == (again.status, again.reason)
            for sale in sales:
                now = await database.catalogue.get(sale.sale_id)
                assert now is not None
                assert (now.available, now.sold, now.state) == (0, 15, SaleState.HALTED)
    events = await told_events(database)
    assert len({event.occurrence_id for event in events}) == len(events) == 20 * 40
    assert sum(event.reason == Reason.GATE_DRIFT for event in events) == 20 * 10
    assert await deadlocks(url) == before


async def test_messages_are_parked_in_ascending_order(
    url: str, database: SqlDatabase, outsider: Any
) -> None:
    """After a rebalance two workers hold the same delivery, and must not wait in a circle."""
    being_parked = outsider.transaction()
    await being_parked.start()
    await outsider.execute(
        "INSERT INTO parked_messages (origin, purchase_id, channel, partition, headers, status, "
        "reason, detail, holds_unit, attempts, parked_at, changed_at) "
        "VALUES ('o:2', 'p', 'requests', 0, '[]', 'DEAD', '', '', false, 0, now(), now())"
    )
    batch = [parked(origin, "p") for origin in ("o:3", "o:2", "o:1")]
    waiting = asyncio.ensure_future(database.parked.park(batch))
    await until_waiting(url)
    later = database.parked.park([parked("o:3", "p")])
    assert await asyncio.wait_for(later, PATIENCE_S) == [True]
    await being_parked.commit()
    assert await waiting == [False, False, True]


async def test_the_victim_of_a_deadlock_is_tried_again(
    url: str, database: SqlDatabase, sale: Sale, outsider: Any
) -> None:
    """Somebody by hand locks the other way round, and our batch is chosen to give way."""
    await outsider.execute("SET deadlock_timeout = '60s'")
    by_hand = outsider.transaction()
    await by_hand.start()
    await outsider.execute("SELECT 1 FROM sales FOR UPDATE")
    recording = asyncio.ensure_future(
        database.orders.record([decision(sale, "p1")], epochs_of(sale))
    )
    await until_waiting(url)
    # Our batch holds the row p1 and waits for the sale; this waits for p1 and closes the circle.
    await outsider.execute(
        "INSERT INTO orders SELECT 'shoe.1', 'p1', 'shoe', 'x', NULL, NULL, 1, 'WEB', NULL, "
        "'http', now(), NULL, now(), 'CONFIRMED', NULL"
    )
    await by_hand.rollback()
    [standing] = await asyncio.wait_for(recording, 20)
    assert standing.is_new


async def test_a_batch_that_stalled_across_a_rebuild_writes_nothing(
    url: str, database: SqlDatabase, sale: Sale, outsider: Any
) -> None:
    """The epoch is read under the lock, after whoever raised it has committed."""
    raising = outsider.transaction()
    await raising.start()
    await outsider.execute("UPDATE sales SET epoch = epoch + 1")
    recording = asyncio.ensure_future(
        database.orders.record([decision(sale, "p1")], epochs_of(sale))
    )
    await until_waiting(url)
    assert {"orders", "outbox"} <= await written_by_the_waiting(url), "the sales come last"
    await raising.commit()
    with pytest.raises(StaleEpoch):
        await recording
    assert await database.orders.find(PurchaseId("p1")) == []
    assert await database.outbox.backlog() == 0


async def written_by_the_waiting(url: str) -> set[str]:
    """Name the tables that a session has written which now waits for a lock."""
    rows = await ask(
        url,
        "SELECT relation::regclass::text FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND locktype = 'relation' AND mode = 'RowExclusiveLock'",
    )
    return {row[0] for row in rows}


async def test_the_books_wait_for_the_batch_that_is_under_way(
    url: str, database: SqlDatabase, sale: Sale, outsider: Any
) -> None:
    """What commits while they wait is in them: read after the lock, not before."""
    recording = outsider.transaction()
    await recording.start()
    await outsider.execute("UPDATE sales SET available = available - 1, sold = sold + 1")
    reading = asyncio.ensure_future(database.catalogue.books(sale.sale_id, sale.epoch))
    await until_waiting(url)
    await outsider.execute(
        "INSERT INTO orders SELECT 'shoe.1', 'p1', 'shoe', 'x', NULL, NULL, 1, 'WEB', NULL, "
        "'http', now(), NULL, now(), 'CONFIRMED', NULL"
    )
    await recording.commit()
    books = await reading
    assert [record.purchase_id for record in books.records] == ["p1"]
    assert (books.sale.available, books.sale.armed_epoch) == (9, 1)


async def test_a_unit_is_parked_before_the_books_are_read_or_is_not_held(
    url: str, database: SqlDatabase, sale: Sale, outsider: Any
) -> None:
    """Between the look and the write another life may be loaded: judged under the sale's lock."""
    loading = outsider.transaction()
    await loading.start()
    await outsider.execute("UPDATE sales SET epoch = 2, armed_epoch = 2")
    one = attrs.evolve(
        parked("o:1", "p1", sale_id=sale.sale_id, holds=1), promised_under=sale.epoch
    )
    parking = asyncio.ensure_future(database.parked.park([one]))
    await until_waiting(url)
    await loading.commit()
    assert await parking == [True]
    [stored] = await database.parked.of_purchases([PurchaseId("p1")])
    assert not stored.holds_unit


async def test_an_unknown_item_waits_for_the_sale_that_is_being_made(
    url: str, database: SqlDatabase, outsider: Any
) -> None:
    """Nobody is told "unknown" of an item whose sale commits a moment before."""
    making = outsider.transaction()
    await making.start()
    await outsider.execute("SELECT pg_advisory_xact_lock($1)", item_key("shoe"))
    recording = asyncio.ensure_future(database.orders.record([unknown_item("p1", "shoe")], {}))
    await until_waiting(url)
    await outsider.execute(
        "INSERT INTO sales SELECT 'shoe.1', 'shoe', 1, 'OPEN', 5, 5, 0, 0, NULL, NULL, NULL, "
        "NULL, NULL, 1, 0, now(), now()"
    )
    await making.commit()
    with pytest.raises(StaleEpoch):
        await recording
    assert await database.orders.find(PurchaseId("p1")) == []


async def test_a_sale_waits_for_the_unknown_item_that_is_being_recorded(
    url: str, database: SqlDatabase, outsider: Any
) -> None:
    """And one that is recorded as unknown commits before the sale is there to be seen."""
    recording = outsider.transaction()
    await recording.start()
    await outsider.execute("SELECT pg_advisory_xact_lock_shared($1)", item_key("shoe"))
    making = asyncio.ensure_future(database.catalogue.create(ItemId("shoe"), SaleTerms(units=1)))
    await until_waiting(url)
    assert await ask(url, "SELECT 1 FROM sales") == []
    await recording.commit()
    assert (await making).round == 1


async def test_unknown_items_do_not_wait_for_one_another(
    database: SqlDatabase, outsider: Any
) -> None:
    """Many workers may be told of the same mistyped item."""
    async with outsider.transaction():
        await outsider.execute("SELECT pg_advisory_xact_lock_shared($1)", item_key("shoe"))
        [standing] = await asyncio.wait_for(
            database.orders.record([unknown_item("p1", "shoe")], {}), 20
        )
    assert standing.is_new


async def test_a_batch_holds_its_sale_only_at_its_end(
    url: str, database: SqlDatabase, sale: Sale, outsider: Any
) -> None:
    """While it waits for a purchase that another is writing, the sale is free for others."""
    async with outsider.transaction():
        await outsider.execute(
            "INSERT INTO orders SELECT 'shoe.1', 'p2', 'shoe', 'x', NULL, NULL, 1, 'WEB', NULL, "
            "'http', now(), NULL, now(), 'CONFIRMED', NULL"
        )
        waiting = asyncio.ensure_future(
            database.orders.record([decision(sale, "p1"), decision(sale, "p2")], epochs_of(sale))
        )
        await until_waiting(url)
        [standing] = await asyncio.wait_for(
            database.orders.record([decision(sale, "p3")], epochs_of(sale)), 20
        )
        assert standing.is_new
    assert [row.is_new for row in await waiting] == [True, False]


async def test_two_processes_do_not_rebuild_at_once(database: SqlDatabase, url: str) -> None:
    """The lock is the server's: whoever asks second is told at once, and may when it is over."""
    async with open_database(url) as elsewhere:
        async with database.rebuilds.alone() as is_first, elsewhere.rebuilds.alone() as is_second:
            assert (is_first, is_second) == (True, False)
        async with elsewhere.rebuilds.alone() as is_mine:
            assert is_mine
