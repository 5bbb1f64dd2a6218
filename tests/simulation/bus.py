"""A broker in a simulated world: it loses confirms, is late, and says things twice."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import attrs

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    Barrier,
    Channel,
    Message,
    OrderEvent,
    ParkedMessage,
    PurchasesAccepted,
)
from flashsale_core.ports import BusFeatures
from flashsale_core.testing.plain_codec import PlainCodec
from tests.simulation.chance import Crash, Dice, Fate, turn

PARTITIONS = 2


class Landing(Enum):
    """When a message that was sent is there."""

    NOW = auto()
    LATE = auto()
    TWICE = auto()


@attrs.define(eq=False)
class Partition:
    """Messages in order, and up to where they are acknowledged."""

    channel: Channel
    number: int
    messages: list[Message] = attrs.field(factory=list)
    done: int = 0

    @property
    def waiting(self) -> int:
        """Count what is not acknowledged."""
        return len(self.messages) - self.done

    def put(self, message: Message) -> None:
        """Add it as the newest."""
        origin = f"sim.{self.channel.value}:{self.number}:{len(self.messages)}"
        self.messages.append(attrs.evolve(message, origin=origin, partition=self.number))


class SimulatedBus:
    """What the use cases publish to; the world lets workers take from it."""

    def __init__(self, dice: Dice, codec: PlainCodec) -> None:
        """Begin empty."""
        self._dice, self._codec = dice, codec
        accepted = [Partition(Channel.ACCEPTED, number) for number in range(PARTITIONS)]
        self.requests = Partition(Channel.REQUESTS, 0)
        self.partitions = [*accepted, self.requests]
        self._accepted = accepted
        self.late: list[tuple[Partition, Message]] = []
        self.orders: list[OrderEvent] = []
        self.copies: list[ParkedMessage] = []

    @property
    def features(self) -> BusFeatures:
        """Declare what a Kafka would."""
        return BusFeatures(has_keys=True, numbers_messages=True, accepted_partitions=PARTITIONS)

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Send, after the world's turn."""
        await turn()
        self.publish_now(facts)

    def publish_now(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Send; a fate decides whether it arrives and whether that is heard of."""
        fate = self._dice.fate()
        if fate is Fate.CRASH_BEFORE:
            raise Crash
        if fate is Fate.AWAY:
            raise Unavailable(Why.BUS_AWAY, "by chance")
        is_unheard = fate is not Fate.FINE
        for fact in facts:
            if isinstance(fact, OrderEvent):
                self.orders.append(fact)
            else:
                self._land(fact, may_be_late=is_unheard)
        if fate is Fate.CRASH_AFTER:
            raise Crash
        if fate is Fate.REPLY_LOST:
            raise Unavailable(Why.BUS_AWAY, "by chance", may_have_happened=True)

    async def barrier(self, marker: Barrier) -> int:
        """Put the marker on every partition, one by one; whoever dies has put it on some."""
        for partition in self._accepted:
            await turn()
            fate = self._dice.fate()
            if fate is Fate.CRASH_BEFORE:
                raise Crash
            if fate is not Fate.AWAY:
                partition.put(self._written(marker))
            if fate is Fate.CRASH_AFTER:
                raise Crash
            if fate is not Fate.FINE:
                raise Unavailable(Why.BUS_AWAY, "by chance", may_have_happened=True)
        return PARTITIONS

    def _written(self, fact: PurchasesAccepted | Barrier) -> Message:
        encoded = self._codec.encode(fact)
        return Message(
            channel=Channel.ACCEPTED,
            body=encoded.body,
            headers=encoded.headers,
            content_type=encoded.content_type,
            origin="",
        )

    def _land(self, fact: PurchasesAccepted, *, may_be_late: bool) -> None:
        message = self._written(fact)
        partition = self._dice.random.choice(self._accepted)
        roll = self._dice.random.random()
        if may_be_late and roll < 0.5:
            self.late.append((partition, message))
            return
        partition.put(message)
        if roll > 0.95:
            partition.put(message)

    def land_late(self) -> None:
        """Let one that was on its way arrive."""
        if self.late:
            at = self._dice.random.randrange(len(self.late))
            partition, message = self.late.pop(at)
            partition.put(message)

    async def copy_dead_letter(self, letter: ParkedMessage) -> None:
        """Keep a copy."""
        await turn()
        if self._dice.fate() in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER):
            raise Crash
        self.copies.append(letter)
