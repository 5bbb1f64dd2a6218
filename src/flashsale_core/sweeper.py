"""Looks after purchases whose message was lost: the journal names them, the database judges."""

from collections.abc import Container, Iterable

from flashsale_core.board import SaleBoard
from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.events import PurchasesAccepted
from flashsale_core.fulfilment import follow_batch
from flashsale_core.model import Epoch, PurchaseId, PurchaseState, Sale, SaleId
from flashsale_core.ports import (
    Alarm,
    Clock,
    EventBus,
    Observer,
    OrderRepository,
    Overdue,
    ParkedMessages,
    SaleCatalogue,
    Standing,
    StockGate,
)
from flashsale_core.purchase import accepted_of

SWEEP_MAX = 500
"""Journal entries of one sale taken in one go: one FCALL, one query, one message."""
OUTSIDE_ALARM_MS = 3_600_000
"""The outside door's purchases are left to their redelivery; after an hour a person must look."""


FORGET_WINDOW_MS = 7 * 86_400_000
"""How far back settled sales are looked for: workers that rested a week still clean up."""


class Forgetter:
    """Gives the gate's memory of long settled sales back; the rows stay."""

    def __init__(self, *, catalogue: SaleCatalogue, gate: StockGate, keep_ms: int) -> None:
        """Keep the books for `keep_ms`: so long a buyer's retry is still answered by the gate."""
        self._catalogue = catalogue
        self._gate = gate
        self._keep_ms = keep_ms
        self._forgotten: set[SaleId] = set()

    async def forget(self) -> int:
        """Drop what is due; answer how many sales that were. Dropping twice does no harm."""
        due = await self._catalogue.settled(
            after_ms=self._keep_ms, until_ms=self._keep_ms + FORGET_WINDOW_MS
        )
        fresh = [sale_id for sale_id in due if sale_id not in self._forgotten]
        for sale_id in fresh:
            await self._gate.drop(sale_id)
        self._forgotten = set(due)
        return len(fresh)


class Sweeper:
    """Publishes overdue journal entries again, unless the database knows them already."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        orders: OrderRepository,
        parked: ParkedMessages,
        bus: EventBus,
        observer: Observer,
        clock: Clock,
    ) -> None:
        """Take the ports. Any number of sweepers may run side by side."""
        self._board = board
        self._gate = gate
        self._orders = orders
        self._parked = parked
        self._bus = bus
        self._observer = observer
        self._clock = clock

    async def sweep(self) -> int:
        """Go once over all unsettled sales; answer how many purchases were published again."""
        again = 0
        for sale in self._board.unsettled():
            try:
                again += await self._sweep_one(sale)
            except Corrupt as wrong:
                # One sale's broken record keeps nobody else's buyers waiting.
                self._observer.alarm(Alarm.SWEEP_FAILED, sale_id=sale.sale_id, reason=wrong.code)
        return again

    async def _sweep_one(self, sale: Sale) -> int:
        overdue = await self._gate.overdue(sale.sale_id, sale.epoch, SWEEP_MAX)
        if isinstance(overdue, Unavailable) or not overdue:
            return 0
        return await self._settle_debts(sale, overdue)

    async def _settle_debts(self, sale: Sale, overdue: list[Overdue]) -> int:
        ids = [entry.record.purchase_id for entry in overdue]
        # PostgreSQL first: a row that stands is followed and nothing is said twice.
        standing = await self._orders.standing([(sale.sale_id, one) for one in ids])
        rows = [row for row in standing if row is not None]
        if rows:
            await self._gate.follow([follow_batch(sale.sale_id, sale.epoch, rows)])
        waiting = {
            parked.purchase_id
            for parked in await self._parked.of_purchases(ids)
            if parked.sale_id == sale.sale_id and parked.is_its_purchase
        }
        lost = list(self._lost(overdue, standing, waiting))
        by_epoch: dict[Epoch, list[Overdue]] = {}
        for entry in lost:
            by_epoch.setdefault(entry.record.epoch, []).append(entry)
        for epoch, entries in by_epoch.items():
            await self._publish(sale, epoch, entries)
        return len(lost)

    def _lost(
        self,
        overdue: Iterable[Overdue],
        standing: Iterable[Standing | None],
        waiting: Container[PurchaseId | None],
    ) -> Iterable[Overdue]:
        for entry, row in zip(overdue, standing, strict=True):
            record = entry.record
            if row is not None or record.purchase_id in waiting:
                continue
            if record.state is PurchaseState.OUTSIDE:
                if self._clock.now_ms() - record.accepted_at_ms > OUTSIDE_ALARM_MS:
                    self._observer.alarm(
                        Alarm.OUTSIDE_OVERDUE,
                        sale_id=entry.sale_id,
                        purchase_id=record.purchase_id,
                    )
                continue
            yield entry

    async def _publish(self, sale: Sale, epoch: Epoch, entries: list[Overdue]) -> None:
        purchases = tuple(accepted_of(entry.record) for entry in entries)
        await self._bus.publish(
            [PurchasesAccepted(sale_id=sale.sale_id, epoch=epoch, purchases=purchases)]
        )
        await self._gate.mark_queued(
            sale.sale_id, epoch, [purchase.purchase_id for purchase in purchases]
        )
        self._observer.republished(len(entries))

    async def align(self) -> None:
        """Bring each gate's sale state to the database's: a pause whose second half was lost."""
        sales = self._board.unsettled()
        books = await self._gate.books([(sale.sale_id, sale.epoch) for sale in sales])
        for sale, seen in zip(sales, books, strict=True):
            if isinstance(seen, Unavailable) or seen.state is sale.state:
                continue
            # The list may be older than a command that the gate has followed already.
            now = await self._board.again(sale)
            if seen.state is not now.state:
                await self._gate.set_state(now.sale_id, now.epoch, now.state)
