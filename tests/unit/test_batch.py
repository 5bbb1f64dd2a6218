"""How a delivery is cut before it is decoded."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from flashsale_core.batch import PORTION_BYTES, Asked, alone, portions
from flashsale_core.events import Channel, Message
from flashsale_core.model import Door, ItemId
from flashsale_core.testing.event_bus import accepted_fact
from flashsale_core.testing.plain_codec import PlainCodec

SIZES = st.lists(st.none() | st.integers(0, 2 * PORTION_BYTES), max_size=12)


@given(SIZES)
def test_a_delivery_is_decoded_in_portions_that_hold_every_message_once_and_in_order(
    sizes: list[int | None],
) -> None:
    """None is much more than its size allows, so the process is never long away."""
    messages = [
        Message(
            channel=Channel.ACCEPTED, body=None if size is None else bytes(size), origin=str(at)
        )
        for at, size in enumerate(sizes)
    ]
    cut = list(portions(messages))
    assert [message for _, portion in cut for message in portion] == messages
    for first, portion in cut:
        assert messages[first] is portion[0]
        assert sum(len(one.body or b"") for one in portion[:-1]) < PORTION_BYTES


def test_a_promise_that_is_set_aside_names_its_trace_outside() -> None:
    """The line `message parked` tells of it, and it is told once, however often it is set aside."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    fact = accepted_fact(1, purchases=2)
    purchase = attrs.evolve(fact.purchases[1], traceparent=trace)
    one = Asked(
        at=0,
        sale_id=fact.sale_id,
        item_id=ItemId("item"),
        door=Door.ACCEPTED,
        request=purchase,
        accepted=purchase,
        epoch=fact.epoch,
    )
    codec = PlainCodec()
    came = Message(channel=Channel.ACCEPTED, body=codec.encode(fact).body, origin="t:0:0")
    aside = alone(codec, came, one)
    assert aside.headers == (("traceparent", trace.encode()),)
    assert alone(codec, aside, one) == aside
    untraced = attrs.evolve(one, accepted=fact.purchases[1])
    assert alone(codec, came, untraced).headers == ()
