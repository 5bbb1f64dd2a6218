"""A subscription: one consumer of the group, polled by a task of its own."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.structs import TopicPartition

from flashsale_core.errors import FlashsaleError
from flashsale_core.events import Channel
from flashsale_core.ports import Delivery, Subscription
from flashsale_kafka.closing import stop_consumer
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import client_options, knock
from flashsale_kafka.faults import DRIVER_ERRORS, LOST, translated
from flashsale_kafka.lanes import Lanes
from flashsale_kafka.wire import message_of, unreadable

FETCH_BYTES_MAX = 16 * 1024 * 1024
PARTITION_BYTES_MAX = 1_048_576
"""What one fetch brings of one partition: a worker's memory is bounded by twice this a partition."""
FETCH_WAIT_MS_MAX = 100
"""A partition that has room again is not asked for before the fetch under way returned."""
HEARTBEAT_MS = 1_000
"""A member learns of a rebalance by its heartbeat; ten of them fit into a session."""
REQUEST_MS_OVER_SESSION = 5_000
"""Joining a group waits for all its members for up to a session, and then is answered."""
POLL_MS = 1_000
"""How often the poller looks up without news; far below `max_poll_interval_ms`."""
POLL_INTERVAL_MS_MAX = 300_000
COMMIT_PAUSE_S = 0.02
"""At most 50 commits a second; a worker that dies repeats what it did in the last of them."""
COMMIT_S_MAX = 3.0
YIELD_S_MAX = 2.0
"""How long a rebalance waits for deliveries in hand, so that their messages do not come twice."""
SPOILED_PAUSE_S = 0.05
"""Between looks at what was fetched, while one partition holds a record that cannot be read."""
BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 5.0
NOTHING = -1
"""A partition that does not exist: polling it alone keeps the membership, and brings nothing."""


class KafkaSubscription:
    """One member of a channel's group.

    While the brokers are away `take` waits, and goes on by itself when they are back; it raises
    Unavailable, once for each attempt, when the member could not join or was thrown out.
    """

    def __init__(
        self, config: KafkaConfig, options: dict[str, Any], channel: Channel, messages_max: int
    ) -> None:
        """Remember what to subscribe to; `start` begins joining."""
        self._config = config
        self._options = options
        self._topic = config.topics[channel]
        self._group = config.groups[channel]
        self._lanes = Lanes(channel, messages_max, message_of, self._wake)
        self._news = asyncio.Event()
        self._may_fetch = asyncio.Event()
        self._has_done = asyncio.Event()
        self._none_held = asyncio.Event()
        self._is_spoiled = False
        self._careful: set[TopicPartition] = set()
        self._blocked: frozenset[TopicPartition] = frozenset()
        self._getting: asyncio.Task[None] | None = None
        self._committing: asyncio.Future[None] | None = None
        self._offered: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._has_joined = False
        self._fault: FlashsaleError | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin joining the group in the background."""
        self._running = asyncio.ensure_future(self._run())

    async def leave(self) -> None:
        """Commit what is acknowledged and leave the group; what is unended goes to the others."""
        self._lanes.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        self._lanes.drop()

    # ── the port ────────────────────────────────────────────────────────────────────────────────

    async def take(self) -> Delivery:
        """Wait for the next delivery."""
        # Who takes and gives back in a loop must not keep the poller from ever running.
        await asyncio.sleep(0)
        while True:
            delivery = self._lanes.next_delivery()
            if delivery is not None:
                return delivery
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            self._news.clear()
            await self._news.wait()

    async def acknowledge(self, delivery: Delivery) -> None:
        """End it as done; the broker is told within moments, and at the latest on leaving."""
        if self._lanes.end(delivery, is_done=True):
            self._has_done.set()

    async def give_back(self, delivery: Delivery) -> None:
        """End it as not done; its messages wait at the head of their partition."""
        self._lanes.end(delivery, is_done=False)

    async def lag(self) -> int | None:
        """Count what waits on the partitions that this member owns; None while it owns none."""
        consumer, owned = self._consumer, self._lanes.owned()
        if consumer is None or not owned:
            return None
        try:
            async with asyncio.timeout(self._config.connect_ms / 1_000):
                ends = await consumer.end_offsets(owned)
                ahead: list[int] = [end - await consumer.position(tp) for tp, end in ends.items()]
        except DRIVER_ERRORS as exc:
            raise translated(exc, f"asking for the end of {self._topic}") from exc
        return self._lanes.count() + sum(max(0, messages) for messages in ahead)

    # ── joining ─────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while True:
            self._has_joined = False
            try:
                await self._be_member()
            except FlashsaleError as fault:
                self._fail(fault)
            except DRIVER_ERRORS as exc:
                self._fail(translated(exc, f"consuming {self._topic}"))
            backoff_s = BACKOFF_S_MIN if self._has_joined else min(2 * backoff_s, BACKOFF_S_MAX)
            await asyncio.sleep(random.uniform(BACKOFF_S_MIN, backoff_s))  # noqa: S311 - jitter

    def _fail(self, fault: FlashsaleError) -> None:
        self._fault = fault
        self._news.set()

    async def _be_member(self) -> None:
        await knock(self._config, self._options)
        consumer = AIOKafkaConsumer(
            group_id=self._group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            # A request of a transaction that was aborted must not become an order.
            isolation_level="read_committed",
            check_crcs=True,
            fetch_min_bytes=1,
            fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=PARTITION_BYTES_MAX,
            session_timeout_ms=self._config.session_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_INTERVAL_MS_MAX,
            request_timeout_ms=self._config.session_ms + REQUEST_MS_OVER_SESSION,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            **client_options(self._config, self._options),
        )
        consumer.subscribe([self._topic], listener=_Listener(self))
        try:
            await consumer.start()
            self._consumer, self._fault, self._has_joined = consumer, None, True
            await self._work(consumer)
        finally:
            self._consumer = None
            self._may_fetch.clear()
            self._lanes.close()
            await self._commit_last(consumer)
            self._lanes.drop()
            await stop_consumer(consumer)
            await self._forget_commit()

    async def _work(self, consumer: AIOKafkaConsumer) -> None:
        """Poll and commit until one of them fails."""
        tasks: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._poll(consumer)),
            asyncio.ensure_future(self._commit_always(consumer)),
        }
        # aiokafka's fetching task may die of an unexpected error, and then nothing ever comes.
        fetching = consumer._fetcher.error_future  # noqa: SLF001
        try:
            await asyncio.wait({*tasks, fetching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        await fetching

    # ── polling ─────────────────────────────────────────────────────────────────────────────────

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._may_fetch.wait()
            for partition in self._lanes.with_room():
                await self._drain(consumer, partition)
            self._blocked = frozenset(self._lanes.owned()) - frozenset(self._lanes.with_room())
            self._getting = asyncio.ensure_future(self._await_news(consumer))
            try:
                await asyncio.wait([self._getting])
            finally:
                self._getting.cancel()
            if not self._getting.cancelled():
                self._getting.result()

    async def _await_news(self, consumer: AIOKafkaConsumer) -> None:
        """Wait for a record of a partition with room; a rebalance or new room cuts it short.

        One record only, because an error would lose what was drained before it from others.
        """
        if self._is_spoiled or self._careful:
            # An error here would not say whose it is; draining one partition does.
            await asyncio.sleep(SPOILED_PAUSE_S)
            return
        wanted = self._lanes.with_room() or [TopicPartition(self._topic, NOTHING)]
        try:
            found = await consumer.getmany(*wanted, timeout_ms=POLL_MS, max_records=1)
        except ValueError:
            self._is_spoiled = True
        else:
            self._take_in(found)

    async def _drain(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        """Take all that was fetched of one partition; does not wait for more."""
        if partition in self._careful:
            await self._drain_carefully(consumer, partition)
            return
        try:
            found = await consumer.getmany(partition, timeout_ms=0)
        except ValueError:
            # Nothing of the batch came; it is fetched again, and taken one by one.
            self._careful.add(partition)
            self._is_spoiled = False
            consumer.seek(partition, await consumer.position(partition))
        else:
            self._take_in(found)

    async def _drain_carefully(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        """Take record by record, up to one that the driver cannot read, and step over it.

        aiokafka fails on a header's name that is not UTF-8, again and again, and cannot read what
        its producer put behind it into the same batch. For each of these a stand-in without a body
        is delivered, and will be parked; the next batch is read as ever.
        """
        has_found = False
        while self._may_fetch.is_set():
            try:
                found = await consumer.getmany(partition, timeout_ms=0, max_records=1)
            except ValueError as fault:
                offset = await consumer.position(partition)
                stand_in = unreadable(partition.topic, partition.partition, offset, fault)
                self._take_in({partition: [stand_in]})
                consumer.seek(partition, offset + 1)
                return
            self._take_in(found)
            if not found:
                break
            has_found = True
            await asyncio.sleep(0)
        if has_found:
            self._careful.discard(partition)

    def _take_in(self, found: dict[TopicPartition, Sequence[Any]]) -> None:
        # Between aiokafka's handing out and this line nothing is awaited, so no rebalance can
        # come between and put an old record into a new lane.
        if found:
            self._lanes.add(found)
            self._news.set()

    def _wake(self) -> None:
        """A delivery ended or was taken: more may be handed out, and more may be fetched."""
        self._news.set()
        if not self._lanes.has_held():
            self._none_held.set()
        if self._getting is not None and self._blocked.intersection(self._lanes.with_room()):
            self._getting.cancel()

    # ── committing ──────────────────────────────────────────────────────────────────────────────

    async def _commit_always(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._has_done.wait()
            self._has_done.clear()
            while not await self._commit(consumer):
                pass
            await asyncio.sleep(COMMIT_PAUSE_S)

    async def _commit(self, consumer: AIOKafkaConsumer) -> bool:
        """Tell the broker how far all is done; False when it is still trying after a while.

        aiokafka tries until it succeeds, and a cancel in the middle would leave an exception
        behind that nobody reads: so an attempt goes on by itself, and the next waits for it.
        """
        if self._committing is None:
            offsets = self._lanes.uncommitted()
            if not offsets:
                return True
            self._offered = offsets
            self._committing = asyncio.ensure_future(consumer.commit(offsets))
        await asyncio.wait([self._committing], timeout=COMMIT_S_MAX)
        if not self._committing.done():
            return False
        done, self._committing = self._committing, None
        try:
            done.result()
        except LOST:
            # The partitions are others' by now; the rebalance that says so is under way.
            return True
        self._lanes.committed(self._offered)
        return True

    async def _commit_last(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what was acknowledged since, and wait for it so long and no longer."""
        with suppress(*DRIVER_ERRORS):
            # What is not committed comes again to whoever is next; every effect is idempotent.
            if self._committing is None or await self._commit(consumer):
                await self._commit(consumer)

    async def _forget_commit(self) -> None:
        """End an attempt that the consumer's end left without a broker."""
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait([self._committing])
            self._committing = None

    # ── rebalancing ─────────────────────────────────────────────────────────────────────────────

    async def revoked(self) -> None:
        """Give all partitions up, those in hand after a moment's grace."""
        self._may_fetch.clear()
        if self._getting is not None:
            self._getting.cancel()
        self._lanes.close()
        self._none_held.clear()
        if self._lanes.has_held():
            with suppress(TimeoutError):
                async with asyncio.timeout(YIELD_S_MAX):
                    await self._none_held.wait()
        if self._consumer is not None:
            await self._commit_last(self._consumer)
        self._lanes.drop()

    async def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Begin anew with the partitions that are ours now."""
        self._careful.clear()
        self._is_spoiled = False
        self._lanes.own(partitions)
        self._may_fetch.set()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands aiokafka's rebalance calls on, so that the subscription's own face stays small."""

    def __init__(self, subscription: KafkaSubscription) -> None:
        self._subscription = subscription

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        """Let all go: aiokafka's rebalances are eager."""
        await self._subscription.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Take what came."""
        await self._subscription.assigned(sorted(assigned))


_: type[Subscription] = KafkaSubscription
