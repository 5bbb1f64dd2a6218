"""Ending aiokafka's clients within bounds: its own `stop` waits for brokers that may be away."""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from flashsale_kafka.faults import DRIVER_ERRORS

STOP_S_MAX = 5.0
"""What a shutdown may wait for confirms, a last commit and a good-bye to the group."""
ABANDON_S_MAX = 2.0
"""What tasks may need to notice that they are cancelled."""
CANCELS_MAX = 5
"""aiokafka's sending task takes a cancel as a request to end in order, and only the next as one."""


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Flush and disconnect; what is not confirmed in time is left, its publishes have failed."""
    try:
        async with asyncio.timeout(STOP_S_MAX):
            # Flushed first, because `stop` would flush in a task that outlives a timeout.
            await producer.flush()
            await producer.stop()
    except DRIVER_ERRORS:
        await abandon_producer(producer)


async def abandon_producer(producer: AIOKafkaProducer) -> None:
    """End a producer without sending what is left in it."""
    # `_closed` keeps its destructor from complaining; there is no public way to end it unflushed.
    producer._closed = True  # noqa: SLF001
    await _cancel([producer._sender.sender_task])  # noqa: SLF001
    await _close(producer.client)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and disconnect; a broker that is away notices by itself."""
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await consumer.stop()
    except DRIVER_ERRORS:
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
    try:
        async with asyncio.timeout(ABANDON_S_MAX):
            await client.close()  # type: ignore[attr-defined]
    except DRIVER_ERRORS:
        return
