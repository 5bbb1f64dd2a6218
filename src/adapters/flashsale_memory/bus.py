"""A bus inside one process: the embedded default, and what tests run on."""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Barrier,
    Channel,
    Message,
    OrderEvent,
    ParkedMessage,
    PurchasesAccepted,
)
from flashsale_core.ports import BusFeatures, Codec, Delivery, Encoded, EventBus, Subscription

PARTITIONS_DEFAULT = 4
"""Enough that a stuck partition leaves its neighbours going; one process needs no more."""
CONFIRM_DEADLINE_MS_DEFAULT = 800
"""The hot path's deadline: a buyer is told within it, or told that the outcome is unknown."""
WAITING_MAX = 100_000
"""Messages that may wait in one partition, about 100 MB; more is an outage, not a buffer."""
LOG_MAX = 10_000
"""Order events and dead letters kept to be looked at; nobody consumes them here."""


@attrs.define(eq=False)
class _Receipt:
    """Counts the messages of one publish that nobody has acknowledged yet."""

    missing: int
    confirmed: asyncio.Future[None]

    def one_acknowledged(self) -> None:
        self.missing -= 1
        if self.missing == 0 and not self.confirmed.done():
            self.confirmed.set_result(None)


@attrs.define(eq=False)
class _Partition:
    waiting: deque[tuple[Message, _Receipt | None]] = attrs.field(factory=deque)
    next_offset: int = 0
    held: Delivery | None = None
    """The one unended delivery; its messages stay at the head of `waiting` until it ends."""


class MemoryBus:
    """Keep every message in this process, for one event loop.

    A confirm means more here than with a broker: `publish` to ACCEPTED returns when a subscriber
    ACKNOWLEDGED every fact, so the worker has committed it. While nobody is subscribed it waits,
    and at the deadline raises Unavailable with `may_have_happened`: the message stays, and whoever
    subscribes later gets it. Order events and dead letters are kept in bounded logs, newest last.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        partitions: int = PARTITIONS_DEFAULT,
        publish_deadline_ms: int = CONFIRM_DEADLINE_MS_DEFAULT,
    ) -> None:
        """Make an empty bus; ACCEPTED gets `partitions`, REQUESTS one."""
        self._codec = codec
        self._deadline_s = publish_deadline_ms / 1_000
        self._channels = {
            Channel.ACCEPTED: [_Partition() for _ in range(partitions)],
            Channel.REQUESTS: [_Partition()],
        }
        self._logs: dict[Channel, deque[Message]] = {
            Channel.ORDERS: deque(maxlen=LOG_MAX),
            Channel.DEAD_LETTERS: deque(maxlen=LOG_MAX),
        }
        self._life = uuid.uuid4().hex[:12]
        """Part of every origin: messages are numbered anew in each life, parked ones outlive it."""
        self._logged = 0
        self._turn = 0
        self._takers: set[asyncio.Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def features(self) -> BusFeatures:
        """Declare keys, numbers, and that a confirm comes after the acknowledge."""
        return BusFeatures(
            has_keys=True,
            numbers_messages=True,
            accepted_partitions=len(self._channels[Channel.ACCEPTED]),
            confirms_after_acknowledge=True,
        )

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Put every fact where it belongs; wait until those on ACCEPTED are acknowledged."""
        self._pin_loop()
        promised: list[Encoded] = []
        for fact in facts:
            encoded = self._codec.encode(fact)
            if isinstance(fact, OrderEvent):
                self._log(Channel.ORDERS, encoded, fact.purchase_id.encode())
            else:
                promised.append(encoded)
        if not promised:
            return
        receipt = _Receipt(len(promised), asyncio.get_running_loop().create_future())
        self._put_in_turn(promised, receipt)
        try:
            async with asyncio.timeout(self._deadline_s):
                await receipt.confirmed
        except TimeoutError as exc:
            detail = f"nobody acknowledged within {self._deadline_s:g} s"
            raise Unavailable(Why.BUS_AWAY, detail, may_have_happened=True) from exc

    async def copy_dead_letter(self, letter: ParkedMessage) -> None:
        """Keep a copy in the log of dead letters."""
        message = letter.message
        added = (
            (ORIGIN_HEADER, message.origin.encode()),
            (REASON_HEADER, letter.reason.encode()),
        )
        log = self._logs[Channel.DEAD_LETTERS]
        log.append(
            attrs.evolve(
                message,
                channel=Channel.DEAD_LETTERS,
                headers=message.headers + added,
                origin=self._log_origin(Channel.DEAD_LETTERS),
            )
        )

    @asynccontextmanager
    async def subscribe(
        self, channel: Channel, *, messages_max: int
    ) -> AsyncIterator[Subscription]:
        """Take from REQUESTS or ACCEPTED; what is unended on leaving goes to the others."""
        self._pin_loop()
        subscription = _MemorySubscription(self, self._partitions(channel), channel, messages_max)
        try:
            yield subscription
        finally:
            subscription.leave()

    async def barrier(self, marker: Barrier) -> int:
        """Put the marker behind everything on every partition; does not wait for it."""
        self._pin_loop()
        encoded = self._codec.encode(marker)
        partitions = self._channels[Channel.ACCEPTED]
        for number in range(len(partitions)):
            self._append(Channel.ACCEPTED, number, _as_message(Channel.ACCEPTED, encoded), None)
        return len(partitions)

    async def check(self) -> None:
        """Nothing can be missing inside one process."""
        self._pin_loop()

    def put(self, message: Message) -> None:
        """Let a message in as another program would: its channel and partition are the message's.

        Its origin is given here.
        """
        self._pin_loop()
        self._append(message.channel, message.partition, message, None)

    def log(self, channel: Channel) -> list[Message]:
        """Read what was told on ORDERS or DEAD_LETTERS, oldest first, the last LOG_MAX of it."""
        return list(self._logs[channel])

    def _put_in_turn(self, promised: list[Encoded], receipt: _Receipt) -> None:
        partitions = self._channels[Channel.ACCEPTED]
        room = min(WAITING_MAX - len(partition.waiting) for partition in partitions)
        if len(promised) > room * len(partitions):
            raise Unavailable(Why.OVERLOADED, f"{WAITING_MAX} messages wait in a partition")
        for encoded in promised:
            number = self._turn = (self._turn + 1) % len(partitions)
            message = _as_message(Channel.ACCEPTED, encoded)
            self._append(Channel.ACCEPTED, number, message, receipt)

    def _append(
        self, channel: Channel, number: int, message: Message, receipt: _Receipt | None
    ) -> None:
        partition = self._partitions(channel)[number]
        if len(partition.waiting) >= WAITING_MAX:
            raise Unavailable(Why.OVERLOADED, f"{WAITING_MAX} messages wait in a partition")
        origin = f"memory.{self._life}.{channel.value}:{number}:{partition.next_offset}"
        partition.next_offset += 1
        numbered = attrs.evolve(message, origin=origin, partition=number)
        partition.waiting.append((numbered, receipt))
        self.wake()

    def _log(self, channel: Channel, encoded: Encoded, key: bytes) -> None:
        message = _as_message(channel, encoded)
        origin = self._log_origin(channel)
        self._logs[channel].append(attrs.evolve(message, key=key, origin=origin))

    def _log_origin(self, channel: Channel) -> str:
        self._logged += 1
        return f"memory.{self._life}.{channel.value}:0:{self._logged}"

    def _partitions(self, channel: Channel) -> list[_Partition]:
        try:
            return self._channels[channel]
        except KeyError:
            message = f"{channel.value} is a log here: read it with log()"
            raise ValueError(message) from None

    def _pin_loop(self) -> None:
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        if self._loop is not running:
            message = "a MemoryBus lives in one event loop; use a broker between loops"
            raise RuntimeError(message)

    def wake(self) -> None:
        """Let every taker look again: something came, or a partition is free."""
        for taker in self._takers:
            if not taker.done():
                taker.set_result(None)

    async def something_new(self) -> None:
        """Wait for the next `wake`."""
        taker = asyncio.get_running_loop().create_future()
        self._takers.add(taker)
        try:
            await taker
        finally:
            self._takers.discard(taker)


class _MemorySubscription:
    """Any subscriber may take from any partition that has no unended delivery."""

    def __init__(
        self, bus: MemoryBus, partitions: list[_Partition], channel: Channel, messages_max: int
    ) -> None:
        self._bus = bus
        self._partitions = partitions
        self._channel = channel
        self._messages_max = messages_max
        self._next = 0

    async def take(self) -> Delivery:
        """Wait for the next delivery, partitions in turn."""
        # Who takes and gives back in a loop must not keep others from ever running.
        await asyncio.sleep(0)
        while True:
            count = len(self._partitions)
            for step in range(count):
                number = (self._next + step) % count
                partition = self._partitions[number]
                if partition.waiting and partition.held is None:
                    self._next = number + 1
                    return self._hold(number, partition)
            await self._bus.something_new()

    def _hold(self, number: int, partition: _Partition) -> Delivery:
        size = min(self._messages_max, len(partition.waiting))
        messages = tuple(partition.waiting[place][0] for place in range(size))
        partition.held = Delivery(
            channel=self._channel, partition=number, messages=messages, token=self
        )
        return partition.held

    async def acknowledge(self, delivery: Delivery) -> None:
        """Forget its messages and confirm whoever published them."""
        partition = self._partitions[delivery.partition]
        if partition.held is not delivery:
            return
        partition.held = None
        for _ in delivery.messages:
            _, receipt = partition.waiting.popleft()
            if receipt is not None:
                receipt.one_acknowledged()
        self._bus.wake()

    async def give_back(self, delivery: Delivery) -> None:
        """Free the partition; its messages are still at its head."""
        partition = self._partitions[delivery.partition]
        if partition.held is delivery:
            partition.held = None
            self._bus.wake()

    async def lag(self) -> int | None:
        """Count what is not acknowledged."""
        return sum(len(partition.waiting) for partition in self._partitions)

    async def expired(self) -> int | None:
        """Nothing is deleted here but by an acknowledge."""
        return None

    def leave(self) -> None:
        """Free what this subscriber holds."""
        for partition in self._partitions:
            if partition.held is not None and partition.held.token is self:
                partition.held = None
        self._bus.wake()


def _as_message(channel: Channel, encoded: Encoded) -> Message:
    return Message(
        channel=channel,
        body=encoded.body,
        headers=encoded.headers,
        content_type=encoded.content_type,
        origin="",
    )


_: type[EventBus] = MemoryBus
_s: type[Subscription] = _MemorySubscription
