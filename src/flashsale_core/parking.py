"""Messages that are not done: set aside in a table, and taken up again when their time comes."""

from collections.abc import Sequence
from contextlib import suppress

import attrs

from flashsale_core.batch import failed
from flashsale_core.errors import Corrupt, StaleEpoch, Unavailable, Why
from flashsale_core.events import Message, ParkedMessage, ParkedStatus
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.ports import Alarm, EventBus, Observer, ParkedMessages, Rebuilds
from flashsale_core.retry import UNKNOWN_ATTEMPTS_MAX, UNKNOWN_DELAYS_MS

FEED_MAX = 100
"""Parked messages taken up in one go: small beside a delivery, so they never hold one up long."""
FEED_LEASE_MS = 60_000
"""A feeder that died gives its messages free after this."""
WAITING_RETRY_MS = 1_000
"""A message whose sale is still not sellable is looked at again after this; no attempt counts."""


class Parking:
    """Fulfils deliveries, and keeps what they leave over until it is done or dead."""

    def __init__(
        self,
        *,
        fulfilment: Fulfilment,
        parked: ParkedMessages,
        rebuilds: Rebuilds,
        bus: EventBus,
        observer: Observer,
    ) -> None:
        """Take the use case and the ports that it leaves its remainders to."""
        self._fulfilment = fulfilment
        self._parked = parked
        self._rebuilds = rebuilds
        self._bus = bus
        self._observer = observer

    async def deliver(self, messages: Sequence[Message]) -> None:
        """Fulfil a delivery; when it returns, everything is durable and it may be acknowledged.

        A failure of unknown cause is narrowed down by halves until one purchase is left, which is
        parked RETRYING while its neighbours go on, those of the same message too. Raises
        Unavailable or StaleEpoch.
        """
        try:
            done = await self._fulfilment.process(messages)
        except (Unavailable, StaleEpoch):
            raise
        except Exception as unknown:  # noqa: BLE001 - the class of failures nobody foresaw
            if len(messages) == 1:
                await self._deliver_apart(messages[0], unknown)
                return
            half = len(messages) // 2
            await self.deliver(messages[:half])
            await self.deliver(messages[half:])
        else:
            await self._set_aside([parked for of_one in done.left for parked in of_one])
            # Last: a rebuild reads rows and parked units as soon as the barriers are passed.
            for rebuild_id, partition in done.barriers:
                await self._rebuilds.pass_barrier(rebuild_id, partition)

    async def _deliver_apart(self, message: Message, unknown: Exception) -> None:
        parts, parked = await self._fulfilment.apart(message, unknown)
        for part in parts:
            await self.deliver([part])
        if not parts:
            await self._set_aside([parked])

    async def _set_aside(self, left: Sequence[ParkedMessage]) -> None:
        """Write the table before the copy for other tools, and both before the acknowledgement."""
        if not left:
            return
        news = await self._parked.park(left)
        for message, is_new in zip(left, news, strict=True):
            if message.status is ParkedStatus.DEAD:
                await self._copy(message)
            if is_new:
                self._tell(message)

    async def _copy(self, letter: ParkedMessage) -> None:
        # The table has it. A copy that its topic never will take (the headers that say why it
        # died may make it too large) must not come between its neighbours and their orders.
        with suppress(Corrupt):
            await self._bus.copy_dead_letter(letter)

    def _tell(self, message: ParkedMessage) -> None:
        self._observer.parked(message)
        if message.holds_unit:
            self._observer.alarm(Alarm.UNIT_PARKED, origin=message.message.origin)

    async def feed(self) -> int:
        """Take up what is due, through the normal gate; answer how many were looked at."""
        due = await self._parked.claim_due(FEED_MAX, FEED_LEASE_MS)
        for at, one in enumerate(due):
            try:
                await self._feed_one(one)
            except StaleEpoch:
                # Its sale begins another life just now.
                await self._later(one)
            except Unavailable as away:
                # A schema that nobody can look up now is one message's trouble; it comes again
                # when its lease ends. Whatever else is away, all of them need.
                if away.why is not Why.REGISTRY_AWAY:
                    with suppress(Unavailable):
                        for rest in due[at:]:
                            await self._later(rest)
                    raise
        return len(due)

    async def _later(self, one: ParkedMessage) -> None:
        """Give a claimed message back before its lease ends; no attempt is counted."""
        await self._parked.resolve(_id_of(one), ParkedStatus.WAITING, retry_in_ms=WAITING_RETRY_MS)

    async def _feed_one(self, one: ParkedMessage) -> None:
        parked_id = _id_of(one)
        try:
            done = await self._fulfilment.process([one.message], were_parked=True)
            [left] = done.left
        except (Unavailable, StaleEpoch):
            raise
        except Exception as unknown:  # noqa: BLE001 - the class of failures nobody foresaw
            why = failed(one.message, unknown)
            left = [attrs.evolve(one, status=why.status, reason=why.reason, detail=why.detail)]
        if len(left) > 1:
            # Each of its purchases has a way of its own from here on.
            await self._set_aside(left)
            left = []
        if not left:
            await self._parked.resolve(parked_id, ParkedStatus.REPLAYED)
            return
        status, attempts = left[0].status, one.attempts + 1
        if status is ParkedStatus.RETRYING and attempts >= UNKNOWN_ATTEMPTS_MAX:
            status = ParkedStatus.DEAD
        if status is ParkedStatus.DEAD:
            await self._copy(left[0])
            self._tell(left[0])
        retrying = status is ParkedStatus.RETRYING
        delay_ms = (
            UNKNOWN_DELAYS_MS[min(attempts, len(UNKNOWN_DELAYS_MS)) - 1]
            if retrying
            else WAITING_RETRY_MS
        )
        await self._parked.resolve(parked_id, status, reason=left[0].reason, retry_in_ms=delay_ms)


def _id_of(claimed: ParkedMessage) -> int:
    if claimed.parked_id is None:
        raise AssertionError("a claimed message has an id")
    return claimed.parked_id
