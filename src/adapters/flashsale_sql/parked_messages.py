"""Messages that were consumed and are not done."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence

import attrs
from sqlalchemy import (
    ColumnElement,
    Insert,
    RowMapping,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.ports import ParkedMessages
from flashsale_sql.dialects import POSTGRESQL, Dialect
from flashsale_sql.schema import from_now, now, parked_messages, sales
from flashsale_sql.transactions import Transactions

_columns = parked_messages.c
_ALIVE = (ParkedStatus.WAITING, ParkedStatus.RETRYING)
_UNDONE = (*_ALIVE, ParkedStatus.DEAD)
_ENDED = (ParkedStatus.REPLAYED, ParkedStatus.DISCARDED)


class SqlParkedMessages:
    """The table `parked_messages`."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions

    async def park(self, messages: Sequence[ParkedMessage]) -> list[bool]:
        """Store each, once per origin and purchase id; answer which ones are new."""
        first: dict[tuple[str, str], ParkedMessage] = {}
        is_first = []
        for message in messages:
            key = _key(message.message.origin, message.purchase_id)
            is_first.append(key not in first)
            first.setdefault(key, message)
        if not first:
            return []
        # In one order for everybody, so that two workers with the same messages do not deadlock.
        ordered = [first[key] for key in sorted(first)]
        insert = _insert(self._transactions.dialect)

        async def work(connection: AsyncConnection) -> set[tuple[str, str]]:
            at_ms: int = (await connection.execute(select(now()))).scalar_one()
            judged = await _judged(connection, ordered)
            rows = [_row(one, at_ms) for one in judged]
            return {_key(*row) for row in await connection.execute(insert, rows)}

        new = await self._transactions.write(work)
        return [
            came_first and _key(message.message.origin, message.purchase_id) in new
            for message, came_first in zip(messages, is_first, strict=True)
        ]

    async def claim_due(self, limit: int, lease_ms: int) -> list[ParkedMessage]:
        """Take what is due; nobody else gets it for `lease_ms`."""
        due = (
            select(_columns.parked_id)
            .where(_is(_ALIVE), _columns.next_attempt_at <= now())
            .order_by(_columns.next_attempt_at, _columns.parked_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            # A subquery could be run more than once and lock more than the limit; this runs once.
            .cte("due")
        )
        claim = (
            update(parked_messages)
            .where(_columns.parked_id.in_(select(due.c.parked_id)))
            .values(next_attempt_at=from_now(lease_ms))
            .returning(*_columns)
        )

        async def work(connection: AsyncConnection) -> list[ParkedMessage]:
            return _messages((await connection.execute(claim)).mappings())

        return await self._transactions.write(work)

    async def resolve(
        self, parked_id: int, status: ParkedStatus, *, reason: str = "", retry_in_ms: int = 0
    ) -> None:
        """Say what became of a claimed one; what has ended stays ended."""
        values: dict[str, object] = {
            "status": status.value,
            "changed_at": now(),
            "next_attempt_at": from_now(retry_in_ms) if status in _ALIVE else None,
        }
        if reason:
            values["reason"] = storable(reason)
        if status is ParkedStatus.RETRYING:
            values["attempts"] = _columns.attempts + 1
        change = (
            update(parked_messages)
            .where(_columns.parked_id == parked_id, ~_is(_ENDED))
            .values(**values)
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(change)

        await self._transactions.write(work)

    async def counts(self) -> Mapping[ParkedStatus, int]:
        """Count by status."""
        query = select(_columns.status, func.count()).group_by(_columns.status)

        async def work(connection: AsyncConnection) -> dict[ParkedStatus, int]:
            counted = {
                ParkedStatus(status): count for status, count in await connection.execute(query)
            }
            return {status: counted.get(status, 0) for status in ParkedStatus}

        return await self._transactions.read(work)

    async def of_purchases(self, purchase_ids: Sequence[PurchaseId]) -> list[ParkedMessage]:
        """Find what is parked and not done of these purchases."""
        query = (
            select(parked_messages)
            .where(_columns.purchase_id.in_(purchase_ids), _is(_UNDONE))
            .order_by(_columns.parked_id)
        )

        async def work(connection: AsyncConnection) -> list[ParkedMessage]:
            return _messages((await connection.execute(query)).mappings())

        return await self._transactions.read(work)

    async def holding(self, sale_id: SaleId) -> int:
        """Count the parked messages of a sale that hold a unit or wait for one."""
        waits = or_(_is(_ALIVE), and_(_is((ParkedStatus.DEAD,)), _columns.holds_unit))
        query = select(func.count(case((waits, literal(1))))).where(
            _columns.sale_id == sale_id, _is(_UNDONE)
        )

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(query)).scalar_one()

        return await self._transactions.read(work)

    async def dead(self, limit: int, *, before: int | None = None) -> list[ParkedMessage]:
        """List what is DEAD, the newest first."""
        query = (
            select(parked_messages)
            .where(_is((ParkedStatus.DEAD,)))
            .order_by(_columns.parked_id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(_columns.parked_id < before)

        async def work(connection: AsyncConnection) -> list[ParkedMessage]:
            return _messages((await connection.execute(query)).mappings())[::-1]

        return await self._transactions.read(work)

    async def find(self, parked_id: int) -> ParkedMessage | None:
        """Find one by its id."""
        query = select(parked_messages).where(_columns.parked_id == parked_id)

        async def work(connection: AsyncConnection) -> ParkedMessage | None:
            found = _messages((await connection.execute(query)).mappings())
            return found[0] if found else None

        return await self._transactions.read(work)


async def _judged(
    connection: AsyncConnection, messages: Sequence[ParkedMessage]
) -> list[ParkedMessage]:
    """Let go of units that were promised in a life before the one that is loaded.

    Under the lock of the sales' rows: whoever loads the books waits, and then sees what is parked.
    """
    promised = {one.sale_id for one in messages if one.promised_under is not None} - {None}
    if not promised:
        return list(messages)
    locked = await connection.execute(
        select(sales.c.sale_id, sales.c.armed_epoch)
        .where(sales.c.sale_id.in_(promised))
        .order_by(sales.c.sale_id)
        .with_for_update(read=True)
    )
    armed = {row.sale_id: row.armed_epoch for row in locked}
    return [
        attrs.evolve(one, holds_unit=False)
        if one.promised_under is not None and one.promised_under < armed.get(one.sale_id, 0)
        else one
        for one in messages
    ]


def _is(statuses: Iterable[ParkedStatus]) -> "ColumnElement[bool]":
    return _columns.status.in_([status.value for status in statuses])


def _key(origin: str, purchase_id: str | None) -> tuple[str, str]:
    return storable(origin), purchase_id or ""


def _insert(dialect: Dialect) -> Insert:
    insert = (postgresql_insert if dialect is POSTGRESQL else sqlite_insert)(parked_messages)
    return insert.on_conflict_do_nothing().returning(_columns.origin, _columns.purchase_id)


def storable(text: str) -> str:
    """Replace what databases do not store: what is set aside for its bad bytes must be stored."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")


def _row(parked: ParkedMessage, at_ms: int) -> dict[str, object]:
    message = parked.message
    content_type = message.content_type
    return {
        "origin": storable(message.origin),
        "channel": message.channel.value,
        "partition": message.partition,
        "body": message.body,
        "key": message.key,
        "headers": [[name, b64encode(value).decode("ascii")] for name, value in message.headers],
        "content_type": None if content_type is None else storable(content_type),
        "written_at": message.written_at_ms,
        "status": parked.status.value,
        "reason": storable(parked.reason),
        "detail": storable(parked.detail),
        "sale_id": parked.sale_id,
        "purchase_id": parked.purchase_id,
        "holds_unit": parked.holds_unit,
        "user_id": parked.user_id,
        "quantity": parked.quantity,
        "attempts": parked.attempts,
        "next_attempt_at": at_ms if parked.status in _ALIVE else None,
        "parked_at": at_ms,
        "changed_at": at_ms,
    }


def _messages(rows: Iterable[RowMapping]) -> list[ParkedMessage]:
    return [message_of(row) for row in sorted(rows, key=lambda row: row["parked_id"])]


def message_of(row: RowMapping) -> ParkedMessage:
    """Rebuild a message from its row."""
    return ParkedMessage(
        message=Message(
            channel=Channel(row["channel"]),
            body=row["body"],
            key=row["key"],
            headers=tuple((name, b64decode(value)) for name, value in row["headers"]),
            content_type=row["content_type"],
            origin=row["origin"],
            partition=row["partition"],
            written_at_ms=row["written_at"],
        ),
        status=ParkedStatus(row["status"]),
        reason=row["reason"],
        detail=row["detail"],
        sale_id=row["sale_id"],
        purchase_id=row["purchase_id"],
        holds_unit=row["holds_unit"],
        user_id=row["user_id"],
        quantity=row["quantity"],
        attempts=row["attempts"],
        parked_id=row["parked_id"],
    )


_: type[ParkedMessages] = SqlParkedMessages
