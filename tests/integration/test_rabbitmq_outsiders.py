"""What other programs put on the open queue, well meant or not, on a real RabbitMQ."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import attrs
import pytest
from aiormq.abc import ChannelFrame
from pamqp.commands import Basic
from pamqp.common import FieldTable

from flashsale_core.events import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Channel,
    Message,
    ParkedMessage,
    ParkedStatus,
)
from flashsale_core.testing.event_bus import take_delivery, take_messages
from flashsale_rabbitmq.envelope import UNREADABLE
from flashsale_rabbitmq.wire import DLT_CUT_HEADER, DLT_QUEUE_HEADER
from tests.integration.rabbitmq_world import RabbitMQWorld, rabbitmq_world
from tests.servers import RabbitMQ


@pytest.fixture
async def world(rabbitmq_server: RabbitMQ) -> AsyncIterator[RabbitMQWorld]:
    """Lend a topology of the test's own."""
    async with rabbitmq_world(rabbitmq_server) as made:
        yield made


async def test_a_json_request_arrives_with_its_content_type(world: RabbitMQWorld) -> None:
    """The codec decides by it; the bus only carries."""
    body = b'{"purchaseId":"p-1","userId":"u","itemId":"1","quantity":1}'
    await world.put(Channel.REQUESTS, body, content_type="application/json")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        (message,) = await take_messages(subscription, 1)
    assert (message.content_type, message.body) == ("application/json", body)


async def test_headers_of_every_type_arrive_as_bytes(world: RabbitMQWorld) -> None:
    """AMQP headers have types; a message of the engine has bytes."""
    headers: FieldTable = {
        "text": "zürich",
        "number": 5,
        "truth": True,
        "nothing": None,
        "time": datetime(2026, 1, 1, tzinfo=UTC),
        "decimal": Decimal("1.5"),
        "table": {"b": [1, 2], "a": "x"},
    }
    properties = Basic.Properties(headers=headers)
    await world.put_raw(world.config.requests, b"x", properties)
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        (message,) = await take_messages(subscription, 1)
    assert dict(message.headers) == {
        "text": "zürich".encode(),
        "number": b"5",
        "truth": b"true",
        "nothing": b"",
        "time": b"2026-01-01T00:00:00+00:00",
        "decimal": b"1.5",
        "table": b'{"a":"x","b":[1,2]}',
    }


async def test_a_message_delivered_again_looks_the_same(world: RabbitMQWorld) -> None:
    """The broker adds a count of deliveries; it must not make another message of it."""
    await world.put(Channel.REQUESTS, b"x", headers=(("a", b"1"),))
    seen = []
    for _ in range(3):
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
            seen.append((await take_delivery(subscription)).messages[0])
    assert seen[0] == seen[1] == seen[2]


def table(entries: bytes) -> bytes:
    """Write an AMQP table."""
    return struct.pack(">I", len(entries)) + entries


def nested(depth: int) -> bytes:
    """Write a table in a table in a table."""
    entries = b""
    for _ in range(depth):
        entries = b"\x01tF" + table(entries)
    return entries


TIMESTAMP, MESSAGE_ID, CONTENT_TYPE, HEADERS = 0x0040, 0x0080, 0x8000, 0x2000
HOSTILE = {
    "a time in microseconds": (TIMESTAMP, struct.pack(">Q", 1_700_000_000_000_000)),
    "the largest time": (TIMESTAMP, b"\xff" * 8),
    "the largest time as a header": (HEADERS, table(b"\x01tT" + b"\xff" * 8)),
    "a name that is not UTF-8": (HEADERS, table(b"\x02\xff\xfeS\x00\x00\x00\x01x")),
    "tables in tables": (HEADERS, table(nested(3_000))),
    "a content type that is not UTF-8": (CONTENT_TYPE, b"\x02\xff\xfe"),
    "an id that is not UTF-8": (MESSAGE_ID, b"\x02\xff\xfe"),
}


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_properties_cost_no_connection_and_no_neighbour(
    world: RabbitMQWorld, hostile: str
) -> None:
    """The message itself is judged by its body, once, and what follows it goes on."""
    flags, properties = HOSTILE[hostile]
    await put_bytes(world, flags, properties, b"hostile", key=world.config.requests.encode())
    await world.put(Channel.REQUESTS, b"neighbour")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        connection = await subscription._line.connection()  # type: ignore[attr-defined]
        messages = await take_messages(subscription, 2)
        assert await subscription._line.connection() is connection  # type: ignore[attr-defined]
    assert [message.body for message in messages] == [b"hostile", b"neighbour"]


async def test_headers_that_cannot_be_read_are_kept_and_copied_byte_by_byte(
    world: RabbitMQWorld,
) -> None:
    """Whoever looks into the dead letter sees what was sent."""
    entries = b"\x02\xff\xfeS\x00\x00\x00\x01x"
    key = world.config.requests.encode()
    await put_bytes(world, HEADERS, table(entries), b"hostile", key=key)
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        (message,) = await take_messages(subscription, 1)
    assert message.headers == ((UNREADABLE, entries),)
    await world.bus.copy_dead_letter(dead(message))
    (copy,) = await world.read(Channel.DEAD_LETTERS)
    assert (UNREADABLE, entries) in copy.headers


async def test_a_hostile_routing_key_costs_no_connection(world: RabbitMQWorld) -> None:
    """By a CC header a message reaches the queue under any key, even one that is no text."""
    queue = world.config.requests
    cc = b"\x02CCA" + table(b"S" + struct.pack(">I", len(queue)) + queue.encode())
    await put_bytes(world, HEADERS, table(cc), b"hostile", key=b"\xff\xfe")
    await world.put(Channel.REQUESTS, b"neighbour")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        messages = await take_messages(subscription, 2)
    assert [message.body for message in messages] == [b"hostile", b"neighbour"]


async def put_bytes(
    world: RabbitMQWorld, flags: int, properties: bytes, body: bytes, *, key: bytes
) -> None:
    """Publish properties as bytes that no client library would write."""
    async with world.foreign_channel() as foreign:
        driver = await foreign.get_underlay_channel()
        number = struct.pack(">H", driver.number)
        exchange = world.config.exchange.encode()
        publish = b"\x00\x3c\x00\x28\x00\x00" + short(exchange) + short(key) + b"\x00"
        header = struct.pack(">HHQH", 60, 0, len(body), flags) + properties
        frames = b"".join(
            bytes([kind]) + number + struct.pack(">I", len(payload)) + payload + b"\xce"
            for kind, payload in ((1, publish), (2, header), (3, body))
        )
        # The broker answers in order, so an answer to this says that it has the message.
        await driver.write_queue.put(  # type: ignore[attr-defined]
            ChannelFrame(payload=frames, should_close=False)
        )
        await foreign.get_queue(world.config.requests)


def short(text: bytes) -> bytes:
    """Write an AMQP short string."""
    return bytes([len(text)]) + text


def dead(message: Message) -> ParkedMessage:
    """Park a message DEAD."""
    return ParkedMessage(message=message, status=ParkedStatus.DEAD, reason="bad-framing")


async def test_a_dead_letter_tells_its_queue_and_can_be_read_again_and_again(
    world: RabbitMQWorld,
) -> None:
    """Browsing puts letters back; a delivery limit would destroy one that is looked at often."""
    await world.put(Channel.REQUESTS, b"bad", headers=(("shop", b"s"),), content_type="t")
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        (message,) = await take_messages(subscription, 1)
    await world.bus.copy_dead_letter(dead(message))
    looks = [await world.read(Channel.DEAD_LETTERS) for _ in range(25)]
    (copy,) = looks[-1]
    headers = dict(copy.headers)
    assert (copy.body, copy.content_type) == (b"bad", "t")
    assert headers["shop"] == b"s"
    assert headers[ORIGIN_HEADER] == message.origin.encode()
    assert headers[REASON_HEADER] == b"bad-framing"
    assert headers[DLT_QUEUE_HEADER] == world.config.requests.encode()


async def test_a_letter_with_headers_as_large_as_a_frame_is_copied_without_them(
    world: RabbitMQWorld,
) -> None:
    """Ours beside them would break the frame, and the connection, at every try."""
    huge = b"x" * 130_000
    await world.put(Channel.REQUESTS, b"bad", headers=(("huge", huge),))
    async with world.bus.subscribe(Channel.REQUESTS, messages_max=5) as subscription:
        (message,) = await take_messages(subscription, 1)
    assert message.headers == (("huge", huge),)
    letter = attrs.evolve(dead(message), detail="y" * 2_000)
    await world.bus.copy_dead_letter(letter)
    (copy,) = await world.read(Channel.DEAD_LETTERS)
    headers = dict(copy.headers)
    assert DLT_CUT_HEADER in headers
    assert headers[REASON_HEADER] == b"bad-framing"


async def test_what_the_broker_gives_up_goes_to_the_dead_letters(world: RabbitMQWorld) -> None:
    """The delivery limit's way out is bound: what a consumer rejects for good takes the same."""
    await world.put(Channel.REQUESTS, b"poison")
    async with world.foreign_channel() as foreign:
        driver = await foreign.get_underlay_channel()
        got = await driver.basic_get(world.config.requests)
        assert got.delivery_tag is not None
        await driver.basic_reject(got.delivery_tag, requeue=False)
    async with world.bus.subscribe(Channel.DEAD_LETTERS, messages_max=5) as subscription:
        (message,) = await take_messages(subscription, 1)
    assert message.body == b"poison"
