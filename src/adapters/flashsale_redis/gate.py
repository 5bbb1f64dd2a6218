"""StockGate on Redis: every method is one round trip, every sale one atomic FCALL."""

from collections.abc import Sequence
from typing import Any

from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    PurchaseId,
    SaleId,
    SaleState,
)
from flashsale_core.ports import (
    ClaimBatch,
    FollowBatch,
    GateBooks,
    GatePage,
    GateReply,
    Overdue,
    StockGate,
)
from flashsale_core.rates import RateLimits
from flashsale_redis.faults import first_unfit, of_one_sale, refusal_of
from flashsale_redis.lives import LOAD_DEADLINE_S, RedisLives
from flashsale_redis.packing import (
    STATE_AT,
    answer_of,
    books_or_why,
    claim_row,
    counted_row,
    counting,
    pack,
    record_of,
    unpack,
)
from flashsale_redis.pieces import (
    CLAIMS_MAX,
    as_unsure,
    first_away,
    follow_pieces,
    if_all_away,
    in_rounds,
    pieces_of,
    rejoined,
    size_of,
)
from flashsale_redis.wire import WORK_DEADLINE_S, Command, GateWire

RESERVED_DUE_MS = 10_000
"""A confirm is due within the promise's 0.8 s; ten seconds later the message is surely lost."""
QUEUED_DUE_MS = 600_000
"""A worker may lag behind by minutes in a sale's first rush without anything being wrong."""


class RedisStockGate(RedisLives):
    """The gate of all sales under one namespace."""

    def __init__(
        self,
        wire: GateWire,
        *,
        namespace: str = "fs",
        reserved_due_ms: int = RESERVED_DUE_MS,
        queued_due_ms: int = QUEUED_DUE_MS,
        may_install: bool = False,
        rates: RateLimits | None = None,
    ) -> None:
        """Use an open wire; the due delays decide when the sweeper looks at a purchase."""
        super().__init__(
            wire,
            namespace=namespace,
            reserved_due_ms=reserved_due_ms,
            queued_due_ms=queued_due_ms,
            may_install=may_install,
        )
        self._rates = rates if rates is not None and rates.are_on else None

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """See `StockGate.reserve`; a batch over `CLAIMS_MAX` is several atomic pieces."""
        pieces = [piece for batch in batches for piece in pieces_of(batch)]
        is_waited_for = all(batch.door is Door.HTTP for batch in batches)
        replies = await self._in_rounds(
            [(self._reserve(p), len(p.claims) + len(p.queued)) for p in pieces],
            deadline_s=None if is_waited_for else WORK_DEADLINE_S,
            is_waited_for=is_waited_for,
        )
        answers = [self._answers(p, r) for p, r in zip(pieces, replies, strict=True)]
        if len(pieces) != len(batches):
            answers = rejoined(batches, answers)
        if away := if_all_away(answers):
            raise away
        return answers

    async def _in_rounds(
        self,
        sized: Sequence[tuple[Command, int]],
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """Run commands of so many purchases each, in as many round trips as they need."""
        replies: list[Any] = []
        for commands in in_rounds(sized):
            try:
                replies += await self._wire.run(
                    commands, deadline_s=deadline_s, is_waited_for=is_waited_for
                )
            except Unavailable as away:
                if not replies:
                    raise
                raise as_unsure(away) from away
        return replies

    def _reserve(self, batch: ClaimBatch) -> Command:
        if self._rates is not None and batch.door is Door.HTTP:
            row, limits = counted_row, counting(self._rates)
        else:
            row, limits = claim_row, ()
        return self._call(
            "reserve",
            batch.sale_id,
            batch.epoch,
            STATE_AT[batch.door],
            self._reserved_due_ms,
            self._queued_due_ms,
            pack([row(claim) for claim in batch.claims]),
            pack(batch.queued),
            *limits,
            with_window=bool(limits),
        )

    def _answers(self, batch: ClaimBatch, reply: Any) -> GateReply | Unavailable:
        if (refused := refusal_of(reply)) is not None:
            return refused
        rows = unpack(reply)
        if len(rows) != len(batch.claims):
            raise Corrupt("gate-answer", f"{len(rows)} answers to {len(batch.claims)} claims")
        return [
            answer_of(claim, batch.door, batch.epoch, row)
            for claim, row in zip(batch.claims, rows, strict=True)
        ]

    async def mark_queued(
        self, sale_id: SaleId, epoch: Epoch, purchase_ids: Sequence[PurchaseId]
    ) -> Unavailable | None:
        """See `StockGate.mark_queued`."""
        ids = list(purchase_ids)
        pieces = [ids[at : at + CLAIMS_MAX] for at in range(0, len(ids), CLAIMS_MAX)]
        try:
            replies = await self._in_rounds(
                [
                    (self._call("mark", sale_id, epoch, self._queued_due_ms, pack(one)), len(one))
                    for one in pieces
                ]
            )
            return next((refused for r in replies if (refused := of_one_sale(r))), None)
        except Unavailable as away:
            return away

    async def follow(self, batches: Sequence[FollowBatch]) -> list[int | Unavailable]:
        """See `StockGate.follow`."""
        pieces = [(at, piece) for at, one in enumerate(batches) for piece in follow_pieces(one)]
        sized = [(self._follow(piece), size_of(piece)) for _, piece in pieces]
        replies = await self._in_rounds(sized, deadline_s=WORK_DEADLINE_S)
        followed: list[int | Unavailable] = [0] * len(batches)
        for (at, _), reply in zip(pieces, replies, strict=True):
            so_far, refused = followed[at], of_one_sale(reply)
            if refused is not None:
                followed[at] = refused
            elif not isinstance(so_far, Unavailable):
                followed[at] = so_far + int(reply)
        # What could not follow must come again, and is a no-op where it has.
        if away := first_away(followed):
            raise away
        return followed

    def _follow(self, batch: FollowBatch) -> Command:
        return self._call(
            "follow", batch.sale_id, batch.epoch, pack(batch.sold), pack(batch.released)
        )

    async def find(
        self, sales: Sequence[tuple[SaleId, Epoch]], purchase_id: PurchaseId
    ) -> list[GateRecord | Unavailable | None]:
        """See `StockGate.find`."""
        if not sales:
            return []
        replies = await self._wire.run(
            [self._call("find", sale_id, epoch, purchase_id) for sale_id, epoch in sales]
        )
        found: list[GateRecord | Unavailable | None] = []
        for reply in replies:
            refused = of_one_sale(reply)
            known = refused is None and reply is not None
            found.append(record_of(purchase_id, unpack(reply)) if known else refused)
        if away := if_all_away(found):
            raise away
        return found

    async def overdue(
        self, sale_id: SaleId, epoch: Epoch, limit: int
    ) -> list[Overdue] | Unavailable:
        """See `StockGate.overdue`."""
        [reply] = await self._wire.run(
            [
                self._call(
                    "overdue", sale_id, epoch, limit, self._reserved_due_ms, self._queued_due_ms
                )
            ]
        )
        refused = of_one_sale(reply)
        if refused is not None:
            return refused
        # An empty Lua table has no type of its own: cmsgpack writes it as an empty map.
        return [
            Overdue(sale_id=sale_id, record=record_of(purchase_id, row))
            for purchase_id, row in (unpack(reply) or [])
        ]

    async def books(
        self, sales: Sequence[tuple[SaleId, Epoch]], *, ages: bool = False
    ) -> list[GateBooks | Unavailable]:
        """See `StockGate.books`."""
        if not sales:
            return []
        replies = await self._wire.run(
            [self._call("books", sale_id, epoch, int(ages)) for sale_id, epoch in sales]
        )
        books = [
            refused if (refused := of_one_sale(reply)) is not None else books_or_why(unpack(reply))
            for reply in replies
        ]
        if away := if_all_away(books):
            raise away
        return books

    async def records(
        self, sale_id: SaleId, epoch: Epoch, *, cursor: str, limit: int
    ) -> GatePage | Unavailable:
        """See `StockGate.records`."""
        [reply] = await self._wire.run(
            [self._call("records", sale_id, epoch, cursor or "0", limit)],
            deadline_s=LOAD_DEADLINE_S,
        )
        refused = of_one_sale(reply)
        if refused is not None:
            return refused
        following, *rows = unpack(reply)
        return GatePage(
            records=tuple(record_of(purchase_id, row) for purchase_id, row in rows),
            next_cursor=following if following != "0" else None,
        )

    async def set_state(
        self, sale_id: SaleId, epoch: Epoch, state: SaleState
    ) -> Unavailable | None:
        """See `StockGate.set_state`."""
        [reply] = await self._wire.run([self._call("set_state", sale_id, epoch, state.value)])
        return of_one_sale(reply)

    async def check(self) -> None:
        """Raise Unavailable unless a server, of a cluster any, answers and has the functions."""
        told = await self._wire.everywhere(
            lambda tag: [self._call("find", SaleId(tag), 0, "-")], is_waited_for=True
        )
        refused = [refusal_of(reply) for [reply] in told]
        if unfit := first_unfit(refused):
            raise unfit


_: type[StockGate] = RedisStockGate
