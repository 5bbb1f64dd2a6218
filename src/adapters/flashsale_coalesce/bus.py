"""Many promises, one message: what the gate accepted together is published together."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

import attrs

from flashsale_coalesce.telling import tell_failure
from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import OrderEvent, PurchaseAccepted, PurchasesAccepted
from flashsale_core.model import Epoch, PurchaseId, SaleId
from flashsale_core.ports import EventBus

PURCHASES_MAX = 500
"""Purchases in one message: with the longest fields still under the megabyte that readers take."""
IN_FLIGHT_MAX = 4
"""Publishes under way: enough to hide the broker's round trip, few enough that messages grow."""
WAITING_MAX = 10_000
"""Promises that may wait for the broker; more could not be confirmed within their deadline."""

Told = Callable[[str, int, float], None]
_Life = tuple[SaleId, Epoch]


@attrs.define(eq=False)
class _Promise:
    """One purchase on its way to the bus, and those who wait for the confirm.

    Each waits by a future of its own: one who leaves takes nothing from those who joined.
    """

    purchase: PurchaseAccepted
    waiting: "list[asyncio.Future[None]]" = attrs.field(factory=list)

    def tell(self, failure: BaseException | None) -> None:
        """Tell all who wait, and have not left, how it went."""
        for one in self.waiting:
            if failure is not None:
                tell_failure(one, failure)
            elif not one.done():
                one.set_result(None)


@attrs.define(eq=False)
class _Flight:
    """One publish under way, and who waits for it, by the sale's life: a message each."""

    loads: list[tuple[_Life, list[_Promise]]]
    began: float

    @property
    def facts(self) -> list[PurchasesAccepted]:
        """Write its messages."""
        return [
            PurchasesAccepted(
                sale_id=sale_id, epoch=epoch, purchases=tuple(one.purchase for one in promises)
            )
            for (sale_id, epoch), promises in self.loads
        ]

    def tell(self, failure: BaseException | None) -> None:
        """Tell all who wait how it went."""
        for _, promises in self.loads:
            for promise in promises:
                promise.tell(failure)


class CoalescingBus:
    """Merges concurrent publishes of PurchasesAccepted; everything else goes straight through."""

    def __init__(
        self,
        bus: EventBus,
        *,
        in_flight_max: int = IN_FLIGHT_MAX,
        waiting_max: int = WAITING_MAX,
        told: Told = lambda _stage, _size, _seconds: None,
    ) -> None:
        """Stand in front of a bus, in one event loop; `told` hears each batch's size and time."""
        self._bus = bus
        self._in_flight_max = in_flight_max
        self._waiting_max = waiting_max
        self._told = told
        self._waiting: dict[_Life, dict[PurchaseId, _Promise]] = {}
        self._under_way: dict[tuple[SaleId, Epoch, PurchaseId], _Promise] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._flights: set[_Flight] = set()
        self._is_woken = False
        self._confirmed_at = float("-inf")

    def __getattr__(self, name: str) -> Any:
        """Pass on what is not batched: features, subscribe, barrier, dead letters, check."""
        return getattr(self._bus, name)

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Ride in the next message; a purchase that is on its way is joined, not repeated."""
        if any(isinstance(fact, OrderEvent) for fact in facts):
            await self._bus.publish(facts)
            return
        if len(self._under_way) >= self._waiting_max:
            raise Unavailable(Why.OVERLOADED, f"{len(self._under_way)} promises wait for the bus")
        mine = [
            self._join(fact, purchase)
            for fact in facts
            if isinstance(fact, PurchasesAccepted)
            for purchase in fact.purchases
        ]
        try:
            for confirmed in mine:
                await confirmed
        finally:
            # The first that fails is told; nobody asks for the others then.
            for confirmed in mine[1:]:
                if not confirmed.cancel() and not confirmed.cancelled():
                    confirmed.exception()

    def _join(self, fact: PurchasesAccepted, purchase: PurchaseAccepted) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        key = (fact.sale_id, fact.epoch, purchase.purchase_id)
        promise = self._under_way.get(key)
        if promise is None:
            promise = self._under_way[key] = _Promise(purchase)
            life = (fact.sale_id, fact.epoch)
            self._waiting.setdefault(life, {})[purchase.purchase_id] = promise
            if not self._is_woken:
                self._is_woken = True
                loop.call_soon(self._wake)
        confirmed: asyncio.Future[None] = loop.create_future()
        promise.waiting.append(confirmed)
        return confirmed

    def _wake(self) -> None:
        """Publish what has gathered, as far as the window of publishes under way allows."""
        self._is_woken = False
        while self._waiting and len(self._publishing) < self._in_flight_max:
            task = asyncio.get_running_loop().create_task(self._publish(self._take()))
            self._publishing.add(task)
            task.add_done_callback(self._ended)

    def _take(self) -> list[tuple[_Life, list[_Promise]]]:
        """Take what one publish carries: of many sales, a message each."""
        room, taken = PURCHASES_MAX, []
        for life, promises in list(self._waiting.items()):
            ids = list(promises) if len(promises) <= room else list(promises)[:room]
            taken.append((life, [promises.pop(one) for one in ids]))
            room -= len(ids)
            del self._waiting[life]
            if promises:
                # To the end of the row: one sale's crowd must not keep another's buyers waiting.
                self._waiting[life] = promises
            if not room:
                break
        return taken

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._publishing.discard(task)
        self._wake()

    async def _publish(self, loads: list[tuple[_Life, list[_Promise]]]) -> None:
        flight = _Flight(loads, time.perf_counter())
        self._flights.add(flight)
        failure: BaseException | None = None
        try:
            await self._bus.publish(flight.facts)
        except BaseException as error:
            failure = error
            if self._is_silence(error, since=flight.began):
                self._send_home(error, lost=flight)
            if not isinstance(error, Exception):
                raise
        else:
            self._confirmed_at = time.perf_counter()
        finally:
            self._flights.discard(flight)
            size = sum(len(promises) for _, promises in loads)
            self._told("publish", size, time.perf_counter() - flight.began)
            self._forget(loads)
            flight.tell(failure)

    def _forget(self, loads: Iterable[tuple[_Life, Iterable[_Promise]]]) -> None:
        """Let them be joined no more; one who was sent home may have come again meanwhile."""
        under_way = self._under_way
        for (sale_id, epoch), promises in loads:
            for promise in promises:
                key = (sale_id, epoch, promise.purchase.purchase_id)
                if under_way.get(key) is promise:
                    del under_way[key]

    def _is_silence(self, error: BaseException, *, since: float) -> TypeGuard[Unavailable]:
        """Say whether a publish failed without any other being confirmed meanwhile."""
        is_away = isinstance(error, Unavailable) and not error.was_refused
        return is_away and self._confirmed_at <= since

    def _send_home(self, silence: Unavailable, *, lost: _Flight) -> None:
        """Tell all who would only wait for the same.

        Those who wait for their turn, and those whose publish has been under way for at least
        half as long as the one that is lost: a crowd is several publishes. A younger one keeps
        its own time.
        """
        never_left = Unavailable(silence.why, silence.detail)
        self._forget((life, promises.values()) for life, promises in self._waiting.items())
        for promises in self._waiting.values():
            for promise in promises.values():
                promise.tell(never_left)
        self._waiting.clear()
        unsure = Unavailable(silence.why, silence.detail, may_have_happened=True)
        half_way = (lost.began + time.perf_counter()) / 2
        for flight in self._flights:
            if flight is not lost and flight.began <= half_way:
                self._forget(flight.loads)
                flight.tell(unsure)

    async def aclose(self) -> None:
        """Wait for the confirms under way; each has a deadline of its own."""
        while self._publishing or self._waiting:
            self._wake()
            await asyncio.wait(self._publishing)


_: Callable[[EventBus], EventBus] = CoalescingBus
