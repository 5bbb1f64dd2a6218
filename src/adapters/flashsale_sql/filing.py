"""Payments as they are filed: by the transaction that writes their orders."""

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import delete, insert, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.ports import Decision
from flashsale_sql.schema import payments


class State(StrEnum):
    """How a payment stands."""

    PENDING = "PENDING"
    FLAGGED = "FLAGGED"
    CHARGED = "CHARGED"
    DECLINED = "DECLINED"


async def file_payments(
    connection: AsyncConnection, unpaid: Sequence[Decision], at_ms: int
) -> None:
    """File the payments of a batch's new rows, due at once; in the caller's transaction."""
    if not unpaid:
        return
    rows = [
        {
            "sale_id": one.sale_id,
            "purchase_id": one.purchase_id,
            "state": State.PENDING.value,
            "payment_token": one.payment_token,
            "traceparent": one.traceparent,
            "attempt": 0,
            "due_at": at_ms,
            "detail": "",
            "made_at": at_ms,
            "changed_at": at_ms,
        }
        for one in sorted(unpaid, key=lambda one: (one.sale_id, one.purchase_id))
    ]
    await connection.execute(insert(payments), rows)


async def forget_payments(connection: AsyncConnection, unfit: Sequence[Decision]) -> None:
    """Take back what the same transaction filed for purchases whose units are not there."""
    keys = [(one.sale_id, one.purchase_id) for one in unfit if one.awaits_payment]
    if keys:
        mine = tuple_(payments.c.sale_id, payments.c.purchase_id).in_(keys)
        await connection.execute(delete(payments).where(mine))
