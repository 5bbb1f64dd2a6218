"""The operator's side of the parked messages, and the trail of what was done."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from flashsale_core.events import ParkedStatus
from flashsale_core.letters import (
    UNDONE,
    Act,
    DeadLetters,
    Letter,
    Signed,
    TrailEntry,
    Wanted,
)
from flashsale_sql.parked_messages import message_of, storable
from flashsale_sql.schema import now, parked_messages, parked_trail
from flashsale_sql.transactions import Transactions

_columns = parked_messages.c


class SqlDeadLetters:
    """The tables `parked_messages` and `parked_trail`."""

    def __init__(self, transactions: Transactions) -> None:
        """Take the database's transactions."""
        self._transactions = transactions

    async def matching(
        self, wanted: Wanted, limit: int, *, before: int | None = None
    ) -> list[Letter]:
        """List what is wanted, the newest first."""
        query = select(parked_messages).where(*_is_wanted(wanted))
        if before is not None:
            query = query.where(_columns.parked_id < before)
        query = query.order_by(_columns.parked_id.desc()).limit(limit)

        async def work(connection: AsyncConnection) -> list[Letter]:
            return [_letter(row) for row in (await connection.execute(query)).mappings()]

        return await self._transactions.read(work)

    async def count(self, wanted: Wanted) -> int:
        """Count what is wanted."""
        query = select(func.count()).select_from(parked_messages).where(*_is_wanted(wanted))

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(query)).scalar_one()

        return await self._transactions.read(work)

    async def find(self, letter_id: int) -> Letter | None:
        """Find one by its id."""
        query = select(parked_messages).where(_columns.parked_id == letter_id)

        async def work(connection: AsyncConnection) -> Letter | None:
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else _letter(row)

        return await self._transactions.read(work)

    async def sign(self, letter_id: int, act: Act, signed: Signed) -> None:
        """Write into the trail who is about to do what."""

        async def work(connection: AsyncConnection) -> None:
            await _sign(connection, letter_id, act, signed)

        await self._transactions.write(work)

    async def replay(self, letter_id: int, signed: Signed) -> ParkedStatus | None:
        """Let a DEAD one WAIT; answer what it was."""

        async def work(connection: AsyncConnection) -> ParkedStatus | None:
            before = await _locked(connection, letter_id)
            if before is ParkedStatus.DEAD:
                await _sign(connection, letter_id, Act.REPLAY, signed)
                await connection.execute(
                    update(parked_messages)
                    .where(_columns.parked_id == letter_id)
                    .values(
                        status=ParkedStatus.WAITING.value,
                        attempts=0,
                        next_attempt_at=now(),
                        changed_at=now(),
                    )
                )
            return before

        return await self._transactions.write(work)

    async def discard(self, letter_id: int) -> ParkedStatus | None:
        """End an undone one; answer what it was."""

        async def work(connection: AsyncConnection) -> ParkedStatus | None:
            before = await _locked(connection, letter_id)
            if before in UNDONE:
                await connection.execute(
                    update(parked_messages)
                    .where(_columns.parked_id == letter_id)
                    .values(
                        status=ParkedStatus.DISCARDED.value,
                        next_attempt_at=None,
                        changed_at=now(),
                    )
                )
            return before

        return await self._transactions.write(work)

    async def trail(self, letter_id: int) -> Sequence[TrailEntry]:
        """Tell what operators did with it, the oldest first."""
        query = (
            select(parked_trail)
            .where(parked_trail.c.parked_id == letter_id)
            .order_by(parked_trail.c.entry_id)
        )

        async def work(connection: AsyncConnection) -> list[TrailEntry]:
            return [_entry(row) for row in (await connection.execute(query)).mappings()]

        return await self._transactions.read(work)


async def _locked(connection: AsyncConnection, letter_id: int) -> ParkedStatus | None:
    """Read its status and keep others from changing it until the commit."""
    found = await connection.scalar(
        select(_columns.status).where(_columns.parked_id == letter_id).with_for_update()
    )
    return None if found is None else ParkedStatus(found)


async def _sign(connection: AsyncConnection, letter_id: int, act: Act, signed: Signed) -> None:
    await connection.execute(
        insert(parked_trail).values(
            parked_id=letter_id,
            act=act.value,
            who=storable(signed.who),
            why=storable(signed.why),
            done_at=now(),
        )
    )


def _is_wanted(wanted: Wanted) -> "list[ColumnElement[bool]]":
    exact = (
        (_columns.reason, None if wanted.reason is None else storable(wanted.reason)),
        (_columns.sale_id, wanted.sale_id),
        (_columns.purchase_id, wanted.purchase_id),
        (_columns.channel, None if wanted.channel is None else wanted.channel.value),
        (_columns.holds_unit, wanted.holds_unit),
    )
    found: list[ColumnElement[bool]] = [
        column == value for column, value in exact if value is not None
    ]
    if wanted.statuses:
        found.append(_columns.status.in_([status.value for status in wanted.statuses]))
    if wanted.since_ms is not None:
        found.append(_columns.parked_at >= wanted.since_ms)
    if wanted.until_ms is not None:
        found.append(_columns.parked_at < wanted.until_ms)
    return found


def _letter(row: RowMapping) -> Letter:
    return Letter(
        parked=message_of(row), parked_at_ms=row["parked_at"], changed_at_ms=row["changed_at"]
    )


def _entry(row: RowMapping) -> TrailEntry:
    return TrailEntry(
        act=Act(row["act"]),
        signed=Signed(who=row["who"], why=row["why"]),
        at_ms=row["done_at"],
    )


_: type[DeadLetters] = SqlDeadLetters
