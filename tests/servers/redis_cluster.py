"""A Redis Cluster on loopback: three primaries, and replicas where a test wants a failover."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.servers import launch
from tests.servers.launch import HOST
from tests.servers.redis import SETTINGS, Redis

PRIMARIES = 3
SLOTS = 16_384
FORM_S_MAX = 60
CLUSTER_SETTINGS = {
    **SETTINGS,
    "cluster-enabled": "yes",
    "cluster-config-file": "nodes.conf",
    # One sale's node must not stop the others' sales.
    "cluster-require-full-coverage": "no",
    "repl-diskless-sync-delay": "0",
    # A replica that has heard nothing yet is not listed.
    "repl-ping-replica-period": "1",
}


@attrs.define
class RedisCluster:
    """Nodes that know each other; the first three began as primaries."""

    nodes: list[Redis]

    @property
    def url(self) -> str:
        """Name all nodes, as FLASHSALE_GATE_URL does."""
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def primary_of(self, tag: str) -> Redis:
        """Find who serves a hash tag now, as the nodes that answer see it."""
        [slot] = {
            int(self.ask(node, "CLUSTER", "KEYSLOT", f"{{{tag}}}")) for node in self.alive[:1]
        }
        epochs = [(self._epoch(node), node) for node in self.alive]
        _, latest = max(epochs, key=lambda one: one[0])
        for first, last, primary, *_ in self.ask(latest, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == int(primary[1]))
        raise AssertionError(f"nobody serves slot {slot}")

    @property
    def alive(self) -> list[Redis]:
        """List the nodes that answer."""
        return [node for node in self.nodes if _answers(node)]

    def replicas_of(self, primary: Redis) -> list[Redis]:
        """List the nodes that follow this one."""
        mine = self.ask(primary, "CLUSTER", "MYID")
        lines = self.ask(primary, "CLUSTER", "REPLICAS", mine)
        ports = {int(line.split()[1].split("@")[0].rpartition(":")[2]) for line in lines}
        return [node for node in self.nodes if node.port in ports]

    def ask(self, node: Redis, *words: str | int | bytes) -> Any:
        """Run one command on one node."""
        with _client(node, 5) as client:
            return client.execute_command(*words)

    def everywhere(self, *words: str | int) -> None:
        """Run one command on every node that answers."""
        for node in self.alive:
            self.ask(node, *words)

    def _epoch(self, node: Redis) -> int:
        return int(_info(self, node)["cluster_current_epoch"])


@contextlib.contextmanager
def running_redis_cluster(
    *, replicas: bool = False, node_timeout_ms: int = 15_000
) -> Iterator[RedisCluster]:
    """Yield a cluster of our own; with `replicas`, one for each primary.

    A short `node_timeout_ms` makes failovers quick, and on a busy machine unasked for.
    """
    nodes = [_node(node_timeout_ms) for _ in range(PRIMARIES * (2 if replicas else 1))]
    cluster = RedisCluster(nodes)
    try:
        with ThreadPoolExecutor(len(nodes)) as threads:
            list(threads.map(lambda node: node.start(), nodes))
        _form(cluster)
        yield cluster
    finally:
        with ThreadPoolExecutor(len(nodes)) as threads:
            list(threads.map(_end, nodes))


def _node(node_timeout_ms: int) -> Redis:
    binary = launch.program("redis", ["redis-server", "valkey-server"], "redis-server")
    port, bus, folder = launch.free_port(), launch.free_port(), launch.private_folder("cluster")
    settings = {
        **CLUSTER_SETTINGS,
        "bind": HOST,
        "port": str(port),
        "cluster-port": str(bus),
        "cluster-node-timeout": str(node_timeout_ms),
        "dir": str(folder),
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    ready = lambda: launch.answers(port, b"PING\r\n", b"+PONG")  # noqa: E731
    runner = launch.Daemon([binary, *words], ready=ready, folder=folder)
    launch.used["redis cluster"] = binary
    return Redis(kind="redis", url=f"redis://{HOST}:{port}/0", origin=binary, runner=runner)


def _end(node: Redis) -> None:
    node.thaw()
    node.kill()


def _form(cluster: RedisCluster) -> None:
    """Share the slots out, let the nodes meet, and give each primary its replica."""
    primaries, replicas = cluster.nodes[:PRIMARIES], cluster.nodes[PRIMARIES:]
    for number, node in enumerate(primaries):
        first, last = (SLOTS * at // PRIMARIES for at in (number, number + 1))
        cluster.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        cluster.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
    for node in cluster.nodes[1:]:
        bus = cluster.ask(node, "CONFIG", "GET", "cluster-port")
        port = int(dict(bus)["cluster-port"])
        cluster.ask(primaries[0], "CLUSTER", "MEET", node.host, node.port, port)
    launch.wait_until(lambda: _all_know(cluster, len(cluster.nodes)), "the cluster", FORM_S_MAX)
    for primary, replica in zip(primaries, replicas, strict=False):
        cluster.ask(replica, "CLUSTER", "REPLICATE", cluster.ask(primary, "CLUSTER", "MYID"))
    launch.wait_until(lambda: _is_formed(cluster), "the cluster's replicas", FORM_S_MAX)


def _all_know(cluster: RedisCluster, count: int) -> bool:
    infos = [_info(cluster, node) for node in cluster.nodes]
    return all(
        int(info["cluster_known_nodes"]) == count
        and int(info["cluster_slots_assigned"]) == SLOTS
        and info["cluster_state"] == "ok"
        for info in infos
    )


def _is_formed(cluster: RedisCluster) -> bool:
    replicas = len(cluster.nodes) - PRIMARIES
    known = [cluster.ask(node, "CLUSTER", "NODES") for node in cluster.nodes]
    if any(lines.count("slave") != replicas or "handshake" in lines for lines in known):
        return False
    links = [cluster.ask(node, "INFO", "replication") for node in cluster.nodes[PRIMARIES:]]
    return all(link["master_link_status"] == "up" for link in links)


def _info(cluster: RedisCluster, node: Redis) -> dict[str, str]:
    lines = cluster.ask(node, "CLUSTER", "INFO").splitlines()
    return dict(line.split(":", 1) for line in lines)


def _client(node: Redis, seconds: float) -> Client:
    return Client(
        host=node.host,
        port=node.port,
        socket_timeout=seconds,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def _answers(node: Redis) -> bool:
    try:
        with _client(node, 0.5) as client:
            return bool(client.ping())
    except RedisError:
        return False
