"""Another service, which writes to the outside door with a client of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import attrs
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.integration.engine import Engine


@attrs.frozen
class Sent:
    """One message as it is written."""

    key: bytes
    body: bytes | None
    content_type: str = "application/avro"


Send = Callable[[Sequence[Sent]], Coroutine[Any, Any, None]]


@asynccontextmanager
async def sender(ours: Engine) -> AsyncIterator[Send]:
    """Open a way to the door of whichever bus the engine uses."""
    url = ours.settings["FLASHSALE_BUS_URL"]
    opened = _to_kafka if url.startswith("kafka") else _to_rabbitmq
    async with opened(url, ours.settings) as send:
        yield send


@asynccontextmanager
async def _to_kafka(url: str, settings: dict[str, str]) -> AsyncIterator[Send]:
    producer = AIOKafkaProducer(bootstrap_servers=url.removeprefix("kafka://"))
    await producer.start()

    async def send(messages: Sequence[Sent]) -> None:
        for one in messages:
            await producer.send(
                settings["FLASHSALE_REQUESTS_TOPIC"],
                one.body,
                key=one.key,
                headers=[("content-type", one.content_type.encode())],
            )
        await producer.flush()

    try:
        yield send
    finally:
        await producer.stop()


@asynccontextmanager
async def _to_rabbitmq(url: str, settings: dict[str, str]) -> AsyncIterator[Send]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(settings["FLASHSALE_EXCHANGE"], ensure=False)

        async def send(messages: Sequence[Sent]) -> None:
            for one in messages:
                message = aio_pika.Message(
                    one.body or b"", message_id=one.key.decode(), content_type=one.content_type
                )
                await exchange.publish(message, routing_key=settings["FLASHSALE_REQUESTS_TOPIC"])

        yield send


async def dead_letters(ours: Engine, count: int) -> list[bytes | None]:
    """Read as many copies from the dead letters as a tool of somebody else would."""
    url, name = ours.settings["FLASHSALE_BUS_URL"], ours.settings["FLASHSALE_DEAD_LETTER_TOPIC"]
    if url.startswith("kafka"):
        consumer = AIOKafkaConsumer(
            name, bootstrap_servers=url.removeprefix("kafka://"), auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            return [(await consumer.getone()).value for _ in range(count)]
        finally:
            await consumer.stop()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(name, ensure=False)
        letters: list[bytes | None] = []
        async with queue.iterator(no_ack=True) as incoming:
            async for message in incoming:
                letters.append(message.body)
                if len(letters) == count:
                    break
        return letters
