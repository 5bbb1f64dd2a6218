"""A start that cannot succeed says what is in its way, and the way round."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from flashsale.starting import StartFailed, claim_port, wait_until_answering
from flashsale_core.errors import Conflict, Unavailable, Why


@pytest.fixture
def busy_port() -> Iterator[int]:
    """Listen on a port, as another program would."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_busy_port_is_named_with_the_way_round_it(busy_port: int) -> None:
    """A newcomer reads one line and types it."""
    with pytest.raises(StartFailed) as raised:
        claim_port("127.0.0.1", busy_port, "FLASHSALE_HTTP_PORT")
    assert f"port {busy_port} on 127.0.0.1 is in use" in str(raised.value)
    assert f"make run PORT={busy_port + 10}" in str(raised.value)
    with pytest.raises(StartFailed, match="set FLASHSALE_WORKER_HTTP to another"):
        claim_port("127.0.0.1", busy_port, "FLASHSALE_WORKER_HTTP")


def test_a_free_port_is_left_free(busy_port: int) -> None:
    """Looking takes nothing, also right after another server of ours."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    claim_port("127.0.0.1", port, "FLASHSALE_HTTP_PORT")
    claim_port("localhost", port, "FLASHSALE_HTTP_PORT")


def test_a_host_that_is_not_ours_is_named() -> None:
    """It is another mistake than a busy port."""
    with pytest.raises(StartFailed, match=r"nobody can listen on 192\.0\.2\.1"):
        claim_port("192.0.2.1", 8080, "FLASHSALE_HTTP_PORT")


async def test_a_start_waits_for_what_comes_up_late() -> None:
    """Servers start side by side with us."""
    looks = 0

    async def late() -> None:
        nonlocal looks
        looks += 1
        if looks < 2:
            raise Unavailable(Why.DATABASE_AWAY)

    await wait_until_answering({"database": late}, 10)
    assert looks == 2


async def test_a_start_that_gives_up_names_everything_that_is_missing() -> None:
    """With each one's last error, which names the command that mends it."""

    async def old() -> None:
        raise Unavailable(Why.DATABASE_AWAY, "the tables are old: `flashsale db upgrade`")

    async def silent() -> None:
        await asyncio.Event().wait()

    async def well() -> None:
        """Answer."""

    with pytest.raises(StartFailed) as raised:
        await wait_until_answering({"database": old, "bus": silent, "gate": well}, 0.05)
    assert str(raised.value).splitlines() == [
        "not ready after 0.05 s:",
        "  bus: no answer yet",
        "  database: database-away: the tables are old: `flashsale db upgrade`",
    ]


async def test_a_start_does_not_wait_for_what_never_will_fit() -> None:
    """A queue of another shape stays one: both shapes are shown at once."""

    async def other_shape() -> None:
        raise Conflict("topology", "queue accepted.0 is classic, must be quorum")

    async def silent() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StartFailed, match="is classic, must be quorum"):
        await asyncio.wait_for(
            wait_until_answering({"bus": other_shape, "database": silent}, 600), 5
        )
