"""What one worker holds of the partitions it owns: no input or output, only order."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping

import attrs
from aiokafka.structs import ConsumerRecord, TopicPartition

from flashsale_core.events import Channel, Message
from flashsale_core.ports import Delivery

DELIVERY_BYTES_MAX = 256 * 1024
"""Of one delivery, unless a single record is larger: a message may hold hundreds of purchases, and
a worker with many partitions must not hold all that a broker has. Some 3,000 purchases."""


@attrs.define(eq=False)
class Lane:
    """One owned partition: what waits, what is in hand, and how far it is done."""

    waiting: deque[ConsumerRecord] = attrs.field(factory=deque)
    waiting_bytes: int = 0
    held: Delivery | None = None
    held_records: list[ConsumerRecord] = attrs.field(factory=list)
    done_to: int | None = None
    """The first offset that is not done; all before it is."""
    committed_to: int | None = None
    """None until something was committed since the partition became ours: what comes until then
    may have been in the hand of whoever had it before."""


class Lanes:
    """Hands out deliveries partition by partition, at most one unended for each."""

    def __init__(
        self,
        channel: Channel,
        messages_max: int,
        convert: Callable[[ConsumerRecord, Channel], Message],
        on_room: Callable[[], None],
    ) -> None:
        """`on_room` is called when something became possible that was not before."""
        self._channel = channel
        self._messages_max = messages_max
        self._convert = convert
        self._on_room = on_room
        self._lanes: dict[TopicPartition, Lane] = {}
        self._order: deque[TopicPartition] = deque()
        self._is_closing = False

    def own(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin with these partitions, and forget all others."""
        self._lanes = {partition: Lane() for partition in partitions}
        self._order = deque(sorted(self._lanes))
        self._is_closing = False

    def close(self) -> None:
        """Hand nothing out any more; what is in hand may still end."""
        self._is_closing = True
        for lane in self._lanes.values():
            lane.waiting.clear()
            lane.waiting_bytes = 0

    def drop(self) -> None:
        """Own nothing: what is in hand ends without effect."""
        self._lanes = {}
        self._order.clear()

    def owned(self) -> list[TopicPartition]:
        """List the partitions."""
        return list(self._lanes)

    def with_room(self) -> list[TopicPartition]:
        """List the partitions of which less than one delivery waits."""
        if self._is_closing:
            return []
        return [partition for partition, lane in self._lanes.items() if self._has_room(lane)]

    def _has_room(self, lane: Lane) -> bool:
        return len(lane.waiting) < self._messages_max and lane.waiting_bytes < DELIVERY_BYTES_MAX

    def add(self, found: Mapping[TopicPartition, Iterable[ConsumerRecord]]) -> None:
        """Put records behind those that wait."""
        for partition, records in found.items():
            lane = self._lanes.get(partition)
            if lane is not None and not self._is_closing:
                for record in records:
                    lane.waiting.append(record)
                    lane.waiting_bytes += _bytes_of(record)

    def next_delivery(self) -> Delivery | None:
        """Hand out the next, partitions in turn."""
        for _ in range(len(self._order)):
            partition = self._order[0]
            self._order.rotate(-1)
            lane = self._lanes[partition]
            if lane.held is None and lane.waiting:
                return self._hold(partition, lane)
        return None

    def _hold(self, partition: TopicPartition, lane: Lane) -> Delivery:
        size, taken = 0, lane.held_records
        while lane.waiting and len(taken) < self._messages_max and size < DELIVERY_BYTES_MAX:
            taken.append(lane.waiting.popleft())
            size += _bytes_of(taken[-1])
        lane.waiting_bytes -= size
        lane.held = Delivery(
            channel=self._channel,
            partition=partition.partition,
            messages=tuple(self._convert(record, self._channel) for record in lane.held_records),
            is_suspect=lane.committed_to is None,
            token=partition,
        )
        if self._has_room(lane):
            self._on_room()
        return lane.held

    def end(self, delivery: Delivery, *, is_done: bool) -> bool:
        """End a delivery; False when its partition was lost meanwhile, and it has no effect."""
        assert isinstance(delivery.token, TopicPartition)  # noqa: S101 - a delivery of ours
        lane = self._lanes.get(delivery.token)
        if lane is None or lane.held is not delivery:
            return False
        if is_done:
            lane.done_to = lane.held_records[-1].offset + 1
        elif not self._is_closing:
            lane.waiting.extendleft(reversed(lane.held_records))
            lane.waiting_bytes += sum(map(_bytes_of, lane.held_records))
        lane.held = None
        lane.held_records = []
        self._on_room()
        return True

    def has_held(self) -> bool:
        """Say whether a delivery is in hand."""
        return any(lane.held is not None for lane in self._lanes.values())

    def uncommitted(self) -> dict[TopicPartition, int]:
        """List how far each partition is done, where the broker does not know it yet."""
        return {
            partition: lane.done_to
            for partition, lane in self._lanes.items()
            if lane.done_to is not None and lane.done_to != lane.committed_to
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remember what the broker knows."""
        for partition, offset in offsets.items():
            if partition in self._lanes:
                self._lanes[partition].committed_to = offset

    def all_committed(self) -> dict[TopicPartition, int]:
        """List how far the broker knows each partition to be done, where we told it."""
        return {
            partition: lane.committed_to
            for partition, lane in self._lanes.items()
            if lane.committed_to is not None
        }

    def count(self) -> int:
        """Count what waits and what is in hand."""
        return sum(len(lane.waiting) + len(lane.held_records) for lane in self._lanes.values())


def _bytes_of(record: ConsumerRecord) -> int:
    """Say how large a record's body is; one that the driver cannot read has none."""
    return len(record.value) if record.value is not None else 0
