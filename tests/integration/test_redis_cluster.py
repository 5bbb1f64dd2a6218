"""The gate on a real Redis Cluster: the whole contract, moved slots, nodes that die and hang."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flashsale_coalesce import Breaker, CoalescingGate
from flashsale_coalesce.guarding import GuardedGate
from flashsale_core.errors import Invalid, Unavailable, Why
from flashsale_core.model import SaleId, SaleTerms
from flashsale_core.ports import StockGate
from flashsale_core.testing.gate_lives import GateLivesContract
from flashsale_core.testing.gate_rates import GateRatesContract, MakeRatedGate
from flashsale_core.testing.stock_gate import (
    MakeGate,
    OpenSale,
    StockGateContract,
    claim,
    open_sale,
)
from flashsale_redis import RedisStockGate, gate_library, open_redis_gate
from flashsale_redis.cluster import ClusterWire
from flashsale_redis.operating_cluster import RedisClusterOperator
from flashsale_redis.wire import Wire
from tests.integration.gates import gates_on, limited_gates_on
from tests.integration.granted import PASSWORDS, grant_redis, lines
from tests.servers import launch
from tests.servers.authority import Authority
from tests.servers.redis import Redis
from tests.servers.redis_cluster import RedisCluster, running_redis_cluster

LOOKS_S_MAX = 30
PROMPT_S = 0.3
"""A buyer hears within this whatever is dead."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three primaries, and nobody who would take over by itself."""
    with running_redis_cluster() as cluster:
        yield cluster


@pytest.fixture
async def wire(cluster: RedisCluster) -> AsyncIterator[ClusterWire]:
    """A wire of its own for every test: pools belong to one event loop."""
    wire = ClusterWire(cluster.url, deadline_s=5.0)
    await RedisStockGate(wire).install()
    yield wire
    await wire.aclose()


@pytest.fixture
def make_gate(wire: ClusterWire) -> MakeGate:
    """Gates with other delays on one namespace, so that they see the same sales."""
    return gates_on(wire)


class TestClusterStockGate(StockGateContract):
    """The contract, on a cluster."""


class TestClusterGateLives(GateLivesContract):
    """The contract, on a cluster."""


class TestClusterGateRates(GateRatesContract):
    """The contract, on a cluster."""

    @pytest.fixture
    def make_gate(self, wire: ClusterWire) -> MakeRatedGate:
        """Make a gate with limits, on a namespace of its own."""
        return limited_gates_on(wire)


async def sales_everywhere(gate: StockGate, cluster: RedisCluster) -> dict[int, OpenSale]:
    """Open a sale on each primary; by the primary's port."""
    found: dict[int, OpenSale] = {}
    while len(found) < 3:
        # With a limit a sale has all its keys, which move one by one.
        sale = await open_sale(gate, SaleTerms(units=10, per_user_limit=10))
        found.setdefault(cluster.primary_of(sale.sale_id).port, sale)
    return found


async def reserved(sale: OpenSale, purchase: str) -> object:
    """Buy; what is raised is answered too."""
    try:
        [reply] = await sale.gate.reserve([sale.batch(claim(purchase, user=purchase))])
    except Unavailable as away:
        return away
    return reply


# ── many sales, many nodes ──────────────────────────────────────────────────────────────────────


async def test_sales_of_all_nodes_are_served_by_one_call(
    make_gate: MakeGate, cluster: RedisCluster
) -> None:
    """Each by its own node, and every answer in its place."""
    gate = await make_gate()
    sales = list((await sales_everywhere(gate, cluster)).values()) * 2
    replies = await gate.reserve(
        [sale.batch(claim(f"p{at}", user=f"u{at}")) for at, sale in enumerate(sales)]
    )
    for at, reply in enumerate(replies):
        assert not isinstance(reply, Unavailable)
        assert reply[0].record.purchase_id == f"p{at}"  # type: ignore[union-attr]
    keys = [(sale.sale_id, sale.epoch) for sale in sales[:3]]
    books = await gate.books(keys)
    assert [one.available for one in books] == [8, 8, 8]  # type: ignore[union-attr]
    assert await gate.adopt(keys) == [False] * 3


async def test_functions_are_loaded_into_every_primary_and_each_is_looked_at(
    cluster: RedisCluster, wire: ClusterWire
) -> None:
    """`flashsale gate install` and `flashsale doctor`, on all nodes."""
    operator = RedisClusterOperator(cluster.url, "fs")
    assert not await operator.install()
    lacking = cluster.nodes[1]
    cluster.ask(lacking, "FUNCTION", "DELETE", gate_library().name)
    [found] = [one for one in await operator.diagnose() if one.verdict.value == "wrong"]
    assert (found.name, found.fix) == ("redis functions", "flashsale gate install")
    assert f"127.0.0.1:{lacking.port}" in found.said
    # The others' sales go on.
    await RedisStockGate(wire).check()
    assert await operator.install()
    findings = await operator.diagnose()
    assert {one.name for one in findings if one.verdict.value == "warning"} == {
        "redis cluster failover",
        "redis replication",
    }
    assert len([one for one in findings if one.name == "redis functions"]) == 3
    faults = await operator.journal_faults()
    assert len(faults) == 3
    assert all("appendfsync is everysec" in fault for fault in faults)


async def test_without_any_functions_a_cluster_is_not_ready(
    cluster: RedisCluster, wire: ClusterWire
) -> None:
    """And what mends it is named."""
    cluster.everywhere("FUNCTION", "FLUSH")
    try:
        with pytest.raises(Unavailable, match="flashsale gate install"):
            await RedisStockGate(wire).check()
    finally:
        await RedisStockGate(wire).install()


async def test_a_life_that_ended_may_be_waited_for_as_long_as_a_cut_off_primary_goes_on(
    make_gate: MakeGate,
) -> None:
    """A primary that sees no majority stops after cluster-node-timeout."""
    sale = await open_sale(await make_gate())
    assert await sale.gate.disarm([(sale.sale_id, type(sale.epoch)(2))]) == 16_000


# ── slots that move ─────────────────────────────────────────────────────────────────────────────


async def test_a_slot_that_moved_is_followed_and_its_sale_waits_for_its_next_life(
    make_gate: MakeGate, cluster: RedisCluster, wire: ClusterWire
) -> None:
    """While it moves nothing is sold twice; where it came to, nobody has armed it."""
    gate = await make_gate()
    sales = await sales_everywhere(gate, cluster)
    (home, sale), (other, _), _ = sales.items()
    await sale.reserve(claim("p1"))
    source, target = (
        next(node for node in cluster.nodes if node.port == port) for port in (home, other)
    )
    slot = int(cluster.ask(source, "CLUSTER", "KEYSLOT", f"{{{sale.sale_id}}}"))
    names = {node.port: cluster.ask(node, "CLUSTER", "MYID") for node in (source, target)}
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[home])
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[other])
    keys = cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
    assert len(keys) >= 4
    between: object = None
    for number, key in enumerate(keys):
        cluster.ask(source, "MIGRATE", target.host, target.port, key, 0, 5000)
        between = await reserved(sale, f"m{number}")
        assert isinstance(between, Unavailable)
        assert not between.may_have_happened
    # All are there: an ASK is followed, and finds a node that has armed nothing.
    assert isinstance(between, Unavailable)
    assert between.why is Why.NOT_ARMED
    for node in (target, source):
        cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", names[other])
    after = await reserved(sale, "p2")
    assert isinstance(after, Unavailable)
    assert (after.why, after.may_have_happened) == (Why.NOT_ARMED, False)
    assert (await wire.map()).slots[slot].port == other  # type: ignore[union-attr]


# ── nodes that die and hang ─────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def failing() -> Iterator[RedisCluster]:
    """A cluster with replicas that take over within some seconds."""
    with running_redis_cluster(replicas=True, node_timeout_ms=1_000) as cluster:
        yield cluster


async def test_a_graceful_failover_is_followed_and_nothing_is_sold_before_the_next_life(
    failing: RedisCluster,
) -> None:
    """The new primary has every key and the functions, and what was armed it has not."""
    async with open_redis_gate(failing.url, namespace="graceful", deadline_s=2.0) as gate:
        sale = await open_sale(gate, units=3)
        await sale.reserve(claim("p1"))
        old = failing.primary_of(sale.sale_id)
        [new] = failing.replicas_of(old)
        failing.ask(new, "CLUSTER", "FAILOVER")
        async with asyncio.timeout(LOOKS_S_MAX):
            while failing.ask(new, "ROLE")[0] != "master":  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        refused = await reserved(sale, "p2")
        assert isinstance(refused, Unavailable)
        assert (refused.why, refused.may_have_happened) == (Why.NOT_ARMED, False)
        assert await gate.adopt([(sale.sale_id, sale.epoch)]) == [False]


@pytest.mark.alone
async def test_a_dead_primary_stops_its_own_sales_alone_until_its_replica_is_there(
    failing: RedisCluster,
) -> None:
    """The others' buyers hear as promptly as ever; nothing is sold from what nobody armed."""
    async with open_redis_gate(failing.url, namespace="dead") as gate:
        sales = await sales_everywhere(gate, failing)
        home, lost = next(iter(sales.items()))
        others = [sale for port, sale in sales.items() if port != home]
        victim = next(node for node in failing.nodes if node.port == home)
        victim.kill()
        async with asyncio.timeout(LOOKS_S_MAX):
            number = 0
            while True:
                number += 1
                began_s = time.monotonic()
                replies = await gate.reserve(
                    [
                        sale.batch(claim(f"d{number}", user=f"d{number}"), queued=())
                        for sale in (lost, *others)
                    ]
                )
                assert time.monotonic() - began_s < PROMPT_S
                assert not any(isinstance(one, Unavailable) for one in replies[1:])
                dead = replies[0]
                assert isinstance(dead, Unavailable)
                if dead.why is Why.NOT_ARMED:
                    break
                assert dead.was_refused, "the gate is not away: two thirds of it answer"
                await asyncio.sleep(0.1)
        assert failing.primary_of(lost.sale_id) is not victim
        victim.start()


@pytest.mark.alone
async def test_a_hanging_primary_holds_its_own_buyers_up_once_and_the_others_never_again(
    cluster: RedisCluster,
) -> None:
    """A silence is found out by one call; what comes after is told at once and takes nothing."""
    async with open_redis_gate(cluster.url, namespace="hang") as gate:
        sales = await sales_everywhere(gate, cluster)
        home, lost = next(iter(sales.items()))
        [other, _] = [sale for port, sale in sales.items() if port != home]
        victim = next(node for node in cluster.nodes if node.port == home)
        victim.freeze()
        try:
            began_s = time.monotonic()
            first, well = await gate.reserve([lost.batch(claim("h0")), other.batch(claim("h0"))])
            assert time.monotonic() - began_s < PROMPT_S
            assert isinstance(first, Unavailable)
            assert first.may_have_happened
            assert not isinstance(well, Unavailable)
            for number in range(1, 6):
                began_s = time.monotonic()
                again, well = await gate.reserve(
                    [lost.batch(claim(f"h{number}")), other.batch(claim(f"h{number}", user="bo"))]
                )
                assert time.monotonic() - began_s < PROMPT_S / 2
                assert isinstance(again, Unavailable)
                assert not again.may_have_happened
                assert not isinstance(well, Unavailable)
        finally:
            victim.thaw()
        # It is found out behind everybody's back that it answers again.
        async with asyncio.timeout(10):
            while isinstance(await reserved(lost, "after"), Unavailable):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.mark.alone
async def test_in_a_crowd_the_buyers_of_a_hanging_node_send_nobody_else_home(
    cluster: RedisCluster,
) -> None:
    """Behind one coalescing gate and one breaker: all hear in time, and the others buy."""
    async with open_redis_gate(cluster.url, namespace="crowd") as gate:
        sales = await sales_everywhere(gate, cluster)
        home, lost = next(iter(sales.items()))
        [well, _] = [sale for port, sale in sales.items() if port != home]
        breaker = Breaker("gate", Why.GATE_AWAY)
        crowd = CoalescingGate(GuardedGate(gate, breaker))
        waits: list[float] = []

        async def buy(sale: OpenSale, purchase: str) -> object:
            began_s = time.monotonic()
            answer = await reserved(OpenSale(crowd, sale.sale_id, sale.epoch), purchase)
            waits.append(time.monotonic() - began_s)
            return answer

        victim = next(node for node in cluster.nodes if node.port == home)
        victim.freeze()
        try:
            # The first call is the lost sale's alone: the others come while it is waited for.
            begun = [asyncio.create_task(buy(lost, "first"))]
            await asyncio.sleep(0)
            begun += [asyncio.create_task(buy(lost, f"l{n}")) for n in range(5)]
            others = [asyncio.create_task(buy(well, f"w{n}")) for n in range(10)]
            assert all(isinstance(one, Unavailable) for one in await asyncio.gather(*begun))
            assert not any(isinstance(one, Unavailable) for one in await asyncio.gather(*others))
        finally:
            victim.thaw()
        assert max(waits) < PROMPT_S
        assert not breaker.is_open
        await crowd.aclose()


async def test_when_no_primary_answers_the_gate_is_away(cluster: RedisCluster) -> None:
    """Then the breaker in front of the whole gate may open."""
    async with open_redis_gate(cluster.url, namespace="all") as gate:
        sales = list((await sales_everywhere(gate, cluster)).values())
        for node in cluster.nodes:
            node.freeze()
        try:
            batches = [sale.batch(claim("a1")) for sale in sales]
            with pytest.raises(Unavailable) as first:
                await gate.reserve(batches)
            assert first.value.may_have_happened
            # The next call knows of all.
            with pytest.raises(Unavailable) as second:
                await gate.reserve(batches)
            assert not second.value.may_have_happened
            assert not second.value.was_refused
        finally:
            for node in cluster.nodes:
                node.thaw()


# ── rights and TLS ──────────────────────────────────────────────────────────────────────────────


async def test_the_users_of_the_security_page_may_do_all_that_is_needed(
    cluster: RedisCluster,
) -> None:
    """With what the page adds for a cluster, on every node, and not without it."""
    for node in cluster.nodes:
        grant_redis(node)
    url = cluster.url.replace("://", f"://flashsale-worker:{PASSWORDS['WORKER']}@")
    try:
        async with open_redis_gate(url, deadline_s=5.0) as gate:
            with pytest.raises(Unavailable, match="cluster"):
                await gate.check()
        for node in cluster.nodes:
            for words in lines("sh redis-cluster"):
                cluster.ask(node, *words[1:])
        async with open_redis_gate(url, deadline_s=5.0) as gate:
            await gate.check()
            sale = await open_sale(gate)
            await sale.reserve(claim("p1"))
            assert await gate.disarm([(sale.sale_id, type(sale.epoch)(2))]) == 16_000
        found = await RedisClusterOperator(url, "fs").diagnose()
        assert not [one for one in found if one.verdict.value == "wrong"]
        [api] = {PASSWORDS["API"]}
        url = cluster.url.replace("://", f"://flashsale-api:{api}@")
        async with open_redis_gate(url, deadline_s=5.0, installs=False) as gate:
            await gate.check()
    finally:
        for node in cluster.nodes:
            cluster.ask(node, "ACL", "DELUSER", "flashsale-api", "flashsale-worker")


async def test_a_cluster_is_reached_over_tls_by_its_url(tmp_path: Path) -> None:
    """Each node's certificate is checked; a node that knows no host for itself is where it was."""
    authority, port = Authority(tmp_path), launch.free_port()
    pem = str(authority.server_pem())
    command = [
        launch.program("redis", ["redis-server"], "redis-server"),
        *("--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", ""),
        *("--tls-cert-file", pem, "--tls-key-file", pem, "--tls-auth-clients", "no"),
        *("--tls-ca-cert-file", str(authority.certificate), "--dir", str(tmp_path)),
        *("--cluster-enabled", "yes", "--cluster-port", str(launch.free_port())),
        *("--tls-cluster", "yes", "--set-proc-title", "no"),
    ]
    node = launch.Daemon(command, ready=lambda: launch.answers(port, b"", b""), folder=tmp_path)
    node.start()
    url = f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={authority.certificate}"
    try:
        single = Wire(url.replace("+cluster", ""), deadline_s=5.0)
        await single.run([("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)])
        await single.aclose()
        async with open_redis_gate(url, deadline_s=5.0) as gate:
            async with asyncio.timeout(LOOKS_S_MAX):
                while isinstance(await _opened(gate), Unavailable):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        async with open_redis_gate(url.partition("?")[0], deadline_s=5.0) as gate:
            with pytest.raises(Unavailable, match="certificate"):
                await gate.check()
    finally:
        node.kill()


async def _opened(gate: StockGate) -> object:
    try:
        sale = await open_sale(gate)
    except Unavailable as away:  # A new cluster says for a moment that it is down.
        return away
    return await sale.reserve(claim("p1"))


# ── what is typed wrong ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://", "names no host"),
        ("redis+cluster://u:secret@h:1,u:secret@h:2", "one user and password"),
        ("redis+cluster://u:secret@h:x", "malformed"),
        ("redis+cluster://u:secret@h:1/3", "database 0 alone"),
    ],
)
async def test_a_wrong_url_is_refused_without_its_password(url: str, says: str) -> None:
    """Before anything is connected."""
    with pytest.raises(Invalid, match=says) as refused:
        async with open_redis_gate(url):
            pass
    assert "secret" not in str(refused.value)


async def test_a_single_server_is_told_from_a_cluster(redis_server: Redis) -> None:
    """The message says which scheme it wants."""
    wire = ClusterWire(redis_server.url.replace("redis://", "redis+cluster://"))
    with pytest.raises(Unavailable, match="redis:// is for a single server"):
        await RedisStockGate(wire).check()
    await wire.aclose()


async def test_a_cluster_that_is_away_took_nothing() -> None:
    """Nothing was sent, and it counts as silence."""
    wire = ClusterWire("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    with pytest.raises(Unavailable) as away:
        await OpenSale(RedisStockGate(wire), SaleId("1.1")).reserve(claim("p1"))
    assert away.value.why is Why.GATE_AWAY
    assert not away.value.may_have_happened
    assert not away.value.was_refused
    await wire.aclose()
