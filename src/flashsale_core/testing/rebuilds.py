"""What a database must do so that lost gates can be rebuilt from it.

Subclass the contract and give it a `database` fixture, as `OrderRepositoryContract` wants it.
"""

import asyncio

import attrs
import pytest

from flashsale_core.errors import StaleEpoch
from flashsale_core.model import Epoch, PurchaseId, Reason, Sale, SaleTerms
from flashsale_core.opening import Database
from flashsale_core.ports import SaleBooks
from flashsale_core.testing.order_repository import ITEM, OTHER_ITEM, decision, epochs_of, seen
from flashsale_core.testing.parked_messages import parked

FIRST, SECOND = Epoch(1), Epoch(2)
AT_ONCE = 5


class RebuildsContract:
    """One rebuild at a time, barriers, and the fences between two lives of a gate."""

    @pytest.fixture
    async def sale(self, database: Database) -> Sale:
        """Make a sale whose gate was armed under its first epoch."""
        sale = await database.catalogue.create(ITEM, SaleTerms(units=10))
        return (await database.catalogue.books(sale.sale_id, FIRST)).sale

    # ── one at a time ───────────────────────────────────────────────────────────────────────────

    async def test_one_rebuild_at_a_time_and_the_next_when_it_ended(
        self, database: Database
    ) -> None:
        """The others are told at once, and may come back."""
        async with database.rebuilds.alone() as first:
            assert first
            async with database.rebuilds.alone() as second:
                assert not second
        async with database.rebuilds.alone() as third:
            assert third

    async def test_a_rebuild_that_died_leaves_room_for_the_next(self, database: Database) -> None:
        """Its lock ends with it."""
        with pytest.raises(ZeroDivisionError):
            async with database.rebuilds.alone():
                raise ZeroDivisionError
        async with database.rebuilds.alone() as next_one:
            assert next_one

    async def test_the_database_is_used_by_others_while_one_rebuilds(
        self, database: Database, sale: Sale
    ) -> None:
        """The workers drain meanwhile: the lock locks out rebuilds alone."""
        async with database.rebuilds.alone():
            await database.orders.record([decision(sale, "p1")], epochs_of(sale))
            await database.rebuilds.pass_barrier("b", 0)
        assert len(await database.orders.find(PurchaseId("p1"))) == 1

    # ── barriers ────────────────────────────────────────────────────────────────────────────────

    async def test_passed_barriers_are_told_by_rebuild(self, database: Database) -> None:
        """A barrier that comes twice is one."""
        for rebuild_id, partition in (("a", 0), ("a", 7), ("a", 0), ("b", 1)):
            await database.rebuilds.pass_barrier(rebuild_id, partition)
        assert await database.rebuilds.passed("a") == {0, 7}
        assert await database.rebuilds.passed("b") == {1}
        assert await database.rebuilds.passed("c") == frozenset()

    # ── one life is loaded once ─────────────────────────────────────────────────────────────────

    async def test_of_several_loaders_of_one_life_one_gets_the_books(
        self, database: Database, sale: Sale
    ) -> None:
        """Two loads of one life could sell its units twice."""
        await database.catalogue.raise_epoch(sale.sale_id)
        barrier = asyncio.Barrier(AT_ONCE)

        async def load() -> SaleBooks | None:
            await barrier.wait()
            try:
                return await database.catalogue.books(sale.sale_id, SECOND)
            except StaleEpoch:
                return None

        got = [one for one in await asyncio.gather(*(load() for _ in range(AT_ONCE))) if one]
        assert [books.sale.armed_epoch for books in got] == [SECOND]

    @pytest.mark.parametrize("epoch", [1, 3])
    async def test_a_life_that_is_over_or_not_begun_is_not_loaded(
        self, database: Database, sale: Sale, epoch: int
    ) -> None:
        """A loader that stalled across another rebuild has old books."""
        await database.catalogue.raise_epoch(sale.sale_id)
        with pytest.raises(StaleEpoch):
            await database.catalogue.books(sale.sale_id, Epoch(epoch))
        assert (await seen(database, sale)).armed_epoch == FIRST

    async def test_looking_at_the_books_changes_nothing(
        self, database: Database, sale: Sale
    ) -> None:
        """What a verification reads, and how often, is nobody's business."""
        await database.catalogue.raise_epoch(sale.sale_id)
        looked = await database.catalogue.read_books(sale.sale_id)
        assert looked.sale.armed_epoch == FIRST
        loaded = await database.catalogue.books(sale.sale_id, SECOND)
        assert loaded.records == looked.records

    # ── promises of a lost gate ─────────────────────────────────────────────────────────────────

    async def test_a_promise_of_the_last_life_is_recorded_between_two_lives(
        self, database: Database, sale: Sale
    ) -> None:
        """From the raised epoch until the books are read, the database alone arbitrates."""
        await database.catalogue.raise_epoch(sale.sale_id)
        [row] = await database.orders.record([decision(sale, "p1")], {}, {sale.sale_id: FIRST})
        assert row.is_new
        assert (await seen(database, sale)).sold == 1

    async def test_before_a_rebuild_began_nothing_is_recorded_without_the_gate(
        self, database: Database, sale: Sale
    ) -> None:
        """The gate may be alive for others, who sell the same units."""
        with pytest.raises(StaleEpoch):
            await database.orders.record([decision(sale, "p1")], {}, {sale.sale_id: FIRST})
        assert await database.orders.find(PurchaseId("p1")) == []

    async def test_after_the_books_were_read_no_promise_of_the_life_before_is_recorded(
        self, database: Database, sale: Sale
    ) -> None:
        """The new gate may have sold its unit to somebody else."""
        await database.catalogue.raise_epoch(sale.sale_id)
        await database.catalogue.books(sale.sale_id, SECOND)
        with pytest.raises(StaleEpoch):
            await database.orders.record([decision(sale, "p1")], {}, {sale.sale_id: FIRST})
        assert await database.orders.find(PurchaseId("p1")) == []

    async def test_a_worker_that_stalled_across_a_whole_rebuild_records_nothing(
        self, database: Database, sale: Sale
    ) -> None:
        """Into the next one: `armed_epoch` is below the epoch again, and is not the message's."""
        await database.catalogue.raise_epoch(sale.sale_id)
        await database.catalogue.books(sale.sale_id, SECOND)
        await database.catalogue.raise_epoch(sale.sale_id)
        with pytest.raises(StaleEpoch):
            await database.orders.record([decision(sale, "p1")], {}, {sale.sale_id: FIRST})

    async def test_what_stands_already_is_told_whatever_life_it_is(
        self, database: Database, sale: Sale
    ) -> None:
        """A repeat writes nothing, so there is nothing to fence."""
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        [row] = await database.orders.record([decision(sale, "p1")], {}, {sale.sale_id: FIRST})
        assert not row.is_new

    async def test_one_sale_by_its_gate_and_another_without_in_one_batch(
        self, database: Database, sale: Sale
    ) -> None:
        """One sale's lost gate does not hold up another; one's stale epoch takes both back."""
        other = await database.catalogue.create(OTHER_ITEM, SaleTerms(units=1))
        await database.catalogue.raise_epoch(sale.sale_id)
        batch = [decision(sale, "p1"), decision(other, "p2")]
        rows = await database.orders.record(batch, epochs_of(other), {sale.sale_id: FIRST})
        assert [row.is_new for row in rows] == [True, True]
        await database.catalogue.raise_epoch(other.sale_id)
        batch = [decision(sale, "p3"), decision(other, "p4", reason=Reason.SOLD_OUT.value)]
        with pytest.raises(StaleEpoch):
            await database.orders.record(batch, epochs_of(other), {sale.sale_id: FIRST})
        assert await database.orders.find(PurchaseId("p3")) == []

    # ── units that parked messages hold ─────────────────────────────────────────────────────────

    @pytest.mark.parametrize(("under", "holds"), [(FIRST, False), (SECOND, True)])
    async def test_a_unit_of_a_life_before_the_loaded_one_is_not_held(
        self, database: Database, sale: Sale, under: Epoch, holds: bool
    ) -> None:
        """The worker that parks it may have stalled since it looked; the books are read already."""
        await database.catalogue.raise_epoch(sale.sale_id)
        await database.catalogue.books(sale.sale_id, SECOND)
        believed = parked("o:1", "p1", sale_id=sale.sale_id, holds=1)
        await database.parked.park([attrs.evolve(believed, promised_under=under)])
        [stored] = await database.parked.of_purchases([PurchaseId("p1")])
        assert stored.holds_unit is holds
        held = (await database.catalogue.read_books(sale.sale_id)).records
        assert [one.purchase_id for one in held] == ["p1"] * holds
