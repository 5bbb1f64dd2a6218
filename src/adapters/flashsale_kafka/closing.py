"""Ending aiokafka's clients within bounds: its own `stop` waits for brokers that may be away."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from flashsale_kafka.faults import DRIVER_ERRORS

FLUSH_S_MAX = 1.0
"""What an end may wait for confirms: nobody waits for one any more, their publishes have failed."""
LEAVE_S_MAX = 5.0
"""What it may wait for a last commit and a good-bye to the group."""
ABANDON_S_MAX = 1.0
"""What tasks may need to notice that they are cancelled."""
CANCELS_MAX = 5
"""aiokafka's sending task takes a cancel as a request to end in order, and only the next as one."""


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Flush and disconnect; what is not confirmed in time is left, its publishes have failed."""
    if not await _ended(_flush_and_stop(producer), FLUSH_S_MAX):
        await abandon_producer(producer)


async def _flush_and_stop(producer: AIOKafkaProducer) -> None:
    # Flushed first, because `stop` would flush in a task that outlives a timeout.
    await producer.flush()
    await producer.stop()


async def abandon_producer(producer: AIOKafkaProducer) -> None:
    """End a producer without sending what is left in it."""
    # `_closed` keeps its destructor from complaining; there is no public way to end it unflushed.
    producer._closed = True  # noqa: SLF001
    await _cancel([producer._sender.sender_task])  # noqa: SLF001
    await _close(producer.client)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and disconnect; a broker that is away notices by itself."""
    if not await _ended(consumer.stop(), LEAVE_S_MAX):
        coordinator, fetcher = consumer._coordinator, consumer._fetcher  # noqa: SLF001
        tasks = [fetcher._fetch_task, *fetcher._pending_tasks] if fetcher else []  # noqa: SLF001
        if coordinator:
            tasks += [
                coordinator._coordination_task,  # noqa: SLF001
                coordinator._heartbeat_task,  # noqa: SLF001
                coordinator._commit_refresh_task,  # noqa: SLF001
            ]
        await _cancel(tasks)
        await _close(consumer._client)  # noqa: SLF001


async def _cancel(tasks: Iterable["asyncio.Task[object] | None"]) -> None:
    running = {task for task in tasks if task is not None and not task.done()}
    for _ in range(CANCELS_MAX):
        if not running:
            return
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=ABANDON_S_MAX / CANCELS_MAX)


async def _close(client: object) -> None:
    await _ended(client.close(), ABANDON_S_MAX)  # type: ignore[attr-defined]


async def _ended(work: Coroutine[Any, Any, None], seconds_max: float) -> bool:
    """Say whether it ended well in time; it has ended, one way or the other, when this returns.

    In a task of its own: whoever closes may have been cancelled, and until Python 3.11.3
    `asyncio.timeout` then took its own cancel for that one, so that nothing behind it was done.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds_max)
    finally:
        await _cancel([task])
    return task.done() and not task.cancelled() and _is_good(task)


def _is_good(task: "asyncio.Task[None]") -> bool:
    try:
        task.result()
    except DRIVER_ERRORS:
        return False
    return True
