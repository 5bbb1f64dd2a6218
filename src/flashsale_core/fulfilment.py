"""The cold path: from messages to rows, safe to run twice.

One batch goes decode → gate → ONE transaction → the gate follows the rows. Whatever breaks in
between, the same messages come again and change nothing that stands.
"""

from collections.abc import Iterable, Sequence
from typing import assert_never

import attrs

from flashsale_core.batch import (
    Asked,
    Processed,
    Work,
    alone,
    dead,
    decide,
    failed,
    from_outside,
    halves,
    portions,
    traced,
    waiting,
)
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Corrupt, StaleEpoch, Unavailable
from flashsale_core.events import (
    KEY_REUSED,
    Barrier,
    Channel,
    Message,
    OrderEvent,
    ParkedMessage,
    PurchasesAccepted,
)
from flashsale_core.model import (
    Door,
    Epoch,
    OrderStatus,
    PurchaseRequest,
    PurchaseState,
    Reason,
    Sale,
    SaleId,
    SaleState,
    sale_id_of,
)
from flashsale_core.outcomes import (
    Closed,
    GateAnswer,
    KeyReused,
    LimitReached,
    NotOpen,
    RateLimited,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
    reason_of,
)
from flashsale_core.ports import (
    Alarm,
    Claim,
    ClaimBatch,
    Codec,
    Decoded,
    FollowBatch,
    Observer,
    OrderRepository,
    Standing,
    StockGate,
)
from flashsale_core.retry import Fault, fault_of
from flashsale_core.validation import PurchaseRule, verdict
from flashsale_core.without_gate import WithoutGate

PURCHASES_MAX = 2_000
"""Purchases of one transaction: a delivery of full messages holds a hundred times as many, and
would run into the database's and the gate's deadlines, again and again."""


class Fulfilment:
    """Makes orders of messages."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        orders: OrderRepository,
        codec: Codec,
        observer: Observer,
        rules: Sequence[PurchaseRule] = (),
        has_gateway: bool = False,
    ) -> None:
        """Take the ports; one call at a time per partition is the caller's duty."""
        self._board = board
        self._gate = gate
        self._orders = orders
        self._codec = codec
        self._observer = observer
        self._rules = tuple(rules)
        self._without_gate = WithoutGate(board=board, orders=orders, codec=codec)
        self._has_gateway = has_gateway

    async def process(self, messages: Sequence[Message], *, were_parked: bool = False) -> Processed:
        """Bring every message as far as it can get; answer what must be set aside.

        Nothing is parked or acknowledged here, and no barrier is passed. Raises Unavailable or
        StaleEpoch when the whole batch must come again.
        """
        work = Work(left=[[] for _ in messages], has_gateway=self._has_gateway)
        has_looked = False
        for first, portion in portions(messages):
            values = await self._codec.decode(portion)
            if not has_looked and any(map(self._may_have_a_newer_sale, values)):
                await self._board.refresh()
                has_looked = True
            asked: list[Asked] = []
            for at, value in enumerate(values, first):
                asked += await self._take_in(work, messages[at], at, value, were_parked)
            for begin in range(0, max(len(asked), 1), PURCHASES_MAX):
                await self._fulfil(work, messages, asked[begin : begin + PURCHASES_MAX])
        return Processed(left=work.left, barriers=tuple(work.barriers))

    async def _take_in(
        self,
        work: Work,
        message: Message,
        at: int,
        value: Decoded | Corrupt,
        was_parked: bool,
    ) -> list[Asked]:
        """Say what a message asks for; what is none of that is noted in the work."""
        match value:
            case PurchasesAccepted():
                return await self._from_accepted(work, message, at, value, was_parked)
            case PurchaseRequest():
                return self._from_outside(work, at, value)
            case Corrupt():
                work.left[at].append(dead(message, value))
            case Barrier() if message.channel is Channel.ACCEPTED:
                work.barriers.append((value.rebuild_id, message.partition))
            case Barrier() | OrderEvent():
                wrong = Corrupt("unexpected-type", f"{type(value).__name__} is not for here")
                work.left[at].append(dead(message, wrong))
            case _:
                assert_never(value)
        return []

    async def _fulfil(
        self, work: Work, messages: Sequence[Message], asked: Sequence[Asked]
    ) -> None:
        """Gate, one transaction, and the gate again, for as many as one transaction should hold."""
        await self._judge(work, messages, asked)
        if work.decisions:
            standings = await self._orders.record(
                list(work.decisions.values()), work.epochs, work.promised
            )
            await self._follow(work, standings)
        work.begin_again()

    def _may_have_a_newer_sale(self, value: object) -> bool:
        """Ask for what is final at the outside door: UNKNOWN_ITEM, and CLOSED by a past sale.

        A batch looks once, before it looks anything up, however many such requests it has.
        """
        if not isinstance(value, PurchaseRequest):
            return False
        seen = self._board.seen(value.item_id)
        return seen is None or seen.state is SaleState.SETTLED

    def _from_outside(self, work: Work, at: int, request: PurchaseRequest) -> list[Asked]:
        sale = self._board.seen(request.item_id)
        if sale is not None:
            sale = work.sales.setdefault(sale.sale_id, sale)
            return [from_outside(sale.sale_id, request, at)]
        nowhere = from_outside(sale_id_of(request.item_id, 0), request, at)
        decide(work, nowhere, Reason.UNKNOWN_ITEM.value)
        return []

    async def _from_accepted(
        self,
        work: Work,
        message: Message,
        at: int,
        fact: PurchasesAccepted,
        was_parked: bool,
    ) -> list[Asked]:
        sale = work.sales.get(fact.sale_id) or await self._board.of_id(fact.sale_id)
        if sale is None:
            unknown = Corrupt("unknown-sale", f"no sale {fact.sale_id} was ever made")
            work.left[at].append(dead(message, unknown, holds_unit=True))
            return []
        # The list may be read again meanwhile; a batch believes in one epoch of a sale.
        sale = work.sales.setdefault(sale.sale_id, sale)
        proves_queued = fact.epoch == sale.epoch and not was_parked
        door = Door.ACCEPTED if proves_queued else Door.OUTSIDE
        sale_id, item_id, epoch = sale.sale_id, sale.item_id, fact.epoch
        return [
            Asked(
                at=at,
                sale_id=sale_id,
                item_id=item_id,
                door=door,
                request=accepted,
                accepted=accepted,
                epoch=epoch,
            )
            for accepted in fact.purchases
        ]

    async def apart(
        self, message: Message, unknown: Exception
    ) -> tuple[list[Message], ParkedMessage]:
        """Say what to do with one message that failed: deliver its halves, else set it aside.

        What was promised is set aside with the unit that it holds: a rebuild must not give that
        to somebody else.
        """
        parked = failed(message, unknown)
        fact = await self._promises_of(message)
        if fact is None:
            return [], parked
        if len(fact.purchases) > 1:
            return halves(self._codec, message, fact), parked
        sale, [one] = await self._board.of_id(fact.sale_id), fact.purchases
        if sale is None:
            return [], parked
        # A sale is armed under its epoch before anything is promised under it.
        return [], attrs.evolve(
            parked,
            sale_id=sale.sale_id,
            purchase_id=one.purchase_id,
            holds_unit=fact.epoch >= sale.armed_epoch,
            promised_under=fact.epoch,
            user_id=one.user_id,
            quantity=one.quantity,
        )

    async def _promises_of(self, message: Message) -> PurchasesAccepted | None:
        try:
            [fact] = await self._codec.decode([message])
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is what is being set aside
            return None
        return fact if isinstance(fact, PurchasesAccepted) else None

    async def _judge(self, work: Work, messages: Sequence[Message], asked: Sequence[Asked]) -> None:
        """Put every purchase before the gate, one call for all, and decide by its answers."""
        groups: dict[tuple[SaleId, Door], list[Asked]] = {}
        for one in asked:
            groups.setdefault((one.sale_id, one.door), []).append(one)
        if not groups:
            return
        batches = [
            self._batch(work.sales[sale_id], door, group)
            for (sale_id, door), group in groups.items()
        ]
        replies = await self._gate.reserve(batches)
        for ((sale_id, _), group), reply in zip(groups.items(), replies, strict=True):
            sale = work.sales[sale_id]
            if isinstance(reply, Unavailable):
                if fault_of(reply) is not Fault.SALE:
                    # Nothing is wrong with the sale: the same messages come again.
                    raise reply
                await self._without_gate.decide(work, sale, messages, group, reply)
                continue
            if sale_id in work.promised:
                raise StaleEpoch(f"{sale_id}: its gate came to life within one batch")
            work.epochs[sale_id] = sale.epoch
            for one, answer in zip(group, reply, strict=True):
                self._decide_by(work, messages, one, answer)

    def _batch(self, sale: Sale, door: Door, group: Sequence[Asked]) -> ClaimBatch:
        return ClaimBatch(
            sale_id=sale.sale_id,
            epoch=sale.epoch,
            door=door,
            claims=tuple(
                Claim(request=one.request, refused=self._verdict(one, sale)) for one in group
            ),
        )

    def _verdict(self, one: Asked, sale: Sale) -> Refused | None:
        """Ask the rules at the outside door only: what was promised is not judged again."""
        if not self._rules or not isinstance(one.request, PurchaseRequest):
            return None
        return verdict(self._rules, one.request, sale.terms)

    def _decide_by(
        self,
        work: Work,
        messages: Sequence[Message],
        one: Asked,
        answer: GateAnswer | Unavailable,
    ) -> None:
        match answer:
            case Replayed(record=record) if record.state is PurchaseState.ENDED:
                decide(work, one, record.reason or Reason.CLOSED.value)
            case Reserved(record=record) | Replayed(record=record):
                decide(work, one, None, record.accepted_at_ms, record.payment_token)
            case SoldOut() | LimitReached() | NotOpen() | Closed() | Refused():
                decide(work, one, reason_of(answer))
            case KeyReused():
                work.left[one.at].append(self._reused(messages[one.at], one))
            case Unavailable():
                work.left[one.at].append(waiting(self._codec, messages[one.at], one, answer))
            case RateLimited():
                raise Corrupt("gate-answer", "rate limits are for the HTTP door alone")
            case _:
                assert_never(answer)

    def _reused(self, message: Message, one: Asked) -> ParkedMessage:
        if one.accepted is not None:
            self._observer.alarm(
                Alarm.KEY_REUSED_ON_ACCEPTED,
                sale_id=one.sale_id,
                purchase_id=one.request.purchase_id,
            )
        wrong = Corrupt(KEY_REUSED, "the purchase id was used before with other content")
        return dead(alone(self._codec, message, one), wrong, one)

    async def _follow(self, work: Work, standings: Iterable[Standing]) -> None:
        """Let the gate follow the rows that STAND, whoever wrote them; never its own answers."""
        rows_by_sale: dict[SaleId, list[Standing]] = {}
        fresh: list[Standing] = []
        for standing in standings:
            if standing.is_new:
                decision = work.decisions[standing.sale_id, standing.purchase_id]
                fresh.append(traced(standing, decision.traceparent))
            if standing.sale_id in work.epochs:
                rows_by_sale.setdefault(standing.sale_id, []).append(standing)
        if fresh:
            self._observer.recorded(fresh)
        batches = []
        for sale_id, rows in rows_by_sale.items():
            epoch = work.epochs[sale_id]
            if any(row.is_new and row.reason == Reason.GATE_DRIFT for row in rows):
                self._observer.alarm(Alarm.GATE_DRIFT, sale_id=sale_id)
                await self._gate.set_state(sale_id, epoch, SaleState.HALTED)
            batches.append(follow_batch(sale_id, epoch, rows))
        for batch, misfits in zip(batches, await self._gate.follow(batches), strict=True):
            if isinstance(misfits, Unavailable):
                continue  # Unarmed meanwhile: the rebuild reads the rows.
            if misfits:
                self._observer.alarm(Alarm.GATE_MISFIT, sale_id=batch.sale_id, purchases=misfits)


def follow_batch(sale_id: SaleId, epoch: Epoch, rows: Iterable[Standing]) -> FollowBatch:
    """Say what the gate must do so that it agrees with these rows of one sale.

    What stands REJECTED(GATE_DRIFT) stays held: only a rebuild may trust those units again. What
    is PENDING_PAYMENT stays queued.
    """
    rows = [row for row in rows if row.reason != Reason.GATE_DRIFT]
    return FollowBatch(
        sale_id=sale_id,
        epoch=epoch,
        sold=tuple(r.purchase_id for r in rows if r.status is OrderStatus.CONFIRMED),
        released=tuple(
            (r.purchase_id, r.reason or "") for r in rows if r.status is OrderStatus.REJECTED
        ),
    )
