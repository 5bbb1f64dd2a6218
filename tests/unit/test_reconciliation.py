"""Gate and database are compared by purchase, and only what is certain is told."""

from collections.abc import Callable

import attrs
import pytest

from flashsale_core.errors import Unavailable
from flashsale_core.model import (
    Epoch,
    ItemId,
    PurchaseId,
    PurchaseState,
    Reason,
    SaleId,
    UserId,
)
from flashsale_core.ports import Alarm, GatePage
from flashsale_core.reconciliation import SIGHTINGS, Comparison, DriftKind, Reconciler
from flashsale_memory.ledger import Ledger, cut
from tests.unit.world import World, request

ONE = SaleId("1.1")


class Reconciled:
    """A world with four orders, and a reconciler that tells a test what it would tell a metric."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self.world = World()
        self.told: dict[SaleId, int] = {}
        self.reconciler = Reconciler(
            board=self.world.board,
            catalogue=self.world.database.catalogue,
            gate=self.world.gate,
            observer=self.world.witness,
            tell=self.told.update,
        )

    async def begin(self) -> "Reconciled":
        """Sell four units, and refuse one from outside."""
        await self.world.sell()
        async with self.world.worker():
            for number in range(4):
                await self.world.desk.buy(request(f"p{number}", user=f"u{number}"))
        await self.world.parking.deliver([self.world.message(request("no", quantity=99))])
        return self

    @property
    def ledger(self) -> Ledger:
        """The gate's books, for a test that spoils them."""
        return self.world.gate._ledgers[ONE]

    async def compare(self, times: int = 1) -> Comparison:
        """Compare so often; answer the last."""
        for _ in range(times - 1):
            await self.reconciler.compare()
        [last] = await self.reconciler.compare()
        return last


def forget(ledger: Ledger) -> None:
    """Lose a record, as a restored old copy would."""
    del ledger.records[PurchaseId("p1")]


def give_back(ledger: Ledger) -> None:
    """Release what is sold."""
    record = ledger.records[PurchaseId("p1")]
    ledger.records[record.purchase_id] = cut(record, PurchaseState.ENDED, "X")


def invent(ledger: Ledger) -> None:
    """Sell what nobody ordered."""
    record = ledger.records[PurchaseId("p1")]
    ghost = attrs.evolve(record, purchase_id=PurchaseId("ghost"))
    ledger.records[ghost.purchase_id] = ghost


def hold_on(ledger: Ledger) -> None:
    """Hold a unit for a rejected purchase."""
    record = ledger.records[PurchaseId("no")]
    ledger.records[record.purchase_id] = attrs.evolve(record, state=PurchaseState.QUEUED)


def lag_behind(ledger: Ledger) -> None:
    """Wait for a row that stands."""
    record = ledger.records[PurchaseId("p1")]
    ledger.records[record.purchase_id] = attrs.evolve(record, state=PurchaseState.QUEUED)


def mistake(ledger: Ledger) -> None:
    """Know another quantity."""
    record = ledger.records[PurchaseId("p1")]
    ledger.records[record.purchase_id] = attrs.evolve(record, quantity=2)


@pytest.mark.parametrize(
    ("spoil", "kind", "purchase"),
    [
        (forget, DriftKind.UNKNOWN_TO_GATE, "p1"),
        (give_back, DriftKind.ENDED_IN_GATE, "p1"),
        (invent, DriftKind.SOLD_WITHOUT_ROW, "ghost"),
        (hold_on, DriftKind.HELD_AFTER_END, "no"),
        (lag_behind, DriftKind.NOT_FOLLOWED, "p1"),
        (mistake, DriftKind.OTHER_UNITS, "p1"),
    ],
)
async def test_each_kind_of_drift_is_found_by_its_purchase(
    spoil: Callable[[Ledger], None], kind: DriftKind, purchase: str
) -> None:
    """Sums may agree while purchases do not; so ids are compared."""
    ours = await Reconciled().begin()
    spoil(ours.ledger)
    last = await ours.compare(SIGHTINGS)
    assert [(drift.purchase_id, drift.kind) for drift in last.certain] == [(purchase, kind)]
    assert ours.told == {ONE: 1}
    assert ours.world.witness.alarms == [Alarm.BOOKS_DRIFT]
    await ours.compare(SIGHTINGS)
    assert ours.world.witness.alarms == [Alarm.BOOKS_DRIFT], "one drift is told once"


async def test_books_that_agree_are_told_as_such() -> None:
    """Sold, rejected, promised and never seen: none of them is a drift."""
    ours = await Reconciled().begin()
    await ours.world.desk.buy(request("in-flight", user="u9"))
    last = await ours.compare(SIGHTINGS + 1)
    assert last.drifts == ()
    assert last.gate is not None
    assert (last.gate.sold, last.database.sold) == (4, 4)
    assert ours.told == {ONE: 0}


async def test_what_is_seen_twice_may_be_work_in_progress() -> None:
    """A batch commits before the gate follows; then the look meets the next batch."""
    ours = await Reconciled().begin()
    lag_behind(ours.ledger)
    suspected = await ours.compare(SIGHTINGS - 1)
    assert (len(suspected.drifts), suspected.certain) == (1, ())
    record = ours.ledger.records[PurchaseId("p1")]
    ours.ledger.records[PurchaseId("p1")] = attrs.evolve(record, state=PurchaseState.SOLD)
    assert (await ours.compare()).drifts == ()
    lag_behind(ours.ledger)
    assert (await ours.compare(SIGHTINGS - 1)).certain == ()
    assert ours.world.witness.alarms == []


async def test_what_the_database_refused_stays_held_and_is_no_drift() -> None:
    """GATE_DRIFT was told when it happened; its units wait for a rebuild."""
    ours = await Reconciled().begin()
    hold_on(ours.ledger)
    order = ours.world.database.orders._tables.orders
    key = (ONE, PurchaseId("no"))
    order[key] = attrs.evolve(order[key], reason=Reason.GATE_DRIFT.value)
    assert (await ours.compare(SIGHTINGS)).drifts == ()


async def test_a_new_life_of_the_gate_is_looked_at_afresh() -> None:
    """What was suspected of the old one says nothing of the new."""
    ours = await Reconciled().begin()
    forget(ours.ledger)
    await ours.compare(SIGHTINGS - 1)
    async with ours.world.worker():
        await ours.world.rebuild.replace([ONE])
    last = await ours.compare()
    assert last.drifts == ()
    assert last.sale.epoch == Epoch(2)


async def test_an_unarmed_sale_is_not_compared_and_others_are() -> None:
    """It is another kind of trouble, and a worker mends it."""
    ours = await Reconciled().begin()
    await ours.world.sell("2")
    await ours.world.gate.drop(ONE)
    first, second = await ours.reconciler.compare()
    assert first.gate is None
    assert first.problem is not None
    assert "not-armed" in first.problem
    assert second.gate is not None
    assert ours.told == {ONE: 0, SaleId("2.1"): 0}


async def test_the_pages_of_a_long_sale_are_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drift on the last page is found like one on the first."""
    monkeypatch.setattr("flashsale_core.reconciliation.PAGE", 2)
    ours = await Reconciled().begin()
    ours.ledger.records[PurchaseId("zz")] = attrs.evolve(
        ours.ledger.records[PurchaseId("p1")],
        purchase_id=PurchaseId("zz"),
        user_id=UserId("eve"),
    )
    last = await ours.compare(SIGHTINGS)
    assert [drift.purchase_id for drift in last.certain] == ["zz"]
    assert ours.world.board.seen(ItemId("1")) is not None


async def test_an_order_that_is_made_after_the_gate_was_read_is_no_drift() -> None:
    """The database is read first: a row that is read is known to the gate, or never will be."""
    ours = await Reconciled().begin()
    reads = ours.world.gate.records

    async def overtaken(
        sale_id: SaleId, epoch: Epoch, *, cursor: str, limit: int
    ) -> GatePage | Unavailable:
        page = await reads(sale_id, epoch, cursor=cursor, limit=limit)
        async with ours.world.worker():
            await ours.world.desk.buy(request("late", user="eve"))
        return page

    ours.world.gate.records = overtaken  # type: ignore[method-assign]
    assert (await ours.compare()).drifts == ()
