"""Which deliveries of a RabbitMQ queue may have been in hand when a worker died."""

from types import SimpleNamespace
from typing import Any

from pamqp.commands import Basic

from flashsale_core.events import Channel
from flashsale_rabbitmq.lane import Hold, Lane

NEW, AGAIN = 0, 1


async def arriving(lane: Lane, *flags: int) -> list[bool]:
    """Let messages arrive on a new channel, each redelivered or not; take each by itself."""
    driver: Any = SimpleNamespace(is_closed=False)
    arrive = lane.fed_by(driver, lambda: None)
    suspects = []
    for tag, redelivered in enumerate(flags, 1):
        delivered: Any = SimpleNamespace(
            delivery_tag=tag,
            redelivered=bool(redelivered),
            body=b"%d" % tag,
            header=SimpleNamespace(properties=Basic.Properties()),
        )
        await arrive(delivered)
        delivery = lane.hand_out()
        assert delivery is not None
        suspects.append(delivery.is_suspect)
        assert isinstance(delivery.token, Hold)
        assert lane.end(delivery.token)
    return suspects


async def test_the_first_of_a_channel_and_what_comes_again_are_suspect() -> None:
    """The rest were in nobody's hand, and cost nothing."""
    lane = Lane(Channel.REQUESTS, "q", 0, 10)
    assert await arriving(lane, NEW, NEW, AGAIN, NEW) == [True, False, True, False]
    assert await arriving(lane, NEW, NEW) == [True, False]
