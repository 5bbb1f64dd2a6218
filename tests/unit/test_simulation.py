"""The use cases in a simulated world: random commands, random crashes, the drills' own judge."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from flashsale_core import batch, fulfilment
from flashsale_core.arming import expected_books
from flashsale_core.model import Sale
from flashsale_core.outcomes import Accepted, BuyAnswer
from flashsale_core.ports import Claim
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.rebuild import Rebuild
from flashsale_core.sweeper import Sweeper
from flashsale_memory.gate import MemoryStockGate
from flashsale_memory.payment_gateway import MemoryPaymentGateway
from tests.faults.history import Answer, Told
from tests.simulation.chance import Runner
from tests.simulation.databases import InMemory, InSqlite
from tests.simulation.episode import begin
from tests.simulation.run import WentWrong, live_many
from tests.simulation.world import DELIVERY_MAX, World, place

pytestmark = pytest.mark.model

SEED = 20_261_122
MEMORY_COMMANDS = 40_000
SQLITE_COMMANDS = 1_200
ENOUGH = 120_000
"""Commands within which each missing mechanism is found, with plenty to spare."""


def test_ten_thousand_random_commands_with_crashes_break_no_promise() -> None:
    """Any awaited call of a port may be the last of its caller; all is simulated, time too."""
    tally = live_many(InMemory(), SEED, MEMORY_COMMANDS, tell=False)
    assert tally.commands >= 10_000
    assert tally.calls >= tally.commands


def test_nor_do_they_on_a_real_database_file(tmp_path: Path) -> None:
    """SQLite's statements and transactions in the place of dicts, under the same clock."""
    databases = InSqlite(tmp_path)
    try:
        live_many(databases, SEED, SQLITE_COMMANDS, tell=False)
    finally:
        databases.close()


@pytest.mark.parametrize(
    ("before", "told", "was_promised", "after"),
    [
        (["none", "limit-reached"], "accepted", False, ["limit-reached", "accepted"]),
        (["accepted", "none"], "limit-reached", False, ["limit-reached", "accepted"]),
        (["accepted", "none"], "limit-reached", True, ["accepted", "limit-reached"]),
        (["none", "timeout"], "limit-reached", False, ["limit-reached", "timeout"]),
    ],
)
def test_only_a_no_that_was_asked_for_after_the_promise_takes_it_back(
    before: list[str], told: str, was_promised: bool, after: list[str]
) -> None:
    """Attempts under one id overlap: a no from before a unit came free stands before the yes."""
    kinds = {"accepted": Told.OK, "limit-reached": Told.REFUSED}
    answers = [Answer(kinds.get(code, Told.UNKNOWN), code, 1) for code in before]
    [nothing] = [one for one in answers if one.code == "none"]
    place(answers, nothing, Answer(kinds[told], told, 1), was_promised=was_promised)
    assert [one.code for one in answers] == after


def test_the_same_seed_brings_the_same_episode() -> None:
    """Else a failure could not be looked at."""
    traces = []
    for _ in range(2):
        databases = InMemory()
        episode = begin("7:1", databases.make, databases.run)
        episode.live()
        traces.append(episode.trace)
    assert traces[0] == traces[1] != []


Break = Callable[[pytest.MonkeyPatch], None]
BREAKS: list[Break] = []


def missing(break_it: Break) -> Break:
    """Note a mechanism that can be taken out."""
    BREAKS.append(break_it)
    return break_it


@missing
def confirm_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    """ACCEPTED is said whatever the broker says."""
    promise = PurchaseDesk._promise

    async def hasty(desk: PurchaseDesk, sale: Sale, record: Any, started_ms: float) -> BuyAnswer:
        await promise(desk, sale, record, started_ms)
        return Accepted(purchase_id=record.purchase_id, sale_id=sale.sale_id, epoch=sale.epoch)

    patch.setattr(PurchaseDesk, "_promise", hasty)


@missing
def confirm_before_the_mark(patch: pytest.MonkeyPatch) -> None:
    """A purchase is marked as queued before it is."""
    promise = PurchaseDesk._promise

    async def hasty(desk: PurchaseDesk, sale: Sale, record: Any, started_ms: float) -> BuyAnswer:
        await desk._gate.mark_queued(sale.sale_id, sale.epoch, (record.purchase_id,))
        return await promise(desk, sale, record, started_ms)

    patch.setattr(PurchaseDesk, "_promise", hasty)


@missing
def gate_follows_the_row(patch: pytest.MonkeyPatch) -> None:
    """The gate hears from nobody how the rows stand; a worker's silence alone the sweeper mends."""
    patch.setattr(MemoryStockGate, "_follow", lambda *_: 0)


@missing
def sweeper(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks after the journal."""

    async def idle(_: Sweeper) -> int:
        return 0

    patch.setattr(Sweeper, "sweep", idle)


@missing
def acknowledge_after_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A delivery is ended before it is done."""

    async def hasty(_: World, process: Any, partition: Any) -> None:
        taken = partition.messages[partition.done : partition.done + DELIVERY_MAX]
        partition.done += len(taken)
        if taken:
            await process.parking.deliver(taken)

    patch.setattr(World, "deliver", hasty)


@missing
def duplicate_check(patch: pytest.MonkeyPatch) -> None:
    """The gate takes a unit again for a purchase that it knows."""
    judge = MemoryStockGate._claim

    def forgetful(gate: MemoryStockGate, ledger: Any, door: Any, claim: Claim) -> Any:
        ledger.records.pop(claim.request.purchase_id, None)
        return judge(gate, ledger, door, claim)

    patch.setattr(MemoryStockGate, "_claim", forgetful)


@missing
def refusal_burned_by_the_worker(patch: pytest.MonkeyPatch) -> None:
    """A REJECTED row stands, and the gate would take a unit for the same id over HTTP."""
    patch.setattr(MemoryStockGate, "_burn", lambda *_: None)


@missing
def barrier(patch: pytest.MonkeyPatch) -> None:
    """A rebuild reads the books without waiting for what was promised."""

    async def idle(*_: Any) -> None:
        return

    patch.setattr(Rebuild, "_drain", idle)


@missing
def epoch_of_the_promise(patch: pytest.MonkeyPatch) -> None:
    """A gate that lost its keys is armed again under the epoch that it had."""

    async def same(self: Any, _: Any) -> Any:
        sales = await self._catalogue.current()
        for sale in sales:
            self._gate._inner._armed.pop(sale.sale_id, None)
            token = await self._gate.begin_load(sale.sale_id, sale.epoch, sale.terms, sale.state)
            books = await self._catalogue.read_books(sale.sale_id)
            for record in books.records:
                await self._gate.load(sale.sale_id, token, [record])
            await self._gate.arm(sale.sale_id, token, expected_books(books))
        return sales

    patch.setattr(Rebuild, "_next_lives", same)


@missing
def token_of_the_buyer(patch: pytest.MonkeyPatch) -> None:
    """A message of another service decides, and knows nothing of the buyer's money."""
    known = batch.decide

    def forgetful(work: Any, one: Any, reason: Any, at_ms: int = 0, _: Any = None) -> None:
        known(work, one, reason, at_ms)

    patch.setattr(fulfilment, "decide", forgetful)


@missing
def key_of_the_charge(patch: pytest.MonkeyPatch) -> None:
    """Whoever does not know what became of a charge asks for another one."""
    charge = MemoryPaymentGateway.charge

    async def anew(self: MemoryPaymentGateway, one: Any) -> Any:
        return await charge(self, attrs.evolve(one, key=f"{one.key}-{len(self.calls)}"))

    patch.setattr(MemoryPaymentGateway, "charge", anew)


@pytest.mark.parametrize("take_out", BREAKS, ids=[one.__name__ for one in BREAKS])
def test_a_missing_mechanism_is_found_and_told_how_to_be_found_again(
    monkeypatch: pytest.MonkeyPatch, take_out: Break
) -> None:
    """A model test that finds nothing when something is missing proves nothing."""
    take_out(monkeypatch)
    with pytest.raises(WentWrong) as found:
        live_many(InMemory(), SEED, ENOUGH, tell=False)
    again = re.search(r"--replay (\S+) --first (\d+)", str(found.value))
    assert again is not None
    databases = InMemory()
    episode = begin(again[1], databases.make, Runner(), int(again[2]))
    try:
        assert episode.live() != []
    except Exception:  # noqa: BLE001 - it broke before it could be judged, which is as wrong
        return
