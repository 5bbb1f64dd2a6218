"""A subscription: one consumer of the group, polled by a task of its own."""

import asyncio
import random
from collections.abc import Coroutine, Sequence
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
from flashsale_kafka.committing import Committer
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import client_options, knock
from flashsale_kafka.expiring import Expired
from flashsale_kafka.faults import DRIVER_ERRORS, translated
from flashsale_kafka.lanes import Lanes
from flashsale_kafka.reading import Reader
from flashsale_kafka.wire import message_of

FETCH_BYTES_MAX = 16 * 1024 * 1024
PARTITION_BYTES_MAX = 524_288
"""What one fetch brings of one partition; a worker holds at most twice this of each."""
FETCH_WAIT_MS_MAX = 100
"""A partition that has room again is not asked for before the fetch under way returned."""
HEARTBEAT_MS = 1_000
"""A member learns of a rebalance by its heartbeat; ten of them fit into a session."""
REQUEST_MS_OVER_SESSION = 5_000
"""Joining a group waits for all its members for up to a session, and then is answered."""
POLL_INTERVAL_MS_MAX = 300_000
YIELD_S_MAX = 2.0
"""How long a rebalance waits for deliveries in hand, so that their messages do not come twice."""
BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 5.0


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
        self._expired = Expired(self._lanes, config.connect_ms / 1_000)
        self._news = asyncio.Event()
        self._may_fetch = asyncio.Event()
        self._has_done = asyncio.Event()
        self._none_held = asyncio.Event()
        self._blocked: frozenset[TopicPartition] = frozenset()
        self._getting: asyncio.Task[None] | None = None
        self._reader: Reader | None = None
        self._committer: Committer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._member: AIOKafkaConsumer | None = None
        """The same, from before it has joined."""
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

    async def expired(self) -> int | None:
        """Count what the brokers deleted before the group had done it."""
        if self._consumer is not None:
            try:
                await self._expired.look(self._consumer)
            except DRIVER_ERRORS as exc:
                raise translated(exc, f"asking for the start of {self._topic}") from exc
        return self._expired.count()

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
        reader = self._reader = Reader(consumer, self._topic, self._lanes)
        committer = self._committer = Committer(consumer, self._lanes, self._has_done)
        self._member = consumer
        consumer.subscribe([self._topic], listener=_Listener(self))
        try:
            await consumer.start()
            self._consumer, self._fault, self._has_joined = consumer, None, True
            await self._work(consumer, self._poll(reader), committer.always())
        finally:
            self._consumer = self._member = self._reader = self._committer = None
            self._may_fetch.clear()
            self._lanes.close()
            await committer.last()
            self._lanes.drop()
            await stop_consumer(consumer)
            await committer.forget()

    async def _work(self, consumer: AIOKafkaConsumer, *works: Coroutine[Any, Any, None]) -> None:
        """Poll and commit until one of them fails."""
        tasks = {asyncio.ensure_future(work) for work in works}
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

    async def _poll(self, reader: Reader) -> None:
        while True:
            await self._may_fetch.wait()
            # A task of its own, so that a rebalance or new room can cut its waiting short. No
            # `getmany` may begin before a rebalance and end after it.
            self._getting = asyncio.ensure_future(self._get(reader))
            try:
                await asyncio.wait([self._getting])
            finally:
                self._getting.cancel()
            if not self._getting.cancelled():
                self._getting.result()

    async def _get(self, reader: Reader) -> None:
        found = await reader.drain(self._lanes.with_room())
        if not found:
            wanted = self._lanes.with_room()
            self._blocked = frozenset(self._lanes.owned()) - frozenset(wanted)
            found = await reader.await_news(wanted)
            # The news is one record; what came with it makes the delivery full.
            found |= await reader.drain(self._lanes.with_room())
        self._blocked = frozenset()
        if found:
            self._news.set()

    def _wake(self) -> None:
        """Hand out and fetch on: a delivery ended, or was taken."""
        self._news.set()
        if not self._lanes.has_held():
            self._none_held.set()
        if self._getting is not None and self._blocked.intersection(self._lanes.with_room()):
            self._blocked = frozenset()
            self._getting.cancel()

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
        if self._committer is not None:
            await self._committer.last()
        self._lanes.drop()

    async def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Begin anew with the partitions that are ours now."""
        if self._member is not None:
            await self._expired.begin(self._member, partitions)
        if self._reader is not None:
            self._reader.begin_anew()
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
