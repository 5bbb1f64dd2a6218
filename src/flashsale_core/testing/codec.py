"""What every codec must do. Subclass `CodecContract` and give it a `codec` fixture.

class TestMyCodec(CodecContract):
    @pytest.fixture
    def codec(self):
        return MyCodec()
"""

import hashlib
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashsale_core.errors import Corrupt
from flashsale_core.events import Barrier, Channel, Message, OrderEvent, PurchasesAccepted
from flashsale_core.model import PurchaseRequest
from flashsale_core.ports import Codec, Decoded, Encoded
from flashsale_core.testing.strategies import (
    barriers,
    order_events,
    purchase_requests,
    purchases_accepted,
)

NOISE_BYTES: Final = 100_000
"""Longer than any request may be, and than what a decoder reads at once."""

_thorough = settings(
    deadline=None,
    # A codec keeps nothing between two calls but schemas, so the examples may share one; and a
    # subclass runs the contract's own tests.
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
_few = settings(_thorough, max_examples=20)

Fact = PurchaseRequest | PurchasesAccepted | Barrier | OrderEvent


def channel_of(fact: Fact) -> Channel:
    """Tell on which channel a fact travels."""
    match fact:
        case PurchaseRequest():
            return Channel.REQUESTS
        case PurchasesAccepted() | Barrier():
            return Channel.ACCEPTED
        case OrderEvent():
            return Channel.ORDERS


def message_of(
    encoded: Encoded, channel: Channel, *, body: bytes | None = None, origin: str = "t:0:0"
) -> Message:
    """Make the message that carries an encoded fact, or other bytes in its place."""
    return Message(
        channel=channel,
        body=encoded.body if body is None else body,
        headers=encoded.headers,
        content_type=encoded.content_type,
        origin=origin,
    )


def facts() -> st.SearchStrategy[Fact]:
    """Draw whatever a codec writes; a request's message has no place for a payment token."""
    return st.one_of(
        purchase_requests(payment_token=st.none()),
        purchases_accepted(),
        barriers(),
        order_events(),
    )


class CodecContract:
    """Facts come back as they went; anything else is Corrupt, and harms nobody beside it."""

    @_thorough
    @given(fact=facts())
    async def test_every_fact_comes_back_as_it_went(self, codec: Codec, fact: Fact) -> None:
        """Nothing is lost, rounded or added on the way."""
        message = message_of(codec.encode(fact), channel_of(fact))
        assert await codec.decode([message]) == [fact]

    @_few
    @given(several=st.lists(facts(), max_size=5), noise=st.binary(min_size=1, max_size=64))
    async def test_one_broken_message_harms_no_neighbour(
        self, codec: Codec, several: list[Fact], noise: bytes
    ) -> None:
        """Every message is answered in its own place, the broken ones between the good ones."""
        messages: list[Message] = []
        for fact in several:
            encoded = codec.encode(fact)
            broken = encoded.body[:-1] + b"\xff" + noise
            messages += [
                message_of(encoded, channel_of(fact)),
                message_of(encoded, channel_of(fact), body=broken),
            ]
        decoded = await codec.decode(messages)
        assert decoded[::2] == several
        assert all(isinstance(one, Corrupt) for one in decoded[1::2])

    @_thorough
    @given(noise=st.binary(max_size=200), channel=st.sampled_from(Channel))
    async def test_noise_is_corrupt_and_nothing_else(
        self, codec: Codec, noise: bytes, channel: Channel
    ) -> None:
        """No bytes raise; a codec that raises stops a partition for ever."""
        for content_type in (None, "application/avro", "application/json", "text/plain"):
            message = Message(
                channel=channel, body=noise, content_type=content_type, origin="t:0:0"
            )
            assert is_corrupt(await codec.decode([message]))

    @_few
    @given(fact=facts(), piece=st.binary(min_size=1, max_size=64), is_repeated=st.booleans())
    async def test_long_noise_is_corrupt_with_and_without_a_good_beginning(
        self, codec: Codec, fact: Fact, piece: bytes, is_repeated: bool
    ) -> None:
        """A long message of nonsense is answered like a short one."""
        encoded = codec.encode(fact)
        # Hypothesis draws short pieces well; a repeated one nests, a hashed one looks like chance.
        repeated = piece * (NOISE_BYTES // len(piece) + 1)
        noise = repeated if is_repeated else hashlib.shake_128(piece).digest(NOISE_BYTES)
        for body in (noise, encoded.body + noise, encoded.body[: len(encoded.body) // 2] + noise):
            message = message_of(encoded, channel_of(fact), body=body)
            assert is_corrupt(await codec.decode([message]))

    @_few
    @given(fact=facts())
    async def test_a_message_cut_anywhere_is_corrupt(self, codec: Codec, fact: Fact) -> None:
        """At every offset, the empty message included."""
        encoded = codec.encode(fact)
        cut = [
            message_of(encoded, channel_of(fact), body=encoded.body[:length])
            for length in range(len(encoded.body))
        ]
        decoded = await codec.decode(cut)
        assert all(isinstance(one, Corrupt) for one in decoded)

    @_few
    @given(fact=facts(), more=st.binary(min_size=1, max_size=16))
    async def test_bytes_behind_a_fact_make_it_corrupt(
        self, codec: Codec, fact: Fact, more: bytes
    ) -> None:
        """What the writer did not mean as part of the fact is not skipped in silence."""
        encoded = codec.encode(fact)
        # White space may end a JSON document, so it is no addition there.
        body = encoded.body + b"\x00" + more
        message = message_of(encoded, channel_of(fact), body=body)
        assert is_corrupt(await codec.decode([message]))

    @_thorough
    @given(fact=facts(), data=st.data())
    async def test_a_changed_byte_gives_a_value_or_corrupt(
        self, codec: Codec, fact: Fact, data: st.DataObject
    ) -> None:
        """A flipped bit may make another valid fact, of the same channel; it never raises."""
        encoded = codec.encode(fact)
        place = data.draw(st.integers(0, len(encoded.body) - 1))
        value = data.draw(st.integers(0, 255))
        body = encoded.body[:place] + bytes([value]) + encoded.body[place + 1 :]
        (decoded,) = await codec.decode([message_of(encoded, channel_of(fact), body=body)])
        assert isinstance(decoded, Corrupt) or channel_of(decoded) is channel_of(fact)

    @_few
    @given(fact=facts())
    async def test_a_fact_on_another_s_channel_is_corrupt(self, codec: Codec, fact: Fact) -> None:
        """Nobody promises units by writing an accepted purchase to the outside door."""
        encoded = codec.encode(fact)
        for channel in (Channel.REQUESTS, Channel.ACCEPTED, Channel.ORDERS):
            if channel is not channel_of(fact):
                (decoded,) = await codec.decode([message_of(encoded, channel)])
                assert isinstance(decoded, Corrupt)
                assert decoded.code == "unexpected-type"

    @pytest.mark.parametrize("channel", Channel)
    async def test_a_message_without_a_value_is_corrupt(
        self, codec: Codec, channel: Channel
    ) -> None:
        """Kafka's tombstones have a key and no value."""
        for body in (None, b""):
            assert is_corrupt(await codec.decode([Message(channel=channel, body=body, origin="t")]))

    async def test_nothing_is_decoded_to_nothing(self, codec: Codec) -> None:
        """An empty batch is no error."""
        assert await codec.decode([]) == []


def is_corrupt(decoded: list[Decoded | Corrupt]) -> bool:
    """Say whether the only answer is Corrupt."""
    (one,) = decoded
    return isinstance(one, Corrupt)
