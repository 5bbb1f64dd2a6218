"""The whole engine on a Redis Cluster: a primary dies while buyers of two sales go on buying."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.integration.crowds import orders, quiet_gate, settled_orders
from tests.integration.engine import ROOT, SOURCES, Answer, Engine, ask, engine, own_names
from tests.servers import Kafka, Postgres
from tests.servers.redis_cluster import RedisCluster, running_redis_cluster

HOLDS_S_MAX = 60
UNITS = 5
PROMPT_S = 1.0
"""A whole purchase over HTTP, confirm of the broker included, on a machine that has other work."""


def as_installed(folder: Path) -> str:
    """Answer the path to run with, on which the cluster's schemes are found.

    An editable install made before they were added does not name their entry points.
    """
    path = [str(ROOT / source) for source in SOURCES]
    if not entry_points(group="flashsale.gates", name="redis+cluster"):
        info = folder / "flashsale_cluster-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flashsale-cluster\n")
        (info / "entry_points.txt").write_text(
            "[flashsale.gates]\nredis+cluster = flashsale_redis.opening:open_gate\n"
            "[flashsale.gate-operators]\n"
            "redis+cluster = flashsale_redis.operating_cluster:RedisClusterOperator\n"
        )
        path.append(str(folder))
    return os.pathsep.join(path)


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Have a cluster whose replicas take over within some seconds."""
    with running_redis_cluster(replicas=True, node_timeout_ms=1_000) as cluster:
        yield cluster


@pytest.fixture
def shop(
    tmp_path: Path, cluster: RedisCluster, kafka_server: Kafka, postgres_server: Postgres
) -> Iterator[Engine]:
    """One API and one worker, with a sale on one node and another on another."""
    settings = {
        **own_names(),
        "PYTHONPATH": as_installed(tmp_path / "installed"),
        "FLASHSALE_GATE_URL": cluster.url,
        "FLASHSALE_BUS_URL": kafka_server.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_BACKOFF_MAX_MS": "500",
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        for kind in ("serve", "worker"):
            ours.start(kind)
        for program in ours.programs:
            program.wait_until_ready()
        yield ours


def buy(ours: Engine, item: int, purchase: str) -> Answer:
    """Buy one unit over HTTP."""
    body = {"userId": purchase, "productId": item, "purchaseId": purchase}
    return ask("POST", f"{ours.doors[0]}/purchase/buy", body)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_a_primary_that_dies_loses_no_promise_and_stops_no_other_sale(
    shop: Engine, cluster: RedisCluster
) -> None:
    """Its buyers hear 503 until its replica is there and the sale is rebuilt; nobody else does."""
    victim = cluster.primary_of("1.1")
    other = next(n for n in range(2, 99) if cluster.primary_of(f"{n}.1") is not victim)
    [url] = shop.doors
    for item, stock in ((1, UNITS), (other, 5_000)):
        made = ask("POST", f"{url}/purchase/init?productId={item}&stock={stock}")
        assert made.status == 200, made
    assert buy(shop, 1, "http-1").status == 200
    assert await settled_orders(shop, 1) == {"CONFIRMED": 1}
    # A promise on its way when its gate goes.
    _, worker = shop.programs
    worker.process.send_signal(signal.SIGSTOP)
    assert buy(shop, 1, "http-2").status == 200
    victim.kill()
    # Its question may have arrived: whether it took a unit nobody knows.
    refused = buy(shop, 1, "http-3")
    assert refused.status == 503
    worker.process.send_signal(signal.SIGCONT)
    until, sold, answer = time.monotonic() + HOLDS_S_MAX, 0, refused
    reasons = set()
    while answer.status == 503:
        assert time.monotonic() < until, answer
        began_s = time.monotonic()
        beside = buy(shop, other, f"beside-{sold}")
        assert (beside.status, beside.body) == (200, beside.body)
        assert time.monotonic() - began_s < PROMPT_S
        sold += 1
        answer = buy(shop, 1, "http-3")
        reasons.add(answer.body.get("reason"))
        await asyncio.sleep(0.02)
    assert answer.status == 200, answer
    assert reasons >= {"gate-away", "not-armed"}
    # Whoever was promised a unit in the lost life hears so again, and takes no second one.
    assert [buy(shop, 1, one).status for one in ("http-1", "http-2")] == [200, 200]
    rest = [buy(shop, 1, f"rest-{n}").status for n in range(UNITS)]
    assert sorted(rest) == [200, 200, 429, 429, 429]
    assert await settled_orders(shop, UNITS) == {"CONFIRMED": UNITS}
    assert (await settled_orders(shop, sold, f"{other}.1")) == {"CONFIRMED": sold}
    gate = await quiet_gate(url)
    assert (gate["available"], gate["sold"]) == (0, UNITS)
    assert await orders(shop) == {"CONFIRMED": UNITS}
    # The dead one comes back as a replica of its successor, and changes nothing.
    victim.start()
    assert buy(shop, 1, "late").status == 429
    assert ask("GET", f"{url}/sales/1.1").body["epoch"] == 2
    assert ask("GET", f"{url}/sales/{other}.1").body["epoch"] == 1
