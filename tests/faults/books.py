"""Reads the final books from every server, beside the engine and with clients of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aio_pika
import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from flashsale_avro import AvroCodec
from flashsale_core.events import Channel, Message, OrderEvent
from tests.faults.history import Books, Charge, Event, Gate, Held, Letter, Row, Sale
from tests.integration.crowds import connected
from tests.integration.engine import Engine
from tests.servers.provider import Provider

CHUNK = 5_000
SILENT_S = 2.0
"""A topic that gives nothing for so long has been read to its end."""


async def collect(
    ours: Engine, redis_url: str, bus_url: str, database_url: str, provider: Provider | None = None
) -> Books:
    """Read everything; the URLs are the servers' own, not those of a wire before them."""
    beside = Engine(
        ours.folder,
        {
            **ours.settings,
            "FLASHSALE_GATE_URL": redis_url,
            "FLASHSALE_BUS_URL": bus_url,
            "FLASHSALE_DATABASE_URL": database_url,
        },
    )
    books = await _database(beside)
    books.gates = [await _gate(beside, sale.sale_id) for sale in books.sales]
    orders = beside.settings["FLASHSALE_ORDERS_TOPIC"]
    books.events = await _events([body async for _, body in _read(beside, orders)])
    dead = beside.settings["FLASHSALE_DEAD_LETTER_TOPIC"]
    books.copies = [copy async for copy in _read(beside, dead)]
    books.waiting = await waiting(beside)
    if provider is not None:
        books.charges = charges_of(await asyncio.to_thread(provider.ledger))
    return books


def charges_of(ledger: list[dict[str, Any]]) -> list[Charge]:
    """Take the provider's word, key by key: so often was this one charged."""
    found = []
    for one in ledger:
        sale_id, _, purchase_id = one["about"].partition("/")
        charge = Charge(one["key"], sale_id, purchase_id, one["amount"])
        found += [charge] * one["charges"]
    return found


async def _database(ours: Engine) -> Books:
    has_keys = ours.settings["FLASHSALE_BUS_URL"].startswith("kafka")
    async with connected(ours) as database:
        sales = await database.fetch("SELECT * FROM sales")
        rows = await database.fetch(
            "SELECT *, (extract(epoch FROM recorded_at) * 1000)::bigint AS at_ms FROM orders"
        )
        parked = await database.fetch(
            "SELECT *, (SELECT max(who) FROM parked_trail t WHERE t.parked_id = p.parked_id "
            "AND t.act = 'discard') AS discarded_by FROM parked_messages p"
        )
        outbox = await database.fetchval("SELECT count(*) FROM outbox")
    return Books(
        sales=[
            Sale(
                one["sale_id"],
                one["initial"],
                one["available"],
                one["sold"],
                one["pending"],
                one["per_user_limit"],
                one["state"],
                one["unit_price_minor"],
            )
            for one in sales
        ],
        rows=[
            Row(
                one["sale_id"],
                one["purchase_id"],
                one["user_id"],
                one["quantity"],
                one["status"],
                one["reason"],
                one["at_ms"],
            )
            for one in rows
        ],
        gates=[],
        letters=[
            Letter(
                one["status"],
                one["reason"],
                one["body"],
                one["key"] if has_keys else None,
                one["sale_id"],
                one["purchase_id"],
                one["holds_unit"],
                one["quantity"] or 1,
                is_from_outside=one["channel"] == Channel.REQUESTS.value,
                was_discarded_by=one["discarded_by"],
            )
            for one in parked
        ],
        outbox=outbox,
    )


async def _gate(ours: Engine, sale_id: str) -> Gate:
    begin = f"{ours.settings['FLASHSALE_NAMESPACE']}:{{{sale_id}}}:"
    # Its types say that every reply may be anything.
    redis: Any = Redis.from_url(ours.settings["FLASHSALE_GATE_URL"])
    async with redis:
        counts = await redis.hgetall(begin + "sale")
        users = await redis.hgetall(begin + "users")
        scan = redis.hscan_iter(begin + "purchases", count=CHUNK)
        records = {key: value async for key, value in scan}
        journal = await redis.zrange(begin + "journal", 0, -1)
    unpack = msgspec.msgpack.decode
    count = {key.decode(): value.decode() for key, value in counts.items()}
    return Gate(
        sale_id,
        initial=int(count.get("initial", 0)),
        available=int(count.get("available", 0)),
        reserved=int(count.get("R", 0)),
        outside=int(count.get("O", 0)),
        queued=int(count.get("Q", 0)),
        sold=int(count.get("S", 0)),
        users=tuple((user.decode(), int(units)) for user, units in users.items()),
        records=tuple(_held(key.decode(), unpack(value)) for key, value in records.items()),
        journal=tuple(one.decode() for one in journal),
    )


def _held(purchase_id: str, record: Sequence[Any]) -> Held:
    _, state, quantity, user, *_ = record
    return Held(purchase_id, state, user, quantity)


async def _events(bodies: list[bytes | None]) -> list[Event]:
    codec, found = AvroCodec(), []
    for begin in range(0, len(bodies), CHUNK):
        messages = [
            Message(channel=Channel.ORDERS, body=one, origin="", content_type="application/avro")
            for one in bodies[begin : begin + CHUNK]
        ]
        for fact in await codec.decode(messages):
            assert isinstance(fact, OrderEvent), fact
            found.append(Event(fact.occurrence_id, fact.type.value, fact.sale_id, fact.purchase_id))
    return found


async def _read(ours: Engine, name: str) -> AsyncIterator[tuple[bytes | None, bytes | None]]:
    """Read a topic or queue to its end: key and body of each message."""
    url = ours.settings["FLASHSALE_BUS_URL"]
    reading = _read_topic if url.startswith("kafka") else _read_queue
    async for one in reading(url, name):
        yield one


async def _read_topic(url: str, name: str) -> AsyncIterator[tuple[bytes | None, bytes | None]]:
    consumer = AIOKafkaConsumer(
        name, bootstrap_servers=url.removeprefix("kafka://"), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        while batches := await consumer.getmany(timeout_ms=int(SILENT_S * 1_000)):
            for batch in batches.values():
                for record in batch:
                    yield record.key, record.value
    finally:
        await consumer.stop()


async def _read_queue(url: str, name: str) -> AsyncIterator[tuple[bytes | None, bytes | None]]:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await channel.set_qos(prefetch_count=CHUNK)
        queue = await channel.get_queue(name, ensure=False)
        found: asyncio.Queue[bytes] = asyncio.Queue()

        async def note(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await found.put(message.body)

        tag = await queue.consume(note, no_ack=True)
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    yield None, await found.get()
            except TimeoutError:
                break
        await queue.cancel(tag)


async def waiting(ours: Engine) -> int:
    """Count the messages that no worker has ended."""
    named = ours.settings
    url = named["FLASHSALE_BUS_URL"]
    if url.startswith("kafka"):
        return await _lag(url.removeprefix("kafka://"), named)
    topic, count = named["FLASHSALE_ACCEPTED_TOPIC"], int(named["FLASHSALE_PARTITIONS"])
    accepted = [f"{topic}.{number}" for number in range(count)]
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        counted = [
            await channel.declare_queue(name, passive=True)
            for name in (*accepted, named["FLASHSALE_REQUESTS_TOPIC"])
        ]
    return sum(queue.declaration_result.message_count or 0 for queue in counted)


async def _lag(bootstrap: str, named: dict[str, str]) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await admin.start()
    await consumer.start()
    try:
        lag = 0
        for group in (named["FLASHSALE_CONSUMER_GROUP"], named["FLASHSALE_ACCEPTED_GROUP"]):
            committed = await admin.list_consumer_group_offsets(group)
            ends = await consumer.end_offsets(list(committed)) if committed else {}
            lag += sum(max(ends[part] - place.offset, 0) for part, place in committed.items())
        return lag
    finally:
        await consumer.stop()
        await admin.close()
