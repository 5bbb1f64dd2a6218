"""Ports whose calls go through a breaker, each otherwise what it was."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any

from flashsale_coalesce.bounding import Bounds
from flashsale_coalesce.breaker import Breaker
from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import Epoch, PurchaseId, SaleId
from flashsale_core.opening import Database
from flashsale_core.ports import ClaimBatch, EventBus, GateReply, StockGate

GUARDED_IN_DATABASE = ("orders", "outbox", "parked", "letters", "notes", "payments")
"""The list of sales is always asked for: a rebuild counts on how young every process's is."""


class _Guarded:
    """A port; what is no coroutine function (`features`, `subscribe`) passes straight."""

    def __init__(self, inner: Any, breaker: Breaker) -> None:
        self._inner = inner
        self._breaker = breaker

    def _method(self, found: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        return found

    def __getattr__(self, name: str) -> Any:
        """Guard a method when it is first asked for."""
        found = getattr(self._inner, name)
        if not iscoroutinefunction(found):
            return found
        run, method = self._breaker.run, self._method(found)

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            return await run(lambda: method(*args, **kwargs))

        vars(self)[name] = guarded
        return guarded


class GuardedGate(_Guarded):
    """A gate whose silence is found out by one question at a time, which takes nothing."""

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """See `StockGate.reserve`."""
        return await self._breaker.run(
            lambda: self._inner.reserve(batches), probe=self._inner.check
        )

    async def mark_queued(
        self, sale_id: SaleId, epoch: Epoch, purchase_ids: Sequence[PurchaseId]
    ) -> Unavailable | None:
        """See `StockGate.mark_queued`, which answers that the gate is away."""
        try:
            return await self._breaker.run(
                lambda: self._inner.mark_queued(sale_id, epoch, purchase_ids)
            )
        except Unavailable as away:
            return away


class GuardedBus(_Guarded):
    """A bus whose publishes fail at once while the broker is silent."""


class _Asked(_Guarded):
    """A port whose every call is a question that somebody waits for."""

    def __init__(self, inner: Any, breaker: Breaker, deadline_ms: float) -> None:
        super().__init__(inner, breaker)
        self._deadline_ms = deadline_ms
        self._within = Bounds().within

    def _method(self, found: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        def bounded(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._within(found(*args, **kwargs), self._deadline_ms, Why.DATABASE_AWAY)

        return bounded


class GuardedDatabase:
    """A database of which everything but the list of sales, rebuilds and `check` is guarded."""

    def __init__(
        self, inner: Database, breaker: Breaker, *, deadline_ms: float | None = None
    ) -> None:
        """Guard each of its ports by the same breaker.

        A call that takes longer than `deadline_ms` is given up, and counts as silence: for those
        who only ask. Work in hand has the driver's own deadlines, which are longer.
        """
        self._inner = inner
        for name in GUARDED_IN_DATABASE:
            port = getattr(inner, name)
            vars(self)[name] = (
                _Guarded(port, breaker)
                if deadline_ms is None
                else _Asked(port, breaker, deadline_ms)
            )

    def __getattr__(self, name: str) -> Any:
        """Pass on the rest."""
        return getattr(self._inner, name)


_: Callable[[StockGate, Breaker], StockGate] = GuardedGate
__: Callable[[EventBus, Breaker], EventBus] = GuardedBus
