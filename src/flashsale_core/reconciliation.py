"""Compares what the gate holds with what the database holds, purchase by purchase.

Safe while purchases are in flight: the database is read first, then the gate, and what they say
differently is only suspected. A difference of the same kind at the same purchase, seen SIGHTINGS
times in a row with a pause in between, is none of those that work in progress makes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import attrs

from flashsale_core.arming import expected_books
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Unavailable
from flashsale_core.model import (
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    Reason,
    Sale,
    SaleId,
)
from flashsale_core.ports import Alarm, GateBooks, Observer, SaleCatalogue, StockGate

SIGHTINGS = 3
"""A batch commits before the gate follows, and a second look may meet the next batch; what is
still so at the third is no work in progress."""
PAGE = 1_000
"""Records read from the gate by one call: short enough that a single-threaded gate stays quick."""
TOLD_MAX = 10
"""Purchases that one alarm names; the command names them all."""


class DriftKind(StrEnum):
    """How gate and database contradict each other about one purchase."""

    UNKNOWN_TO_GATE = "unknown-to-gate"
    """A row stands that the gate never heard of: it may sell the units again."""
    ENDED_IN_GATE = "ended-in-gate"
    """The row holds units that the gate has given back: it may sell them again."""
    SOLD_WITHOUT_ROW = "sold-without-row"
    """The gate counts units as sold that no row has: they are lost to the sale."""
    HELD_AFTER_END = "held-after-end"
    """The row is REJECTED and the gate still holds its units."""
    NOT_FOLLOWED = "not-followed"
    """The row is CONFIRMED and the gate still waits for it: harmless, and the sweeper's to mend."""
    OTHER_UNITS = "other-units"
    """Both know the purchase, with another quantity or user."""


@attrs.frozen(kw_only=True)
class Drift:
    """One purchase about which gate and database do not agree."""

    sale_id: SaleId
    purchase_id: PurchaseId
    kind: DriftKind
    units: int
    sightings: int = 1
    """How often in a row it was seen."""

    @property
    def is_certain(self) -> bool:
        """Say whether work in progress can be ruled out."""
        return self.sightings >= SIGHTINGS


@attrs.frozen(kw_only=True)
class Comparison:
    """One sale, compared once. `gate` is None, and nothing compared, while it is not armed."""

    sale: Sale
    database: GateBooks
    """What a gate that is loaded now would hold; purchases in flight would come to it."""
    gate: GateBooks | None
    problem: str | None = None
    drifts: tuple[Drift, ...] = ()

    @property
    def certain(self) -> tuple[Drift, ...]:
        """Leave out what may be work in progress."""
        return tuple(drift for drift in self.drifts if drift.is_certain)


Key = tuple[SaleId, Epoch, PurchaseId, DriftKind]


class Reconciler:
    """Compares all unsettled sales, again and again, and remembers what it saw."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        catalogue: SaleCatalogue,
        gate: StockGate,
        observer: Observer,
        tell: Callable[[Mapping[SaleId, int]], None] = lambda _: None,
    ) -> None:
        """Take the ports; `tell` hears how many purchases of each sale differ for certain."""
        self._board = board
        self._catalogue = catalogue
        self._gate = gate
        self._observer = observer
        self._tell = tell
        self._seen: dict[Key, int] = {}

    async def compare(self) -> list[Comparison]:
        """Compare every unsettled sale once; an alarm names what has become certain just now.

        Raises Unavailable when the database or every gate is away; what was seen stays seen.
        """
        sales = self._board.unsettled()
        compared = [await self._compare_one(sale) for sale in sales]
        found = {_key(one.sale, drift): drift for one in compared for drift in one.drifts}
        self._seen = {key: drift.sightings for key, drift in found.items()}
        for one in compared:
            self._alarm([drift for drift in one.drifts if drift.sightings == SIGHTINGS])
        self._tell({one.sale.sale_id: len(one.certain) for one in compared})
        return compared

    async def _compare_one(self, sale: Sale) -> Comparison:
        # The database first: a row that is read is known to the gate, or never will be.
        books = await self._catalogue.read_books(sale.sale_id)
        expected = expected_books(books)
        [counts] = await self._gate.books([(sale.sale_id, sale.epoch)])
        held = await self._held(sale)
        if isinstance(counts, Unavailable) or isinstance(held, Unavailable):
            away = counts if isinstance(counts, Unavailable) else held
            return Comparison(sale=sale, database=expected, gate=None, problem=str(away))
        drifts = (
            attrs.evolve(drift, sightings=self._seen.get(_key(sale, drift), 0) + 1)
            for drift in _drifts(sale.sale_id, books.records, held)
        )
        return Comparison(sale=sale, database=expected, gate=counts, drifts=tuple(drifts))

    async def _held(self, sale: Sale) -> dict[PurchaseId, GateRecord] | Unavailable:
        held: dict[PurchaseId, GateRecord] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = await self._gate.records(sale.sale_id, sale.epoch, cursor=cursor, limit=PAGE)
            if isinstance(page, Unavailable):
                return page
            held.update((record.purchase_id, record) for record in page.records)
            cursor = page.next_cursor
        return held

    def _alarm(self, fresh: Sequence[Drift]) -> None:
        if not fresh:
            return
        self._observer.alarm(
            Alarm.BOOKS_DRIFT,
            sale_id=fresh[0].sale_id,
            purchases=len(fresh),
            units=sum(drift.units for drift in fresh),
            kinds=",".join(sorted({drift.kind.value for drift in fresh})),
            first=",".join(drift.purchase_id for drift in fresh[:TOLD_MAX]),
        )


def _key(sale: Sale, drift: Drift) -> Key:
    return sale.sale_id, sale.epoch, drift.purchase_id, drift.kind


def _drifts(
    sale_id: SaleId, rows: Iterable[GateRecord], held: Mapping[PurchaseId, GateRecord]
) -> Iterable[Drift]:
    """Compare by id. What the gate alone holds is in flight; what it alone has SOLD is not."""
    known = set()
    for row in rows:
        known.add(row.purchase_id)
        kind = _contradiction(row, held.get(row.purchase_id))
        if kind is not None:
            yield Drift(sale_id=sale_id, purchase_id=row.purchase_id, kind=kind, units=row.quantity)
    for record in held.values():
        if record.state is PurchaseState.SOLD and record.purchase_id not in known:
            yield Drift(
                sale_id=sale_id,
                purchase_id=record.purchase_id,
                kind=DriftKind.SOLD_WITHOUT_ROW,
                units=record.quantity,
            )


def _contradiction(row: GateRecord, record: GateRecord | None) -> DriftKind | None:
    """Judge one purchase that has a row, written as the gate would be loaded from it."""
    ended = row.state is PurchaseState.ENDED
    if record is None:
        # A REJECTED row without a record holds nothing: a retry would be judged anew and meet it.
        return None if ended else DriftKind.UNKNOWN_TO_GATE
    if record.state is PurchaseState.ENDED:
        return None if ended else DriftKind.ENDED_IN_GATE
    if ended:
        # What the database refused stays held: only a rebuild may trust those units again.
        return None if row.reason == Reason.GATE_DRIFT else DriftKind.HELD_AFTER_END
    if (record.quantity, record.user_id) != (row.quantity, row.user_id):
        return DriftKind.OTHER_UNITS
    if row.state is PurchaseState.SOLD and record.state is not PurchaseState.SOLD:
        return DriftKind.NOT_FOLLOWED
    return None
