"""Facts that wait to be told, in memory."""

from collections.abc import Awaitable, Callable, Sequence

from flashsale_core.events import OrderEvent
from flashsale_core.ports import Outbox
from flashsale_memory.tables import Tables


class MemoryOutbox:
    """Facts that wait to be told."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables

    async def relay(
        self, publish: Callable[[Sequence[OrderEvent]], Awaitable[None]], limit: int
    ) -> int:
        """Claim up to `limit` facts, hand them to `publish`, forget them when it returned."""
        claimed = [fact for fact in self._tables.outbox if not fact.is_claimed][:limit]
        if not claimed:
            return 0
        for fact in claimed:
            fact.is_claimed = True
        try:
            await publish([fact.event for fact in claimed])
        except BaseException:
            for fact in claimed:
                fact.is_claimed = False
            raise
        told = set(map(id, claimed))
        self._tables.outbox[:] = [fact for fact in self._tables.outbox if id(fact) not in told]
        return len(claimed)

    async def backlog(self) -> int:
        """Count the facts that wait."""
        return len(self._tables.outbox)

    async def age_ms(self) -> int:
        """Tell for how long the oldest fact has waited."""
        now_ms = self._tables.clock.now_ms()
        return max((now_ms - fact.written_at_ms for fact in self._tables.outbox), default=0)


_: type[Outbox] = MemoryOutbox
