"""Dead letters on Kafka carry what Spring's tools read, in Spring's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from flashsale_core.errors import Corrupt
from flashsale_core.events import Channel
from flashsale_core.testing.event_bus import dead_letter
from tests.integration.kafka_world import kafka_world

if TYPE_CHECKING:
    from tests.servers import Kafka


async def test_a_copy_carries_springs_headers_in_springs_bytes(kafka_server: Kafka) -> None:
    """Text is UTF-8; partition is a big-endian int32, offset and timestamp are int64."""
    letter = dead_letter(b"\x00\xff", key=b"k")
    message = attrs.evolve(letter.message, written_at_ms=1_700_000_000_123)
    async with kafka_world(kafka_server) as world:
        await world.bus.copy_dead_letter(attrs.evolve(letter, message=message))
        (copy,) = await world.read(Channel.DEAD_LETTERS)
    headers = dict(copy.headers)
    assert headers["kafka_dlt-original-topic"] == b"flashsale.purchase.requests"
    assert headers["kafka_dlt-original-partition"] == b"\x00\x00\x00\x04"
    assert headers["kafka_dlt-original-offset"] == (5_000_000_000).to_bytes(8, "big")
    assert headers["kafka_dlt-original-timestamp"] == (1_700_000_000_123).to_bytes(8, "big")
    assert headers["kafka_dlt-exception-fqcn"] == b"flashsale_core.errors.Corrupt"
    assert headers["kafka_dlt-exception-message"] == "bad-framing: magic 7 ≠ 0".encode()


async def test_a_consumed_message_is_copied_with_its_own_time_and_place(
    kafka_server: Kafka,
) -> None:
    """Header names may come twice on Kafka; all are kept, in their order, before ours."""
    twice = (("n", b"1"), ("n", b"2"), ("n", b"1"))
    async with kafka_world(kafka_server) as world:
        await world.put(Channel.REQUESTS, b"\x07", headers=twice)
        async with world.bus.subscribe(Channel.REQUESTS, messages_max=1) as subscription:
            message = (await subscription.take()).messages[0]
        letter = attrs.evolve(dead_letter(None), message=message)
        await world.bus.copy_dead_letter(letter)
        (copy,) = await world.read(Channel.DEAD_LETTERS)
        topic = world.config.requests
    assert copy.headers[:3] == twice
    headers = dict(copy.headers)
    assert headers["kafka_dlt-original-topic"] == topic.encode()
    assert headers["kafka_dlt-original-offset"] == bytes(8)
    assert message.written_at_ms is not None
    assert headers["kafka_dlt-original-timestamp"] == message.written_at_ms.to_bytes(8, "big")


async def test_the_largest_message_that_kafka_takes_can_be_a_dead_letter(
    kafka_server: Kafka,
) -> None:
    """Its copy is larger by our headers, and the topic of dead letters takes that."""
    body = b"x" * (1_048_576 - 200)
    async with kafka_world(kafka_server) as world:
        await world.put(Channel.REQUESTS, body)
        await world.bus.copy_dead_letter(dead_letter(body))
        (copy,) = await world.read(Channel.DEAD_LETTERS)
    assert copy.body == body


async def test_a_copy_that_no_topic_takes_is_refused_for_good(kafka_server: Kafka) -> None:
    """Too large now is too large for ever: Corrupt, so that nobody tries it again and again."""
    async with kafka_world(kafka_server) as world:
        with pytest.raises(Corrupt) as raised:
            await world.bus.copy_dead_letter(dead_letter(b"x" * 3_000_000))
        assert raised.value.code == "too-large"
        await world.bus.copy_dead_letter(dead_letter(b"next"))
