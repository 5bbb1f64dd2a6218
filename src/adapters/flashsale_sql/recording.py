"""The one transaction that records a batch: orders, payments, facts, then the sales, last.

Every step locks in one order for everybody: orders in ascending (sale, id), then (for unknown
items) the items' advisory locks, then sales in ascending id. The sales rows, which all batches of
a sale meet, are held the shortest.

When a sale turns out to have fewer units than the gate handed out, its rows of this batch are
there already, as CONFIRMED. They are changed after the sales are locked, which keeps the order all
the same: nobody else can see or wait for rows that this very transaction wrote.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

import attrs
from sqlalchemy import BigInteger, Text, bindparam, delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import StaleEpoch
from flashsale_core.model import OrderStatus, PurchaseId, Reason, SaleId, SaleState
from flashsale_core.ports import Decision, Standing
from flashsale_sql.dialects import Dialect, item_key
from flashsale_sql.facts import COLUMNS, row_of
from flashsale_sql.fences import Fences, Held, lock_sales
from flashsale_sql.filing import file_payments, forget_payments
from flashsale_sql.schema import now, orders, outbox, sales

Key = tuple[SaleId, PurchaseId]

_key_of = attrgetter("sale_id", "purchase_id")
_ORDER_COLUMNS = (
    "sale_id",
    "purchase_id",
    "item_id",
    "user_id",
    "quantity",
    "source",
    "event_id",
    "door",
    "requested_at",
    "accepted_at",
    "status",
    "reason",
)
_LOCK_ITEMS = text(
    "select pg_advisory_xact_lock_shared(key) from unnest(cast(:keys as bigint[])) as key"
)
_TAKE_UNITS = (
    update(sales)
    .where(sales.c.sale_id == bindparam("of_sale", type_=Text))
    .values(
        available=sales.c.available - bindparam("units", type_=BigInteger),
        sold=sales.c.sold + bindparam("units", type_=BigInteger),
    )
)
_TAKE_UNITS_PENDING = (
    update(sales)
    .where(sales.c.sale_id == bindparam("of_sale", type_=Text))
    .values(
        available=sales.c.available - bindparam("units", type_=BigInteger),
        pending=sales.c.pending + bindparam("units", type_=BigInteger),
    )
)
_REJECT = (
    update(orders)
    .where(
        orders.c.sale_id == bindparam("of_sale", type_=Text),
        orders.c.purchase_id == bindparam("of_purchase", type_=Text),
    )
    .values(status=OrderStatus.REJECTED.value, reason=Reason.GATE_DRIFT.value)
)


@attrs.frozen(kw_only=True)
class _Taken:
    """Units by sale, for the column that they go to."""

    sold: Counter[SaleId] = attrs.field(factory=Counter)
    pending: Counter[SaleId] = attrs.field(factory=Counter)


class Recording:
    """The statements of recording, for one database."""

    def __init__(self, dialect: Dialect) -> None:
        """Read the statements' files."""
        self._dialect = dialect
        self._insert_orders = dialect.statement("insert_orders")
        self._insert_facts = dialect.statement("insert_facts")
        self._standing = dialect.statement("standing")

    async def record(
        self,
        connection: AsyncConnection,
        decisions: Sequence[Decision],
        fences: Fences,
    ) -> list[Standing]:
        """Record a batch in the connection's transaction; see `OrderRepository.record`."""
        at_ms: int = (await connection.execute(select(now()))).scalar_one()
        written = await self._write_orders(connection, decisions, at_ms)
        keys = list(map(_key_of, decisions))
        new = [decision for key, decision in zip(keys, decisions, strict=True) if key in written]
        reasons = {_key_of(decision): decision.reason for decision in new}
        old = [key for key in keys if key not in written]
        standing = await self.standing(connection, old)
        unpaid = [decision for decision in new if decision.awaits_payment]
        await file_payments(connection, unpaid, at_ms)
        final = [decision for decision in new if not decision.awaits_payment]
        await self._write_facts(connection, final, reasons, at_ms)
        await self._refuse_known_items(connection, new)
        await self._take_units(connection, new, reasons, fences, at_ms)
        return [
            _new(one, reasons[key]) if key in reasons else standing[key]
            for key, one in zip(keys, decisions, strict=True)
        ]

    async def standing(
        self, connection: AsyncConnection, keys: Sequence[Key]
    ) -> dict[Key, Standing]:
        """Read the rows that stand."""
        if not keys:
            return {}
        given = self._dialect.as_parameters(("sale_id", "purchase_id"), keys)
        found = await connection.execute(self._standing, given)
        return {
            (row.sale_id, row.purchase_id): Standing(
                sale_id=row.sale_id,
                purchase_id=row.purchase_id,
                status=OrderStatus(row.status),
                reason=row.reason,
                is_new=False,
            )
            for row in found
        }

    async def _write_orders(
        self, connection: AsyncConnection, decisions: Iterable[Decision], at_ms: int
    ) -> set[Key]:
        rows = [_row(decision) for decision in sorted(decisions, key=_key_of)]
        given = self._dialect.as_parameters(_ORDER_COLUMNS, rows)
        written = await connection.execute(self._insert_orders, {**given, "recorded_at": at_ms})
        return self._dialect.keys_of(written)

    async def _write_facts(
        self,
        connection: AsyncConnection,
        new: Iterable[Decision],
        reasons: Mapping[Key, str | None],
        at_ms: int,
    ) -> None:
        rows = [row_of(one, reasons[_key_of(one)], at_ms) for one in new]
        if rows:
            given = self._dialect.as_parameters(COLUMNS, rows)
            await connection.execute(self._insert_facts, {**given, "written_at": at_ms})

    async def _refuse_known_items(
        self, connection: AsyncConnection, new: Iterable[Decision]
    ) -> None:
        """Let UNKNOWN_ITEM commit only while no sale of the item is there, nor being made."""
        items = {one.item_id for one in new if one.reason == Reason.UNKNOWN_ITEM}
        if not items:
            return
        if self._dialect.has_advisory_locks:
            await connection.execute(_LOCK_ITEMS, {"keys": sorted(map(item_key, items))})
        known = await connection.scalar(select(sales.c.item_id).where(sales.c.item_id.in_(items)))
        if known is not None:
            raise StaleEpoch(f"item {known} has a sale by now")

    async def _take_units(
        self,
        connection: AsyncConnection,
        new: Sequence[Decision],
        reasons: dict[Key, str | None],
        fences: Fences,
        at_ms: int,
    ) -> None:
        accepted = [one for one in new if one.reason is None]
        held = await lock_sales(connection, {*fences.epochs, *(one.sale_id for one in accepted)})
        fences.check(held, {one.sale_id for one in new})
        taken, misfits = _fit(accepted, held)
        if misfits:
            await self._reject(connection, misfits, reasons, at_ms)
        for statement, units in ((_TAKE_UNITS, taken.sold), (_TAKE_UNITS_PENDING, taken.pending)):
            given = [{"of_sale": sale_id, "units": units[sale_id]} for sale_id in sorted(units)]
            if given:
                await connection.execute(statement, given)

    async def _reject(
        self,
        connection: AsyncConnection,
        misfits: Sequence[Decision],
        reasons: dict[Key, str | None],
        at_ms: int,
    ) -> None:
        """Make of this transaction's own rows what the units left say, and stop their sales."""
        wrong = [row_of(one, None, at_ms)[0] for one in misfits]
        reasons.update((_key_of(one), Reason.GATE_DRIFT.value) for one in misfits)
        await connection.execute(
            _REJECT, [{"of_sale": one.sale_id, "of_purchase": one.purchase_id} for one in misfits]
        )
        await connection.execute(delete(outbox).where(outbox.c.occurrence_id.in_(wrong)))
        await forget_payments(connection, misfits)
        await self._write_facts(connection, misfits, reasons, at_ms)
        halted = {one.sale_id for one in misfits}
        await connection.execute(
            update(sales)
            .where(
                sales.c.sale_id.in_(halted),
                sales.c.state.not_in([SaleState.HALTED.value, SaleState.SETTLED.value]),
            )
            .values(state=SaleState.HALTED.value, state_since=at_ms)
        )


def _fit(
    accepted: Iterable[Decision], held: Mapping[SaleId, Held]
) -> tuple[_Taken, list[Decision]]:
    """Hand out what is left in the batch's order; a sale that is not there has nothing."""
    left = {sale_id: row.available for sale_id, row in held.items()}
    taken, misfits = _Taken(), []
    for one in accepted:
        if one.quantity > left.get(one.sale_id, 0):
            misfits.append(one)
            continue
        left[one.sale_id] -= one.quantity
        column = taken.pending if one.awaits_payment else taken.sold
        column[one.sale_id] += one.quantity
    return taken, misfits


def _status(decision: Decision, reason: str | None) -> OrderStatus:
    if reason is not None:
        return OrderStatus.REJECTED
    return OrderStatus.PENDING_PAYMENT if decision.awaits_payment else OrderStatus.CONFIRMED


def _row(decision: Decision) -> tuple[object, ...]:
    return (
        decision.sale_id,
        decision.purchase_id,
        decision.item_id,
        decision.user_id,
        decision.quantity,
        decision.source,
        decision.event_id,
        decision.door,
        decision.requested_at_ms,
        # Zero says that nothing was ever accepted; 1970 would be a lie to whoever reads the table.
        decision.accepted_at_ms or None,
        _status(decision, decision.reason),
        decision.reason,
    )


def _new(decision: Decision, reason: str | None) -> Standing:
    return Standing(
        sale_id=decision.sale_id,
        purchase_id=decision.purchase_id,
        status=_status(decision, reason),
        reason=reason,
        is_new=True,
    )
