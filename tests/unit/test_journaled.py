"""The policy `journaled`: the answer comes with the journal entry, the message behind it."""

import asyncio

import attrs
import pytest

from flashsale.background import Background
from flashsale.settings import Durability, Entrypoint, JournalLoss, Settings
from flashsale.settings_rules import problems_of
from flashsale.starting import StartFailed, journal_keeps, wait_until_answering
from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import PurchaseState
from flashsale_core.outcomes import Accepted, OutcomeUnknown, SoldOut
from flashsale_core.ports import ClaimBatch, GateReply
from flashsale_core.purchase import PROMISE_MS, JournaledDesk
from tests.unit.world import World, request


class Journaled:
    """A world whose door answers from the journal."""

    def __init__(self) -> None:
        """Wire the desk as the container does."""
        self.world = World()
        self.background = Background()
        self.desk = JournaledDesk(
            board=self.world.board,
            gate=self.world.gate,
            bus=self.world.bus,
            clock=self.world.clock,
            later=self.background.start,
        )


async def test_a_buyer_is_told_before_the_bus_is_and_the_purchase_is_an_order() -> None:
    """Nobody consumes yet, so nothing is confirmed; the answer does not wait for it."""
    ours = Journaled()
    await ours.world.sell(units=1)
    assert isinstance(await ours.desk.buy(request()), Accepted)
    assert (await ours.world.books()).reserved == 1
    async with ours.world.worker():
        await ours.background.aclose()
    order = await ours.world.order("p1")
    assert order is not None
    assert isinstance(await ours.desk.buy(request("p2")), SoldOut)


async def test_a_message_that_was_lost_behind_the_answer_is_found_by_the_sweeper() -> None:
    """The process died, or the bus was away: the journal still names the promise."""
    ours = Journaled()
    await ours.world.sell()

    async def away(_: object) -> None:
        raise Unavailable(Why.BUS_AWAY)

    publish = ours.world.bus.publish
    ours.world.bus.publish = away  # type: ignore[method-assign,assignment]
    assert isinstance(await ours.desk.buy(request()), Accepted)
    await ours.background.aclose()
    ours.world.bus.publish = publish  # type: ignore[method-assign]
    ours.world.clock.ms += ours.world.gate.reserved_due_ms
    async with ours.world.worker():
        assert await ours.world.sweeper.sweep() == 1
    assert await ours.world.order("p1") is not None


async def test_a_retry_is_told_the_same_while_the_message_is_still_behind() -> None:
    """The journal holds the promise; a second look publishes once more, harmlessly."""
    ours = Journaled()
    await ours.world.sell()
    for _ in range(2):
        assert isinstance(await ours.desk.buy(request()), Accepted)
    async with ours.world.worker():
        await ours.background.aclose()
    assert (await ours.world.books()).sold == 1


async def test_what_was_taken_for_a_message_from_outside_is_promised_after_the_confirm() -> None:
    """Its journal entry is left to the outside door, so it is no promise by itself."""
    ours = Journaled()
    await ours.world.sell()
    record = ours.world.database.orders.record

    async def died(*_: object) -> list[object]:
        raise Unavailable(Why.DATABASE_AWAY)

    ours.world.database.orders.record = died  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await ours.world.parking.deliver([ours.world.message(request())])
    ours.world.database.orders.record = record  # type: ignore[method-assign]
    assert isinstance(await ours.desk.buy(request()), OutcomeUnknown)
    async with ours.world.worker():
        assert isinstance(await ours.desk.buy(request()), Accepted)


async def test_an_answer_of_the_gate_that_came_late_promises_nothing() -> None:
    """A rebuild may have read the books by then; the same id asked again is told."""
    ours = Journaled()
    await ours.world.sell()
    reserve = ours.world.gate.reserve

    async def slow(batches: list[ClaimBatch]) -> list[GateReply | Unavailable]:
        replies = await reserve(batches)
        ours.world.clock.ms += PROMISE_MS
        return replies

    ours.world.gate.reserve = slow  # type: ignore[method-assign,assignment]
    assert isinstance(await ours.desk.buy(request()), OutcomeUnknown)
    async with ours.world.worker():
        await ours.background.aclose()


async def test_what_survives_a_lost_gate_in_its_journal_is_kept() -> None:
    """A restart that wrote everything it answered loses no promise: the rebuild publishes it."""
    ours = Journaled()
    await ours.world.sell(units=1)
    assert isinstance(await ours.desk.buy(request()), Accepted)
    [record] = ours.world.gate._ledgers[ours.world.board.unsettled()[0].sale_id].records.values()
    assert record.state is PurchaseState.RESERVED
    ours.world.gate._armed.clear()
    async with ours.world.worker():
        await ours.world.rebuild.heal()
        assert isinstance(await ours.desk.buy(request("p2", user="bob")), SoldOut)
        await ours.background.aclose()
    order = await ours.world.order("p1")
    assert order is not None
    assert order.status == "CONFIRMED"


async def test_work_behind_an_answer_that_breaks_is_logged_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistake of ours must be seen; the buyers behind it must not suffer it."""
    background = Background()

    async def broken() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("a mistake")

    background.start(broken())
    await background.aclose()
    written = capsys.readouterr()
    assert "a mistake" in written.out + written.err


def test_a_memory_gate_journals_nothing_that_outlives_it() -> None:
    """Asked for on the embedded default, it is refused before the start."""
    settings = Settings(durability=Durability.JOURNALED)
    assert [name for name, _ in problems_of(settings, Entrypoint.RUN)] == ["durability"]
    accepted = attrs.evolve(settings, journal_loss=JournalLoss.ACCEPT)
    assert problems_of(accepted, Entrypoint.RUN) == []
    stray = Settings(journal_loss=JournalLoss.ACCEPT)
    assert [name for name, _ in problems_of(stray, Entrypoint.RUN)] == ["journal_loss"]


async def test_a_gate_that_says_nothing_of_its_journal_is_not_trusted() -> None:
    """An adapter of somebody's own without an operator: only its owner can know."""
    settings = Settings(durability=Durability.JOURNALED)
    with pytest.raises(StartFailed, match="i-accept-loss"):
        await wait_until_answering({"gate": journal_keeps(settings)}, 1)
    for trusted in (
        Settings(),
        attrs.evolve(settings, journal_loss=JournalLoss.ACCEPT),
    ):
        await wait_until_answering({"gate": journal_keeps(trusted)}, 1)
