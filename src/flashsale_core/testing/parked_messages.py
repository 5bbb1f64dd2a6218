"""What every ParkedMessages must do. Subclass the contract and give it a `database` fixture."""

import asyncio

import attrs
import pytest

from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.model import PurchaseId, SaleId, UserId
from flashsale_core.opening import Database

HOUR_MS = 3_600_000
SALE = SaleId("shoe.1")
ROUNDS = 10
"""How often a race is run: one that goes wrong does so within the first few."""


def parked(
    origin: str,
    purchase: str | None = None,
    *,
    sale_id: SaleId | None = SALE,
    status: ParkedStatus = ParkedStatus.WAITING,
    holds: int = 0,
) -> ParkedMessage:
    """Set a message aside; `holds` is how many units it holds."""
    return ParkedMessage(
        message=Message(
            channel=Channel.ACCEPTED,
            body=b"\x00\xff\xfe{",
            key=b"\x80",
            headers=(("a", b""), ("a", b"\x00\xff"), ("content-type", b"x")),
            content_type="avro/binary",
            origin=origin,
            partition=3,
            written_at_ms=1_700_000_000_001,
        ),
        status=status,
        reason="not-armed",
        detail="sale shoe.1",
        sale_id=sale_id,
        purchase_id=None if purchase is None else PurchaseId(purchase),
        holds_unit=holds > 0,
        user_id=UserId(f"user-of-{purchase}") if holds else None,
        quantity=holds or None,
        attempts=1 if status is ParkedStatus.RETRYING else 0,
    )


async def claimed(database: Database) -> list[ParkedMessage]:
    """Claim all that is due, for an hour."""
    return await database.parked.claim_due(1_000, HOUR_MS)


def origins(messages: list[ParkedMessage]) -> list[str]:
    """Name where they came from."""
    return [one.message.origin for one in messages]


class ParkedMessagesContract:
    """A table of what was consumed and is not done: kept as it came, worked off one by one."""

    async def park_one(
        self, database: Database, status: ParkedStatus = ParkedStatus.WAITING
    ) -> int:
        """Park a message and claim nothing; answer its id."""
        await database.parked.park([parked("o:1", "p1", status=status)])
        [found] = await database.parked.of_purchases([PurchaseId("p1")])
        assert found.parked_id is not None
        return found.parked_id

    # ── parking ─────────────────────────────────────────────────────────────────────────────────

    async def test_a_message_is_kept_as_it_came(self, database: Database) -> None:
        """Bytes, key, headers in their order, repeated names and all."""
        message = parked("o:1", "p1", status=ParkedStatus.RETRYING, holds=2)
        assert await database.parked.park([message]) == [True]
        [found] = await claimed(database)
        assert found.parked_id is not None
        assert attrs.evolve(found, parked_id=None) == message

    @pytest.mark.parametrize("body", [None, b""])
    async def test_an_absent_body_is_not_an_empty_one(
        self, database: Database, body: bytes | None
    ) -> None:
        """Both are dead letters, and both must be shown for what they are."""
        message = Message(channel=Channel.REQUESTS, body=body, origin="o:1")
        await database.parked.park(
            [ParkedMessage(message=message, status=ParkedStatus.WAITING, reason="null-body")]
        )
        [found] = await claimed(database)
        assert found.message == message

    async def test_a_message_is_parked_once(self, database: Database) -> None:
        """It is delivered again until it is acknowledged; the first parking stands."""
        first = parked("o:1")
        again = attrs.evolve(first, status=ParkedStatus.DEAD, reason="other")
        assert await database.parked.park([first]) == [True]
        assert await database.parked.park([again, parked("o:2")]) == [False, True]
        assert [one.reason for one in await claimed(database)] == ["not-armed", "not-armed"]

    async def test_one_message_may_leave_several_purchases_behind(self, database: Database) -> None:
        """Each is parked by itself; the same in one call counts once."""
        batch = [parked("o:1", "p2"), parked("o:1", "p1"), parked("o:1"), parked("o:1", "p2")]
        assert await database.parked.park(batch) == [True, True, True, False]
        assert await database.parked.park(batch) == [False] * 4
        assert len(await claimed(database)) == 3

    async def test_parking_nothing_is_nothing(self, database: Database) -> None:
        """Most deliveries leave nothing over."""
        assert await database.parked.park([]) == []

    async def test_texts_that_a_database_cannot_store_do_not_stop_the_parking(
        self, database: Database
    ) -> None:
        """What is set aside for its bad bytes must find its place."""
        bad = "nul \x00 and half a pair \ud800"
        message = Message(
            channel=Channel.REQUESTS,
            body=b"\x00",
            origin="o:1",
            content_type=bad,
            headers=((bad, b"\x00"),),
        )
        dead = ParkedMessage(message=message, status=ParkedStatus.RETRYING, reason=bad, detail=bad)
        assert await database.parked.park([dead]) == [True]
        assert await database.parked.park([dead]) == [False]
        [found] = await claimed(database)
        assert found.message.body == b"\x00"
        assert [value for _, value in found.message.headers] == [b"\x00"]
        assert found.detail.startswith("nul ")
        assert found.parked_id is not None
        await database.parked.resolve(found.parked_id, ParkedStatus.DEAD, reason=bad)
        assert (await database.parked.counts())[ParkedStatus.DEAD] == 1

    async def test_the_same_messages_parked_at_once_are_new_to_one(
        self, database: Database
    ) -> None:
        """Two workers after a rebalance, in opposite orders."""
        for number in range(ROUNDS):
            batch = [parked(f"r{number}:{n}", "p") for n in range(10)]
            barrier = asyncio.Barrier(2)

            async def park(
                messages: list[ParkedMessage], barrier: asyncio.Barrier = barrier
            ) -> list[bool]:
                await barrier.wait()
                return await database.parked.park(messages)

            one, other = await asyncio.gather(park(batch), park(batch[::-1]))
            assert sum(one) + sum(other) == 10
            assert [a != b for a, b in zip(one, other[::-1], strict=True)] == [True] * 10

    # ── claiming ────────────────────────────────────────────────────────────────────────────────

    async def test_what_waits_or_is_retried_is_due_at_once_and_a_dead_one_never(
        self, database: Database
    ) -> None:
        """A dead letter is taken up by a person alone."""
        await database.parked.park(
            [
                parked("o:1"),
                parked("o:2", status=ParkedStatus.DEAD),
                parked("o:3", status=ParkedStatus.RETRYING),
            ]
        )
        assert origins(await claimed(database)) == ["o:1", "o:3"]

    async def test_a_claim_holds_until_its_lease_ends(self, database: Database) -> None:
        """Nobody else gets it meanwhile; a feeder that died gives it free by itself."""
        await database.parked.park([parked("o:1"), parked("o:2")])
        assert len(await database.parked.claim_due(10, 0)) == 2
        assert len(await database.parked.claim_due(10, HOUR_MS)) == 2
        assert await database.parked.claim_due(10, HOUR_MS) == []

    async def test_a_claim_takes_no_more_than_its_limit(self, database: Database) -> None:
        """And no message twice."""
        await database.parked.park([parked(f"o:{number}") for number in range(5)])
        taken = [origins(await database.parked.claim_due(2, HOUR_MS)) for _ in range(4)]
        assert [len(some) for some in taken] == [2, 2, 1, 0]
        assert len({origin for some in taken for origin in some}) == 5

    async def test_claims_at_once_take_different_messages(self, database: Database) -> None:
        """Two feeders side by side replay nothing twice."""
        for number in range(ROUNDS):
            await database.parked.park([parked(f"r{number}:{n}") for n in range(10)])
            barrier = asyncio.Barrier(3)

            async def claim(barrier: asyncio.Barrier = barrier) -> list[str]:
                await barrier.wait()
                return origins(await database.parked.claim_due(4, HOUR_MS))

            taken = await asyncio.gather(*(claim() for _ in range(3)))
            together = [origin for some in taken for origin in some]
            assert len(set(together)) == len(together)
            # Whoever skipped what another held has left some for the next.
            rest = origins(await claimed(database))
            assert sorted(together + rest) == [f"r{number}:{n}" for n in range(10)]

    # ── resolving ───────────────────────────────────────────────────────────────────────────────

    async def test_a_replayed_one_is_done(self, database: Database) -> None:
        """It went through the gate; nothing takes it up again."""
        await database.parked.resolve(await self.park_one(database), ParkedStatus.REPLAYED)
        assert await claimed(database) == []
        assert await database.parked.of_purchases([PurchaseId("p1")]) == []
        assert (await database.parked.counts())[ParkedStatus.REPLAYED] == 1

    @pytest.mark.parametrize("ended", [ParkedStatus.REPLAYED, ParkedStatus.DISCARDED])
    async def test_what_has_ended_stays_ended(
        self, database: Database, ended: ParkedStatus
    ) -> None:
        """A feeder whose lease ran out comes late with its answer."""
        parked_id = await self.park_one(database)
        await database.parked.resolve(parked_id, ended)
        await database.parked.resolve(parked_id, ParkedStatus.RETRYING, reason="late")
        assert await claimed(database) == []
        assert (await database.parked.counts())[ended] == 1

    async def test_a_waiting_one_comes_again_without_counting(self, database: Database) -> None:
        """Its sale is still not sellable; that is nobody's fault."""
        parked_id = await self.park_one(database)
        await database.parked.resolve(parked_id, ParkedStatus.WAITING, retry_in_ms=HOUR_MS)
        assert await claimed(database) == []
        await database.parked.resolve(parked_id, ParkedStatus.WAITING, reason="paused")
        [found] = await claimed(database)
        assert (found.attempts, found.reason) == (0, "paused")

    async def test_a_retried_one_counts_its_attempts(self, database: Database) -> None:
        """So that an unknown failure ends as a dead letter some time."""
        parked_id = await self.park_one(database, ParkedStatus.RETRYING)
        await database.parked.resolve(parked_id, ParkedStatus.RETRYING, retry_in_ms=HOUR_MS)
        assert await claimed(database) == []
        await database.parked.resolve(parked_id, ParkedStatus.RETRYING)
        [found] = await claimed(database)
        assert (found.attempts, found.status) == (3, ParkedStatus.RETRYING)
        assert found.reason == "not-armed"

    async def test_a_dead_one_waits_for_a_person(self, database: Database) -> None:
        """Who may send it through the gate again, or discard it."""
        parked_id = await self.park_one(database)
        await database.parked.resolve(parked_id, ParkedStatus.DEAD, reason="gave-up")
        assert await claimed(database) == []
        [found] = await database.parked.of_purchases([PurchaseId("p1")])
        assert (found.status, found.reason) == (ParkedStatus.DEAD, "gave-up")
        await database.parked.resolve(parked_id, ParkedStatus.WAITING)
        assert len(await claimed(database)) == 1

    # ── looking ─────────────────────────────────────────────────────────────────────────────────

    async def test_counts_name_every_status(self, database: Database) -> None:
        """A metric that is absent is not a metric that is zero."""
        assert dict(await database.parked.counts()) == dict.fromkeys(ParkedStatus, 0)
        await database.parked.park(
            [parked("o:1"), parked("o:2"), parked("o:3", status=ParkedStatus.DEAD)]
        )
        counts = await database.parked.counts()
        assert (counts[ParkedStatus.WAITING], counts[ParkedStatus.DEAD]) == (2, 1)

    async def test_what_is_parked_of_purchases_is_found(self, database: Database) -> None:
        """The sweeper leaves these alone, and a buyer is told PARKED."""
        await database.parked.park(
            [
                parked("o:1", "p1"),
                parked("o:2", "p2", status=ParkedStatus.DEAD),
                parked("o:3", "p3"),
                parked("o:4"),
                parked("o:5", "p1"),
            ]
        )
        found = await database.parked.of_purchases([PurchaseId("p2"), PurchaseId("p1")])
        assert origins(found) == ["o:1", "o:2", "o:5"]
        assert await database.parked.of_purchases([]) == []

    async def test_what_keeps_a_sale_from_settling_is_counted(self, database: Database) -> None:
        """What holds a unit or waits for one; a dead request that took nothing does not."""
        other = SaleId("other.1")
        await database.parked.park(
            [
                parked("o:1", "p1"),
                parked("o:2", "p2", status=ParkedStatus.RETRYING),
                parked("o:3", "p3", status=ParkedStatus.DEAD, holds=1),
                parked("o:4", "p4", status=ParkedStatus.DEAD),
                parked("o:5", "p5", sale_id=other),
                parked("o:6", "p6", sale_id=None),
            ]
        )
        assert await database.parked.holding(SALE) == 3
        assert await database.parked.holding(other) == 1
        assert await database.parked.holding(SaleId("none.1")) == 0

    async def test_dead_letters_are_listed_the_newest_first_and_page_by_page(
        self, database: Database
    ) -> None:
        """A person reads the last ones first, and goes on; what may still succeed is not there."""
        for number in range(5):
            await database.parked.park([parked(f"o:{number}", status=ParkedStatus.DEAD)])
        await database.parked.park([parked("o:5"), parked("o:6", status=ParkedStatus.RETRYING)])
        first = await database.parked.dead(2)
        assert origins(first) == ["o:4", "o:3"]
        rest = await database.parked.dead(10, before=first[-1].parked_id)
        assert origins(rest) == ["o:2", "o:1", "o:0"]
        assert await database.parked.dead(10, before=rest[-1].parked_id) == []

    async def test_one_is_found_by_its_id_whatever_became_of_it(self, database: Database) -> None:
        """Whoever wrote the number down finds it later, too."""
        parked_id = await self.park_one(database, ParkedStatus.DEAD)
        found = await database.parked.find(parked_id)
        assert found is not None
        assert (found.message.origin, found.status) == ("o:1", ParkedStatus.DEAD)
        await database.parked.resolve(parked_id, ParkedStatus.DISCARDED)
        ended = await database.parked.find(parked_id)
        assert ended is not None
        assert ended.status is ParkedStatus.DISCARDED
        assert await database.parked.find(parked_id + 1) is None
