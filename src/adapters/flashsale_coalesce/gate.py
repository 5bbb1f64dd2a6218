"""Many callers, one call of the gate: those who arrive while one is under way ride in the next."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs

from flashsale_coalesce.telling import tell_failure
from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import Door, Epoch, PurchaseId, SaleId
from flashsale_core.ports import Claim, ClaimBatch, GateReply, StockGate

CLAIMS_MAX = 1_000
"""Claims in one call: the gate is single-threaded, and others wait while one runs."""
WAITING_MAX = 10_000
"""Callers that may wait; more could not be served within their deadline anyway."""
MARKS_PER_CALL = 1_000
MARKS_MAX = 100_000
"""Marks kept while the gate is away; beyond it the oldest are lost, and the sweeper repeats."""
MARKS_ALONE_AFTER_S = 0.05
"""Where no call would carry them for so long, marks travel by themselves."""
MARKS_ALONE_AFTER_S_MAX = 0.5
"""So long marks wait while calls of other sales go on: with a thousand sales the next call of the
same one is a quarter of a second away, and carries them for nothing."""

Told = Callable[[str, int, float], None]
_Sale = tuple[SaleId, Epoch]


@attrs.define(eq=False)
class _Waiting:
    """One caller's batch, and where its answer goes. A cancelled future is a caller who left."""

    batch: ClaimBatch
    reply: "asyncio.Future[GateReply | Unavailable]"


class CoalescingGate:
    """Merges concurrent `reserve` calls of the HTTP door; everything else goes straight through."""

    def __init__(
        self,
        gate: StockGate,
        *,
        waiting_max: int = WAITING_MAX,
        marks_alone_after_s: float = MARKS_ALONE_AFTER_S,
        told: Told = lambda _stage, _size, _seconds: None,
    ) -> None:
        """Stand in front of a gate, in one event loop; `told` hears each batch's size and time."""
        self._gate = gate
        self._waiting_max = waiting_max
        self._marks_alone_after_s = marks_alone_after_s
        self._told = told
        self._waiting: deque[_Waiting] = deque()
        self._marks: dict[_Sale, dict[PurchaseId, None]] = {}
        self._alone_at: dict[_Sale, float] = {}
        self._sending: asyncio.Task[None] | None = None
        self._alone: asyncio.TimerHandle | None = None
        self._has_called = False
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        """Pass on what is not batched: follow, find, overdue, books, loading, check."""
        return getattr(self._gate, name)

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """Ride in the next call. Raises Unavailable(OVERLOADED) at once when too many wait."""
        for batch in batches:
            if batch.door is not Door.HTTP:
                return await self._gate.reserve(batches)
            if batch.queued:
                await self.mark_queued(batch.sale_id, batch.epoch, batch.queued)
        if len(self._waiting) + len(batches) > self._waiting_max:
            raise Unavailable(Why.OVERLOADED, f"{len(self._waiting)} purchases wait for the gate")
        loop = asyncio.get_running_loop()
        mine = [_Waiting(batch, loop.create_future()) for batch in batches]
        self._waiting += mine
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        return [await one.reply for one in mine]

    async def mark_queued(
        self, sale_id: SaleId, epoch: Epoch, purchase_ids: Sequence[PurchaseId]
    ) -> Unavailable | None:
        """Keep the marks for the next call."""
        kept = self._marks.get((sale_id, epoch))
        if kept is None:
            kept = self._marks[sale_id, epoch] = {}
            self._alone_at[sale_id, epoch] = time.monotonic() + MARKS_ALONE_AFTER_S_MAX
        kept.update(dict.fromkeys(purchase_ids))
        while len(kept) > MARKS_MAX:
            del kept[next(iter(kept))]
        self._set_timer()
        return None

    def _set_timer(self) -> None:
        if self._marks and self._alone is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._alone = loop.call_later(self._marks_alone_after_s, self._wake_for_marks)

    def _wake_for_marks(self) -> None:
        """Send the marks of sales that no call came for; while calls go on, one may come yet."""
        self._alone = None
        has_called, self._has_called = self._has_called, False
        now = time.monotonic()
        sales = [sale for sale, at in self._alone_at.items() if at <= now or not has_called]
        if self._sending is None and sales:
            self._sending = asyncio.get_running_loop().create_task(self._send_marks(sales))
        else:
            self._set_timer()

    async def _send(self) -> None:
        """Send calls until nobody waits: one at a time, each as large as it has become."""
        try:
            while calls := self._take():
                await self._send_one(calls)
        finally:
            self._sending = None

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        claims = 0
        while self._waiting and claims < CLAIMS_MAX:
            one = self._waiting.popleft()
            if not one.reply.cancelled():
                taken.append(one)
                claims += len(one.batch.claims)
        return taken

    async def _send_one(self, calls: Sequence[_Waiting]) -> None:
        riders: dict[_Sale, list[_Waiting]] = {}
        for one in calls:
            riders.setdefault((one.batch.sale_id, one.batch.epoch), []).append(one)
        batches = [self._merged(sale, members) for sale, members in riders.items()]
        started = time.perf_counter()
        self._has_called = True
        try:
            replies = await self._gate.reserve(batches)
            self._told("reserve", len(calls), time.perf_counter() - started)
            for batch, members, reply in zip(batches, riders.values(), replies, strict=True):
                self._forget(batch, reply)
                _share_out(members, reply)
        except BaseException as failure:
            # Whatever it is, also a mistake in the answers: nobody may be left waiting for ever.
            for one in calls:
                tell_failure(one.reply, failure)
            if isinstance(failure, Unavailable) and not failure.was_refused:
                self._send_home(failure)
            if not isinstance(failure, Exception):
                raise

    def _send_home(self, silence: Unavailable) -> None:
        """Tell those who wait behind a call that was lost: each has waited as long as it may."""
        nothing_taken = Unavailable(silence.why, silence.detail)
        for one in self._waiting:
            tell_failure(one.reply, nothing_taken)
        self._waiting.clear()

    def _merged(self, sale: _Sale, members: Sequence[_Waiting]) -> ClaimBatch:
        claims: tuple[Claim, ...] = tuple(
            claim for member in members for claim in member.batch.claims
        )
        marks = self._marks.get(sale)
        queued = tuple(marks)[:MARKS_PER_CALL] if marks else ()
        return ClaimBatch(
            sale_id=sale[0], epoch=sale[1], door=Door.HTTP, claims=claims, queued=queued
        )

    def _forget(self, batch: ClaimBatch, reply: GateReply | Unavailable) -> None:
        """Drop the marks that a call carried, once it succeeded or their epoch is over."""
        if isinstance(reply, Unavailable) and reply.why is not Why.NOT_ARMED:
            return
        self._drop_marks((batch.sale_id, batch.epoch), batch.queued)

    def _drop_marks(self, sale: _Sale, carried: Sequence[PurchaseId]) -> None:
        kept = self._marks.get(sale)
        if kept is None:
            return
        for purchase_id in carried:
            kept.pop(purchase_id, None)
        if kept:
            # They came since; the call that carried the others shows that there are more.
            self._alone_at[sale] = time.monotonic() + MARKS_ALONE_AFTER_S_MAX
        else:
            del self._marks[sale], self._alone_at[sale]

    async def _send_marks(self, sales: Sequence[_Sale]) -> None:
        try:
            with suppress(Unavailable):
                await self._mark(sales)
        finally:
            self._sending = None
            if self._waiting:
                self._sending = asyncio.get_running_loop().create_task(self._send())
            self._set_timer()

    async def _mark(self, sales: Sequence[_Sale]) -> None:
        """Send the marks of sales in one call without a claim; what it refused, by themselves.

        A gate that is out of memory reserves nothing, and still marks.
        """
        batches = [
            ClaimBatch(
                sale_id=sale[0],
                epoch=sale[1],
                door=Door.HTTP,
                claims=(),
                queued=tuple(self._marks[sale]),
            )
            for sale in sales
        ]
        try:
            replies = await self._gate.reserve(batches)
        except Unavailable as refused:
            if not refused.was_refused:
                raise
            replies = [refused] * len(batches)
        for batch, reply in zip(batches, replies, strict=True):
            self._forget(batch, reply)
            if isinstance(reply, Unavailable) and reply.was_refused:
                alone = await self._gate.mark_queued(batch.sale_id, batch.epoch, batch.queued)
                self._forget(batch, [] if alone is None else alone)

    async def aclose(self) -> None:
        """Finish what is under way and send the marks that are left."""
        self._closed = True
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None
        while self._sending is not None:
            await asyncio.wait([self._sending])
        if self._marks:
            await self._send_marks(list(self._marks))


def _share_out(members: Sequence[_Waiting], reply: GateReply | Unavailable) -> None:
    at = 0
    for member in members:
        count = len(member.batch.claims)
        if not member.reply.done():
            member.reply.set_result(
                reply if isinstance(reply, Unavailable) else reply[at : at + count]
            )
        at += count


_: Callable[[StockGate], StockGate] = CoalescingGate
