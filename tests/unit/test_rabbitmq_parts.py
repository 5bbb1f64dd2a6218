"""The parts of the RabbitMQ adapter that need no broker."""

from __future__ import annotations

import asyncio
import importlib
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pamqp.frame
import pytest
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.channel import Channel as ConfirmingChannel
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Channel,
    Message,
    ParkedMessage,
    ParkedStatus,
)
from flashsale_core.model import PurchaseId
from flashsale_rabbitmq import RabbitMQConfig, faults
from flashsale_rabbitmq.confirming import Letter, publish
from flashsale_rabbitmq.envelope import UNREADABLE, EnvelopeReader, header_bytes, read_envelope
from flashsale_rabbitmq.frames import publish_frames
from flashsale_rabbitmq.publisher import REST_S, Turns
from flashsale_rabbitmq.shapes import QueueShape, as_found, wanted_queues, without_unseen
from flashsale_rabbitmq.wire import (
    DLT_CUT_HEADER,
    DLT_DETAIL_HEADER,
    DLT_QUEUE_HEADER,
    DLT_TIME_HEADER,
    ORIGINAL_HEADERS_BYTES_MAX,
    amqp_headers,
    dead_letter_headers,
    origin_of,
)

URL = "amqp://guest:hush@broker.example/"

# ── settings ────────────────────────────────────────────────────────────────────────────────────


def test_a_config_never_shows_its_password() -> None:
    """A config may be logged."""
    assert "hush" not in repr(RabbitMQConfig(url=URL))
    assert "***@broker.example" in repr(RabbitMQConfig(url=URL))


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "kafka://broker"},
        {"url": "amqp://"},
        {"accepted_partitions": 0},
        {"accepted_partitions": 257},
        {"exchange": ""},
        {"requests": "x" * 201},
        {"hold_ms_max": 30 * 60_000},
        {"accepted_deadline_ms": 0},
    ],
)
def test_a_config_that_cannot_work_cannot_be_made(wrong: dict[str, object]) -> None:
    """Above all, a hold longer than the broker's own limit of 30 minutes."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RabbitMQConfig(**{"url": URL, **wrong})  # type: ignore[arg-type]


# ── faults ──────────────────────────────────────────────────────────────────────────────────────


def driver_error_classes() -> Iterator[type[BaseException]]:
    """List every exception class that the driver's three packages define."""
    for name in ("aio_pika.exceptions", "aiormq.exceptions", "pamqp.exceptions"):
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and issubclass(value, BaseException):
                yield value


def test_every_error_of_the_driver_is_mapped() -> None:
    """A class that a new version of the driver brings must not pass through to the core."""
    unmapped = {
        kind
        for kind in driver_error_classes()
        if not issubclass(kind, faults.DRIVER_ERRORS)
        and kind is not asyncio.CancelledError
        and kind.__module__.split(".")[0] in ("aio_pika", "aiormq", "pamqp")
    }
    assert not unmapped
    assert len(set(driver_error_classes())) > 30


def raise_in_translation(error: BaseException) -> None:
    """Raise as the driver does in a call that is translated."""
    with faults.translated("doing"):
        raise error


@pytest.mark.parametrize("kind", sorted(set(driver_error_classes()), key=repr))
def test_a_mapped_error_is_unavailable_says_why_and_keeps_its_cause(
    kind: type[BaseException],
) -> None:
    """Whatever the driver raises, the core sees one error with a reason in it."""
    if issubclass(kind, DeliveryError) and not issubclass(kind, PublishError):
        error: BaseException = kind(None, Basic.Nack(1))
    elif issubclass(kind, PublishError):
        error = kind.__new__(kind)
    else:
        error = kind("the text")
    with pytest.raises(Unavailable) as raised:
        raise_in_translation(error)
    assert raised.value.why is Why.BUS_AWAY
    assert raised.value.detail.startswith("doing: ")
    assert len(raised.value.detail) > len("doing: ")
    assert raised.value.__cause__ is error


async def test_a_cancellation_that_nobody_asked_for_is_a_lost_connection() -> None:
    """The driver cancels the callers of a channel that closed; their tasks must live on."""
    with pytest.raises(Unavailable, match="lost"):
        raise_in_translation(asyncio.CancelledError())


async def test_a_real_cancellation_passes() -> None:
    """Who cancels a task gets a cancelled task."""

    async def work() -> None:
        with faults.translated("doing"):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ── turns and letters ───────────────────────────────────────────────────────────────────────────


def test_turns_go_round() -> None:
    """Every queue is first in turn, and the others follow as alternatives."""
    turns = Turns(["a", "b", "c"])
    assert [turns.routes(0) for _ in range(4)] == [
        ("a", "b", "c"),
        ("b", "c", "a"),
        ("c", "a", "b"),
        ("a", "b", "c"),
    ]


def test_a_queue_that_failed_comes_last_for_a_while() -> None:
    """It is not given up: it may be the only one left, and after its rest it is like the others."""
    turns = Turns(["a", "b"])
    turns.rest("a", 10)
    assert turns.routes(10.1) == ("b", "a")
    assert turns.routes(10.1) == ("b", "a")
    assert turns.routes(10 + REST_S) == ("a", "b")
    turns.rest("b", 20)
    turns.wake("b")
    assert turns.routes(20) == ("b", "a")


async def test_a_letter_may_be_stored_from_when_it_left_until_it_is_returned() -> None:
    """An unroutable message is nowhere; a refused one and a silent one may be somewhere."""
    letter = Letter(routes=("q",), body=b"", content_type=None, headers={})
    states = [letter.may_be_stored]
    letter.confirmation = asyncio.get_running_loop().create_future()
    states.append(letter.may_be_stored)
    letter.confirmation.set_exception(PublishError.__new__(PublishError))
    states.append(letter.may_be_stored)
    letter.was_refused = True
    states.append(letter.may_be_stored)
    assert states == [False, True, False, True]


class NumberedChannel:
    """The book-keeping of the driver's channel, with a line that is full."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.number = 1
        self.max_content_size = 1_000
        self.delivery_tag = 7
        self.confirmations: dict[int, asyncio.Future[object]] = {}
        self.message_id_delivery_tag: dict[str, int] = {}
        self.write_queue: asyncio.Queue[object] = asyncio.Queue(maxsize=1)
        self.write_queue.put_nowait("what the socket does not take")

    def create_future(self) -> asyncio.Future[object]:
        """Make a future, as the driver does."""
        return asyncio.get_running_loop().create_future()


async def test_a_publish_cancelled_before_it_left_leaves_the_numbering_whole() -> None:
    """The broker counts what it got; one number too many and every later confirm is another's."""
    channel = NumberedChannel()
    letters = [Letter(routes=("q",), body=b"x", content_type=None, headers={}) for _ in range(2)]
    numbered = [(letter, f"id-{place}") for place, letter in enumerate(letters)]
    task = asyncio.ensure_future(publish(cast("ConfirmingChannel", channel), "ex", numbered))
    await asyncio.sleep(0)
    assert channel.delivery_tag == 9
    task.cancel()
    await asyncio.wait([task])
    assert channel.delivery_tag == 7
    assert not channel.confirmations
    assert not channel.message_id_delivery_tag
    assert not any(letter.may_be_stored for letter in letters)


@given(
    body=st.binary(max_size=2_500),
    content_type=st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
    headers=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
        st.text(st.characters(codec="utf-8")) | st.binary().map(bytearray),
        max_size=5,
    ),
)
def test_a_publish_is_written_as_the_driver_would(
    body: bytes, content_type: str | None, headers: dict[str, str | bytearray]
) -> None:
    """Byte for byte, but for the order of the headers, whatever a letter holds."""
    properties = Basic.Properties(
        content_type=content_type,
        headers=cast("dict[str, Any]", headers),
        delivery_mode=2,
        message_id="name-7",
    )
    expected: list[Basic.Publish | ContentHeader | ContentBody] = [
        Basic.Publish(exchange="ex", routing_key="queue", mandatory=True),
        ContentHeader(properties=properties, body_size=len(body)),
        *(ContentBody(body[start : start + 1_000]) for start in range(0, len(body), 1_000)),
    ]
    written = publish_frames(
        3,
        "ex",
        "queue",
        "name-7",
        content_type=content_type,
        headers=dict(sorted(headers.items())),
        body=body,
        body_bytes_max=1_000,
    )
    assert written == b"".join(marshal(part, 3) for part in expected)


# ── wire ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("zürich", "zürich".encode()),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (None, b""),
        (True, b"true"),
        (-7, b"-7"),
        (0.5, b"0.5"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b"2026-01-02T03:04:05+00:00"),
        ({"b": [1, {"d": None}], "a": bytearray(b"\xff")}, b'{"a":"\\\\xff","b":[1,{"d":null}]}'),
    ],
)
def test_header_values_of_any_type_become_the_same_bytes_every_time(
    value: object, written: bytes
) -> None:
    """A parked message is found again by what it was."""
    assert header_bytes(value) == written


def test_headers_survive_as_strings_where_they_are_text() -> None:
    """Other tools read AMQP strings; other bytes travel as a byte array."""
    table = amqp_headers([("a", b"z\xc3\xbcrich"), ("b", b"\xff")])
    assert table == {"a": "zürich", "b": bytearray(b"\xff")}
    assert [(name, header_bytes(value)) for name, value in table.items()] == [
        ("a", b"z\xc3\xbcrich"),
        ("b", b"\xff"),
    ]


def test_an_origin_is_of_queue_message_id_and_body() -> None:
    """Moving a byte from the id to the body is another message."""
    origins = {
        origin_of("q", b"", b"ab"),
        origin_of("q", b"a", b"b"),
        origin_of("q", b"ab", b""),
        origin_of("r", b"", b"ab"),
    }
    assert len(origins) == 4
    assert origin_of("q", b"a", b"b") == origin_of("q", b"a", b"b")


def dead(headers: tuple[tuple[str, bytes], ...]) -> ParkedMessage:
    """Make a dead letter with these headers."""
    return ParkedMessage(
        message=Message(channel=Channel.REQUESTS, body=b"", headers=headers, origin="q:1"),
        status=ParkedStatus.DEAD,
        reason="bad-framing",
        detail="x" * 5_000,
        purchase_id=PurchaseId("p"),
    )


def test_a_dead_letter_says_in_strings_whence_why_and_when() -> None:
    """All facts are strings, because that is what tools for RabbitMQ show."""
    now = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    table = dead_letter_headers(dead((("shop", b"x"),)), "the.queue", now)
    assert table["shop"] == "x"
    assert table[ORIGIN_HEADER] == "q:1"
    assert table[REASON_HEADER] == "bad-framing"
    assert table[DLT_QUEUE_HEADER] == "the.queue"
    assert table[DLT_TIME_HEADER] == "2026-01-02T03:04:05.678+00:00"
    assert len(table[DLT_DETAIL_HEADER]) == 1_000


def test_headers_too_large_for_a_frame_are_left_out_and_that_is_said() -> None:
    """A frame over 128 KiB costs the connection, for every try to copy the letter again."""
    table = dead_letter_headers(
        dead((("huge", b"x" * ORIGINAL_HEADERS_BYTES_MAX),)), "q", datetime.now(UTC)
    )
    assert "huge" not in table
    assert DLT_CUT_HEADER in table


# ── envelopes ───────────────────────────────────────────────────────────────────────────────────


def properties_on_the_wire(**properties: object) -> bytes:
    """Write flags and properties as a producer does."""
    header = ContentHeader(
        properties=Basic.Properties(**properties),  # type: ignore[arg-type]
        body_size=0,
    )
    return header.marshal()[12:]


FULL = properties_on_the_wire(
    content_type="application/json",
    content_encoding="gzip",
    headers={"shop": "zürich", "n": 5},
    delivery_mode=2,
    priority=3,
    correlation_id="c",
    reply_to="r",
    expiration="60000",
    message_id="m-1",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    message_type="t",
    user_id="guest",
    app_id="a",
)


def test_an_envelope_gives_what_the_engine_wants_of_all_properties() -> None:
    """Whatever else is set, type, id and headers are found."""
    envelope = read_envelope(FULL)
    assert envelope.content_type == "application/json"
    assert envelope.message_id == b"m-1"
    assert dict(envelope.headers) == {"shop": "zürich".encode(), "n": b"5"}


def test_an_envelope_cut_anywhere_is_read_as_far_as_it_goes() -> None:
    """No length of a lie raises."""
    for end in range(len(FULL)):
        envelope = read_envelope(FULL[:end])
        assert len(envelope.headers) <= 2


@given(st.binary(max_size=300), st.integers(0, 0xFFFF))
def test_an_envelope_of_any_bytes_is_read(noise: bytes, flags: int) -> None:
    """Outsiders write these bytes."""
    envelope = read_envelope(flags.to_bytes(2, "big") + noise)
    assert all(isinstance(value, bytes) for _, value in envelope.headers)


@pytest.mark.parametrize(
    "table",
    [
        b"\x01tT" + b"\xff" * 8,
        b"\x02\xff\xfeS\x00\x00\x00\x01x",
        b"\x01??\x00",
        b"\x01aA\x00\x00\x00\x09A\x00\x00\x00\x04",
    ],
)
def test_a_table_that_cannot_be_read_is_kept_whole(table: bytes) -> None:
    """It goes into the parked message, byte by byte, and the body is judged all the same."""
    raw = b"\xa0\x00" + b"\x04type" + len(table).to_bytes(4, "big") + table
    envelope = read_envelope(raw)
    assert envelope.headers == ((UNREADABLE, table),)
    assert envelope.content_type == "type"


def frame(kind: int, payload: bytes) -> bytes:
    """Write one AMQP frame on channel 1."""
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"


async def test_a_reading_connection_hides_properties_and_route_from_the_driver() -> None:
    """The driver decodes nothing that an outsider wrote, and every other frame is untouched."""
    deliver = Basic.Deliver(
        "tag", 7, redelivered=False, exchange="amq.topic", routing_key="key"
    ).marshal()
    hostile = b"\x00\x3c\x00\x3c" + deliver.removesuffix(b"\x03key") + b"\x02\xff\xfe"
    header = ContentHeader(properties=Basic.Properties(), body_size=5).marshal()
    poison = header[:12] + b"\x00\x40" + b"\xff" * 8
    ack = b"\x00\x3c\x00\x50" + Basic.Ack(3, multiple=True).marshal()
    reader = EnvelopeReader()
    for sent in (frame(1, hostile), frame(2, poison), frame(3, b"hello"), frame(1, ack)):
        reader.feed_data(sent)
    reader.feed_eof()
    frames: list[Any] = []
    while not reader.at_eof():
        head = await reader.readexactly(1) + await reader.readexactly(6)
        size = struct.unpack(">BHI", head)[2]
        frames.append(pamqp.frame.unmarshal(head + await reader.readexactly(size + 1))[2])
    delivered, content, body, acknowledged = frames
    assert (delivered.consumer_tag, delivered.delivery_tag) == ("tag", 7)
    assert (delivered.exchange, delivered.routing_key) == ("", "")
    assert content.body_size == 5
    assert content.properties.headers == {"envelope": bytearray(poison[12:])}
    assert body.value == b"hello"
    assert (acknowledged.delivery_tag, acknowledged.multiple) == (3, True)


# ── topology ────────────────────────────────────────────────────────────────────────────────────

SHAPE = QueueShape(name="q", arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000})


@pytest.mark.parametrize(
    ("argument", "difference", "found"),
    [
        (
            "x-delivery-limit",
            "received the value '1000' of type 'long' but current is the value '5' of type 'long'",
            {"x-queue-type": "quorum", "x-delivery-limit": 5},
        ),
        (
            "x-delivery-limit",
            "received '1000' but current is '5'",
            {"x-queue-type": "quorum", "x-delivery-limit": 5},
        ),
        (
            "x-queue-type",
            "received 'quorum' but current is 'classic'",
            {"x-queue-type": "classic", "x-delivery-limit": 1_000},
        ),
        (
            "x-delivery-limit",
            "received the value '1000' of type 'signedint' but current is none",
            {"x-queue-type": "quorum"},
        ),
        (
            "x-single-active-consumer",
            "received none but current is the value 'true' of type 'bool'",
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": 1_000,
                "x-single-active-consumer": True,
            },
        ),
    ],
)
def test_a_refusal_tells_the_argument_that_differs(
    argument: str, difference: str, found: dict[str, object]
) -> None:
    """The forms are those of RabbitMQ 3.10."""
    refusal = f"inequivalent arg '{argument}' for queue 'q' in vhost '/': {difference}"
    corrected = as_found(SHAPE, f"PRECONDITION_FAILED - {refusal}")
    assert corrected is not None
    assert corrected.arguments == found


def test_a_refusal_about_durability_is_shown_as_such() -> None:
    """A transient queue loses promises in a restart."""
    refusal = "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current"
    corrected = as_found(SHAPE, f"{refusal} is 'false'")
    assert corrected is not None
    assert str(corrected).startswith("transient")


@pytest.mark.parametrize("refusal", ["cannot obtain exclusive access", "", "inequivalent arg"])
def test_any_other_refusal_is_shown_as_it_is(refusal: str) -> None:
    """What cannot be read is not guessed."""
    assert as_found(SHAPE, refusal) is None


def test_a_classic_queue_is_shown_without_what_only_quorum_queues_have() -> None:
    """The broker does not compare those, so they would be shown as they are wanted."""
    found = without_unseen(QueueShape(name="q", arguments={"x-delivery-limit": 1_000}))
    assert found.arguments == {"x-queue-type": "classic"}


def test_queues_for_others_have_no_delivery_limit_on_any_broker() -> None:
    """RabbitMQ 4 drops a message after 20 deliveries unless told; older ones refuse to be told."""
    config = RabbitMQConfig(url=URL)
    for major, limit in ((3, None), (4, -1)):
        shapes = {shape.name: shape.arguments for shape in wanted_queues(config, major)}
        for name in (config.orders, config.dead_letters):
            assert shapes[name].get("x-delivery-limit") == limit
        for name in (config.requests, *config.accepted_queues()):
            assert shapes[name]["x-delivery-limit"] == 1_000
            assert shapes[name]["x-dead-letter-routing-key"] == config.dead_letters


def test_only_accepted_queues_have_one_active_consumer() -> None:
    """Requests are shared by all workers; promises are kept in order."""
    config = RabbitMQConfig(url=URL)
    ordered = {
        shape.name
        for shape in wanted_queues(config, 3)
        if shape.arguments.get("x-single-active-consumer")
    }
    assert ordered == set(config.accepted_queues())
