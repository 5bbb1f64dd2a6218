"""Many publishes on one channel, written together and confirmed one by one.

aiormq's `basic_publish` costs 80 µs a message, most of it in one socket write and several passes
of the event loop each, and in a future that channel and connection both keep a record of. So this
speaks to the channel's own book-keeping (aiormq 7.2): the delivery tag counts publishes,
`confirmations` finds who is told of a tag, `message_id_delivery_tag` finds the tag of a returned
message. One future stands for all messages of a call; each has an `Answer`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import attrs
from aio_pika.exceptions import ChannelInvalidStateError, PublishError
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel as ConfirmingChannel

from flashsale_rabbitmq.frames import publish_frames


class Answer:
    """What became of one publish: as much of a future as the channel's book-keeping asks for."""

    __slots__ = ("_error", "_is_done", "_together")

    def __init__(self, together: "Together") -> None:
        """Stand unanswered; `together` counts those of the same call."""
        self._together = together
        self._is_done = False
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Say whether the broker has answered, or never will."""
        return self._is_done

    def cancelled(self) -> bool:
        """Nobody cancels an answer: who stops waiting leaves it as it is."""
        return False

    def exception(self) -> BaseException | None:
        """Tell why it was not confirmed."""
        return self._error

    def set_result(self, _: object) -> None:
        """Note the broker's confirm."""
        self._end(None)

    def set_exception(self, error: BaseException) -> None:
        """Note why there is none."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._is_done, self._error = True, error
        self._together.one_less()


class Together:
    """The publishes of one call; a channel that is lost fails its future `all_answered`."""

    __slots__ = ("_left", "all_answered")

    def __init__(self, count: int, all_answered: "asyncio.Future[None]") -> None:
        """Wait for so many answers."""
        self._left = count
        self.all_answered = all_answered

    def one_less(self) -> None:
        """Count an answer."""
        self._left -= 1
        if not self._left and not self.all_answered.done():
            self.all_answered.set_result(None)


@attrs.define(kw_only=True, eq=False)
class Letter:
    """One message on its way; `routes` are the routing keys still to be tried, best first."""

    routes: tuple[str, ...]
    body: bytes
    content_type: str | None
    headers: dict[str, Any]
    confirmation: "Answer | asyncio.Future[Any] | None" = None
    was_refused: bool = False
    """A queue said that it could not store it; nobody can be sure that none of its replicas did."""

    @property
    def may_be_stored(self) -> bool:
        """Say whether it can be on the bus; a returned message reached no queue."""
        left = self.confirmation is not None and not isinstance(self.failure, PublishError)
        return left or self.was_refused

    @property
    def is_answered(self) -> bool:
        """Say whether its fate is known: confirmed, refused, or its channel lost."""
        return self.confirmation is not None and self.confirmation.done()

    @property
    def failure(self) -> BaseException | None:
        """Tell why it was not confirmed; None while that is not known."""
        confirmation = self.confirmation
        if confirmation is None or not confirmation.done():
            return None
        if confirmation.cancelled():
            return asyncio.CancelledError()
        return confirmation.exception()


async def publish(
    channel: ConfirmingChannel, exchange: str, letters: Sequence[tuple[Letter, str]]
) -> None:
    """Send each letter under its message id by its first route, and wait until all are answered.

    The answer stands in the letter. Message ids must never repeat on a channel. A cancelled call
    leaves the channel's numbering whole.
    """
    tags = channel.message_id_delivery_tag
    async with channel.lock:
        all_answered = await _send(channel, exchange, letters)
    try:
        await asyncio.wait([all_answered])
    finally:
        # Who stops waiting hears of no return either: what was not answered may be on the bus.
        for _, message_id in letters:
            tags.pop(message_id, None)
    lost = asyncio.CancelledError() if all_answered.cancelled() else all_answered.exception()
    if lost is not None:
        for letter, _ in letters:
            if letter.confirmation is not None and not letter.confirmation.done():
                letter.confirmation.set_exception(lost)


async def _send(
    channel: ConfirmingChannel, exchange: str, letters: Sequence[tuple[Letter, str]]
) -> "asyncio.Future[None]":
    number, body_bytes_max = channel.number, channel.max_content_size
    payload = b"".join(
        [
            publish_frames(
                number,
                exchange,
                letter.routes[0],
                message_id,
                content_type=letter.content_type,
                headers=letter.headers,
                body=letter.body,
                body_bytes_max=body_bytes_max,
            )
            for letter, message_id in letters
        ]
    )
    first = channel.delivery_tag + 1
    together = Together(len(letters), channel.create_future())
    answers = cast("dict[int, Any]", channel.confirmations)
    for letter, message_id in letters:
        channel.delivery_tag += 1
        letter.confirmation = answers[channel.delivery_tag] = Answer(together)
        channel.message_id_delivery_tag[message_id] = channel.delivery_tag
    try:
        await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
    except BaseException:
        # Nothing left, so the broker will not count these: the next publish takes their tags.
        _forget(channel, first, letters)
        together.all_answered.cancel()
        raise
    return together.all_answered


def _forget(channel: ConfirmingChannel, first: int, letters: Sequence[tuple[Letter, str]]) -> None:
    for tag, (letter, message_id) in enumerate(letters, first):
        channel.confirmations.pop(tag, None)
        channel.message_id_delivery_tag.pop(message_id, None)
        letter.confirmation = None
    channel.delivery_tag = first - 1


def confirming(channel: object) -> ConfirmingChannel:
    """Make sure that a channel is the kind whose book-keeping this module knows."""
    if not isinstance(channel, ConfirmingChannel):
        message = f"not a channel of aiormq: {type(channel).__name__}"
        raise ChannelInvalidStateError(message)
    return channel
