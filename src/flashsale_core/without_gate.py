"""What a batch does with purchases of a sale whose gate does not know it."""

from collections.abc import Sequence

import attrs

from flashsale_core.batch import Asked, Work, alone, dead, decide, waiting
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Corrupt, StaleEpoch, Unavailable
from flashsale_core.events import Message
from flashsale_core.model import Reason, Sale, SaleState
from flashsale_core.ports import Codec, OrderRepository


@attrs.frozen(kw_only=True)
class WithoutGate:
    """Decides by the database alone what may be decided by it, and sets the rest aside."""

    _board: SaleBoard = attrs.field(alias="board")
    _orders: OrderRepository = attrs.field(alias="orders")
    _codec: Codec = attrs.field(alias="codec")

    async def decide(
        self,
        work: Work,
        sale: Sale,
        messages: Sequence[Message],
        group: Sequence[Asked],
        away: Unavailable,
    ) -> None:
        """Decide without the gate, which does not know the sale under this epoch.

        A promise of the last armed life is recorded by the database alone, from the moment a
        rebuild has begun; until then it waits, and its partition with it, as nobody may overtake
        a barrier. The rebuild reads the row, so nothing follows.
        """
        now = await self._board.again(sale)
        if now.epoch != sale.epoch or sale.sale_id in work.epochs:
            raise StaleEpoch(f"{sale.sale_id}: epoch {now.epoch}, not {sale.epoch}")
        if now.state is SaleState.SETTLED:
            await self._settled(work, messages, group)
            return
        for one in group:
            if one.accepted is None or one.epoch != now.armed_epoch:
                work.left[one.at].append(waiting(self._codec, messages[one.at], one, away))
            elif now.armed_epoch < now.epoch:
                work.promised[sale.sale_id] = one.epoch
                decide(work, one, None)
            else:
                raise StaleEpoch(f"{sale.sale_id}: its gate is lost, and no rebuild has begun")

    async def _settled(
        self, work: Work, messages: Sequence[Message], group: Sequence[Asked]
    ) -> None:
        """Decide for a sale that is over, whose gate has forgotten it: what stands, stands."""
        rows = await self._orders.standing(
            [(one.sale_id, one.request.purchase_id) for one in group]
        )
        for one, row in zip(group, rows, strict=True):
            if one.accepted is None:
                decide(work, one, Reason.CLOSED.value)
            elif row is None:
                late = Corrupt("sale-settled", f"{one.sale_id} was settled without this purchase")
                work.left[one.at].append(dead(alone(self._codec, messages[one.at], one), late, one))
