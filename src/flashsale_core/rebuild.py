"""Brings lost gates to life again while the processes go on, and loses no promise on the way.

A gate is lost when its server restarted, was emptied, failed over, or is not the one that it was:
then no process may sell, because nobody knows what was sold. The database knows all of it as soon
as every message that was promised is a row. So a rebuild ends the old life everywhere, waits until
nobody can promise under it any more, lets the workers drain what was promised, and loads the new
life from the rows alone. It may die at any step: the next one begins with another epoch.
"""

from collections.abc import Awaitable, Callable, Sequence

from flashsale_core.arming import arm_from_database, resumable
from flashsale_core.board import REFRESH_MS, SaleBoard
from flashsale_core.errors import Conflict, Corrupt, StaleEpoch, Unavailable, Why
from flashsale_core.events import Barrier, PurchasesAccepted
from flashsale_core.model import Epoch, GateRecord, Sale, SaleId
from flashsale_core.ports import (
    Alarm,
    Clock,
    EventBus,
    Observer,
    Rebuilds,
    SaleCatalogue,
    StockGate,
)
from flashsale_core.purchase import PROMISE_MS, accepted_of

SURVIVORS_MAX = 500
"""Journal entries looked at, and purchases published, in one go."""
DRAIN_LOOK_MS = 50
"""Between two looks at how far the barriers have come: short beside a buyer's patience."""
DRAIN_LOST_MS = 1_000
"""Between two looks whether other gates are lost meanwhile, during a drain that lasts."""
DRAIN_ALARM_MS = 30_000
"""A drain that takes longer has partitions that no worker takes; a person must look."""


class Rebuild:
    """Finds gates that are lost and brings all of them to life together."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        catalogue: SaleCatalogue,
        gate: StockGate,
        bus: EventBus,
        rebuilds: Rebuilds,
        observer: Observer,
        clock: Clock,
        wait: Callable[[int], Awaitable[None]],
        new_id: Callable[[], str],
    ) -> None:
        """Take the ports, what waits so many milliseconds, and what makes a rebuild's id."""
        self._board = board
        self._catalogue = catalogue
        self._gate = gate
        self._bus = bus
        self._rebuilds = rebuilds
        self._observer = observer
        self._clock = clock
        self._wait = wait
        self._new_id = new_id

    async def heal(self) -> list[Sale]:
        """Look at every unsettled sale's gate; answer those that were brought to life.

        Nothing is done for a gate that does not answer: it may come back as it was. Raises
        Unavailable when something needed is away; the next call begins anew.
        """
        await self._catalogue_is_listed()
        if not await self._lost(self._board.unsettled()):
            return []
        async with self._rebuilds.alone() as is_mine:
            if not is_mine:
                return []
            # Another rebuild may have ended a moment ago.
            await self._board.refresh()
            lost = await self._lost(self._board.unsettled())
            adopted = await self._gate.adopt([(sale.sale_id, sale.epoch) for sale in lost])
            lost = [one for one, is_armed in zip(lost, adopted, strict=True) if not is_armed]
            return await self._first_lives(lost) + await self._next_lives(
                [sale for sale in lost if sale.armed_epoch > 0]
            )

    async def replace(self, sale_ids: Sequence[SaleId]) -> list[Sale]:
        """Begin another life of these sales' gates, lost or not: an operator wants it.

        Raises Conflict("unknown-sale"), and Conflict("rebuild-runs") while another one is at work.
        """
        async with self._rebuilds.alone() as is_mine:
            if not is_mine:
                raise Conflict("rebuild-runs", "another rebuild is at work; look again soon")
            await self._board.refresh()
            listed = {sale.sale_id: sale for sale in self._board.unsettled()}
            unknown = sorted(set(sale_ids) - set(listed))
            if unknown:
                raise Conflict("unknown-sale", f"no unsettled sale {', '.join(unknown)}")
            return await self._next_lives([listed[sale_id] for sale_id in sale_ids])

    async def _catalogue_is_listed(self) -> None:
        """Read the list in a process that has none yet."""
        if not self._board.unsettled():
            await self._board.refresh()

    async def _lost(self, sales: Sequence[Sale]) -> list[Sale]:
        books = await self._gate.books([(sale.sale_id, sale.epoch) for sale in sales])
        return [
            sale
            for sale, seen in zip(sales, books, strict=True)
            if isinstance(seen, Unavailable) and seen.why is Why.NOT_ARMED
        ]

    async def _first_lives(self, lost: Sequence[Sale]) -> list[Sale]:
        """Arm what was never armed, as `init` does: nobody can hold a promise of it."""
        new = [sale for sale in lost if sale.armed_epoch == 0]
        return [armed for sale in new if (armed := await self._armed(sale)) is not None]

    async def _next_lives(self, lost: Sequence[Sale]) -> list[Sale]:
        if not lost:
            return []
        began_ms = self._clock.monotonic_ms()
        raised = [await self._catalogue.raise_epoch(sale.sale_id) for sale in lost]
        later_ms = await self._gate.disarm([(sale.sale_id, sale.epoch) for sale in raised])
        # Every process has read the list again by then, and what was asked before is answered.
        await self._wait(REFRESH_MS + PROMISE_MS + later_ms)
        for sale in raised:
            await self._publish_survivors(sale.sale_id)
        if lost_meanwhile := await self._drain(raised):
            # What they promised holds up the partitions, until their next life has begun too.
            return await self._next_lives([*raised, *lost_meanwhile])
        alive = [armed for sale in raised if (armed := await self._armed(sale)) is not None]
        seconds = (self._clock.monotonic_ms() - began_ms) / 1_000
        self._observer.batch("rebuild", len(alive), seconds)
        await self._board.refresh()
        return alive

    async def _publish_survivors(self, sale_id: SaleId) -> None:
        """Publish what the lost gate still knows as taken and never heard a confirm of.

        Nobody was promised it, but its buyer was told that it may go through.
        """
        skip = 0
        while True:
            records = await self._gate.survivors(sale_id, skip=skip, limit=SURVIVORS_MAX)
            if records is None:
                return
            skip += SURVIVORS_MAX
            by_epoch: dict[Epoch, list[GateRecord]] = {}
            for record in records:
                by_epoch.setdefault(record.epoch, []).append(record)
            for epoch, of_epoch in by_epoch.items():
                purchases = tuple(accepted_of(record) for record in of_epoch)
                await self._bus.publish(
                    [PurchasesAccepted(sale_id=sale_id, epoch=epoch, purchases=purchases)]
                )

    async def _drain(self, raised: Sequence[Sale]) -> list[Sale]:
        """Wait until all that was published before now is in the database.

        Answers at once with sales whose gates are lost meanwhile: nobody takes what waits for them.
        """
        rebuild_id = self._new_id()
        epochs = tuple((sale.sale_id, sale.epoch) for sale in raised)
        partitions = await self._bus.barrier(Barrier(rebuild_id=rebuild_id, epochs=epochs))
        began_ms = told_ms = looked_ms = self._clock.monotonic_ms()
        while len(passed := await self._rebuilds.passed(rebuild_id)) < partitions:
            now_ms = self._clock.monotonic_ms()
            if now_ms - told_ms >= DRAIN_ALARM_MS:
                told_ms = now_ms
                missing = sorted(set(range(partitions)) - passed)
                self._observer.alarm(
                    Alarm.REBUILD_WAITS,
                    partitions=",".join(map(str, missing)),
                    seconds=int((now_ms - began_ms) / 1_000),
                )
                await self._stop_if_over(raised)
            if now_ms - looked_ms >= DRAIN_LOST_MS:
                looked_ms = now_ms
                if also := await self._also_lost(raised):
                    return also
            await self._wait(DRAIN_LOOK_MS)
        return []

    async def _also_lost(self, raised: Sequence[Sale]) -> list[Sale]:
        """Find the sales beside these that sold, and can no longer."""
        known = {sale.sale_id for sale in raised}
        try:
            await self._board.refresh()
            beside = [sale for sale in self._board.unsettled() if sale.sale_id not in known]
            return [sale for sale in await self._lost(beside) if sale.armed_epoch > 0]
        except Unavailable:
            return []  # A drain needs neither; the next look may tell.

    async def _stop_if_over(self, raised: Sequence[Sale]) -> None:
        """Give up where another rebuild has begun: its barriers are the ones that count."""
        for sale in raised:
            now = await self._catalogue.get(sale.sale_id)
            if now is None or now.epoch != sale.epoch:
                raise StaleEpoch(f"{sale.sale_id}: another rebuild has begun")

    async def _armed(self, sale: Sale) -> Sale | None:
        """Load and arm one sale; one that will not load keeps no other from selling."""
        try:
            armed = await arm_from_database(self._catalogue, self._gate, sale)
            return await resumable(self._catalogue, self._gate, armed)
        except StaleEpoch:
            return None  # Another rebuild has begun; it ends what this one began.
        except Corrupt as wrong:
            self._observer.alarm(
                Alarm.REBUILD_FAILED, sale_id=sale.sale_id, reason=wrong.code, detail=wrong.detail
            )
            return None
