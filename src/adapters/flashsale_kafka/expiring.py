"""What the brokers deleted before the group had done it: a loss that makes no other noise.

A group whose committed offset is behind the log's start is set to the start by its next member,
and goes on as if nothing had been there.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from flashsale_kafka.faults import DRIVER_ERRORS
from flashsale_kafka.lanes import Lanes


class Expired:
    """Compares how far the group is with where each owned partition begins."""

    def __init__(self, lanes: Lanes, wait_s: float) -> None:
        """Wait `wait_s` for brokers that keep silent, and no longer."""
        self._lanes = lanes
        self._wait_s = wait_s
        self._done_to: dict[TopicPartition, int] = {}
        self._gaps: dict[tuple[TopicPartition, int], int] = {}
        """By partition and the offset up to which it was done: a gap that is seen again, or has
        grown, is one gap."""

    async def begin(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        """Look before anything is taken: the first commit wipes the trace out.

        Brokers that keep silent here are no reason to keep a member from its partitions.
        """
        self._done_to = {}
        with suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(self._wait_s):
                for partition in partitions:
                    committed = await consumer.committed(partition)
                    if committed is not None:
                        self._done_to[partition] = committed
                await self._look(consumer, list(self._done_to))

    async def look(self, consumer: AIOKafkaConsumer) -> None:
        """Look again: what was not taken may expire under a member too. Raises DRIVER_ERRORS."""
        self._done_to |= self._lanes.all_committed()
        async with asyncio.timeout(self._wait_s):
            await self._look(consumer, [one for one in self._lanes.owned() if one in self._done_to])

    def count(self) -> int:
        """Count the messages of all gaps."""
        return sum(self._gaps.values())

    async def _look(self, consumer: AIOKafkaConsumer, known: list[TopicPartition]) -> None:
        if not known:
            return
        for partition, start in (await consumer.beginning_offsets(known)).items():
            done_to = self._done_to[partition]
            if start > done_to:
                self._gaps[partition, done_to] = start - done_to
