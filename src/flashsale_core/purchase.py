"""The hot path: what happens between a buyer's request and the answer."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, assert_never

from flashsale_core.board import SaleBoard
from flashsale_core.errors import FlashsaleError, Unavailable, Why
from flashsale_core.events import PurchaseAccepted, PurchasesAccepted
from flashsale_core.idempotency import Replay, replay_of
from flashsale_core.model import (
    Door,
    GateRecord,
    ItemId,
    PurchaseRequest,
    PurchaseState,
    Sale,
    SaleId,
    SaleState,
)
from flashsale_core.outcomes import (
    Accepted,
    BuyAnswer,
    Closed,
    Ended,
    GateAnswer,
    KeyReused,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
    UnknownItem,
)
from flashsale_core.ports import Claim, ClaimBatch, Clock, EventBus, StockGate
from flashsale_core.validation import PurchaseRule, verdict

PROMISE_MS = 800
"""A promise may be given only while less than this has passed since the gate was asked.

A constant that all processes share: a rebuild waits it out before it reads the books."""
PROMPT_MS = 50
"""A gate that answered within this has left the bus its whole deadline; a later answer has used
some of the promise's time, and the buyer does not wait for it twice."""
SOLD_OUT_MS = 100
"""For so long, from before the gate was asked, a process remembers that a sale has nothing left.

Units that come back (a declined payment) are offered again within this."""

T = TypeVar("T")


class Within(Protocol):
    """Bounds a wait."""

    async def __call__(self, work: Awaitable[T], milliseconds: float, why: Why) -> T:
        """Await it for so long at most, then raise Unavailable(why)."""


async def _unbounded(work: Awaitable[T], milliseconds: float, why: Why) -> T:  # noqa: ARG001
    return await work


class PurchaseDesk:
    """Takes one purchase: gate, then bus, then the promise."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        bus: EventBus,
        clock: Clock,
        rules: Sequence[PurchaseRule] = (),
        within: Within = _unbounded,
    ) -> None:
        """Take the ports; concurrent calls are expected, and batched by what stands behind them.

        `within` keeps a buyer's whole wait to the promise's time, where a slow gate has used some
        of it or the list of sales has to be read; without it only each port's own deadline does.
        """
        self._board = board
        self._gate = gate
        self._bus = bus
        self._clock = clock
        self._rules = tuple(rules)
        self._within = within
        self._sold_out: dict[SaleId, tuple[float, SoldOut]] = {}

    def remembered(self, request: PurchaseRequest) -> SoldOut | Refused | None:
        """Answer without the gate what it said a moment ago: that nothing is left, for nobody.

        Only for a request whose id was made for it: one that brought its own may be a retry, whose
        old answer the gate knows.
        """
        sale = self._board.seen(request.item_id)
        if sale is None or (seen := self._sold_out.get(sale.sale_id)) is None:
            return None
        until_ms, sold_out = seen
        if self._clock.monotonic_ms() >= until_ms:
            del self._sold_out[sale.sale_id]
            return None
        refused = verdict(self._rules, request, sale.terms) if self._rules else None
        return refused or sold_out

    def _remember(self, sale: Sale, answer: SoldOut, asked_ms: float) -> None:
        if answer.available <= 0:
            self._sold_out[sale.sale_id] = (asked_ms + SOLD_OUT_MS, answer)

    async def buy(  # noqa: PLR0911 - one return an answer
        self, request: PurchaseRequest, address: str | None = None
    ) -> BuyAnswer:
        """Answer one request; safe to repeat with the same purchase id, whatever came before.

        `address` is the buyer's, where the gate counts addresses.
        Raises Unavailable when nothing was taken, and answers OutcomeUnknown when that is unsure.
        """
        sale = self._board.seen(request.item_id) or await self._unlisted(request.item_id)
        if sale is None:
            return UnknownItem(item_id=request.item_id)
        started_ms = self._clock.monotonic_ms()
        try:
            answer = await self._ask_gate(sale, request, address)
        except Unavailable as away:
            return self._without_answer(sale, request, away)
        match answer:
            case Reserved(record=record):
                return await self._promise(sale, record, started_ms)
            case Replayed(record=record):
                return await self._resume(sale, record, started_ms)
            case SoldOut():
                self._remember(sale, answer, started_ms)
                return answer
            case LimitReached() | NotOpen() | Closed() | Refused():
                return answer
            case KeyReused() | RateLimited():
                return answer
        assert_never(answer)

    def _without_answer(self, sale: Sale, request: PurchaseRequest, away: Unavailable) -> BuyAnswer:
        if away.may_have_happened:
            return OutcomeUnknown(purchase_id=request.purchase_id)
        if away.why is Why.NOT_ARMED and sale.state is SaleState.SETTLED:
            return Closed()
        if away.why is Why.NOT_ARMED:
            self._board.doubt()
        raise away

    async def _unlisted(self, item_id: ItemId) -> Sale | None:
        looking = self._board.of_item(item_id)
        return await self._within(looking, PROMISE_MS, Why.DATABASE_AWAY)

    async def _ask_gate(
        self, sale: Sale, request: PurchaseRequest, address: str | None
    ) -> GateAnswer:
        refused = verdict(self._rules, request, sale.terms) if self._rules else None
        claims = (Claim(request=request, refused=refused, address=address),)
        batch = ClaimBatch(sale_id=sale.sale_id, epoch=sale.epoch, door=Door.HTTP, claims=claims)
        [reply] = await self._gate.reserve((batch,))
        answer = reply if isinstance(reply, Unavailable) else reply[0]
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    async def _resume(self, sale: Sale, record: GateRecord, started_ms: float) -> BuyAnswer:
        match replay_of(record.state):
            case Replay.PUBLISH:
                return await self._promise(sale, record, started_ms)
            case Replay.ANSWER:
                return Accepted(
                    purchase_id=record.purchase_id,
                    sale_id=sale.sale_id,
                    epoch=sale.epoch,
                    is_sold=record.state is PurchaseState.SOLD,
                )
            case Replay.ENDED:
                return Ended(purchase_id=record.purchase_id, reason=record.reason or "")

    async def _promise(self, sale: Sale, record: GateRecord, started_ms: float) -> BuyAnswer:
        """Publish and wait for the confirm. A failure leaves the journal entry to the sweeper."""
        fact = PurchasesAccepted(
            sale_id=sale.sale_id, epoch=sale.epoch, purchases=(accepted_of(record),)
        )
        spent_ms = self._clock.monotonic_ms() - started_ms
        try:
            if spent_ms < PROMPT_MS:
                await self._bus.publish((fact,))
            else:
                left_ms = max(0.0, PROMISE_MS - spent_ms)
                await self._within(self._bus.publish((fact,)), left_ms, Why.BUS_AWAY)
        except FlashsaleError:
            # Whatever it was, the unit is taken: the buyer must hear the id that resumes.
            return OutcomeUnknown(purchase_id=record.purchase_id)
        await self._gate.mark_queued(sale.sale_id, sale.epoch, (record.purchase_id,))
        if self._clock.monotonic_ms() - started_ms >= PROMISE_MS:
            return OutcomeUnknown(purchase_id=record.purchase_id)
        return Accepted(purchase_id=record.purchase_id, sale_id=sale.sale_id, epoch=sale.epoch)


class JournaledDesk(PurchaseDesk):
    """Answers when the unit is taken and journaled, and publishes behind the answer.

    The gate's journal is then all that holds a promise until the broker confirms, so the promise
    is as durable as the gate's server: it must have written what it answers, and must not be
    replaced by one that has not (`GateOperator.journal_faults`).
    """

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        bus: EventBus,
        clock: Clock,
        later: Callable[[Coroutine[Any, Any, None]], None],
        rules: Sequence[PurchaseRule] = (),
        within: Within = _unbounded,
    ) -> None:
        """Take the ports; `later` runs work behind the answer, and ends it before the process."""
        super().__init__(board=board, gate=gate, bus=bus, clock=clock, rules=rules, within=within)
        self._later = later

    async def _promise(self, sale: Sale, record: GateRecord, started_ms: float) -> BuyAnswer:
        """Answer now what the journal holds as a buyer's.

        What was taken for a message from outside is not: nobody publishes that again.
        """
        if record.state is not PurchaseState.RESERVED:
            return await super()._promise(sale, record, started_ms)
        self._later(self._publish(sale, record))
        if self._clock.monotonic_ms() - started_ms >= PROMISE_MS:
            return OutcomeUnknown(purchase_id=record.purchase_id)
        return Accepted(purchase_id=record.purchase_id, sale_id=sale.sale_id, epoch=sale.epoch)

    async def _publish(self, sale: Sale, record: GateRecord) -> None:
        """Bring it to the bus; what fails here, or dies, the sweeper finds in the journal."""
        await super()._promise(sale, record, self._clock.monotonic_ms())


def accepted_of(record: GateRecord) -> PurchaseAccepted:
    """Write the fact from the gate's record alone: it holds all that the message needs."""
    return PurchaseAccepted(
        purchase_id=record.purchase_id,
        user_id=record.user_id,
        quantity=record.quantity,
        accepted_at_ms=record.accepted_at_ms,
        requested_at_ms=record.requested_at_ms,
        source=record.source,
        event_id=record.event_id,
        payment_token=record.payment_token,
        traceparent=record.traceparent,
    )
