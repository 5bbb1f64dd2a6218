"""Messages that were consumed and are not done, in memory."""

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from flashsale_core.events import ParkedMessage, ParkedStatus
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.ports import ParkedMessages
from flashsale_memory.tables import ParkedRow, Tables

_ALIVE = (ParkedStatus.WAITING, ParkedStatus.RETRYING)
_UNDONE = (*_ALIVE, ParkedStatus.DEAD)


class MemoryParkedMessages:
    """Messages that were consumed and are not done."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables

    async def park(self, messages: Sequence[ParkedMessage]) -> list[bool]:
        """Store each, once per origin and purchase id; answer which ones are new."""
        parked = self._tables.parked
        news = []
        for message in messages:
            key = (message.message.origin, message.purchase_id or "")
            news.append(key not in parked)
            holds_unit = message.holds_unit and not self._is_over(message)
            numbered = attrs.evolve(
                message, parked_id=len(parked) + 1, holds_unit=holds_unit, promised_under=None
            )
            now_ms = self._tables.clock.now_ms()
            parked.setdefault(key, ParkedRow(numbered, now_ms, now_ms, now_ms))
        return news

    def _is_over(self, message: ParkedMessage) -> bool:
        """Say whether a later life was loaded than the one that its unit was promised in."""
        sale = self._tables.sales.get(message.sale_id) if message.sale_id is not None else None
        promised = message.promised_under
        return sale is not None and promised is not None and promised < sale.armed_epoch

    async def claim_due(self, limit: int, lease_ms: int) -> list[ParkedMessage]:
        """Take what is due; nobody else gets it for `lease_ms`."""
        now_ms = self._tables.clock.now_ms()
        due = [one for one in self._having(_ALIVE) if one.due_at_ms <= now_ms]
        due = sorted(due, key=lambda one: one.due_at_ms)[:limit]
        for one in due:
            one.due_at_ms = now_ms + lease_ms
        return sorted((one.message for one in due), key=_id_of)

    async def resolve(
        self, parked_id: int, status: ParkedStatus, *, reason: str = "", retry_in_ms: int = 0
    ) -> None:
        """Say what became of a claimed one; what has ended stays ended."""
        for one in self._having(_UNDONE):
            if one.message.parked_id == parked_id:
                attempts = one.message.attempts + (status is ParkedStatus.RETRYING)
                one.message = attrs.evolve(
                    one.message,
                    status=status,
                    reason=reason or one.message.reason,
                    attempts=attempts,
                )
                one.changed_at_ms = self._tables.clock.now_ms()
                one.due_at_ms = one.changed_at_ms + retry_in_ms

    async def counts(self) -> Mapping[ParkedStatus, int]:
        """Count by status."""
        counted = Counter(one.message.status for one in self._tables.parked.values())
        return {status: counted[status] for status in ParkedStatus}

    async def of_purchases(self, purchase_ids: Sequence[PurchaseId]) -> list[ParkedMessage]:
        """Find what is parked and not done of these purchases."""
        wanted = set(purchase_ids)
        return [one.message for one in self._having(_UNDONE) if one.message.purchase_id in wanted]

    async def holding(self, sale_id: SaleId) -> int:
        """Count the parked messages of a sale that hold a unit or wait for one."""
        of_sale = [one.message for one in self._having(_UNDONE) if one.message.sale_id == sale_id]
        return sum(message.status in _ALIVE or message.holds_unit for message in of_sale)

    async def dead(self, limit: int, *, before: int | None = None) -> list[ParkedMessage]:
        """List what is DEAD, the newest first."""
        found = [one.message for one in self._having((ParkedStatus.DEAD,))]
        newest_first = sorted(found, key=_id_of, reverse=True)
        return [one for one in newest_first if before is None or _id_of(one) < before][:limit]

    async def find(self, parked_id: int) -> ParkedMessage | None:
        """Find one by its id."""
        every = (one.message for one in self._tables.parked.values())
        return next((one for one in every if one.parked_id == parked_id), None)

    def _having(self, statuses: tuple[ParkedStatus, ...]) -> list[ParkedRow]:
        return [one for one in self._tables.parked.values() if one.message.status in statuses]


def _id_of(message: ParkedMessage) -> int:
    return message.parked_id or 0


_: type[ParkedMessages] = MemoryParkedMessages
