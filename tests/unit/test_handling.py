"""A message that kills its worker: taken alone after a death, and not at all after the third."""

import asyncio
from collections.abc import Sequence

import pytest

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.events import Channel, Message, ParkedStatus
from flashsale_core.handling import KILLED_ITS_WORKER, Handling, HandlingNotes
from flashsale_core.letters import Signed, Wanted
from flashsale_core.parking import Parking
from flashsale_core.ports import Alarm, Decoded
from flashsale_core.retry import DEATHS_MAX
from tests.unit.test_fulfilment import promise, sale_of, status
from tests.unit.world import World, request

POISON = b"poison"


class Killed(BaseException):
    """Ends a test's worker as a segmentation fault does: nothing of the product runs after it."""


class Mortal:
    """Notes that a dead worker cannot write: what it would do while it falls is not done."""

    def __init__(self, notes: HandlingNotes, deaths: list[int]) -> None:
        """Share the table, and remember how many died before."""
        self._notes = notes
        self._deaths = deaths
        self._before = len(deaths)

    def __getattr__(self, name: str) -> object:
        """Do nothing any more once dead."""

        async def nothing(*_: object) -> None:
            return None

        return nothing if len(self._deaths) > self._before else getattr(self._notes, name)


class Killer:
    """A codec that a marked body kills; counts how large the batches were that it saw it in."""

    def __init__(self, world: World) -> None:
        """Stand in the place of the world's codec."""
        self.decode_rest = world.codec.decode
        self.seen: list[int] = []
        world.codec.decode = self.decode  # type: ignore[method-assign]

    async def decode(self, messages: Sequence[Message]) -> list[Decoded | Corrupt]:
        """Decode, or die."""
        if any(message.body == POISON for message in messages):
            self.seen.append(len(messages))
            raise Killed
        return await self.decode_rest(messages)


def reborn(world: World, killer: Killer, life: str) -> Parking:
    """Begin another worker."""
    notes = Mortal(world.database.notes, killer.seen)
    return Parking(
        fulfilment=world.fulfilment,
        parked=world.database.parked,
        rebuilds=world.database.rebuilds,
        bus=world.bus,
        observer=world.witness,
        handling=Handling(notes, life, alone=asyncio.Lock()),  # type: ignore[arg-type]
    )


async def until_done(world: World, killer: Killer, messages: list[Message]) -> int:
    """Restart workers until the delivery is done; answer how many died."""
    for life in range(10):
        try:
            await reborn(world, killer, f"life {life}").deliver(messages, is_suspect=True)
        except Killed:
            continue
        return life
    raise AssertionError("it never ends")


@pytest.mark.parametrize("channel", [Channel.REQUESTS, Channel.ACCEPTED])
async def test_the_third_death_quarantines_the_message_and_the_rest_go_on(channel: Channel) -> None:
    """Undecoded, its bytes untouched and copied; its neighbours are orders, nothing is lost."""
    world = World()
    await world.sell()
    killer = Killer(world)
    sale = sale_of(world)
    poison = world.message(POISON, 1)
    before, after = promise(sale, "before"), promise(sale, "after")
    if channel is Channel.ACCEPTED:
        poison = Message(channel=channel, body=POISON, origin="t:0:1", key=b"k")
    messages = [world.message(before), poison, world.message(after, 2)]
    assert await until_done(world, killer, messages) == DEATHS_MAX
    assert killer.seen == [3, 1, 1]
    assert await status(world, "before") == await status(world, "after") == ("CONFIRMED", None)
    [letter] = world.witness.set_aside
    assert (letter.status, letter.reason) == (ParkedStatus.DEAD, KILLED_ITS_WORKER)
    assert letter.message == poison
    assert [copy.body for copy in world.bus.log(Channel.DEAD_LETTERS)] == [POISON]
    assert letter.holds_unit is (channel is Channel.ACCEPTED)
    assert (Alarm.UNIT_PARKED in world.witness.alarms) is letter.holds_unit
    assert world.database.notes._notes == {}


async def test_an_unsuspected_delivery_writes_no_note() -> None:
    """The normal path costs no transaction more."""
    world = World()
    await world.sell()

    async def never(*_: object) -> None:
        raise AssertionError("a note was written")

    notes = world.database.notes
    for name in ("note", "deaths", "clear", "take_back"):
        setattr(notes, name, never)
    await world.parking.deliver([world.message(request())])
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_a_dependency_that_is_away_is_nobodys_death() -> None:
    """Lives that end in good order, however many, quarantine nothing."""
    world = World()
    await world.sell()
    decode, message = world.codec.decode, world.message(request())

    async def away(_: Sequence[Message]) -> list[Decoded | Corrupt]:
        raise Unavailable(Why.REGISTRY_AWAY)

    world.codec.decode = away  # type: ignore[method-assign,assignment]
    for life in range(2 * DEATHS_MAX):
        handling = Handling(world.database.notes, f"life {life}", alone=asyncio.Lock())
        world.parking._handling = handling
        with pytest.raises(Unavailable):
            await world.parking.deliver([message], is_suspect=True)
    world.codec.decode = decode  # type: ignore[method-assign]
    await world.parking.deliver([message], is_suspect=True)
    assert await status(world, "p1") == ("CONFIRMED", None)


async def test_one_life_counts_once_however_often_it_tries() -> None:
    """While the database comes and goes, the same worker notes the same message again and again."""
    notes = World().database.notes
    for _ in range(DEATHS_MAX):
        await notes.note(["a"], "one life")
    assert await notes.deaths(["a"], "one life") == [0]
    assert await notes.deaths(["a"], "another") == [1]


async def test_suspects_of_all_deliveries_are_taken_one_after_the_other() -> None:
    """Whoever only stood by when another one killed is not noted, so no death is counted to it."""
    notes = World().database.notes
    await notes.note(["killer", "bystander"], "one that died")
    handling = Handling(notes, "this life", alone=asyncio.Lock())
    in_hand, go_on = asyncio.Event(), asyncio.Event()

    async def work(taken: Sequence[str]) -> None:
        if taken == ["killer"]:
            in_hand.set()
            await go_on.wait()

    async def quarantine(_: str) -> None:
        raise AssertionError("nobody has died often enough")

    async def take(key: str) -> None:
        await handling.carefully([key], key_of=str, work=work, quarantine=quarantine)

    async with asyncio.timeout(10), asyncio.TaskGroup() as deliveries:
        deliveries.create_task(take("killer"))
        await in_hand.wait()
        deliveries.create_task(take("bystander"))
        # As far as it comes before the other one is done.
        for _ in range(20):
            await asyncio.sleep(0)
        assert await notes.deaths(["killer", "bystander"], "the next life") == [2, 1]
        go_on.set()
    assert await notes.deaths(["killer", "bystander"], "the next life") == [0, 0]


async def test_a_killer_that_is_replayed_is_quarantined_again_and_keeps_nobody_waiting() -> None:
    """An operator who replays it too early ends three workers, and no sale."""
    world = World()
    await world.sell()
    killer = Killer(world)
    await until_done(world, killer, [world.message(POISON)])
    [letter] = await world.letters.matching(_dead(), 10)
    await world.letters.replay(letter.letter_id, Signed(who="ann"))
    died = 0
    for life in range(10):
        try:
            await reborn(world, killer, f"feeder {life}").feed()
        except Killed:
            died += 1
        world.clock.ms += 120_000
    assert died == DEATHS_MAX
    [again] = await world.letters.matching(_dead(), 10)
    assert (again.letter_id, again.parked.reason) == (letter.letter_id, KILLED_ITS_WORKER)


def _dead() -> Wanted:
    return Wanted()
