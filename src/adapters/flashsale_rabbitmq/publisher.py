"""Publishing with confirms: one channel, many messages in flight, one deadline over each call."""

import asyncio
import itertools
import uuid
from collections.abc import Sequence

from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.channel import Channel as ConfirmingChannel

from flashsale_core.errors import Unavailable, Why
from flashsale_rabbitmq.config import RabbitMQConfig
from flashsale_rabbitmq.confirming import Letter, confirming, publish
from flashsale_rabbitmq.connecting import Line, close_quietly
from flashsale_rabbitmq.faults import translated, unavailable

WINDOW_LETTERS = 1_000
"""One call has so many unconfirmed at a time: more gains nothing and fills the socket's buffer."""
UNCONFIRMED_MAX = 20_000
"""A channel with so many unanswered is not being answered; it is given up for a new one."""
REST_S = 5.0
"""A queue that refused or kept silent is tried last for this long; its leader may be away."""


class Turns:
    """Which accepted queue is next; those that failed lately come last."""

    def __init__(self, queues: Sequence[str]) -> None:
        """Begin with the first queue."""
        self._queues = tuple(queues)
        self._next = 0
        self._resting_until: dict[str, float] = {}

    def routes(self, now: float) -> tuple[str, ...]:
        """Order the queues for the next message: in turn, resting ones last; `now` in seconds."""
        start = self._next
        self._next = (start + 1) % len(self._queues)
        turned = self._queues[start:] + self._queues[:start]
        if not self._resting_until:
            return turned
        return tuple(sorted(turned, key=lambda queue: self._resting_until.get(queue, 0.0) > now))

    def rest(self, queue: str, now: float) -> None:
        """Put a queue last for a while."""
        self._resting_until[queue] = now + REST_S

    def wake(self, queue: str) -> None:
        """Let a queue that confirmed be as good as any."""
        self._resting_until.pop(queue, None)


class Publisher:
    """The publishing side of a bus, on a connection of its own.

    The broker holds back a connection that publishes too much; consumers must not wait with it.
    """

    def __init__(self, config: RabbitMQConfig) -> None:
        """Remember the settings; nothing is opened yet."""
        self._exchange = config.exchange
        self.line = Line(config, "flashsale publisher")
        self.turns = Turns(config.accepted_queues())
        self._opening = asyncio.Lock()
        # aio-pika ends a channel that nobody refers to, so both are kept.
        self._owner: AbstractChannel | None = None
        self._channel: ConfirmingChannel | None = None
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()

    async def deliver(self, letters: Sequence[Letter], deadline_ms: int) -> None:
        """Return when the broker has confirmed every letter, by whichever route took it.

        Raises Unavailable; `may_have_happened` unless no letter can be on the bus.
        """
        try:
            async with asyncio.timeout(deadline_ms / 1_000):
                for start in range(0, len(letters), WINDOW_LETTERS):
                    await self._deliver_window(letters[start : start + WINDOW_LETTERS])
        except TimeoutError as exc:
            self._rest_the_silent(letters)
            raise Unavailable(
                Why.BUS_AWAY,
                f"no confirm within {deadline_ms} ms",
                may_have_happened=any(letter.may_be_stored for letter in letters),
            ) from exc
        except Unavailable as away:
            away.may_have_happened = any(letter.may_be_stored for letter in letters)
            raise

    async def close(self) -> None:
        """Close channel and connection."""
        await self.line.close()
        self._owner = self._channel = None

    async def _deliver_window(self, letters: Sequence[Letter]) -> None:
        pending = list(letters)
        while pending:
            channel = await self._open_channel()
            numbered = [(letter, f"{self._name}-{next(self._numbers)}") for letter in pending]
            with translated("publishing"):
                await publish(channel, self._exchange, numbered)
            pending = [letter for letter in pending if not self._is_done(letter)]

    def _is_done(self, letter: Letter) -> bool:
        """Settle an answered letter: True confirmed, False to be tried elsewhere, or raise."""
        failure = letter.failure
        route, *others = letter.routes
        if failure is None:
            self.turns.wake(route)
            return True
        if not isinstance(failure, DeliveryError):
            raise unavailable(failure, "publishing") from failure
        self.turns.rest(route, asyncio.get_running_loop().time())
        if not others:
            raise unavailable(failure, f"publishing to {route}") from failure
        letter.was_refused |= not isinstance(failure, PublishError)
        letter.routes, letter.confirmation = tuple(others), None
        return False

    def _rest_the_silent(self, letters: Sequence[Letter]) -> None:
        now = asyncio.get_running_loop().time()
        for letter in letters:
            if letter.confirmation is not None and not letter.is_answered:
                self.turns.rest(letter.routes[0], now)

    async def _open_channel(self) -> ConfirmingChannel:
        channel = self._channel
        if channel is not None and self._is_usable(channel):
            return channel
        async with self._opening:
            if self._channel is channel:
                await self._replace_channel()
            if self._channel is None:
                raise Unavailable(Why.BUS_AWAY, "the channel was lost as it was opened")
            return self._channel

    @staticmethod
    def _is_usable(channel: ConfirmingChannel) -> bool:
        return not channel.is_closed and len(channel.confirmations) < UNCONFIRMED_MAX

    async def _replace_channel(self) -> None:
        lost, self._owner, self._channel = self._owner, None, None
        if lost is not None:
            await close_quietly(lost)
        connection = await self.line.connection()
        with translated("opening a channel"):
            owner = connection.channel(publisher_confirms=True, on_return_raises=True)
            await owner.initialize()
            self._channel = confirming(await owner.get_underlay_channel())
            self._owner = owner
