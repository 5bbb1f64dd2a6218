"""Messages that are not done: set aside in a table, and taken up again when their time comes."""

from collections.abc import Sequence
from contextlib import suppress

import attrs

from flashsale_core.batch import failed
from flashsale_core.errors import Corrupt, StaleEpoch, Transient, Unavailable, Why
from flashsale_core.events import Message, ParkedMessage, ParkedStatus
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.handling import Handling, key_of_message, key_of_parked, quarantined
from flashsale_core.ports import Alarm, EventBus, Observer, ParkedMessages, Rebuilds
from flashsale_core.retry import (
    WAITING_RETRY_MS,
    Fault,
    Verdict,
    after_attempt,
    fault_of,
    treatment_of,
)

FEED_MAX = 100
"""Parked messages taken up in one go: small beside a delivery, so they never hold one up long."""
FEED_LEASE_MS = 30_000
"""A feeder that died gives its messages free after this; a promise among them has a minute."""


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
        handling: Handling,
        feed_lease_ms: int = FEED_LEASE_MS,
    ) -> None:
        """Take the use case and the ports that it leaves its remainders to."""
        self._fulfilment = fulfilment
        self._parked = parked
        self._rebuilds = rebuilds
        self._bus = bus
        self._observer = observer
        self._handling = handling
        self._feed_lease_ms = feed_lease_ms

    # ── deliveries ──────────────────────────────────────────────────────────────────────────────

    async def deliver(self, messages: Sequence[Message], *, is_suspect: bool = False) -> None:
        """Fulfil a delivery; when it returns, everything is durable and it may be acknowledged.

        `is_suspect`: it may have been in hand when a worker died (`Delivery.is_suspect`).
        A failure that is some message's own is narrowed down by halves until one purchase is left,
        which is set aside while its neighbours go on, those of the same message too. Raises what
        `retry` says to wait for.
        """
        if not is_suspect:
            await self._deliver(messages)
            return
        await self._handling.carefully(
            messages, key_of=key_of_message, work=self._deliver, quarantine=self._quarantine
        )

    async def _deliver(self, messages: Sequence[Message]) -> None:
        try:
            await self._fulfil(messages)
        except Exception as error:
            if not treatment_of(error).is_narrowed:
                raise
            if fault_of(error) is Fault.TRANSIENT:
                await self._narrow_transient(messages, error)
            elif len(messages) == 1:
                await self._deliver_apart(messages[0], error)
            else:
                for half in _halves(messages):
                    await self._deliver(half)

    async def _narrow_transient(self, messages: Sequence[Message], error: Exception) -> None:
        """Find the one message that another transaction is in the way of.

        Where nothing gets through, it is no message's matter: it is waited for, as for a
        dependency. (Halving everything would wait for the same lock a thousand times.)
        """
        if len(messages) == 1:
            raise error
        stuck: list[tuple[Sequence[Message], Transient]] = []
        halves = _halves(messages)
        for half in halves:
            try:
                await self._fulfil(half)
            except Transient as again:
                stuck.append((half, again))
        if len(stuck) == len(halves):
            raise error
        for half, fault in stuck:
            if len(half) == 1:
                await self._deliver_apart(half[0], fault)
            else:
                await self._narrow_transient(half, fault)

    async def _fulfil(self, messages: Sequence[Message]) -> None:
        done = await self._fulfilment.process(messages)
        await self._set_aside([parked for of_one in done.left for parked in of_one])
        # Last: a rebuild reads rows and parked units as soon as the barriers are passed.
        for rebuild_id, partition in done.barriers:
            await self._rebuilds.pass_barrier(rebuild_id, partition)

    async def _deliver_apart(self, message: Message, error: Exception) -> None:
        parts, parked = await self._fulfilment.apart(message, error)
        for part in parts:
            await self._deliver([part])
        if not parts:
            await self._set_aside([parked])

    async def _quarantine(self, message: Message) -> None:
        await self._set_aside([quarantined(message)])

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

    # ── what was set aside ──────────────────────────────────────────────────────────────────────

    async def feed(self) -> int:
        """Take up what is due, through the normal gate; answer how many were looked at."""
        due = await self._parked.claim_due(FEED_MAX, self._feed_lease_ms)
        if due:
            await self._handling.carefully(
                due, key_of=key_of_parked, work=self._feed_all, quarantine=self._end_killer
            )
        return len(due)

    async def _feed_all(self, due: Sequence[ParkedMessage]) -> None:
        for at, one in enumerate(due):
            try:
                await self._feed_one(one)
            except StaleEpoch:
                # Its sale begins another life just now.
                await self._later(one)
            except Unavailable as away:
                # A schema that nobody can look up now, or a row that somebody holds, is one
                # message's trouble; it comes again when its lease ends. Whatever else is away,
                # all of them need.
                if away.why is not Why.REGISTRY_AWAY and not isinstance(away, Transient):
                    with suppress(Unavailable):
                        for rest in due[at:]:
                            await self._later(rest)
                    raise

    async def _later(self, one: ParkedMessage) -> None:
        """Give a claimed message back before its lease ends; no attempt is counted."""
        await self._parked.resolve(_id_of(one), ParkedStatus.WAITING, retry_in_ms=WAITING_RETRY_MS)

    async def _feed_one(self, one: ParkedMessage) -> None:
        try:
            done = await self._fulfilment.process([one.message], were_parked=True)
            [left] = done.left
        except Exception as error:
            if fault_of(error) is Fault.TRANSIENT or not treatment_of(error).is_narrowed:
                raise
            why = failed(one.message, error)
            left = [attrs.evolve(one, status=why.status, reason=why.reason, detail=why.detail)]
        if len(left) > 1:
            # Each of its purchases has a way of its own from here on.
            await self._set_aside(left)
            left = []
        if not left:
            await self._parked.resolve(_id_of(one), ParkedStatus.REPLAYED)
            return
        await self._resolve(one, left[0], after_attempt(left[0].status, one.attempts + 1))

    async def _resolve(self, one: ParkedMessage, left: ParkedMessage, verdict: Verdict) -> None:
        """Write what became of it; what died is copied and told of first."""
        if verdict.status is ParkedStatus.DEAD:
            holds_unit = one.holds_unit or left.holds_unit
            letter = attrs.evolve(left, status=ParkedStatus.DEAD, holds_unit=holds_unit)
            await self._copy(letter)
            self._tell(letter)
        await self._parked.resolve(
            _id_of(one), verdict.status, reason=left.reason, retry_in_ms=verdict.retry_in_ms
        )

    async def _end_killer(self, one: ParkedMessage) -> None:
        letter = quarantined(one.message)
        await self._resolve(one, letter, Verdict(status=ParkedStatus.DEAD))


def _halves(messages: Sequence[Message]) -> list[Sequence[Message]]:
    half = len(messages) // 2
    return [messages[:half], messages[half:]]


def _id_of(one: ParkedMessage) -> int:
    if one.parked_id is None:
        raise AssertionError("a claimed message has an id")
    return one.parked_id
