"""A cluster's URL and its nodes' tellings, read without a server."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from flashsale_core.errors import Unavailable, Why
from flashsale_redis.cluster import _first_tellings
from flashsale_redis.cluster_map import Address, ClusterUrl, SlotMap, read_slots
from flashsale_redis.wire import Wire

ASKED = Address("10.0.0.9", 7000)
INFO = b"cluster_state:ok\r\ncluster_current_epoch:7\r\n"


def told(*ranges: tuple[int, int, str, int]) -> list[list[object]]:
    """Write CLUSTER SLOTS as a server does."""
    return [
        [first, last, [host.encode(), port, b"id", []], [b"10.0.0.7", 9, b"id", []]]
        for first, last, host, port in ranges
    ]


def test_a_url_names_several_hosts_and_each_node_gets_its_login_and_options() -> None:
    """The default port is Redis's; a host that is named twice is asked once."""
    url = ClusterUrl.of("rediss+cluster://ann:p%40ss@a:1, b ,[::1]:3,a:1/0?ssl_ca_certs=/ca.pem")
    assert url.seeds == (Address("a", 1), Address("b", 6379), Address("::1", 3))
    assert url.node(url.seeds[2]) == "rediss://ann:p%40ss@[::1]:3/0?ssl_ca_certs=/ca.pem"
    assert ClusterUrl.of("redis+cluster://a").node(Address("b", 2)) == "redis://b:2/0"
    assert "p%40ss" not in repr(url)


def test_a_node_that_knows_no_host_of_itself_is_where_it_was_asked() -> None:
    """So is one whose slots say `?`."""
    seen = read_slots(ASKED, told((0, 9, "", 7000), (10, 16_383, "?", 7001)), INFO)
    assert seen.primaries == [Address("10.0.0.9", 7000), Address("10.0.0.9", 7001)]
    assert seen.others == {Address("10.0.0.7", 9)}
    assert (seen.epoch, seen.state) == (7, "ok")


def test_who_may_not_ask_how_the_cluster_is_hears_who_serves_what_all_the_same() -> None:
    """Slots that nobody serves have no home."""
    seen = read_slots(ASKED, told((0, 99, "a", 1)), ResponseError("NOPERM"))
    assert (seen.epoch, seen.slots[99], seen.slots[100]) == (0, Address("a", 1), None)


def test_every_primary_has_a_tag_however_few_its_slots() -> None:
    """A question may be put to each."""
    ranges = [(0, 0, "few", 1), (1, 8_000, "many", 2), (8_001, 16_383, "more", 3)]
    seen = read_slots(ASKED, told(*ranges), INFO)
    tags = seen.tags()
    assert sorted(tags) == seen.primaries
    for home, tag in tags.items():
        assert seen.of_key(f"fs:{{{tag}}}:sale") == home


async def test_of_two_tellings_at_the_same_time_both_are_heard() -> None:
    """Whoever was cut off may be the quicker; the caller takes the later of the two."""

    async def tell(epoch: int, wait_s: float) -> SlotMap:
        await asyncio.sleep(wait_s)
        return SlotMap(slots=(), epoch=epoch)

    async def fail() -> SlotMap:
        raise Unavailable(Why.GATE_AWAY, "refused")

    views = [asyncio.create_task(one) for one in (fail(), tell(1, 0), tell(2, 0.001))]
    assert sorted(one.epoch for one in await _first_tellings(views)) == [1, 2]
    with pytest.raises(Unavailable, match="refused"):
        await _first_tellings([asyncio.create_task(fail())])


async def test_a_single_server_is_everywhere_and_has_all_keys() -> None:
    """What asks a cluster asks one server in the same words."""
    wire = Wire("redis://127.0.0.1:1")
    [(server, share)] = await wire.shares(["a", "b"])
    assert server is wire
    assert list(share) == [0, 1]
    with pytest.raises(Unavailable):
        await wire.everywhere(lambda tag: [("ECHO", tag)])
    await wire.aclose()
