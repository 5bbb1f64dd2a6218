"""What an operator ends by name: a purchase that holds a unit and comes no further by itself.

The sweeper publishes such a purchase again and again, for ever: the engine never gives up a unit
that somebody may have been promised. A person may, and is named in the trail.
"""

from flashsale_core.board import SaleBoard
from flashsale_core.discarding import Discarder
from flashsale_core.errors import Conflict, Unavailable
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus, PurchasesAccepted
from flashsale_core.letter_desk import Outcome
from flashsale_core.letters import Signed
from flashsale_core.model import GateRecord, PurchaseId, SaleId
from flashsale_core.ports import Codec, ParkedMessages, StockGate
from flashsale_core.purchase import accepted_of

ENDED_BY_OPERATOR = "ended-by-operator"
"""Reason of the dead letter that such a purchase becomes."""


class Ender:
    """Sets a purchase aside as a dead letter, and discards that: row first, then the unit."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        gate: StockGate,
        parked: ParkedMessages,
        codec: Codec,
        discarder: Discarder,
    ) -> None:
        """Take the ports."""
        self._board = board
        self._gate = gate
        self._parked = parked
        self._codec = codec
        self._discarder = discarder

    async def end(self, sale_id: SaleId, purchase_id: PurchaseId, signed: Signed) -> Outcome:
        """End one purchase that the gate holds a unit for; repeat it after a crash to finish.

        From the letter on the sweeper waits, so nothing is published again meanwhile. A row that
        stands already is followed and never changed; the answer says so. Raises
        Conflict("unknown-sale", "unknown-purchase" or "purchase-ended"), and Unavailable.
        """
        record = await self._held(sale_id, purchase_id)
        await self._parked.park([self._letter(sale_id, record)])
        letters = [
            one
            for one in await self._parked.of_purchases([purchase_id])
            if one.sale_id == sale_id and one.reason == ENDED_BY_OPERATOR
        ]
        if not letters or letters[0].parked_id is None:
            raise Conflict(
                "purchase-ended", f"{purchase_id} of {sale_id} was ended already; its row stands"
            )
        return await self._discarder.discard(letters[0].parked_id, signed)

    async def _held(self, sale_id: SaleId, purchase_id: PurchaseId) -> GateRecord:
        sale = await self._board.of_id(sale_id)
        if sale is None:
            raise Conflict("unknown-sale", f"no sale {sale_id} was ever made")
        [record] = await self._gate.find([(sale_id, sale.epoch)], purchase_id)
        if isinstance(record, Unavailable):
            raise record
        if record is None:
            raise Conflict("unknown-purchase", f"the gate of {sale_id} knows no {purchase_id}")
        if record.state.is_final:
            how = "sold" if record.reason is None else f"ended ({record.reason})"
            raise Conflict("purchase-ended", f"{purchase_id} of {sale_id} is {how} already")
        return record

    def _letter(self, sale_id: SaleId, record: GateRecord) -> ParkedMessage:
        fact = PurchasesAccepted(
            sale_id=sale_id, epoch=record.epoch, purchases=(accepted_of(record),)
        )
        encoded = self._codec.encode(fact)
        message = Message(
            channel=Channel.ACCEPTED,
            body=encoded.body,
            headers=encoded.headers,
            content_type=encoded.content_type,
            origin=f"journal:{sale_id}:{record.purchase_id}",
        )
        return ParkedMessage(
            message=message,
            status=ParkedStatus.DEAD,
            reason=ENDED_BY_OPERATOR,
            sale_id=sale_id,
            purchase_id=record.purchase_id,
            holds_unit=True,
            promised_under=record.epoch,
            user_id=record.user_id,
            quantity=record.quantity,
        )
