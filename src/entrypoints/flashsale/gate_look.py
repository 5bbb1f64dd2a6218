"""What readiness asks of the gate: that it answers, and that this version's functions can sell."""

import attrs

from flashsale_core.board import SaleBoard
from flashsale_core.errors import Unavailable, Why
from flashsale_core.opening import CheckedGate


@attrs.frozen
class GateLook:
    """Looks at the gate, and takes over what another version of its functions has armed.

    A process of a new version is so ready only when it sells beside the old ones. A sale that is
    armed nowhere makes nobody unready: it is that sale's trouble, and a worker rebuilds it.
    """

    gate: CheckedGate
    board: SaleBoard

    async def look(self) -> None:
        """Raise Unavailable unless the gate answers and can do its work."""
        await self.gate.check()
        sales = [(sale.sale_id, sale.epoch) for sale in self.board.unsettled()]
        books = await self.gate.books(sales)
        unarmed = [
            sale
            for sale, seen in zip(sales, books, strict=True)
            if isinstance(seen, Unavailable) and seen.why is Why.NOT_ARMED
        ]
        if unarmed:
            await self.gate.adopt(unarmed)
