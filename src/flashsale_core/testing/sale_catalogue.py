"""What every SaleCatalogue must do. Subclass the contract and give it a `database` fixture."""

import asyncio
from collections.abc import Mapping

import pytest

from flashsale_core.errors import Conflict, Corrupt
from flashsale_core.events import ParkedStatus
from flashsale_core.model import (
    PRICE_MINOR_MAX,
    TIME_MS_MAX,
    UNITS_MAX,
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    Reason,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    UserId,
)
from flashsale_core.opening import Database
from flashsale_core.ports import SaleBooks
from flashsale_core.testing.order_repository import (
    ITEM,
    OTHER_ITEM,
    decision,
    epochs_of,
    unknown_item,
)
from flashsale_core.testing.parked_messages import parked

AT_ONCE = 5
GHOST = SaleId("ghost.1")
EVERY_STATE = tuple(SaleState)


def record_of(
    purchase: str, state: PurchaseState, *, quantity: int = 1, reason: str | None = None
) -> GateRecord:
    """Say how the books have a purchase that `decision` made."""
    return GateRecord(
        purchase_id=PurchaseId(purchase),
        state=state,
        user_id=UserId(f"user-of-{purchase}"),
        quantity=quantity,
        reason=reason,
    )


def by_id(books: SaleBooks) -> Mapping[str, GateRecord]:
    """Index the records, each of which must be there once."""
    records = {str(record.purchase_id): record for record in books.records}
    assert len(records) == len(books.records)
    return records


class SaleCatalogueContract:
    """Sales, their terms, their states, and the books that a gate is loaded from."""

    @pytest.fixture
    async def sale(self, database: Database) -> Sale:
        """Open a sale of ten units."""
        return await database.catalogue.create(ITEM, SaleTerms(units=10))

    # ── making sales ────────────────────────────────────────────────────────────────────────────

    async def test_a_new_sale_is_open_and_was_never_armed(
        self, database: Database, sale: Sale
    ) -> None:
        """Its epoch is 1 and armed_epoch 0: nobody can hold a promise of it."""
        assert sale == Sale(
            item_id=ITEM,
            round=1,
            terms=SaleTerms(units=10),
            state=SaleState.OPEN,
            epoch=Epoch(1),
            armed_epoch=Epoch(0),
            available=10,
            pending=0,
            sold=0,
        )
        assert await database.catalogue.get(sale.sale_id) == sale

    @pytest.mark.parametrize(
        "terms",
        [
            SaleTerms(units=1),
            SaleTerms(
                units=UNITS_MAX,
                per_user_limit=UNITS_MAX,
                opens_at_ms=0,
                closes_at_ms=TIME_MS_MAX,
                unit_price_minor=PRICE_MINOR_MAX,
                currency="CHF",
            ),
            SaleTerms(units=7, opens_at_ms=1_795_000_000_999, unit_price_minor=0, currency="JPY"),
        ],
    )
    async def test_terms_come_back_as_they_were(self, database: Database, terms: SaleTerms) -> None:
        """To the millisecond and the minor unit, absent ones absent."""
        made = await database.catalogue.create(ITEM, terms)
        assert made.terms == terms
        assert await database.catalogue.get(made.sale_id) == made
        assert await database.catalogue.create(ITEM, terms) == made

    async def test_the_same_terms_again_are_the_same_sale(
        self, database: Database, sale: Sale
    ) -> None:
        """Whatever happened to it meanwhile."""
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        await database.catalogue.raise_epoch(sale.sale_id)
        again = await database.catalogue.create(ITEM, SaleTerms(units=10))
        assert (again.sale_id, again.epoch, again.sold) == (sale.sale_id, 2, 1)
        assert len(await database.catalogue.current()) == 1

    @pytest.mark.parametrize(
        "terms",
        [
            SaleTerms(units=11),
            SaleTerms(units=10, per_user_limit=1),
            SaleTerms(units=10, opens_at_ms=1),
            SaleTerms(units=10, unit_price_minor=1, currency="CHF"),
        ],
    )
    async def test_other_terms_conflict_while_a_sale_is_unsettled(
        self, database: Database, sale: Sale, terms: SaleTerms
    ) -> None:
        """The answer says which sale is in the way and what to do."""
        with pytest.raises(Conflict) as caught:
            await database.catalogue.create(ITEM, terms)
        assert caught.value.code == "other-terms"
        assert sale.sale_id in caught.value.detail
        assert "settle" in caught.value.detail
        assert await database.catalogue.get(sale.sale_id) == sale

    async def test_a_settled_item_has_its_next_sale(self, database: Database, sale: Sale) -> None:
        """A round of its own, with books of its own."""
        await database.catalogue.change_state(
            sale.sale_id, SaleState.SETTLED, expected=[SaleState.OPEN]
        )
        following = await database.catalogue.create(ITEM, SaleTerms(units=3))
        assert (following.sale_id, following.round) == (SaleId(f"{ITEM}.2"), 2)
        assert (following.available, following.epoch) == (3, 1)
        assert await database.catalogue.get(sale.sale_id) is not None

    async def test_sales_made_at_once_are_one_sale(self, database: Database) -> None:
        """Two operators press the button at the same moment."""
        barrier = asyncio.Barrier(AT_ONCE)

        async def create() -> Sale:
            await barrier.wait()
            return await database.catalogue.create(ITEM, SaleTerms(units=10))

        made = await asyncio.gather(*(create() for _ in range(AT_ONCE)))
        assert {sale.sale_id for sale in made} == {SaleId(f"{ITEM}.1")}
        assert len(await database.catalogue.current()) == 1

    async def test_a_sale_can_be_made_of_an_item_that_was_asked_for_before(
        self, database: Database
    ) -> None:
        """Round 0 is where those requests lie, and no sale."""
        await database.orders.record([unknown_item("p1", ITEM)], {})
        assert await database.catalogue.current() == []
        assert (await database.catalogue.create(ITEM, SaleTerms(units=1))).round == 1

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    async def test_current_lists_the_latest_sale_of_every_item(
        self, database: Database, sale: Sale
    ) -> None:
        """Settled or not: what was settled last is answered as closed, not as unknown."""
        other = await database.catalogue.create(OTHER_ITEM, SaleTerms(units=1))
        for settled in (sale, other):
            await database.catalogue.change_state(
                settled.sale_id, SaleState.SETTLED, expected=[SaleState.OPEN]
            )
        following = await database.catalogue.create(ITEM, SaleTerms(units=3))
        listed = {one.sale_id: one for one in await database.catalogue.current()}
        assert set(listed) == {following.sale_id, other.sale_id}
        assert listed[other.sale_id].state is SaleState.SETTLED

    async def test_a_sale_that_was_never_made_is_none(self, database: Database) -> None:
        """Not an error: somebody asks by a mistyped id."""
        assert await database.catalogue.get(GHOST) is None

    # ── states and epochs ───────────────────────────────────────────────────────────────────────

    async def test_a_state_changes_from_an_expected_one(
        self, database: Database, sale: Sale
    ) -> None:
        """And nothing else changes with it."""
        expected = [SaleState.OPEN, SaleState.PAUSED]
        paused = await database.catalogue.change_state(
            sale.sale_id, SaleState.PAUSED, expected=expected
        )
        assert paused.state is SaleState.PAUSED
        assert await database.catalogue.get(sale.sale_id) == paused
        opened = await database.catalogue.change_state(
            sale.sale_id, SaleState.OPEN, expected=expected
        )
        assert opened == sale

    async def test_the_same_state_again_is_no_conflict(
        self, database: Database, sale: Sale
    ) -> None:
        """A command whose answer was lost is given again."""
        for _ in range(2):
            closed = await database.catalogue.change_state(
                sale.sale_id, SaleState.CLOSED, expected=[SaleState.OPEN]
            )
            assert closed.state is SaleState.CLOSED

    async def test_a_state_does_not_change_from_an_unexpected_one(
        self, database: Database, sale: Sale
    ) -> None:
        """The answer says how the sale stands."""
        with pytest.raises(Conflict) as caught:
            await database.catalogue.change_state(
                sale.sale_id, SaleState.SETTLED, expected=[SaleState.CLOSED]
            )
        assert caught.value.code == "wrong-state"
        assert "OPEN" in caught.value.detail
        assert await database.catalogue.get(sale.sale_id) == sale

    async def test_one_of_two_contrary_commands_at_once_is_refused(
        self, database: Database, sale: Sale
    ) -> None:
        """The second sees what the first did."""
        barrier = asyncio.Barrier(2)

        async def move(to: SaleState) -> Sale:
            await barrier.wait()
            return await database.catalogue.change_state(
                sale.sale_id, to, expected=[SaleState.OPEN]
            )

        answers = await asyncio.gather(
            move(SaleState.PAUSED), move(SaleState.CLOSED), return_exceptions=True
        )
        [moved] = [one for one in answers if isinstance(one, Sale)]
        [refused] = [one for one in answers if isinstance(one, Conflict)]
        assert refused.code == "wrong-state"
        assert await database.catalogue.get(sale.sale_id) == moved

    async def test_a_sale_that_was_never_made_cannot_be_changed(self, database: Database) -> None:
        """Each command says so in the same way."""
        catalogue = database.catalogue
        commands = (
            catalogue.change_state(GHOST, SaleState.OPEN, expected=EVERY_STATE),
            catalogue.raise_epoch(GHOST),
            catalogue.books(GHOST, Epoch(1)),
        )
        for command in commands:
            with pytest.raises(Conflict) as caught:
                await command
            assert caught.value.code == "unknown-sale"

    async def test_every_raise_is_another_epoch(self, database: Database, sale: Sale) -> None:
        """Also when several raise at once: each began a life of its own."""
        raised = await asyncio.gather(
            *(database.catalogue.raise_epoch(sale.sale_id) for _ in range(AT_ONCE))
        )
        assert sorted(one.epoch for one in raised) == [2, 3, 4, 5, 6]
        assert {one.armed_epoch for one in raised} == {0}

    # ── books ───────────────────────────────────────────────────────────────────────────────────

    async def test_reading_the_books_makes_the_epoch_the_armed_one(
        self, database: Database, sale: Sale
    ) -> None:
        """From here on only promises of this epoch count."""
        await database.catalogue.raise_epoch(sale.sale_id)
        books = await database.catalogue.books(sale.sale_id, Epoch(2))
        assert (books.sale.epoch, books.sale.armed_epoch) == (2, 2)
        assert books.records == ()
        assert await database.catalogue.get(sale.sale_id) == books.sale

    async def test_the_books_tell_every_row_of_the_sale(
        self, database: Database, sale: Sale
    ) -> None:
        """Confirmed ones as sold; rejected ones as ended, so that their ids stay burned."""
        other = await database.catalogue.create(OTHER_ITEM, SaleTerms(units=10))
        batch = [
            decision(sale, "p1", quantity=7),
            decision(sale, "p2", quantity=4),
            decision(sale, "p3", reason="REGION_BLOCKED"),
            decision(other, "p4"),
        ]
        await database.orders.record(batch, epochs_of(sale, other))
        books = await database.catalogue.books(sale.sale_id, sale.epoch)
        assert by_id(books) == {
            "p1": record_of("p1", PurchaseState.SOLD, quantity=7),
            "p2": record_of("p2", PurchaseState.ENDED, quantity=4, reason=Reason.GATE_DRIFT.value),
            "p3": record_of("p3", PurchaseState.ENDED, reason="REGION_BLOCKED"),
        }
        assert (books.sale.available, books.sale.sold) == (3, 7)

    @pytest.mark.parametrize(
        "status", [ParkedStatus.WAITING, ParkedStatus.RETRYING, ParkedStatus.DEAD]
    )
    async def test_a_parked_unit_stays_held_through_a_rebuild(
        self, database: Database, sale: Sale, status: ParkedStatus
    ) -> None:
        """It was promised; only replaying or discarding its message ends that."""
        await database.parked.park(
            [
                parked("o:1", "p1", sale_id=sale.sale_id, status=status, holds=2),
                parked("o:2", "p2", sale_id=sale.sale_id, status=status),
                parked("o:3", "p3", sale_id=SaleId("other.1"), status=status, holds=1),
            ]
        )
        books = await database.catalogue.books(sale.sale_id, sale.epoch)
        assert by_id(books) == {"p1": record_of("p1", PurchaseState.QUEUED, quantity=2)}

    @pytest.mark.parametrize("status", [ParkedStatus.REPLAYED, ParkedStatus.DISCARDED])
    async def test_a_parked_unit_that_was_dealt_with_is_held_no_more(
        self, database: Database, sale: Sale, status: ParkedStatus
    ) -> None:
        """Its row tells, or somebody ended it by name."""
        await database.parked.park([parked("o:1", "p1", sale_id=sale.sale_id, holds=1)])
        [claimed] = await database.parked.claim_due(1, 0)
        assert claimed.parked_id is not None
        await database.parked.resolve(claimed.parked_id, status)
        assert (await database.catalogue.books(sale.sale_id, sale.epoch)).records == ()

    async def test_a_purchase_that_has_a_row_is_not_held_besides(
        self, database: Database, sale: Sale
    ) -> None:
        """Parked twice and recorded once is one purchase, and the row says which."""
        messages = [
            parked(origin, "p1", sale_id=sale.sale_id, holds=1) for origin in ("o:1", "o:2")
        ]
        await database.parked.park(messages)
        held = await database.catalogue.read_books(sale.sale_id)
        assert by_id(held) == {"p1": record_of("p1", PurchaseState.QUEUED)}
        await database.orders.record([decision(sale, "p1")], epochs_of(sale))
        sold = await database.catalogue.books(sale.sale_id, sale.epoch)
        assert by_id(sold) == {"p1": record_of("p1", PurchaseState.SOLD)}

    async def test_settled_sales_are_listed_by_how_long_they_are(
        self, database: Database, sale: Sale
    ) -> None:
        """What is settled is final, and its gate may forget it some day."""
        day_ms = 86_400_000
        catalogue = database.catalogue
        assert await catalogue.settled(after_ms=0, until_ms=day_ms) == []
        await catalogue.change_state(sale.sale_id, SaleState.CLOSED, expected=[SaleState.OPEN])
        await catalogue.change_state(sale.sale_id, SaleState.SETTLED, expected=[SaleState.CLOSED])
        assert await catalogue.settled(after_ms=0, until_ms=day_ms) == [sale.sale_id]
        assert await catalogue.settled(after_ms=day_ms, until_ms=2 * day_ms) == []

    async def test_a_held_unit_of_nobody_stops_the_books(
        self, database: Database, sale: Sale
    ) -> None:
        """Leaving it out would break a promise in silence."""
        nameless = parked("o:1", None, sale_id=sale.sale_id, holds=1)
        await database.parked.park([nameless])
        with pytest.raises(Corrupt) as caught:
            await database.catalogue.books(sale.sale_id, sale.epoch)
        assert caught.value.code == "unit-unnamed"
        found = await database.catalogue.get(sale.sale_id)
        assert found is not None
        assert found.armed_epoch == 0
