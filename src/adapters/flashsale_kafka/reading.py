"""Moving fetched records into the lanes, also past one that the driver cannot read."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

from flashsale_kafka.lanes import Lanes
from flashsale_kafka.wire import unreadable

POLL_MS = 1_000
"""How often the poller looks up without news; far below `max_poll_interval_ms`."""
SPOILED_PAUSE_S = 0.05
"""Between looks at what was fetched, while one partition holds a record that cannot be read."""
CAREFUL_MAX = 500
"""Records taken one by one before others have their turn, about 10 ms."""
NOTHING = -1
"""A partition that does not exist: polling it alone keeps the membership, and brings nothing."""


class Reader:
    """Drains aiokafka's buffers partition by partition.

    A partition of which enough waits in its lane is not drained: its records stay where they are,
    it is fetched no further, and polling the others keeps the membership.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, lanes: Lanes) -> None:
        """Read what the consumer fetched of one topic."""
        self._consumer = consumer
        self._topic = topic
        self._lanes = lanes
        self._is_spoiled = False
        self._careful: set[TopicPartition] = set()

    def begin_anew(self) -> None:
        """Forget what was found out about partitions that may be others' now."""
        self._is_spoiled = False
        self._careful.clear()

    async def drain(self, partitions: Iterable[TopicPartition]) -> bool:
        """Take what was fetched of each; wait for nothing. Says whether there was anything."""
        found = False
        for partition in partitions:
            reader = self._carefully if partition in self._careful else self._drain
            found |= await reader(partition)
        return found

    async def await_news(self, wanted: Sequence[TopicPartition]) -> bool:
        """Wait for a record of these partitions; says whether one came.

        One record only, because an error would lose what was drained before it from others.
        """
        if self._is_spoiled or not self._careful.isdisjoint(wanted):
            # An error here would not say whose it is; draining one partition does.
            await asyncio.sleep(SPOILED_PAUSE_S)
            return False
        partitions = wanted or [TopicPartition(self._topic, NOTHING)]
        try:
            found = await self._consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=1)
        except ValueError:
            self._is_spoiled = True
            return False
        return self._take_in(found)

    async def _drain(self, partition: TopicPartition) -> bool:
        try:
            return self._take_in(await self._consumer.getmany(partition, timeout_ms=0))
        except ValueError:
            # Nothing of the batch came; it is fetched again, and taken one by one.
            self._careful.add(partition)
            self._is_spoiled = False
            self._consumer.seek(partition, await self._consumer.position(partition))
            return False

    async def _carefully(self, partition: TopicPartition) -> bool:
        """Take record by record, up to one that the driver cannot read, and step over it.

        aiokafka fails on a header's name that is not UTF-8, again and again, and cannot read what
        its producer put behind it into the same batch. For each of these a stand-in without a body
        is delivered, and will be parked; the next batch is read as ever.
        """
        has_found = False
        for _ in range(CAREFUL_MAX):
            try:
                found = await self._consumer.getmany(partition, timeout_ms=0, max_records=1)
            except ValueError as fault:
                offset = await self._consumer.position(partition)
                stand_in = unreadable(partition.topic, partition.partition, offset, fault)
                self._take_in({partition: [stand_in]})
                self._consumer.seek(partition, offset + 1)
                return True
            if not self._take_in(found):
                if has_found:
                    # What was fetched is read to its end, without a fault.
                    self._careful.discard(partition)
                break
            has_found = True
        return has_found

    def _take_in(self, found: Mapping[TopicPartition, Iterable[ConsumerRecord]]) -> bool:
        # Between aiokafka's handing out and this line nothing is awaited, so no rebalance can
        # come between and put an old record into a new lane.
        self._lanes.add(found)
        return bool(found)
