"""Publishing: one producer at a time, and one deadline over all that a publish awaits."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiokafka import AIOKafkaProducer

from flashsale_core.errors import FlashsaleError, Unavailable, Why
from flashsale_core.ports import Encoded
from flashsale_kafka.closing import abandon_producer, stop_producer
from flashsale_kafka.config import KafkaConfig
from flashsale_kafka.connecting import client_options, knock
from flashsale_kafka.faults import DRIVER_ERRORS, NEEDS_A_PERSON, SPENT, translated
from flashsale_kafka.turn import Turn
from flashsale_kafka.wire import record_headers

BATCH_BYTES_MAX = 1_048_576
"""What a broker takes by default (`message.max.bytes`); aiokafka's own default is 16 KB."""
REQUEST_MS_MAX = 5_000
"""After so long a connection that does not answer is given up, and its batches are sent again on
a new one, without duplicates (idempotent producer). Publishes have deadlines of their own.
"""
METADATA_MS_MAX = 30_000
"""How old our knowledge of leaders and partitions may grow without an error."""
START_S_MAX = 2.0
"""How long opening a bus waits to hear that its login is refused; it never waits for a broker."""
ACKS = "all"
"""Every replica in sync has it before it is confirmed."""
RENEW_AFTER_S = 20.0
"""A producer that has confirmed nothing for so long, and is asked to, is replaced: a new one asks
the configured brokers again, and says why when they refuse.
"""


@attrs.define(eq=False)
class _Attempt:
    """What one publish has done so far."""

    producer: AIOKafkaProducer | None = None
    confirms: list["asyncio.Future[object]"] = attrs.field(factory=list)
    """Of what is with the producer: it may arrive whatever we say."""
    unconfirmed: set[int] = attrs.field(factory=set)

    async def all_confirmed(self) -> None:
        """Wait for every confirm; a cancel or the first failure ends it."""
        if len(self.confirms) == 1:
            await self.confirms[0]
        else:
            await asyncio.gather(*self.confirms)

    def give_up(self) -> None:
        """Nobody waits any more for the confirms that are still to come."""
        for confirm in self.confirms:
            confirm.add_done_callback(_consume_exception)


class Publisher:
    """Owns the producer, and replaces it when its life has ended."""

    def __init__(self, config: KafkaConfig, options: dict[str, Any]) -> None:
        """Remember how to connect; `start` connects."""
        self._config = config
        self._options = options
        self._turn = Turn()
        self._producer: AIOKafkaProducer | None = None
        self._starting: asyncio.Task[AIOKafkaProducer] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._confirmed_at = time.monotonic()

    async def start(self) -> None:
        """Begin to connect, so that the first publish finds a producer.

        Waits a moment for the answer and raises Unavailable when it is one that a person must
        mend (a refused login, TLS); brokers that are away are left to the publishes.
        """
        starting = self._begun()
        await asyncio.wait([starting], timeout=START_S_MAX)
        fault = starting.exception() if starting.done() else None
        if isinstance(fault, FlashsaleError) and isinstance(fault.__cause__, NEEDS_A_PERSON):
            raise fault

    async def close(self) -> None:
        """Send what is left, within bounds, and disconnect."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._producer is not None:
            await stop_producer(self._producer)
            self._producer = None
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def send_in_turn(self, topic: str, encoded: Sequence[Encoded]) -> None:
        """Send one record each to the partitions in turn; return when all are confirmed."""
        doing = f"publishing to {topic}"
        async with self._publishing(doing, self._config.publish_deadline_ms) as attempt:
            producer = attempt.producer = await self._current()
            known = await _partitions(producer, topic)
            with_leader = producer.client.cluster.available_partitions_for_topic(topic) or ()
            for fact in encoded:
                partition = self._turn.next(known, with_leader)
                attempt.unconfirmed.add(partition)
                attempt.confirms.append(await _send(producer, topic, partition, fact))
            await attempt.all_confirmed()
            for partition in attempt.unconfirmed:
                self._turn.trust(partition)

    async def send_to_every_partition(self, topic: str, encoded: Encoded) -> int:
        """Send the same record to every partition there is; return how many."""
        doing = f"putting a barrier on every partition of {topic}"
        async with self._publishing(doing, self._config.deadline_ms) as attempt:
            producer = attempt.producer = await self._current()
            # A partition that was added a moment ago needs its barrier too.
            await producer.client.force_metadata_update()
            known = await _partitions(producer, topic)
            for partition in sorted(known):
                attempt.confirms.append(await _send(producer, topic, partition, encoded))
            await attempt.all_confirmed()
        return len(known)

    async def send_keyed(self, topic: str, keyed: Sequence[tuple[bytes, Encoded]]) -> None:
        """Send records by key, in as few produce calls as they fit; return when confirmed.

        A key's partition is its CRC-32, as with librdkafka: aiokafka's murmur2 is Python, and
        costs more than all the rest of a record.
        """
        async with self._publishing(f"publishing to {topic}", self._config.deadline_ms) as attempt:
            producer = attempt.producer = await self._current()
            count = len(await _partitions(producer, topic))
            by_partition: dict[int, list[_Row]] = {}
            for key, fact in keyed:
                row = (key, fact.body, record_headers(fact))
                by_partition.setdefault(zlib.crc32(key) % count, []).append(row)
            for partition, rows in by_partition.items():
                await _send_rows(producer, topic, partition, rows, attempt)
            await attempt.all_confirmed()

    async def send_copy(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes | None,
        body: bytes | None,
        headers: list[tuple[str, bytes]],
    ) -> None:
        """Send one record as it is, to that partition if there is such a one."""
        async with self._publishing(f"copying to {topic}", self._config.deadline_ms) as attempt:
            producer = attempt.producer = await self._current()
            count = len(await _partitions(producer, topic))
            rows = [(key, body, headers)]
            await _send_rows(producer, topic, partition % count, rows, attempt)
            await attempt.all_confirmed()

    @asynccontextmanager
    async def _publishing(self, doing: str, deadline_ms: int) -> AsyncIterator[_Attempt]:
        attempt = _Attempt()
        try:
            async with asyncio.timeout(deadline_ms / 1_000):
                yield attempt
            self._confirmed_at = time.monotonic()
        except TimeoutError as exc:
            attempt.give_up()
            for partition in attempt.unconfirmed:
                self._turn.suspect(partition)
            if time.monotonic() - self._confirmed_at > RENEW_AFTER_S:
                self._renew(attempt.producer)
            detail = f"{doing}: not confirmed within {deadline_ms} ms (FLASHSALE_BUS_URL)"
            raise Unavailable(
                Why.BUS_AWAY, detail, may_have_happened=bool(attempt.confirms)
            ) from exc
        except DRIVER_ERRORS as exc:
            attempt.give_up()
            if isinstance(exc, SPENT) or not _is_alive(attempt.producer):
                self._renew(attempt.producer)
            raise translated(exc, doing, may_have_happened=bool(attempt.confirms)) from exc
        except BaseException:
            attempt.give_up()
            raise

    def _renew(self, spent: AIOKafkaProducer | None) -> None:
        # Several publishes may fail on the same one; the new one is not to blame.
        if spent is None or self._producer is not spent:
            return
        task = asyncio.ensure_future(abandon_producer(spent))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        self._producer = None

    async def _current(self) -> AIOKafkaProducer:
        """Return the producer; all who wait for a new one wait for the same.

        A caller who gives up does not stop the start that others wait for.
        """
        return self._producer or await asyncio.shield(self._begun())

    def _begun(self) -> "asyncio.Task[AIOKafkaProducer]":
        if self._starting is None or self._starting.done():
            self._starting = asyncio.ensure_future(self._begin())
            self._starting.add_done_callback(_consume_exception)
        return self._starting

    async def _begin(self) -> AIOKafkaProducer:
        await knock(self._config, self._options)
        producer = AIOKafkaProducer(
            acks=ACKS,
            enable_idempotence=True,
            compression_type=None,
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=BATCH_BYTES_MAX,
            request_timeout_ms=REQUEST_MS_MAX,
            metadata_max_age_ms=METADATA_MS_MAX,
            **client_options(self._config, self._options),
        )
        try:
            async with asyncio.timeout(self._config.connect_ms / 1_000):
                await producer.start()
                await producer.client.set_topics(list(self._config.topics.values()))
        except BaseException:
            await abandon_producer(producer)
            raise
        self._producer = producer
        self._confirmed_at = time.monotonic()
        return producer


_Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


async def _partitions(producer: AIOKafkaProducer, topic: str) -> set[int]:
    known: set[int] = await producer.partitions_for(topic)
    return known


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, fact: Encoded
) -> "asyncio.Future[object]":
    confirm: asyncio.Future[object] = await producer.send(
        topic, fact.body, partition=partition, headers=record_headers(fact)
    )
    return confirm


async def _send_rows(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    rows: Sequence[_Row],
    attempt: _Attempt,
) -> None:
    """Fill batches and hand each over; a batch takes at least one record, however large."""
    batch = producer.create_batch()
    for key, body, headers in rows:
        row: dict[str, Any] = {"timestamp": None, "key": key, "value": body, "headers": headers}
        if batch.append(**row) is None:
            attempt.confirms.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**row)
    batch.close()
    attempt.confirms.append(await producer.send_batch(batch, topic, partition=partition))


def _is_alive(producer: AIOKafkaProducer | None) -> bool:
    """Say whether aiokafka's sending task still runs; after an error it did not expect, it ends."""
    task = producer._sender.sender_task if producer else None  # noqa: SLF001
    return task is not None and not task.done()


def _consume_exception(future: "asyncio.Future[Any]") -> None:
    # Those who waited have given up; unread, the exception would be logged as forgotten.
    if not future.cancelled():
        future.exception()
