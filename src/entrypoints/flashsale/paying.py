"""The loop that works payments off: a bounded number side by side, each apart from the others."""

import asyncio

import structlog

from flashsale.supervision import pause
from flashsale_core.errors import Unavailable
from flashsale_core.payment import Cashier, Held


class Paying:
    """Claims what is due as places come free, so that one slow call holds up no other."""

    def __init__(
        self, cashier: Cashier, *, stopping: asyncio.Event, interval_ms: int, at_once: int
    ) -> None:
        """`at_once` bounds the calls of the gateway that this process makes side by side."""
        self._cashier = cashier
        self._stopping = stopping
        self._interval_s = interval_ms / 1_000
        self._at_once = at_once
        self._log = structlog.get_logger("flashsale").bind()

    async def step(self) -> float:
        """Work until the stop, and end what is in hand; raises while nothing can be claimed."""
        in_hand: set[asyncio.Task[None]] = set()
        away: Unavailable | None = None
        # Left with an error, the group would cancel calls that may have charged somebody.
        async with asyncio.TaskGroup() as group:
            while away is None and not self._stopping.is_set():
                try:
                    claimed = await self._cashier.claim(self._at_once - len(in_hand))
                except Unavailable as told:
                    away = told
                    continue
                for held in claimed:
                    task = group.create_task(self._handle(held))
                    in_hand.add(task)
                    task.add_done_callback(in_hand.discard)
                if len(in_hand) == self._at_once:
                    # There may be more: go on as soon as a place comes free.
                    await asyncio.wait(in_hand, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await pause(self._stopping, self._interval_s)
        if away is not None:
            raise away
        return 0.0

    async def _handle(self, held: Held) -> None:
        """Handle one; whatever goes wrong, its lease ends and it is looked up again."""
        charge = held.due.charge
        about = {"purchase_id": charge.purchase_id, "sale_id": charge.sale_id}
        try:
            await self._cashier.handle(held)
        except Unavailable as away:
            self._log.warning("payment waits", error=str(away), **about)
        except Exception:  # noqa: BLE001 - whatever it is, it is one payment's trouble
            self._log.exception("payment failed", **about)
