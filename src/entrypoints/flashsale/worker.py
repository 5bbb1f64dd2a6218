"""The worker: two consumers, the outbox's relay, the sweeper, and the feeder of parked messages.

Everything it does may be done twice, by two workers, or again after a crash.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import attrs
import structlog

from flashsale.seldom import Seldom
from flashsale.supervision import FAILURES_MAX, Backoff, pause
from flashsale_core.board import SaleBoard
from flashsale_core.errors import StaleEpoch, Unavailable, Why
from flashsale_core.events import Channel
from flashsale_core.parking import FEED_MAX, Parking
from flashsale_core.ports import Clock, Delivery, EventBus, Observer, Subscription
from flashsale_core.rebuild import Rebuild
from flashsale_core.reconciliation import Reconciler
from flashsale_core.retry import is_waited_for
from flashsale_core.sweeper import SWEEP_MAX, Forgetter, Sweeper

T = TypeVar("T")

FORGET_INTERVAL_MS = 60_000
"""Memory is given back by the day; a look a minute is soon enough."""
STALE_TRIES_QUIETLY = 3
"""An epoch changes rarely, and once; what still differs after so many looks must wait."""


class Consumer:
    """Takes deliveries of one channel, fulfils them side by side, and ends each one way.

    Each channel has a consumer, and bounds, of its own: a promise never waits behind the crowd of
    the outside door.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        bus: EventBus,
        parking: Parking,
        board: SaleBoard,
        observer: Observer,
        clock: Clock,
        stopping: asyncio.Event,
        backoff: Callable[[], Backoff],
        batch: int,
        deliveries: int,
        subscriptions: dict[Channel, Subscription],
    ) -> None:
        """`subscriptions` holds what is open, for whoever asks how much waits."""
        self._channel = channel
        self._bus = bus
        self._parking = parking
        self._board = board
        self._observer = observer
        self._clock = clock
        self._stopping = stopping
        self._backoff = backoff
        self._batch = batch
        self._deliveries = deliveries
        self._subscriptions = subscriptions
        self._log = structlog.get_logger("flashsale").bind(channel=channel.value)
        now_ms = clock.monotonic_ms
        self._taking = Seldom(
            self._log, "nothing can be taken", "deliveries are taken again", now_ms=now_ms
        )
        self._fulfilling = Seldom(self._log, "delivery waits", "deliveries go on", now_ms=now_ms)

    async def step(self) -> float:
        """Join the channel and work until the stop; raises when it can go on no longer."""
        async with self._bus.subscribe(self._channel, messages_max=self._batch) as subscription:
            self._subscriptions[self._channel] = subscription
            try:
                await self._consume(subscription)
            finally:
                del self._subscriptions[self._channel]
        return 0.0

    async def _consume(self, subscription: Subscription) -> None:
        slots = asyncio.Semaphore(self._deliveries)
        lost: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as in_hand:
                while (delivery := await self._next(subscription, slots)) is not None:
                    work = in_hand.create_task(self._handle(subscription, delivery))
                    work.add_done_callback(lambda _: slots.release())
        except* Unavailable as several:
            # As a group it would count as a failure of ours, ten of which end the process.
            lost = several.exceptions[0]
        if lost is not None:
            raise lost

    async def _next(self, subscription: Subscription, slots: asyncio.Semaphore) -> Delivery | None:
        """Wait for a free slot and a delivery; None at the stop."""
        backoff = self._backoff()
        while not self._stopping.is_set():
            if not await self._unless_stopping(slots.acquire()):
                return None
            try:
                delivery = await self._unless_stopping(subscription.take())
            except Unavailable as away:
                slots.release()
                self._taking.waits(error=str(away))
                await pause(self._stopping, backoff.next_wait_s())
                continue
            self._taking.goes_on()
            if delivery is None:
                slots.release()
            return delivery
        return None

    async def _unless_stopping(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """Wait for it or for the stop, whichever is first; None at the stop."""
        work = asyncio.ensure_future(waiting)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            await _cancelled(work)
            await _cancelled(stop)

    async def _handle(self, subscription: Subscription, delivery: Delivery) -> None:
        """Fulfil a delivery and acknowledge it, or give it back at the stop.

        Cancelled or beyond mending, it ends the subscription, which gives back all it holds.
        """
        if await self._fulfil(delivery):
            await subscription.acknowledge(delivery)
        else:
            await subscription.give_back(delivery)

    async def _fulfil(self, delivery: Delivery) -> bool:
        """Try until it is durable; False when the stop came first. No attempt is counted.

        While something needed is away the delivery stays in hand, so its partition rests.
        """
        backoff, stale, failures = self._backoff(), 0, 0
        while True:
            began_ms = self._clock.monotonic_ms()
            try:
                await self._parking.deliver(delivery.messages, is_suspect=delivery.is_suspect)
            except StaleEpoch as life:
                stale += 1
                if stale > STALE_TRIES_QUIETLY:
                    self._fulfilling.waits(partition=delivery.partition, error=str(life))
                wait_s = await self._look_again(backoff, stale)
            except Exception as error:
                if not is_waited_for(error):
                    failures += 1
                    self._log.exception("delivery failed", partition=delivery.partition)
                    if failures >= FAILURES_MAX:
                        raise
                else:
                    self._fulfilling.waits(partition=delivery.partition, error=str(error))
                wait_s = backoff.next_wait_s()
            else:
                seconds = (self._clock.monotonic_ms() - began_ms) / 1_000
                self._observer.batch("fulfil", len(delivery.messages), seconds)
                self._fulfilling.goes_on()
                return True
            await pause(self._stopping, wait_s)
            if self._stopping.is_set():
                return False

    async def _look_again(self, backoff: Backoff, stale: int) -> float:
        """Read the list of sales again after a gate began another life; say how long to wait."""
        try:
            await self._board.refresh()
        except Unavailable:
            return backoff.next_wait_s()
        return 0.0 if stale <= STALE_TRIES_QUIETLY else backoff.next_wait_s()


@attrs.frozen(kw_only=True)
class Sweeping:
    """Sends the sweeper round, and brings the gates' states to the database's."""

    sweeper: Sweeper
    interval_ms: int

    async def step(self) -> float:
        """Go round once; again at once while a round leaves more behind."""
        published = await self.sweeper.sweep()
        await self.sweeper.align()
        return 0.0 if published >= SWEEP_MAX else self.interval_ms / 1_000


@attrs.frozen(kw_only=True)
class Rebuilding:
    """Looks after lost gates."""

    rebuild: Rebuild
    stopping: asyncio.Event
    interval_ms: int

    async def step(self) -> float:
        """Bring to life what is lost; a stop does not wait for a rebuild, another worker will."""
        healing = asyncio.ensure_future(self.rebuild.heal())
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({healing, stop}, return_when=asyncio.FIRST_COMPLETED)
            if healing.done():
                for sale in healing.result():
                    log = structlog.get_logger("flashsale")
                    log.warning("gate lives again", sale_id=sale.sale_id, epoch=sale.epoch)
        except Unavailable as away:
            if away.why is not Why.GATE_AWAY:
                raise
            # Readiness tells of it; a gate that comes back is looked at without a long wait.
        finally:
            await _cancelled(healing)
            await _cancelled(stop)
        return self.interval_ms / 1_000


@attrs.define(kw_only=True)
class Reconciling:
    """Compares gate and database now and then.

    Not as the first thing: a worker that begins has a backlog, and one comparison reads it all.
    """

    reconciler: Reconciler
    interval_ms: int
    _has_begun: bool = attrs.field(default=False, init=False)

    async def step(self) -> float:
        """Compare once, but for the first time."""
        if self._has_begun:
            await self.reconciler.compare()
        self._has_begun = True
        return self.interval_ms / 1_000


@attrs.frozen(kw_only=True)
class Forgetting:
    """Gives the gate's memory of long settled sales back."""

    forgetter: Forgetter
    interval_ms: int

    async def step(self) -> float:
        """Drop what is due."""
        await self.forgetter.forget()
        return self.interval_ms / 1_000


@attrs.frozen(kw_only=True)
class Feeding:
    """Takes up the parked messages that are due."""

    parking: Parking
    interval_ms: int

    async def step(self) -> float:
        """Feed once; again at once while there are more."""
        return 0.0 if await self.parking.feed() == FEED_MAX else self.interval_ms / 1_000


async def _cancelled(task: "asyncio.Future[Any]") -> None:
    """Cancel a task that is not done, and wait until it is, whatever it then raises."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
