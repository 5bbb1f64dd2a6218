"""Consuming: one channel per queue, reopened when it breaks, closed to leave.

A mere cancel would let the next consumer overtake what is unacknowledged here, so a channel is
only ever closed: then the broker puts what it delivered back in front, in order, before another
consumer becomes active.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from math import ceil
from types import TracebackType
from typing import Self

from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractChannel as DriverChannel

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Channel
from flashsale_core.ports import Delivery
from flashsale_rabbitmq.config import PREFETCH_MAX, RabbitMQConfig
from flashsale_rabbitmq.connecting import Line, close_quietly
from flashsale_rabbitmq.envelope import ReadingConnection
from flashsale_rabbitmq.faults import translated
from flashsale_rabbitmq.lane import Hold, Lane

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
"""A broker that restarts is found again within this; a thousand workers do not come at once."""
STEADY_S = 10.0
"""A channel that lived so long ended a row of failures."""
SETTLED_LOOKS = 4
"""The driver hands frames over in portions, one in two or three passes of the event loop.

So many passes without a new message mean that the socket's buffer is empty: a delivery takes what
has arrived and waits for nothing.
"""
WATCH_DIVISOR = 8
"""How often within the longest hold it is looked after, so that it ends at most an eighth late."""
LOG = logging.getLogger(__name__)


class RabbitMQSubscription:
    """An open subscription; enter it to begin, leave it to close its channels."""

    def __init__(
        self, config: RabbitMQConfig, channel: Channel, queues: Sequence[str], messages_max: int
    ) -> None:
        """Remember what to consume; `messages_max` bounds a delivery and what is unacknowledged."""
        if not 1 <= messages_max <= PREFETCH_MAX:
            message = f"messages_max must be from 1 to {PREFETCH_MAX}"
            raise ValueError(message)
        self._config = config
        self._messages_max = messages_max
        self._line = Line(config, f"flashsale {channel.value}", ReadingConnection)
        self._lanes = [Lane(channel, queue, n, messages_max) for n, queue in enumerate(queues)]
        self._first = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._takers = 0
        self._wanted = asyncio.Event()
        self._failure: Unavailable | None = None
        self._failures = 0
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Connect and begin; raises Unavailable when the broker is away."""
        try:
            await self._line.connection()
        except BaseException:
            await self._line.close()
            raise
        for lane in self._lanes:
            keeper = asyncio.create_task(self._keep(lane))
            keeper.add_done_callback(lambda _: self._stir())
            self._keepers.append(keeper)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every channel, which gives what is unended back to the queue's front."""
        self._is_closed = True
        self._news.set()
        for keeper in self._keepers:
            keeper.cancel()
        try:
            if self._keepers:
                await asyncio.wait(self._keepers)
        finally:
            await self._line.close()

    async def take(self) -> Delivery:
        """Wait for the next delivery; raise Unavailable when no queue can be consumed.

        It raises after an attempt to reconnect that failed while it waited, so that taking again
        at once is paced by the reconnects.
        """
        failures = self._failures
        self._takers += 1
        try:
            while True:
                if self._is_closed:
                    raise Unavailable(Why.BUS_AWAY, "the subscription is closed")
                lane = self._next_ready()
                if lane is not None:
                    await self._settle(lane)
                    delivery = lane.hand_out()
                    if delivery is not None:
                        return delivery
                    continue
                self._raise_when_away(failures)
                self._ask_for_lapsed()
                self._news.clear()
                await self._news.wait()
        finally:
            self._takers -= 1

    async def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge on the channel that delivered; without effect once that is gone.

        Returns when the acknowledgement is on its way; the broker takes it before the channel's
        closing.
        """
        hold = delivery.token
        if not isinstance(hold, Hold):
            return
        is_current = hold.lane.end(hold)
        self._stir()
        if not is_current or hold.channel.is_closed:
            return
        try:
            async with asyncio.timeout(self._config.connect_ms / 1_000):
                with translated("acknowledging"):
                    await hold.channel.basic_ack(hold.arrivals[-1].tag, multiple=True)
        except (Unavailable, TimeoutError):
            # The line is lost or stuck: they come again, or the next acknowledge covers them.
            return

    async def give_back(self, delivery: Delivery) -> None:
        """Keep the messages and deliver them next; the broker does not count it as a delivery."""
        hold = delivery.token
        if isinstance(hold, Hold) and hold.lane.end(hold):
            hold.lane.put_back(hold)
        self._stir()

    async def lag(self) -> int | None:
        """Count what is unacknowledged here and this consumer's share of what waits in the queues.

        So all workers together count a message once. A share is rounded up: what waits is never 0.
        RabbitMQ does not say what is in flight to other consumers; they count that.
        """
        connection = await self._line.connection()
        waiting = 0
        with translated("counting what waits"):
            async with asyncio.timeout(self._config.connect_ms / 1_000):
                channel = connection.channel()
                await channel.initialize()
                try:
                    for lane in self._lanes:
                        queue = await channel.declare_queue(lane.queue, passive=True)
                        seen = queue.declaration_result
                        waiting += ceil((seen.message_count or 0) / (seen.consumer_count or 1))
                finally:
                    await close_quietly(channel)
        return waiting + sum(lane.unacknowledged for lane in self._lanes)

    async def expired(self) -> int | None:
        """Answer None: a queue keeps what nobody has acknowledged."""
        return None

    # ── handing out ─────────────────────────────────────────────────────────────────────────────

    def _stir(self) -> None:
        self._news.set()

    def _next_ready(self) -> Lane | None:
        """Find a lane with something to hand out, beginning behind the last one served."""
        for offset in range(len(self._lanes)):
            place = (self._first + offset) % len(self._lanes)
            if self._lanes[place].ready:
                self._first = place + 1
                return self._lanes[place]
        return None

    async def _settle(self, lane: Lane) -> None:
        """Let what is in the socket's buffer arrive, so that a batch is a batch."""
        looks = 0
        while looks < SETTLED_LOOKS:
            seen = lane.ready
            # At least once: who gives back and takes in a circle must not starve the other queues.
            await asyncio.sleep(0)
            if lane.ready >= self._messages_max:
                return
            looks = looks + 1 if lane.ready == seen else 0

    def _raise_when_away(self, failures_before: int) -> None:
        for keeper in self._keepers:
            if keeper.done():
                # A fault of our own ended it: to wait on would be to wait for ever.
                keeper.result()
        if self._failure is None or self._failures == failures_before:
            return
        if any(lane.is_open or lane.is_lapsed for lane in self._lanes):
            return
        raise Unavailable(self._failure.why, self._failure.detail) from self._failure

    def _ask_for_lapsed(self) -> None:
        if any(lane.is_lapsed and lane.is_idle for lane in self._lanes):
            self._wanted.set()

    # ── keeping the lanes open ──────────────────────────────────────────────────────────────────

    async def _keep(self, lane: Lane) -> None:
        """Open the lane's channel again and again, for as long as the subscription lives."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                await self._consume(lane)
            except Unavailable as away:
                self._failure = away
                self._failures += 1
                if not failures:
                    LOG.warning("queue %s is not consumed: %s", lane.queue, away)
            self._stir()
            if lane.is_lapsed:
                await self._until_wanted(lane)
                continue
            failures = 0 if loop.time() - began > STEADY_S else failures + 1
            pause_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**failures)
            # Jitter needs no secrecy.
            await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311

    async def _consume(self, lane: Lane) -> None:
        """Feed the lane by one channel until that is lost or held too long. Raises Unavailable."""
        owner = await self._open_channel()
        try:
            lost = asyncio.Event()
            with translated(f"consuming {lane.queue}"):
                async with asyncio.timeout(self._config.connect_ms / 1_000):
                    driver = await self._begin(owner, lane, lost)
            await self._watch(lane, driver, lost)
        finally:
            lane.starve()
            await close_quietly(owner)

    async def _open_channel(self) -> AbstractChannel:
        connection = await self._line.connection()
        with translated("opening a channel"):
            async with asyncio.timeout(self._config.connect_ms / 1_000):
                channel = connection.channel(publisher_confirms=False)
                await channel.initialize()
                return channel

    async def _begin(
        self, owner: AbstractChannel, lane: Lane, lost: asyncio.Event
    ) -> DriverChannel:
        # aio-pika's own consumer costs twice as much a message as the driver's.
        driver = await owner.get_underlay_channel()
        await owner.set_qos(prefetch_count=self._messages_max)
        driver.closing.add_done_callback(lambda _: lost.set())
        # The broker cancels a consumer whose queue is deleted or moves to another node.
        driver.on_consumer_cancel_callbacks.add(lambda _: lost.set())
        await driver.basic_consume(lane.queue, lane.fed_by(driver, self._stir))
        return driver

    async def _watch(self, lane: Lane, driver: DriverChannel, lost: asyncio.Event) -> None:
        hold_s_max = self._config.hold_ms_max / 1_000
        loop = asyncio.get_running_loop()
        while not lost.is_set() and not driver.is_closed:
            try:
                async with asyncio.timeout(hold_s_max / WATCH_DIVISOR):
                    await lost.wait()
            except TimeoutError:
                if lane.oldest_s(loop.time()) > hold_s_max:
                    # Another worker may have them; here, only once somebody takes again.
                    lane.is_lapsed = True
                    LOG.warning("queue %s: a delivery was held too long, giving it up", lane.queue)
                    return

    async def _until_wanted(self, lane: Lane) -> None:
        while not (lane.is_idle and self._takers):
            self._wanted.clear()
            await self._wanted.wait()
        lane.is_lapsed = False
