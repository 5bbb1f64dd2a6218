"""What an operator ends: a parked message, and the purchase that it is."""

from collections.abc import Iterable, Sequence

from flashsale_core.batch import Asked, Work, decide, from_outside
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Conflict, Unavailable, Why
from flashsale_core.events import Channel, ParkedMessage, ParkedStatus, PurchasesAccepted
from flashsale_core.fulfilment import follow_batch
from flashsale_core.handling import KILLED_ITS_WORKER
from flashsale_core.letter_desk import Outcome, found
from flashsale_core.letters import UNDONE, Act, DeadLetters, Signed
from flashsale_core.model import (
    Door,
    GateRecord,
    ItemId,
    OrderStatus,
    PurchaseRequest,
    PurchaseState,
    Reason,
    Sale,
    SaleId,
    SaleState,
)
from flashsale_core.ports import Codec, Observer, OrderRepository, Standing, StockGate

_PROMISED = (PurchaseState.RESERVED, PurchaseState.QUEUED)


class Discarder:
    """Ends messages and their purchases: the row first, then the unit, then the message."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        orders: OrderRepository,
        letters: DeadLetters,
        codec: Codec,
        observer: Observer,
    ) -> None:
        """Take the ports."""
        self._board = board
        self._gate = gate
        self._orders = orders
        self._letters = letters
        self._codec = codec
        self._observer = observer

    async def discard(self, letter_id: int, signed: Signed, *, is_dry: bool = False) -> Outcome:
        """End a parked message, and the purchase that it is.

        First the trail, then the row REJECTED(DISCARDED) with its event, then the unit, then the
        status: after a crash in between, the same again finishes. A row that stands already is
        followed and never changed. Raises Conflict("unknown-letter" or "letter-replayed"), and
        Unavailable while gate or database is away.
        """
        letter = await found(self._letters, letter_id)
        status = letter.parked.status
        if status is ParkedStatus.REPLAYED:
            raise Conflict("letter-replayed", f"{letter_id} was replayed: there is nothing to end")
        if status is ParkedStatus.DISCARDED:
            said = "it was discarded already"
            return Outcome(letter_id=letter_id, status=status, is_changed=False, detail=said)
        asked = await self._purchases_of(letter.parked)
        if is_dry:
            standing = await self._orders.standing(
                [(one.sale_id, one.request.purchase_id) for one in asked]
            )
            return _discarded(letter.parked, letter_id, asked, [row for row in standing if row])
        await self._letters.sign(letter_id, Act.DISCARD, signed)
        standings = await self._end(asked)
        before = await self._letters.discard(letter_id)
        if before is ParkedStatus.REPLAYED:
            raise Conflict("letter-replayed", f"{letter_id} was replayed meanwhile")
        return _discarded(letter.parked, letter_id, asked, standings)

    # ── which purchases it is ───────────────────────────────────────────────────────────────────

    async def _purchases_of(self, parked: ParkedMessage) -> list[Asked]:
        """Name the purchases that end with it.

        None: of what cannot be read, of what killed whoever read it (the gate's journal knows
        its purchases, and the sweeper publishes them again), of an id that is somebody else's.
        """
        if not parked.is_its_purchase or parked.reason == KILLED_ITS_WORKER:
            return []
        try:
            [value] = await self._codec.decode([parked.message])
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - a reader that breaks is why some letters are dead
            value = None
        match value:
            case PurchasesAccepted():
                return await self._promised(value)
            case PurchaseRequest():
                return await self._asked_outside(parked, value)
            case _:
                return await self._as_parked(parked)

    async def _promised(self, fact: PurchasesAccepted) -> list[Asked]:
        sale = await self._board.of_id(fact.sale_id)
        item_id = sale.item_id if sale is not None else _item_of(fact.sale_id)
        return [
            Asked(
                at=0,
                sale_id=fact.sale_id,
                item_id=item_id,
                door=Door.ACCEPTED,
                request=accepted,
                accepted=accepted,
                epoch=fact.epoch,
            )
            for accepted in fact.purchases
        ]

    async def _asked_outside(self, parked: ParkedMessage, request: PurchaseRequest) -> list[Asked]:
        """End what it asked for, unless that is a buyer's promise under the same id."""
        if parked.sale_id is not None:
            sale = await self._board.of_id(parked.sale_id)
        else:
            sale = await self._board.of_item(request.item_id)
        if sale is None or await self._is_others(sale, request):
            return []
        return [from_outside(sale.sale_id, request)]

    async def _is_others(self, sale: Sale, request: PurchaseRequest) -> bool:
        if sale.state is SaleState.SETTLED:
            return False
        [record] = await self._gate.find([(sale.sale_id, sale.epoch)], request.purchase_id)
        match record:
            case Unavailable():
                raise record
            case GateRecord():
                same = (record.user_id, record.quantity) == (request.user_id, request.quantity)
                return record.state in _PROMISED or not (record.state.is_final or same)
            case None:
                return False

    async def _as_parked(self, parked: ParkedMessage) -> list[Asked]:
        """Take what was noted when it was parked, where its bytes cannot be read any more."""
        if parked.sale_id is None or parked.purchase_id is None:
            return []
        if parked.user_id is None or parked.quantity is None:
            return []
        sale = await self._board.of_id(parked.sale_id)
        request = PurchaseRequest(
            purchase_id=parked.purchase_id,
            user_id=parked.user_id,
            item_id=sale.item_id if sale is not None else _item_of(parked.sale_id),
            quantity=parked.quantity,
            requested_at_ms=parked.message.written_at_ms or 0,
        )
        return [from_outside(parked.sale_id, request)]

    # ── ending them ─────────────────────────────────────────────────────────────────────────────

    async def _end(self, asked: Sequence[Asked]) -> list[Standing]:
        """Write the rows, then let the gate follow those that stand."""
        if not asked:
            return []
        work = Work(left=[])
        for one in asked:
            decide(work, one, Reason.DISCARDED.value)
        # No epoch is named: a rejected row takes no units, whichever life the gate is in.
        standings = await self._orders.record(list(work.decisions.values()), {})
        if fresh := [standing for standing in standings if standing.is_new]:
            self._observer.recorded(fresh)
        for sale_id in dict.fromkeys(standing.sale_id for standing in standings):
            await self._follow(sale_id, [row for row in standings if row.sale_id == sale_id])
        return standings

    async def _follow(self, sale_id: SaleId, rows: Iterable[Standing]) -> None:
        sale = await self._board.of_id(sale_id)
        if sale is None or sale.state is SaleState.SETTLED:
            return
        [answer] = await self._gate.follow([follow_batch(sale_id, sale.epoch, rows)])
        # Unarmed: the rebuild reads the rows. Anything else is tried again by the operator.
        if isinstance(answer, Unavailable) and answer.why is not Why.NOT_ARMED:
            raise answer


def _item_of(sale_id: SaleId) -> ItemId:
    return ItemId(sale_id.rpartition(".")[0])


def _discarded(
    parked: ParkedMessage, letter_id: int, asked: Sequence[Asked], rows: Sequence[Standing]
) -> Outcome:
    kept = [row for row in rows if row.status is not OrderStatus.REJECTED]
    said = [f"purchase {row.purchase_id} of {row.sale_id} stands {row.status}" for row in kept]
    if kept:
        said.append("that stays so: only the message is ended")
    elif not asked and parked.message.channel is Channel.ACCEPTED:
        said.append(
            "what it promised is not known from it; the gate's journal has it, and the sweeper "
            "publishes it again"
        )
    return Outcome(
        letter_id=letter_id,
        status=ParkedStatus.DISCARDED,
        is_changed=parked.status in UNDONE,
        detail="; ".join(said),
    )
