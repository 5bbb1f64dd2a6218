"""Telling the broker how far everything is done."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from flashsale_kafka.faults import DRIVER_ERRORS, LOST
from flashsale_kafka.lanes import Lanes

COMMIT_PAUSE_S = 0.02
"""At most 50 commits a second; a worker that dies repeats what it did in the last of them."""
COMMIT_S_MAX = 3.0
"""How long a rebalance or a shutdown waits for the last commit."""


class Committer:
    """Commits explicit offsets of owned partitions, one attempt at a time."""

    def __init__(self, consumer: AIOKafkaConsumer, lanes: Lanes, has_done: asyncio.Event) -> None:
        """`has_done` is set when something was acknowledged."""
        self._consumer = consumer
        self._lanes = lanes
        self._has_done = has_done
        self._offered: dict[TopicPartition, int] = {}
        self._attempt: asyncio.Future[None] | None = None

    async def always(self) -> None:
        """Commit soon after every acknowledge, many at once."""
        while True:
            await self._has_done.wait()
            self._has_done.clear()
            while not await self._commit():
                pass
            await asyncio.sleep(COMMIT_PAUSE_S)

    async def last(self) -> None:
        """Commit what was acknowledged since, and wait for it so long and no longer."""
        with suppress(*DRIVER_ERRORS):
            # What is not committed comes again to whoever is next; every effect is idempotent.
            if self._attempt is None or await self._commit():
                await self._commit()

    async def forget(self) -> None:
        """End an attempt that the consumer's end left without a broker."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait([self._attempt])
            self._attempt = None

    async def _commit(self) -> bool:
        """Commit all that is not; False when it is still trying after a while.

        aiokafka tries until it succeeds, and a cancel in the middle would leave an exception
        behind that nobody reads: so an attempt goes on by itself, and the next waits for it.
        """
        if self._attempt is None:
            self._offered = self._lanes.uncommitted()
            if not self._offered:
                return True
            self._attempt = asyncio.ensure_future(self._consumer.commit(self._offered))
        attempt = self._attempt
        await asyncio.wait([attempt], timeout=COMMIT_S_MAX)
        if not attempt.done():
            return False
        if self._attempt is not attempt:
            # A rebalance waited for the same attempt, and was told first.
            return True
        self._attempt = None
        try:
            attempt.result()
        except LOST:
            # The partitions are others' by now; the rebalance that says so is under way.
            return True
        self._lanes.committed(self._offered)
        return True
