"""What every DeadLetters and HandlingNotes must do. Subclass with a `database` fixture."""

import asyncio

import attrs
import pytest

from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.letters import Act, Letter, Signed, Wanted
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.opening import Database
from flashsale_core.testing.parked_messages import HOUR_MS, parked

ANN = Signed(who="ann@desk", why="the schema is mended")
BOB = Signed(who="bob@desk")
DEAD, WAITING, RETRYING = ParkedStatus.DEAD, ParkedStatus.WAITING, ParkedStatus.RETRYING
ROUNDS = 10


async def stored(database: Database, *messages: ParkedMessage) -> list[int]:
    """Park messages; answer their ids in their order."""
    await database.parked.park(messages)
    letters = await database.letters.matching(Wanted(statuses=()), 1_000)
    ids = {(one.parked.message.origin, one.parked.purchase_id): one.letter_id for one in letters}
    return [ids[one.message.origin, one.purchase_id] for one in messages]


def ids_of(letters: list[Letter]) -> list[int]:
    """Name them."""
    return [letter.letter_id for letter in letters]


async def status_of(database: Database, letter_id: int) -> ParkedStatus:
    """Say how one stands."""
    letter = await database.letters.find(letter_id)
    assert letter is not None
    return letter.parked.status


class DeadLettersContract:
    """An operator finds what was set aside, and changes it once, whoever else tries."""

    # ── looking ─────────────────────────────────────────────────────────────────────────────────

    async def test_each_part_of_a_filter_leaves_the_others_out(self, database: Database) -> None:
        """Status, reason, sale, purchase, channel, and whether a unit is held."""
        outside = Message(channel=Channel.REQUESTS, body=b"x", origin="o:3")
        plain = ParkedMessage(message=outside, status=DEAD, reason="bad-framing")
        ids = await stored(
            database,
            parked("o:1", "p1", status=DEAD, holds=1),
            parked("o:2", "p2", status=DEAD, sale_id=SaleId("hat.1")),
            plain,
            parked("o:4", "p4", status=WAITING),
        )
        found = {
            "dead": Wanted(),
            "any": Wanted(statuses=()),
            "two": Wanted(statuses=(WAITING, RETRYING)),
            "reason": Wanted(reason="bad-framing"),
            "sale": Wanted(sale_id=SaleId("hat.1")),
            "purchase": Wanted(purchase_id=PurchaseId("p1")),
            "channel": Wanted(channel=Channel.REQUESTS),
            "holding": Wanted(holds_unit=True),
            "holding none": Wanted(holds_unit=False),
            "both": Wanted(holds_unit=True, sale_id=SaleId("hat.1")),
        }
        expected = {
            "dead": [2, 1, 0],
            "any": [3, 2, 1, 0],
            "two": [3],
            "reason": [2],
            "sale": [1],
            "purchase": [0],
            "channel": [2],
            "holding": [0],
            "holding none": [2, 1],
            "both": [],
        }
        for name, wanted in found.items():
            listed = await database.letters.matching(wanted, 100)
            assert ids_of(listed) == [ids[at] for at in expected[name]], name
            assert await database.letters.count(wanted) == len(expected[name]), name

    async def test_a_time_counts_from_its_beginning_and_up_to_its_end(
        self, database: Database
    ) -> None:
        """`since` is included, `until` is not."""
        [letter_id] = await stored(database, parked("o:1", status=DEAD))
        letter = await database.letters.find(letter_id)
        assert letter is not None
        at_ms = letter.parked_at_ms
        assert letter.changed_at_ms == at_ms
        for since, until, count in (
            (at_ms, None, 1),
            (at_ms + 1, None, 0),
            (None, at_ms, 0),
            (None, at_ms + 1, 1),
            (at_ms, at_ms + 1, 1),
        ):
            wanted = Wanted(since_ms=since, until_ms=until)
            assert await database.letters.count(wanted) == count

    async def test_pages_follow_each_other_the_newest_first(self, database: Database) -> None:
        """Nothing twice, nothing left out."""
        ids = await stored(database, *(parked(f"o:{n}", status=DEAD) for n in range(5)))
        first = await database.letters.matching(Wanted(), 2)
        assert ids_of(first) == [ids[4], ids[3]]
        rest = await database.letters.matching(Wanted(), 10, before=ids[3])
        assert ids_of(rest) == [ids[2], ids[1], ids[0]]
        assert await database.letters.matching(Wanted(), 10, before=ids[0]) == []

    async def test_one_that_never_was_is_none_to_every_question(self, database: Database) -> None:
        """And leaves nothing behind."""
        assert await database.letters.find(404) is None
        assert await database.letters.replay(404, ANN) is None
        assert await database.letters.discard(404) is None
        assert list(await database.letters.trail(404)) == []

    # ── replaying ───────────────────────────────────────────────────────────────────────────────

    async def test_a_replayed_letter_is_due_at_once_with_all_its_tries(
        self, database: Database
    ) -> None:
        """As it came, bytes and all; a person said that it may succeed now."""
        dead = attrs.evolve(parked("o:1", "p1", status=DEAD, holds=2), attempts=5)
        [letter_id] = await stored(database, dead)
        assert await database.letters.replay(letter_id, ANN) is DEAD
        [due] = await database.parked.claim_due(10, HOUR_MS)
        assert due == attrs.evolve(dead, status=WAITING, attempts=0, parked_id=letter_id)
        [entry] = await database.letters.trail(letter_id)
        assert (entry.act, entry.signed) == (Act.REPLAY, ANN)
        assert entry.at_ms > 0

    @pytest.mark.parametrize(
        "status", [one for one in ParkedStatus if one is not ParkedStatus.DEAD]
    )
    async def test_only_a_dead_letter_is_replayed(
        self, database: Database, status: ParkedStatus
    ) -> None:
        """What a feeder has, what is done, and what was ended stays as it is, without an entry."""
        [letter_id] = await stored(database, parked("o:1", "p1", status=WAITING))
        await database.parked.claim_due(10, HOUR_MS)
        await database.parked.resolve(letter_id, status, retry_in_ms=HOUR_MS)
        assert await database.letters.replay(letter_id, ANN) is status
        assert await status_of(database, letter_id) is status
        assert await database.parked.claim_due(10, HOUR_MS) == []
        assert list(await database.letters.trail(letter_id)) == []

    async def test_of_two_operators_at_once_one_replays(self, database: Database) -> None:
        """The other is told how it stands; the trail names the one."""
        for number in range(ROUNDS):
            [letter_id] = await stored(database, parked(f"r:{number}", status=DEAD))
            barrier = asyncio.Barrier(2)

            async def replay(
                signed: Signed, letter_id: int = letter_id, barrier: asyncio.Barrier = barrier
            ) -> ParkedStatus | None:
                await barrier.wait()
                return await database.letters.replay(letter_id, signed)

            seen = await asyncio.gather(replay(ANN), replay(BOB))
            assert sorted(str(one) for one in seen) == ["DEAD", "WAITING"]
            assert len(await database.letters.trail(letter_id)) == 1

    # ── discarding ──────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("status", [WAITING, RETRYING, DEAD])
    async def test_a_discarded_letter_is_never_taken_up_again(
        self, database: Database, status: ParkedStatus
    ) -> None:
        """A feeder that had it in hand comes too late; the number still finds it."""
        [letter_id] = await stored(database, parked("o:1", "p1", status=status, holds=1))
        await database.parked.claim_due(10, 0)
        assert await database.letters.discard(letter_id) is status
        assert await database.letters.discard(letter_id) is ParkedStatus.DISCARDED
        await database.parked.resolve(letter_id, RETRYING, reason="late")
        assert await status_of(database, letter_id) is ParkedStatus.DISCARDED
        assert await database.parked.claim_due(10, HOUR_MS) == []
        assert await database.parked.of_purchases([PurchaseId("p1")]) == []
        assert await database.parked.holding(SaleId("shoe.1")) == 0

    async def test_what_was_replayed_cannot_be_discarded(self, database: Database) -> None:
        """It is an order, or told to its buyer."""
        [letter_id] = await stored(database, parked("o:1", "p1"))
        await database.parked.resolve(letter_id, ParkedStatus.REPLAYED)
        assert await database.letters.discard(letter_id) is ParkedStatus.REPLAYED
        assert await status_of(database, letter_id) is ParkedStatus.REPLAYED

    async def test_the_trail_keeps_every_act_in_order(self, database: Database) -> None:
        """Who, what, why and when; a text that a database cannot store does not stop it."""
        [letter_id, other] = await stored(
            database, parked("o:1", status=DEAD), parked("o:2", status=DEAD)
        )
        await database.letters.replay(letter_id, ANN)
        await database.parked.resolve(letter_id, DEAD, reason="again")
        await database.letters.sign(letter_id, Act.DISCARD, Signed(who="bob", why="nul \x00"))
        one, two = await database.letters.trail(letter_id)
        assert (one.act, two.act) == (Act.REPLAY, Act.DISCARD)
        assert two.signed.why.startswith("nul ")
        assert one.at_ms <= two.at_ms
        assert list(await database.letters.trail(other)) == []


class HandlingNotesContract:
    """What a worker has in hand is known after its death, and counted once a life."""

    async def test_deaths_are_the_other_lives_that_never_took_it_back(
        self, database: Database
    ) -> None:
        """However often each noted it."""
        notes = database.notes
        assert await notes.deaths(["a", "b"], "me") == [0, 0]
        for life in ("one", "two", "two", "me"):
            await notes.note(["b", "a", "b"], life)
        await notes.note(["b"], "three")
        assert await notes.deaths(["a", "b", "c", "a"], "me") == [2, 3, 0, 2]
        assert await notes.deaths(["a"], "one") == [2]

    async def test_what_was_taken_back_was_no_death(self, database: Database) -> None:
        """Of this life alone."""
        notes = database.notes
        await notes.note(["a", "b"], "one")
        await notes.note(["a", "b"], "two")
        await notes.take_back(["a"], "one")
        assert await notes.deaths(["a", "b"], "me") == [1, 2]

    async def test_what_is_done_is_nobodys_any_more(self, database: Database) -> None:
        """Every life's note goes, the neighbours' stay."""
        notes = database.notes
        for life in ("one", "two"):
            await notes.note(["a", "b"], life)
        await notes.clear(["a", "never noted"])
        assert await notes.deaths(["a", "b"], "me") == [0, 2]

    async def test_nothing_is_nothing(self, database: Database) -> None:
        """An empty delivery is no error."""
        notes = database.notes
        await notes.note([], "one")
        await notes.take_back([], "one")
        await notes.clear([])
        assert await notes.deaths([], "one") == []

    async def test_a_thousand_are_noted_at_once_by_two_lives(self, database: Database) -> None:
        """A whole delivery, from either end: neither waits for the other for ever."""
        keys = [f"topic:0:{n}" for n in range(1_000)]
        await asyncio.gather(
            database.notes.note(keys, "one"), database.notes.note(keys[::-1], "two")
        )
        assert set(await database.notes.deaths(keys, "me")) == {2}
