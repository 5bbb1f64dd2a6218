"""What every Outbox must do. Subclass the contract and give it a `database` fixture."""

import asyncio
from collections.abc import Sequence

import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import OrderEvent
from flashsale_core.model import Sale, SaleTerms
from flashsale_core.opening import Database
from flashsale_core.testing.order_repository import ITEM, decision, epochs_of, told_events

PATIENCE_S = 20.0
"""No relay waits longer for another; one that blocks the other is found out after this."""


class Telling:
    """A bus that a test holds: it keeps what it was given, and returns or raises when told to."""

    def __init__(self, trouble: BaseException | None = None) -> None:
        """Raise `trouble` in the end, if there is one."""
        self.told: list[str] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self._trouble = trouble

    async def __call__(self, facts: Sequence[OrderEvent]) -> None:
        """Take the facts, and wait for the word."""
        self.began.set()
        await asyncio.wait_for(self.may_end.wait(), PATIENCE_S)
        if self._trouble is not None:
            raise self._trouble
        self.told += [fact.purchase_id for fact in facts]


class OutboxContract:
    """Facts are told at least once, by one relay at a time, and never forgotten untold."""

    @pytest.fixture
    async def sale(self, database: Database) -> Sale:
        """Open a sale."""
        return await database.catalogue.create(ITEM, SaleTerms(units=1_000))

    async def write(self, database: Database, sale: Sale, *purchases: str) -> None:
        """Write a fact a purchase."""
        batch = [decision(sale, purchase) for purchase in purchases]
        await database.orders.record(batch, epochs_of(sale))

    async def test_a_fact_is_told_once_and_gone(self, database: Database, sale: Sale) -> None:
        """What a relay was thanked for is not told again."""
        await self.write(database, sale, "p1", "p2")
        assert await database.outbox.backlog() == 2
        assert [event.purchase_id for event in await told_events(database)] == ["p1", "p2"]
        assert await database.outbox.backlog() == 0
        assert await told_events(database) == []

    async def test_a_relay_tells_no_more_than_its_limit(
        self, database: Database, sale: Sale
    ) -> None:
        """Oldest first, and it says how many."""
        await self.write(database, sale, "p1", "p2", "p3")
        telling = Telling()
        telling.may_end.set()
        assert await database.outbox.relay(telling, 2) == 2
        assert telling.told == ["p1", "p2"]
        assert await database.outbox.backlog() == 1
        assert await database.outbox.relay(telling, 2) == 1

    async def test_the_oldest_fact_that_waits_has_an_age(
        self, database: Database, sale: Sale
    ) -> None:
        """It grows while nobody relays, and is nothing once all is told."""
        assert await database.outbox.age_ms() == 0
        await self.write(database, sale, "p1")
        async with asyncio.timeout(PATIENCE_S):
            while (young := await database.outbox.age_ms()) == 0:  # noqa: ASYNC110 - clocks tell nobody
                await asyncio.sleep(0.005)
        await self.write(database, sale, "p2")
        async with asyncio.timeout(PATIENCE_S):
            while await database.outbox.age_ms() <= young:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.005)
        await told_events(database)
        assert await database.outbox.age_ms() == 0

    async def test_nothing_is_published_where_nothing_waits(self, database: Database) -> None:
        """An idle relay leaves the broker alone."""
        telling = Telling(AssertionError("nothing was there to be told"))
        telling.may_end.set()
        assert await database.outbox.relay(telling, 10) == 0

    @pytest.mark.parametrize(
        "trouble",
        [
            Unavailable(Why.BUS_AWAY, "gone", may_have_happened=True),
            TimeoutError("the bus was too slow"),
            ConnectionResetError("the bus hung up"),
            RuntimeError("the bus has a bug"),
        ],
    )
    async def test_all_facts_stay_when_telling_fails(
        self, database: Database, sale: Sale, trouble: Exception
    ) -> None:
        """And the bus's own trouble is raised on, never taken for the database's."""
        await self.write(database, sale, "p1", "p2")
        telling = Telling(trouble)
        telling.may_end.set()
        with pytest.raises(type(trouble)) as caught:
            await database.outbox.relay(telling, 10)
        assert caught.value is trouble
        assert await database.outbox.backlog() == 2
        assert [event.purchase_id for event in await told_events(database)] == ["p1", "p2"]

    async def test_all_facts_stay_when_telling_is_cancelled(
        self, database: Database, sale: Sale
    ) -> None:
        """A worker that stops in the middle has told nobody for sure."""
        await self.write(database, sale, "p1", "p2")
        telling = Telling()
        relay = asyncio.ensure_future(database.outbox.relay(telling, 10))
        await asyncio.wait_for(telling.began.wait(), PATIENCE_S)
        relay.cancel()
        with pytest.raises(asyncio.CancelledError):
            await relay
        assert [event.purchase_id for event in await told_events(database)] == ["p1", "p2"]

    async def test_relays_side_by_side_tell_different_facts(
        self, database: Database, sale: Sale
    ) -> None:
        """Neither waits for the other's broker."""
        await self.write(database, sale, "p1", "p2", "p3")
        first, second, third = Telling(), Telling(), Telling(AssertionError("none is left"))
        relays = [
            asyncio.ensure_future(database.outbox.relay(telling, 2)) for telling in (first, second)
        ]
        await asyncio.wait_for(asyncio.gather(first.began.wait(), second.began.wait()), PATIENCE_S)
        third.may_end.set()
        assert await database.outbox.relay(third, 2) == 0
        first.may_end.set()
        second.may_end.set()
        assert sorted(await asyncio.gather(*relays)) == [1, 2]
        assert sorted(first.told + second.told) == ["p1", "p2", "p3"]
        assert await database.outbox.backlog() == 0

    async def test_telling_holds_nobody_up(self, database: Database, sale: Sale) -> None:
        """Orders are recorded while a slow broker is being told; their facts come next."""
        await self.write(database, sale, "p1")
        telling = Telling()
        relay = asyncio.ensure_future(database.outbox.relay(telling, 10))
        await asyncio.wait_for(telling.began.wait(), PATIENCE_S)
        await asyncio.wait_for(self.write(database, sale, "p2"), PATIENCE_S)
        telling.may_end.set()
        assert await relay == 1
        assert telling.told == ["p1"]
        assert [event.purchase_id for event in await told_events(database)] == ["p2"]
