"""How a delivery is cut before it is decoded."""

from hypothesis import given
from hypothesis import strategies as st

from flashsale_core.batch import PORTION_BYTES, portions
from flashsale_core.events import Channel, Message

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
