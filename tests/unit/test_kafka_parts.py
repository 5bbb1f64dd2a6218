"""What of the Kafka adapter needs no broker: lanes, turns, bytes, and the map of errors."""

import asyncio
import inspect
import logging
import ssl
import struct

import attrs
import pytest
from aiokafka import errors as kafka
from aiokafka.structs import ConsumerRecord, TopicPartition

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.events import Channel
from flashsale_core.testing.event_bus import dead_letter
from flashsale_kafka import faults
from flashsale_kafka.committing import Committer
from flashsale_kafka.connecting import quiet_driver
from flashsale_kafka.lanes import DELIVERY_BYTES_MAX, Lanes
from flashsale_kafka.topics import DAY_MS, TopicShape
from flashsale_kafka.turn import SUSPECT_S, Turn
from flashsale_kafka.wire import dead_letter_headers, message_of, place_of

GROUPS = (
    faults.LOGIN,
    faults.MECHANISM,
    faults.RIGHTS,
    faults.TOPOLOGY,
    faults.AWAY,
    faults.SPENT,
    faults.TOO_LARGE,
    faults.LOST,
    faults.CODEC,
    faults.UNEXPECTED,
)
DRIVER_CLASSES = [
    found
    for found in vars(kafka).values()
    if inspect.isclass(found)
    and issubclass(found, Exception)
    # The abstract root of the broker's error codes is never raised, and cannot even be shown.
    and found is not kafka.BrokerResponseError
]


@pytest.mark.parametrize("error", DRIVER_CLASSES, ids=lambda error: error.__name__)
def test_every_error_of_the_driver_has_one_meaning(error: type[Exception]) -> None:
    """A new version of the driver with a new error fails here, and not at three in the morning."""
    assert sum(error in group for group in GROUPS) == 1
    assert issubclass(error, faults.DRIVER_ERRORS)
    translated = faults.translated(error("said by the driver"), "publishing")
    if error in faults.TOO_LARGE:
        assert isinstance(translated, Corrupt)
    else:
        assert isinstance(translated, Unavailable)
        assert translated.why is Why.BUS_AWAY
    assert str(translated).count("publishing: ") == 1
    assert faults.MEANINGS[error] in str(translated)


@pytest.mark.parametrize(
    ("error", "setting"),
    [
        (kafka.SaslAuthenticationFailed("no"), "FLASHSALE_KAFKA_PASSWORD"),
        (kafka.UnsupportedSaslMechanismError("no"), "FLASHSALE_KAFKA_SASL_MECHANISM"),
        (ssl.SSLCertVerificationError("no"), "FLASHSALE_KAFKA_CA"),
        (ssl.SSLError("no"), "FLASHSALE_KAFKA_SECURITY_PROTOCOL"),
        (ConnectionRefusedError("no"), "FLASHSALE_BUS_URL"),
        (TimeoutError(), "FLASHSALE_BUS_URL"),
        (kafka.UnknownTopicOrPartitionError("no"), "flashsale topics ensure"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_names_what_mends_it(error: Exception, setting: str) -> None:
    """Whoever reads the log knows what to change."""
    assert setting in str(faults.translated(error, "connecting"))


# ── lanes ───────────────────────────────────────────────────────────────────────────────────────

FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)


def record(offset: int, partition: int = 0, **changes: object) -> ConsumerRecord:
    """Make a record as aiokafka hands it out."""
    fields: dict[str, object] = {
        "topic": "t",
        "partition": partition,
        "offset": offset,
        "timestamp": 1_700_000_000_000,
        "timestamp_type": 0,
        "key": None,
        "value": b"%d" % offset,
        "checksum": None,
        "serialized_key_size": -1,
        "serialized_value_size": 1,
        "headers": (),
    }
    return ConsumerRecord(**(fields | changes))


@pytest.fixture
def lanes() -> Lanes:
    """Own two partitions, three records each, two messages a delivery."""
    made = Lanes(Channel.REQUESTS, 2, message_of, lambda: None)
    made.own([FIRST, SECOND])
    made.add({FIRST: [record(n) for n in range(3)], SECOND: [record(n, 1) for n in range(3)]})
    return made


def offsets_of(lanes: Lanes) -> list[str]:
    """Take and finish everything; list the origins in their order."""
    origins: list[str] = []
    while (delivery := lanes.next_delivery()) is not None:
        origins += [message.origin for message in delivery.messages]
        lanes.end(delivery, is_done=True)
    return origins


def test_a_delivery_of_large_records_ends_where_it_is_large_enough() -> None:
    """Nor is more fetched while so much waits; a record larger than that comes alone."""
    large = b"x" * (DELIVERY_BYTES_MAX // 2)
    sizes = [large, large, large, large * 3, b"small"]
    made = Lanes(Channel.REQUESTS, 500, message_of, lambda: None)
    made.own([FIRST])
    made.add({FIRST: [record(n, value=body) for n, body in enumerate(sizes)]})
    assert made.with_room() == []
    counts = []
    while (delivery := made.next_delivery()) is not None:
        counts.append(len(delivery.messages))
        if len(counts) == 1:
            # What is given back waits again, and counts again.
            made.end(delivery, is_done=False)
            assert made.with_room() == []
        else:
            made.end(delivery, is_done=True)
    assert counts == [2, 2, 2, 1]
    assert made.with_room() == [FIRST]


def test_a_partition_with_a_delivery_in_hand_hands_out_no_other(lanes: Lanes) -> None:
    """And its neighbour does."""
    held = [lanes.next_delivery(), lanes.next_delivery()]
    assert {delivery.partition for delivery in held if delivery} == {0, 1}
    assert lanes.next_delivery() is None


def test_giving_back_keeps_the_order(lanes: Lanes) -> None:
    """The same messages come again before any later one."""
    delivery = lanes.next_delivery()
    assert delivery is not None
    lanes.end(delivery, is_done=False)
    origins = [origin for origin in offsets_of(lanes) if origin.startswith("t:0:")]
    assert origins == ["t:0:0", "t:0:1", "t:0:2"]


def test_the_watermark_is_what_is_done_without_a_gap(lanes: Lanes) -> None:
    """Only an acknowledge moves it, to the offset behind the delivery's last."""
    delivery = lanes.next_delivery()
    assert delivery is not None
    lanes.end(delivery, is_done=False)
    assert lanes.uncommitted() == {}
    delivery = lanes.next_delivery()
    while delivery is None or delivery.token != FIRST:
        delivery = lanes.next_delivery()
    assert lanes.end(delivery, is_done=True)
    assert lanes.uncommitted() == {FIRST: 2}
    lanes.committed({FIRST: 2})
    assert lanes.uncommitted() == {}


def test_until_a_commit_every_delivery_may_have_killed_whoever_had_the_partition(
    lanes: Lanes,
) -> None:
    """It died after the last commit, so what it had in hand begins there."""
    first = lanes.next_delivery()
    assert first is not None
    assert first.is_suspect
    lanes.end(first, is_done=True)
    second = [delivery for _ in range(2) if (delivery := lanes.next_delivery()) is not None]
    assert [one.is_suspect for one in second] == [True, True]
    for one in second:
        lanes.end(one, is_done=True)
    lanes.committed({FIRST: 2, SECOND: 2})
    lanes.add({FIRST: [record(n) for n in range(3, 6)]})
    later = lanes.next_delivery()
    assert later is not None
    assert not later.is_suspect
    lanes.own([FIRST])
    lanes.add({FIRST: [record(2)]})
    again = lanes.next_delivery()
    assert again is not None
    assert again.is_suspect


def test_what_was_lost_ends_without_effect_even_when_it_came_back(lanes: Lanes) -> None:
    """A partition that left and returned begins anew from what the group has committed."""
    delivery = lanes.next_delivery()
    assert delivery is not None
    lanes.drop()
    assert not lanes.end(delivery, is_done=True)
    lanes.own([FIRST, SECOND])
    assert not lanes.end(delivery, is_done=True)
    assert lanes.uncommitted() == {}


def test_while_closing_only_what_is_in_hand_may_end(lanes: Lanes) -> None:
    """A rebalance hands nothing out and takes nothing in."""
    delivery = lanes.next_delivery()
    assert delivery is not None
    lanes.close()
    lanes.add({FIRST: [record(9)]})
    assert lanes.next_delivery() is None
    assert lanes.with_room() == []
    assert lanes.end(delivery, is_done=True)
    assert not lanes.has_held()


def test_a_partition_with_a_full_lane_is_not_read_on(lanes: Lanes) -> None:
    """A worker's memory is bounded: a lane has room while less than a delivery waits."""
    assert lanes.with_room() == []
    delivery = lanes.next_delivery()
    assert delivery is not None
    assert lanes.with_room() == [delivery.token]


# ── turns ───────────────────────────────────────────────────────────────────────────────────────


def test_partitions_have_their_turn_one_after_the_other() -> None:
    """Each as often as the others."""
    turn = Turn()
    assert [turn.next({0, 1, 2}, {0, 1, 2}) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_partition_without_a_leader_is_skipped() -> None:
    """A purchase waits for no election."""
    turn = Turn()
    assert [turn.next({0, 1, 2}, {0, 2}) for _ in range(4)] == [0, 2, 0, 2]


def test_a_partition_that_did_not_confirm_is_passed_over_for_a_while() -> None:
    """The driver believes in a dead leader for seconds; nobody else should have to find out."""
    now = [100.0]
    turn = Turn(lambda: now[0])
    turn.suspect(1)
    assert [turn.next({0, 1, 2}, {0, 1, 2}) for _ in range(3)] == [0, 2, 0]
    now[0] += SUSPECT_S
    assert [turn.next({0, 1, 2}, {0, 1, 2}) for _ in range(3)] == [1, 2, 0]
    turn.suspect(1)
    turn.trust(1)
    assert turn.next({0, 1, 2}, {0, 1, 2}) == 1


def test_without_any_leader_everybody_has_a_turn_all_the_same() -> None:
    """Then it is the deadline that answers, and the first leader that is back."""
    turn = Turn()
    assert [turn.next({0, 1}, set()) for _ in range(3)] == [0, 1, 0]
    turn.suspect(0)
    turn.suspect(1)
    assert turn.next({0, 1}, {0, 1}) == 1


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────


def test_springs_numbers_are_javas() -> None:
    """Big endian, int32 and int64, also at their ends."""
    letter = dead_letter(b"x")
    origin = f"a.b-c_d:{2**31 - 1}:{2**63 - 1}"
    message = attrs.evolve(letter.message, origin=origin, written_at_ms=1)
    headers = dict(dead_letter_headers(attrs.evolve(letter, message=message)))
    assert headers["kafka_dlt-original-topic"] == b"a.b-c_d"
    assert headers["kafka_dlt-original-partition"] == struct.pack(">i", 2**31 - 1)
    assert headers["kafka_dlt-original-offset"] == struct.pack(">q", 2**63 - 1)
    assert headers["kafka_dlt-original-timestamp"] == b"\0\0\0\0\0\0\0\1"


@pytest.mark.parametrize("origin", ["sha256:abc", "t:1", "t:x:1", "", f"t:{2**31}:1", "a:1:b"])
def test_an_origin_of_another_form_gives_no_place(origin: str) -> None:
    """A message that came by another broker has no topic and offset."""
    assert place_of(origin) is None
    letter = dead_letter(b"x")
    message = attrs.evolve(letter.message, origin=origin)
    names = {name for name, _ in dead_letter_headers(attrs.evolve(letter, message=message))}
    assert "kafka_dlt-original-topic" not in names
    assert "flashsale-origin" in names


def test_a_record_without_a_time_and_headers_without_values_are_read() -> None:
    """Old producers send no timestamp; a header's value may be null."""
    made = record(5, timestamp=-1, headers=(("Content-Type", b"\xff/x"), ("empty", None)))
    message = message_of(made, Channel.REQUESTS)
    assert message.written_at_ms is None
    assert message.headers == (("Content-Type", b"\xff/x"), ("empty", b""))
    assert message.content_type == "\ufffd/x"


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────

WANTED = TopicShape(
    partitions=6,
    replication=3,
    cleanup_policy="delete",
    retention_ms=14 * DAY_MS,
    min_insync_replicas=2,
)


@pytest.mark.parametrize(
    ("changes", "suits"),
    [
        ({}, True),
        ({"replication": 4}, True),
        ({"retention_ms": -1}, True),
        ({"retention_ms": 15 * DAY_MS, "min_insync_replicas": 3}, True),
        ({"cleanup_policy": None, "retention_ms": None, "min_insync_replicas": None}, True),
        ({"partitions": 12}, False),
        ({"replication": 2}, False),
        ({"min_insync_replicas": 1}, False),
        ({"retention_ms": 14 * DAY_MS - 1}, False),
        ({"cleanup_policy": "compact"}, False),
        ({"cleanup_policy": "compact,delete"}, False),
    ],
)
def test_a_topic_suits_when_it_is_at_least_as_safe(changes: dict[str, object], suits: bool) -> None:
    """What the broker does not let us read is not held against it."""
    shape = attrs.evolve(WANTED, **changes)  # type: ignore[arg-type]
    assert shape.suits(WANTED, as_many=True) is suits


def test_somebody_elses_topic_may_be_wider_but_not_less_safe() -> None:
    """Its owner decides how wide it is."""
    wider = attrs.evolve(WANTED, partitions=WANTED.partitions + 3)
    assert wider.suits(WANTED, as_many=False)
    assert not attrs.evolve(wider, cleanup_policy="compact").suits(WANTED, as_many=False)


# ── noise ───────────────────────────────────────────────────────────────────────────────────────


def test_the_driver_is_silent_while_any_bus_is_open() -> None:
    """Two buses, closed in any order; afterwards everything is as it was."""
    logger = logging.getLogger("aiokafka")
    first, second = quiet_driver(), quiet_driver()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logger.level == logging.CRITICAL
    second.__exit__(None, None, None)
    assert logger.level == logging.NOTSET


def test_a_level_that_somebody_chose_is_left_alone() -> None:
    """Whoever looks for a fault in the driver sets DEBUG, and gets it."""
    logger = logging.getLogger("aiokafka")
    logger.setLevel(logging.DEBUG)
    try:
        with quiet_driver():
            assert logger.level == logging.DEBUG
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.NOTSET)


class Slow:
    """What of a consumer commits, when it is told that it may."""

    def __init__(self) -> None:
        """Begin with nothing committed."""
        self.may_end = asyncio.Event()
        self.committed: list[dict[TopicPartition, int]] = []

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit, in the end."""
        await self.may_end.wait()
        self.committed.append(offsets)


async def test_a_stop_and_the_loop_may_wait_for_the_same_commit() -> None:
    """Both are told of its end; a stop that fails there would not leave the group."""
    done, place = asyncio.Event(), TopicPartition("accepted", 0)
    lanes = Lanes(Channel.ACCEPTED, 10, message_of, lambda: None)
    lanes.own([place])
    lanes.add({place: [record(7)]})
    delivery = lanes.next_delivery()
    assert delivery is not None
    lanes.end(delivery, is_done=True)
    consumer = Slow()
    committer = Committer(consumer, lanes, done)
    done.set()
    always = asyncio.create_task(committer.always())
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(committer.last()) for _ in range(2)]
    await asyncio.sleep(0)
    consumer.may_end.set()
    async with asyncio.timeout(1):
        await asyncio.gather(*waiting)
    always.cancel()
    assert consumer.committed == [{place: 8}]
