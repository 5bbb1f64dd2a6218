"""The relay: tells the facts that wait in the outbox."""

import asyncio

import attrs

from flashsale_core.ports import Clock, EventBus, Observer, Outbox

SIDE_BY_SIDE = 3
"""Batches under way while the relay is behind: a quorum queue confirms a thousand in 0.2 s."""


@attrs.define(kw_only=True)
class Relay:
    """Tells the facts that wait in the outbox.

    While it is behind, several batches are under way: one is claimed as others wait for the
    broker. Each claim skips what another holds, so several in one process are as so many processes.
    """

    outbox: Outbox
    bus: EventBus
    observer: Observer
    clock: Clock
    batch: int
    interval_ms: int
    _is_behind: bool = attrs.field(default=False, init=False)

    async def step(self) -> float:
        """Tell a batch, or several side by side; go on at once while batches are full."""
        side_by_side = SIDE_BY_SIDE if self._is_behind else 1
        told = await asyncio.gather(
            *(self._tell() for _ in range(side_by_side)), return_exceptions=True
        )
        # Only when all have ended: a step leaves nothing behind that still runs.
        for one in told:
            if isinstance(one, BaseException):
                raise one
        self._is_behind = self.batch in told
        return 0.0 if self._is_behind else self.interval_ms / 1_000

    async def _tell(self) -> int:
        began_ms = self.clock.monotonic_ms()
        told = await self.outbox.relay(self.bus.publish, self.batch)
        if told:
            seconds = (self.clock.monotonic_ms() - began_ms) / 1_000
            self.observer.batch("relay", told, seconds)
        return told
