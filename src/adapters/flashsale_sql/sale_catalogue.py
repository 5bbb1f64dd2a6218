"""The sales and their terms; one unsettled sale per item."""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import RowMapping, Select, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.errors import Conflict, Corrupt
from flashsale_core.events import ParkedStatus
from flashsale_core.model import (
    Epoch,
    GateRecord,
    ItemId,
    OrderStatus,
    PurchaseState,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    sale_id_of,
)
from flashsale_core.ports import SaleBooks, SaleCatalogue
from flashsale_sql.dialects import item_key
from flashsale_sql.schema import from_now, now, orders, parked_messages, sales
from flashsale_sql.transactions import Transactions

BOOKS_CHUNK = 5_000
"""Rows of the books fetched at once: about a megabyte, beside the records that are kept anyway."""

_LOCK_ITEM = text("select pg_advisory_xact_lock(cast(:key as bigint))")
_UNSETTLED_PARKED = (
    ParkedStatus.WAITING.value,
    ParkedStatus.RETRYING.value,
    ParkedStatus.DEAD.value,
)
_STATE_OF_ROW = {
    OrderStatus.PENDING_PAYMENT.value: PurchaseState.QUEUED,
    OrderStatus.CONFIRMED.value: PurchaseState.SOLD,
    OrderStatus.REJECTED.value: PurchaseState.ENDED,
}


class SqlSaleCatalogue:
    """The table `sales`."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions

    async def current(self) -> list[Sale]:
        """List the latest sale of every item."""
        later = sales.alias("later")
        latest = (
            select(func.max(later.c.round))
            .where(later.c.item_id == sales.c.item_id)
            .scalar_subquery()
        )
        query = select(sales).where(sales.c.round == latest).order_by(sales.c.sale_id)

        async def work(connection: AsyncConnection) -> list[Sale]:
            return [_sale(row) for row in (await connection.execute(query)).mappings()]

        return await self._transactions.read(work)

    async def get(self, sale_id: SaleId) -> Sale | None:
        """Read one sale."""

        async def work(connection: AsyncConnection) -> Sale | None:
            return await _one(connection, select(sales).where(sales.c.sale_id == sale_id))

        return await self._transactions.read(work)

    async def create(self, item_id: ItemId, terms: SaleTerms) -> Sale:
        """Make the item's next sale, or return its unsettled one when the terms are the same."""

        async def work(connection: AsyncConnection) -> Sale:
            if self._transactions.dialect.has_advisory_locks:
                await connection.execute(_LOCK_ITEM, {"key": item_key(item_id)})
            of_item = select(sales).where(sales.c.item_id == item_id)
            last = await _one(connection, of_item.order_by(sales.c.round.desc()).limit(1))
            if last is None or last.state is SaleState.SETTLED:
                round_ = 1 if last is None else last.round + 1
                return await _insert(connection, item_id, round_, terms)
            if last.terms != terms:
                raise Conflict(
                    "other-terms",
                    f"item {item_id} is being sold by {last.sale_id} under other terms; "
                    f"close and settle that sale before the next one",
                )
            return last

        return await self._transactions.write(work)

    async def change_state(
        self, sale_id: SaleId, to: SaleState, *, expected: Sequence[SaleState]
    ) -> Sale:
        """Move a sale to another state, by a conditional update; the same state is a no-op."""
        move = (
            update(sales)
            .where(sales.c.sale_id == sale_id, sales.c.state.in_([one.value for one in expected]))
            .where(sales.c.state != to.value)
            .values(state=to.value, state_since=now())
            .returning(sales)
        )

        async def work(connection: AsyncConnection) -> Sale:
            moved = (await connection.execute(move)).mappings().one_or_none()
            if moved is not None:
                return _sale(moved)
            sale = await _known(connection, sale_id)
            if sale.state is not to:
                raise Conflict(
                    "wrong-state",
                    f"{sale_id} is {sale.state.value}; only a sale that is "
                    f"{' or '.join(one.value for one in expected)} can become {to.value}",
                )
            return sale

        return await self._transactions.write(work)

    async def settled(self, *, after_ms: int, until_ms: int) -> list[SaleId]:
        """List the sales that have been SETTLED for at least `after_ms`, and not for `until_ms`."""
        query = (
            select(sales.c.sale_id)
            .where(sales.c.state == SaleState.SETTLED.value)
            .where(sales.c.state_since <= from_now(-after_ms))
            .where(sales.c.state_since > from_now(-until_ms))
            .order_by(sales.c.sale_id)
        )

        async def work(connection: AsyncConnection) -> list[SaleId]:
            return [SaleId(one) for one in (await connection.execute(query)).scalars()]

        return await self._transactions.read(work)

    async def raise_epoch(self, sale_id: SaleId) -> Sale:
        """Begin the next life of the sale's gate."""
        return await self._change(sale_id, epoch=sales.c.epoch + 1)

    async def _change(self, sale_id: SaleId, **values: object) -> Sale:
        async def work(connection: AsyncConnection) -> Sale:
            return await _set(connection, sale_id, **values)

        return await self._transactions.write(work)

    async def books(self, sale_id: SaleId) -> SaleBooks:
        """Lock the sale's row, set `armed_epoch = epoch`, read it all in the same transaction."""

        async def work(connection: AsyncConnection) -> SaleBooks:
            # The update locks the row: a batch that is under way either committed before, and is
            # read below, or comes after and meets the epoch that this reader believes in.
            sale = await _set(connection, sale_id, armed_epoch=sales.c.epoch)
            records = [record async for record in _records(connection, sale_id)]
            return SaleBooks(sale=sale, records=tuple(records))

        return await self._transactions.write(work)


async def _insert(
    connection: AsyncConnection, item_id: ItemId, round_: int, terms: SaleTerms
) -> Sale:
    made = await connection.execute(
        insert(sales)
        .values(
            sale_id=sale_id_of(item_id, round_),
            item_id=item_id,
            round=round_,
            state=SaleState.OPEN.value,
            initial=terms.units,
            available=terms.units,
            pending=0,
            sold=0,
            per_user_limit=terms.per_user_limit,
            opens_at=terms.opens_at_ms,
            closes_at=terms.closes_at_ms,
            unit_price_minor=terms.unit_price_minor,
            currency=terms.currency,
            epoch=1,
            armed_epoch=0,
            created_at=now(),
            state_since=now(),
        )
        .returning(sales)
    )
    return _sale(made.mappings().one())


async def _set(connection: AsyncConnection, sale_id: SaleId, **values: object) -> Sale:
    change = update(sales).where(sales.c.sale_id == sale_id).values(**values).returning(sales)
    changed = (await connection.execute(change)).mappings().one_or_none()
    if changed is None:
        raise _unknown(sale_id)
    return _sale(changed)


async def _one(connection: AsyncConnection, query: Select[tuple[object, ...]]) -> Sale | None:
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else _sale(row)


async def _known(connection: AsyncConnection, sale_id: SaleId) -> Sale:
    sale = await _one(connection, select(sales).where(sales.c.sale_id == sale_id))
    if sale is None:
        raise _unknown(sale_id)
    return sale


def _unknown(sale_id: SaleId) -> Conflict:
    return Conflict("unknown-sale", f"no sale {sale_id} was ever made")


async def _records(connection: AsyncConnection, sale_id: SaleId) -> AsyncIterator[GateRecord]:
    """Read rows and parked units chunk by chunk, so that no more than the records is kept."""
    rows = await connection.stream(
        select(
            orders.c.purchase_id,
            orders.c.status,
            orders.c.user_id,
            orders.c.quantity,
            orders.c.reason,
        ).where(orders.c.sale_id == sale_id),
        execution_options={"yield_per": BOOKS_CHUNK},
    )
    seen = set()
    async for purchase_id, status, user_id, quantity, reason in rows:
        seen.add(purchase_id)
        yield GateRecord(
            purchase_id=purchase_id,
            state=_STATE_OF_ROW[status],
            user_id=user_id,
            quantity=quantity,
            reason=reason,
        )
    for record in await _parked_units(connection, sale_id):
        # One that was parked while its row was written stands by the row.
        if record.purchase_id not in seen:
            seen.add(record.purchase_id)
            yield record


async def _parked_units(connection: AsyncConnection, sale_id: SaleId) -> list[GateRecord]:
    columns = parked_messages.c
    parked = await connection.execute(
        select(columns.parked_id, columns.purchase_id, columns.user_id, columns.quantity)
        .where(columns.sale_id == sale_id, columns.holds_unit)
        .where(columns.status.in_(_UNSETTLED_PARKED))
        .order_by(columns.parked_id)
    )
    records = []
    for parked_id, purchase_id, user_id, quantity in parked:
        if purchase_id is None or user_id is None or quantity is None:
            raise Corrupt(
                "unit-unnamed",
                f"parked message {parked_id} holds a unit of {sale_id} and does not say whose",
            )
        records.append(
            GateRecord(
                purchase_id=purchase_id,
                state=PurchaseState.QUEUED,
                user_id=user_id,
                quantity=quantity,
            )
        )
    return records


def _sale(row: RowMapping) -> Sale:
    return Sale(
        item_id=row["item_id"],
        round=row["round"],
        terms=SaleTerms(
            units=row["initial"],
            per_user_limit=row["per_user_limit"],
            opens_at_ms=row["opens_at"],
            closes_at_ms=row["closes_at"],
            unit_price_minor=row["unit_price_minor"],
            currency=row["currency"],
        ),
        state=SaleState(row["state"]),
        epoch=Epoch(row["epoch"]),
        armed_epoch=Epoch(row["armed_epoch"]),
        available=row["available"],
        pending=row["pending"],
        sold=row["sold"],
    )


_: type[SaleCatalogue] = SqlSaleCatalogue
