"""The charges of PENDING_PAYMENT rows.

A row says when it is due and who holds it; what is charged stands in the order's row alone. Locks:
the payment, its order, the outbox, its sale, in this order; nobody who holds a sale waits for an
order or a payment.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.charges import (
    Charge,
    Charged,
    Declined,
    DuePayment,
    FlaggedPayment,
    PaymentCounts,
)
from flashsale_core.model import Epoch, OrderStatus, PurchaseId, Reason, SaleId
from flashsale_core.occurrence import payment_event, payment_key
from flashsale_core.ports import Payments, Settled, Standing
from flashsale_sql.facts import COLUMNS, to_json
from flashsale_sql.filing import State
from flashsale_sql.rows import order_of
from flashsale_sql.schema import from_now, now, orders, payments, sales
from flashsale_sql.transactions import Transactions

_OPEN = (State.PENDING.value, State.FLAGGED.value)
_OF_ORDER = and_(
    orders.c.sale_id == payments.c.sale_id, orders.c.purchase_id == payments.c.purchase_id
)


class SqlPayments:
    """The table `payments`."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions
        self._insert_facts = transactions.dialect.statement("insert_facts")

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePayment]:
        """Take due payments, the oldest first; others skip what is locked."""
        free = (
            select(payments.c.sale_id, payments.c.purchase_id)
            .where(payments.c.state == State.PENDING.value, payments.c.due_at <= now())
            .where(or_(payments.c.leased_until.is_(None), payments.c.leased_until <= now()))
            .order_by(payments.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
            # A subquery could be run more than once and lock more than the limit; this runs once.
            .cte("free")
        )
        claim = (
            update(payments)
            .where(
                tuple_(payments.c.sale_id, payments.c.purchase_id).in_(
                    select(free.c.sale_id, free.c.purchase_id)
                )
            )
            .values(
                attempt=payments.c.attempt + 1,
                asked_since=func.coalesce(payments.c.asked_since, now()),
                leased_until=from_now(lease_ms),
                changed_at=now(),
            )
            .returning(payments.c.sale_id, payments.c.purchase_id)
        )

        async def work(connection: AsyncConnection) -> list[DuePayment]:
            keys = [tuple(row) for row in await connection.execute(claim)]
            if not keys:
                return []
            mine = tuple_(payments.c.sale_id, payments.c.purchase_id).in_(keys)
            read = (
                select(payments, orders.c.unit_price_minor, orders.c.currency, orders.c.quantity)
                .add_columns(now().label("now_ms"))
                .join(orders, _OF_ORDER)
                .where(mine)
                .order_by(payments.c.due_at)
            )
            return [_due(row) for row in (await connection.execute(read)).mappings()]

        return await self._transactions.write(work)

    async def settle(self, due: DuePayment, end: Charged | Declined) -> Settled | None:
        """End it: payment, row, event and units in one transaction."""
        is_sold = isinstance(end, Charged)
        values: dict[str, Any] = {"state": State.DECLINED.value, "payment_token": None}
        if isinstance(end, Charged):
            values |= {"state": State.CHARGED.value, "reference": end.reference, "detail": ""}
        else:
            values |= {"detail": end.reason}

        async def work(connection: AsyncConnection) -> Settled | None:
            if not await _store(connection, due, **values):
                return None
            return await self._finish(connection, due, is_sold=is_sold)

        return await self._transactions.write(work)

    async def _finish(
        self, connection: AsyncConnection, due: DuePayment, *, is_sold: bool
    ) -> Settled:
        reason = None if is_sold else Reason.PAYMENT_DECLINED.value
        status = OrderStatus.CONFIRMED if is_sold else OrderStatus.REJECTED
        charge = due.charge
        ended = await connection.execute(
            update(orders)
            .where(
                orders.c.sale_id == charge.sale_id,
                orders.c.purchase_id == charge.purchase_id,
                orders.c.status == OrderStatus.PENDING_PAYMENT.value,
            )
            .values(status=status.value, reason=reason)
            .returning(orders)
        )
        # A payment that is open has a pending row: both are written and ended together.
        order = order_of(ended.mappings().one())
        at_ms: int = (await connection.execute(select(now()))).scalar_one()
        fact = payment_event(order, reason, at_ms, due.traceparent)
        rows = [(fact.occurrence_id, to_json(fact))]
        given = self._transactions.dialect.as_parameters(COLUMNS, rows)
        await connection.execute(self._insert_facts, {**given, "written_at": at_ms})
        column = sales.c.sold if is_sold else sales.c.available
        epoch = await connection.scalar(
            update(sales)
            .where(sales.c.sale_id == order.sale_id)
            .values(
                {
                    sales.c.pending: sales.c.pending - order.quantity,
                    column: column + order.quantity,
                }
            )
            .returning(sales.c.epoch)
        )
        standing = Standing(
            sale_id=order.sale_id,
            purchase_id=order.purchase_id,
            status=status,
            reason=reason,
            is_new=True,
        )
        return Settled(standing=standing, epoch=Epoch(epoch))

    async def postpone(self, due: DuePayment, retry_in_ms: int, detail: str) -> bool:
        """Give it back, due again later."""
        return await self._change(
            due, due_at=from_now(retry_in_ms), leased_until=None, detail=detail
        )

    async def flag(self, due: DuePayment, detail: str) -> bool:
        """Leave it to a person."""
        return await self._change(due, state=State.FLAGGED.value, detail=detail)

    async def _change(self, due: DuePayment, **values: object) -> bool:
        return await self._transactions.write(
            lambda connection: _store(connection, due, **values),
        )

    async def flagged(self, limit: int) -> list[FlaggedPayment]:
        """List what waits for a person, the oldest first."""
        query = (
            select(payments, orders.c.unit_price_minor, orders.c.currency, orders.c.quantity)
            .join(orders, _OF_ORDER)
            .where(payments.c.state == State.FLAGGED.value)
            .order_by(payments.c.made_at, payments.c.sale_id, payments.c.purchase_id)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> list[FlaggedPayment]:
            return [
                FlaggedPayment(
                    sale_id=row["sale_id"],
                    purchase_id=row["purchase_id"],
                    key=payment_key(row["sale_id"], row["purchase_id"]),
                    amount_minor=row["unit_price_minor"] * row["quantity"],
                    currency=row["currency"],
                    attempt=row["attempt"],
                    detail=row["detail"],
                )
                for row in (await connection.execute(query)).mappings()
            ]

        return await self._transactions.read(work)

    async def resume(self, sale_id: SaleId, purchase_id: PurchaseId) -> bool:
        """Make a flagged payment due at once."""
        again = (
            update(payments)
            .where(payments.c.sale_id == sale_id, payments.c.purchase_id == purchase_id)
            .where(payments.c.state == State.FLAGGED.value)
            .values(state=State.PENDING.value, due_at=now(), leased_until=None, changed_at=now())
            .returning(payments.c.purchase_id)
        )

        async def work(connection: AsyncConnection) -> bool:
            return await connection.scalar(again) is not None

        return await self._transactions.write(work)

    async def counts(self) -> PaymentCounts:
        """Count what is not final."""
        is_flagged = payments.c.state == State.FLAGGED.value
        query = select(
            func.count().label("open"),
            func.sum(case((is_flagged, 1), else_=0)).label("flagged"),
            func.min(payments.c.made_at).label("oldest"),
            now().label("now_ms"),
        ).where(payments.c.state.in_(_OPEN))

        async def work(connection: AsyncConnection) -> PaymentCounts:
            row = (await connection.execute(query)).mappings().one()
            flagged = int(row["flagged"] or 0)
            oldest = row["now_ms"] if row["oldest"] is None else row["oldest"]
            return PaymentCounts(
                pending=row["open"] - flagged,
                flagged=flagged,
                oldest_ms=max(0, row["now_ms"] - oldest),
            )

        return await self._transactions.read(work)


def _is_held(due: DuePayment) -> ColumnElement[bool]:
    """Say that the lease is ours: the latest claim is, and its time has not run out."""
    return and_(
        payments.c.sale_id == due.charge.sale_id,
        payments.c.purchase_id == due.charge.purchase_id,
        payments.c.state == State.PENDING.value,
        payments.c.attempt == due.attempt,
        payments.c.leased_until > now(),
    )


async def _store(connection: AsyncConnection, due: DuePayment, **values: object) -> bool:
    stored = await connection.scalar(
        update(payments)
        .where(_is_held(due))
        .values(changed_at=now(), **values)
        .returning(payments.c.purchase_id)
    )
    return stored is not None


def _due(row: Any) -> DuePayment:
    charge = Charge(
        key=payment_key(row["sale_id"], row["purchase_id"]),
        sale_id=row["sale_id"],
        purchase_id=row["purchase_id"],
        amount_minor=row["unit_price_minor"] * row["quantity"],
        currency=row["currency"],
        payment_token=row["payment_token"],
    )
    return DuePayment(
        charge=charge,
        attempt=row["attempt"],
        asked_for_ms=row["now_ms"] - row["asked_since"],
        traceparent=row["traceparent"],
    )


_: type[Payments] = SqlPayments
