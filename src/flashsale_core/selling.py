"""What an operator does with a sale: make it, pause it, close it, settle it, look at it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs

from flashsale_core.arming import arm_from_database
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Conflict, Invalid, StaleEpoch, Unavailable, Violation, Why
from flashsale_core.model import ItemId, Sale, SaleId, SaleState, SaleTerms
from flashsale_core.ports import Clock, GateBooks, ParkedMessages, SaleCatalogue, StockGate

INIT_MS = 5_000
"""An init is answered within this: with the sale armed, or with 503."""
INIT_LOOK_MS = 100
"""Between two looks of an init at a gate that somebody else brings to life."""


@attrs.frozen(kw_only=True)
class SaleView:
    """A sale as the database has it, and its gate's live counts where the gate answers."""

    sale: Sale
    gate: GateBooks | None
    gate_problem: str | None = None


class SaleDesk:
    """The operator's commands. The database is changed first; the gate follows."""

    def __init__(
        self,
        *,
        board: SaleBoard,
        catalogue: SaleCatalogue,
        gate: StockGate,
        parked: ParkedMessages,
        clock: Clock,
        wait: Callable[[int], Awaitable[None]],
        has_gateway: bool = False,
    ) -> None:
        """Take the ports, and what waits so many milliseconds.

        With a payment gateway, every sale needs a price.
        """
        self._clock = clock
        self._wait = wait
        self._board = board
        self._catalogue = catalogue
        self._gate = gate
        self._parked = parked
        self._has_gateway = has_gateway

    async def init(self, item_id: ItemId, terms: SaleTerms) -> SaleView:
        """Make the item's sale, load its gate and arm it; the same again is a no-op.

        A sale that was armed once and has lost its gate is not loaded here: a worker rebuilds it,
        as it may have promised what is not a row yet. Raises Conflict("other-terms") while an
        unsettled sale has other terms, Unavailable when it is not armed within INIT_MS, and
        Invalid for a sale without a price where a payment gateway is configured.
        """
        if self._has_gateway and terms.unit_price_minor is None:
            needs = "is required: a payment gateway is configured (0 where the item is free)"
            raise Invalid(
                [
                    Violation(field="unitPriceMinor", problem=needs),
                    Violation(field="currency", problem="is required: it goes with unitPriceMinor"),
                ]
            )
        until_ms = self._clock.monotonic_ms() + INIT_MS
        sale = await self._catalogue.create(item_id, terms)
        if sale.armed_epoch == 0:
            # Somebody else who makes the same sale may be quicker; then theirs is waited for.
            with suppress(StaleEpoch):
                await arm_from_database(self._catalogue, self._gate, sale)
        while True:
            await self._board.refresh()
            view = await self.show(sale.sale_id)
            if view.gate is not None:
                return view
            if self._clock.monotonic_ms() >= until_ms:
                raise Unavailable(Why.NOT_ARMED, view.gate_problem or "", retry_after_ms=1_000)
            await self._wait(INIT_LOOK_MS)

    async def show(self, sale_id: SaleId) -> SaleView:
        """Show one sale. Raises Conflict("unknown-sale")."""
        sale = await self._catalogue.get(sale_id)
        if sale is None:
            raise _unknown(sale_id)
        [view] = await self._views([sale])
        return view

    async def all(self) -> list[SaleView]:
        """Show the latest sale of every item."""
        return await self._views(await self._catalogue.current())

    async def _views(self, sales: list[Sale]) -> list[SaleView]:
        try:
            seen = await self._gate.books([(sale.sale_id, sale.epoch) for sale in sales])
        except Unavailable as away:
            seen = [away] * len(sales)
        return [
            SaleView(sale=sale, gate=None, gate_problem=str(books))
            if isinstance(books, Unavailable)
            else SaleView(sale=sale, gate=books)
            for sale, books in zip(sales, seen, strict=True)
        ]

    async def pause(self, sale_id: SaleId) -> SaleView:
        """Take no new purchases; what was promised goes on."""
        return await self._move(sale_id, SaleState.PAUSED, (SaleState.OPEN,))

    async def resume(self, sale_id: SaleId) -> SaleView:
        """Sell again after a pause."""
        return await self._move(sale_id, SaleState.OPEN, (SaleState.PAUSED,))

    async def close(self, sale_id: SaleId) -> SaleView:
        """End the selling; what was promised goes on."""
        open_ones = (SaleState.OPEN, SaleState.PAUSED, SaleState.HALTED)
        return await self._move(sale_id, SaleState.CLOSED, open_ones)

    async def settle(self, sale_id: SaleId) -> SaleView:
        """End a closed sale for good, so that the item may have another.

        Raises Conflict("not-settled-yet") that says what it waits for: a journal that is empty,
        nothing pending, and no parked message that holds a unit or waits for one.
        """
        view = await self.show(sale_id)
        if view.sale.state is not SaleState.SETTLED:
            waits = await self._waits_for(view)
            if waits:
                raise Conflict("not-settled-yet", f"{sale_id} waits for: {', '.join(waits)}")
        return await self._move(sale_id, SaleState.SETTLED, (SaleState.CLOSED,))

    async def _waits_for(self, view: SaleView) -> list[str]:
        if view.sale.state is not SaleState.CLOSED:
            return [f"close (it is {view.sale.state})"]
        if view.gate is None:
            return [f"its gate ({view.gate_problem})"]
        if view.gate.state is not SaleState.CLOSED:
            # It would go on selling: nobody brings a settled sale's gate to the database's state.
            return [f"its gate to close (it is {view.gate.state})"]
        counts = {
            "purchases in the journal": view.gate.journal,
            "units pending payment": view.sale.pending,
            "parked messages": await self._parked.holding(view.sale.sale_id),
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    async def _move(
        self, sale_id: SaleId, to: SaleState, expected: tuple[SaleState, ...]
    ) -> SaleView:
        sale = await self._catalogue.change_state(sale_id, to, expected=expected)
        # A gate that cannot follow now is aligned by the sweeper, within seconds.
        try:
            await self._gate.set_state(sale_id, sale.epoch, to)
        except Unavailable:
            self._board.doubt()
        await self._board.refresh()
        return await self.show(sale_id)


def _unknown(sale_id: SaleId) -> Conflict:
    return Conflict("unknown-sale", f"no sale {sale_id} was ever made")
