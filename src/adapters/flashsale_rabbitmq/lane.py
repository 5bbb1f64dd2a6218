"""One queue as a subscription sees it: what has arrived, and the one delivery in hand."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine

import attrs
from aiormq.abc import AbstractChannel as DriverChannel
from aiormq.abc import DeliveredMessage

from flashsale_core.events import Channel, Message
from flashsale_core.ports import Delivery
from flashsale_rabbitmq.wire import message_from


@attrs.frozen(kw_only=True)
class Arrival:
    """A message with the tag that acknowledges it, and when it came (loop time, seconds)."""

    tag: int
    at: float
    message: Message
    is_redelivered: bool = False
    """It was delivered before, to somebody who did not acknowledge it."""


@attrs.frozen(kw_only=True, eq=False)
class Hold:
    """The token of a delivery: which messages are in hand, and on which channel they came."""

    lane: "Lane"
    channel: DriverChannel
    arrivals: tuple[Arrival, ...]


class Lane:
    """Keeps a queue's order over give-backs and over the loss of its channel.

    Delivery tags die with their channel: what came on a lost one is forgotten here and comes
    again from the broker. The delivery in hand stays the only one until its holder ended it,
    even when its channel is gone, because its holder is still at work on it.
    """

    def __init__(self, channel: Channel, queue: str, partition: int, messages_max: int) -> None:
        """Begin closed, with nothing in hand."""
        self.queue = queue
        self.partition = partition
        self.is_lapsed = False
        self._of = channel
        self._messages_max = messages_max
        self._driver: DriverChannel | None = None
        self._arrived: deque[Arrival] = deque()
        self._in_hand: Hold | None = None
        self._has_ended_one = False

    @property
    def is_open(self) -> bool:
        """Say whether a channel feeds the lane."""
        return self._driver is not None

    @property
    def is_idle(self) -> bool:
        """Say whether nothing is in hand."""
        return self._in_hand is None

    @property
    def ready(self) -> int:
        """Count what could be handed out now."""
        return min(len(self._arrived), self._messages_max) if self._in_hand is None else 0

    @property
    def unacknowledged(self) -> int:
        """Count what the broker has delivered here and counts as in flight."""
        held = self._in_hand
        in_hand = len(held.arrivals) if held is not None and held.channel is self._driver else 0
        return in_hand + len(self._arrived)

    def oldest_s(self, now: float) -> float:
        """Tell how long the oldest unacknowledged message is held, in seconds."""
        held = self._in_hand
        if held is not None and held.channel is self._driver:
            return now - held.arrivals[0].at
        return now - self._arrived[0].at if self._arrived else 0.0

    def fed_by(
        self, driver: DriverChannel, stir: Callable[[], None]
    ) -> Callable[[DeliveredMessage], Coroutine[None, None, None]]:
        """Begin with a new channel; return what to call with each message that it delivers."""
        self._driver = driver
        self._arrived.clear()
        self._has_ended_one = False
        now = asyncio.get_running_loop().time

        async def arrive(delivered: DeliveredMessage) -> None:
            tag = delivered.delivery_tag
            if self._driver is not driver or tag is None:
                return
            message = message_from(delivered, self._of, self.queue, self.partition)
            again = bool(delivered.redelivered)
            arrival = Arrival(tag=tag, at=now(), message=message, is_redelivered=again)
            self._arrived.append(arrival)
            stir()

        return arrive

    def starve(self) -> None:
        """Forget what came on a channel that is gone."""
        self._driver = None
        self._arrived.clear()

    def hand_out(self) -> Delivery | None:
        """Make a delivery of what has arrived; None when something is in hand or nothing came."""
        if self._driver is None or not self.ready:
            return None
        arrivals = tuple(self._arrived.popleft() for _ in range(self.ready))
        self._in_hand = Hold(lane=self, channel=self._driver, arrivals=arrivals)
        return Delivery(
            channel=self._of,
            partition=self.partition,
            messages=tuple(arrival.message for arrival in arrivals),
            is_suspect=not self._has_ended_one or any(one.is_redelivered for one in arrivals),
            token=self._in_hand,
        )

    def end(self, hold: Hold) -> bool:
        """End the delivery in hand; False when its channel is gone or it had ended before."""
        if self._in_hand is not hold:
            return False
        self._in_hand = None
        is_current = self._driver is hold.channel
        self._has_ended_one |= is_current
        return is_current

    def put_back(self, hold: Hold) -> None:
        """Let the same messages come next."""
        self._arrived.extendleft(reversed(hold.arrivals))
