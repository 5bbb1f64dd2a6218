"""What may be wrong with a Redis Cluster: with each primary, and with how they stand together."""

from collections.abc import Mapping
from typing import Any

import attrs
from redis.exceptions import ResponseError

from flashsale_core.errors import Unavailable
from flashsale_core.operating import Finding, OperateGate, warning, wrong
from flashsale_redis.cluster import ClusterWire
from flashsale_redis.cluster_map import Address, ClusterUrl, SlotMap
from flashsale_redis.opening import open_redis_gate
from flashsale_redis.operating import (
    CLI,
    DEADLINE_S,
    LAG_S_MAX,
    RedisOperator,
    away_finding,
)
from flashsale_redis.wire import config_of

_SETTINGS = ("CONFIG", "GET", "cluster-node-timeout", "cluster-require-full-coverage")


class _NodeOperator(RedisOperator):
    """Looks after one primary."""

    def _replication(self, facts: Mapping[str, str], fences: Any) -> Finding:
        """Say how many replicas it has: that it was cut off it learns from the other primaries."""
        name, count = "redis replication", facts.get("connected_slaves", "0")
        del fences
        if facts.get("role") == "slave":
            return Finding(name=name, said="it was replaced a moment ago: look again")
        if count != "0":
            return Finding(name=name, said=f"replicas: {count}")
        problem = "it has no replica: while it is away its sales are refused"
        return warning(name, problem, "redis-cli --cluster add-node … --cluster-slave")


class RedisClusterOperator:
    """Looks after the Redis Cluster behind a gate; connects and disconnects in each call."""

    def __init__(self, url: str, namespace: str) -> None:
        """Remember where it is. Raises Invalid on a URL that is no cluster's."""
        self._url = url
        self._parts = ClusterUrl.of(url)
        self._namespace = namespace

    async def install(self) -> bool:
        """See `GateOperator.install`: on every primary."""
        async with open_redis_gate(self._url, namespace=self._namespace, installs=False) as gate:
            return await gate.install()

    async def diagnose(self) -> list[Finding]:
        """See `GateOperator.diagnose`; what was found at a node names it."""
        wire = ClusterWire(self._url, deadline_s=DEADLINE_S)
        try:
            seen = await wire.map()
            told = await wire.everywhere(lambda _: [_SETTINGS])
        except Unavailable as away:
            found = away_finding(str(away))
            return [attrs.evolve(found, fix=_typed_at(self._parts.seeds[0], found.fix))]
        finally:
            await wire.aclose()
        findings = [_state(seen), *_settings([reply for [reply] in told])]
        for address, tag in seen.tags().items():
            node = _NodeOperator(self._parts.node(address), self._namespace, tag=tag)
            findings += [_at(address, one) for one in await node.diagnose()]
        return findings

    async def journal_faults(self) -> list[str]:
        """See `GateOperator.journal_faults`: of every primary."""
        wire = ClusterWire(self._url, deadline_s=DEADLINE_S)
        try:
            seen = await wire.map()
        finally:
            await wire.aclose()
        faults = []
        for address in seen.primaries:
            node = _NodeOperator(self._parts.node(address), self._namespace)
            faults += [
                f"{address}: {_typed_at(address, fault)}" for fault in await node.journal_faults()
            ]
        return faults


def _at(address: Address, found: Finding) -> Finding:
    said = f"{address}: {found.said}" if found.said else str(address)
    return attrs.evolve(found, said=said, fix=_typed_at(address, found.fix))


def _typed_at(address: Address, fix: str) -> str:
    """Name the node in a command: redis-cli takes no URL of several."""
    return fix.replace(CLI, f"redis-cli -h {address.host} -p {address.port}")


def _state(seen: SlotMap) -> Finding:
    name = "redis cluster"
    unserved = sum(1 for home in seen.slots if home is None)
    if seen.state in ("ok", "?") and not unserved:
        return Finding(name=name, said=f"{len(seen.primaries)} primaries")
    problem = f"its state is {seen.state}, and {unserved} slots are served by nobody"
    return wrong(name, problem, "start the node that is away; redis-cli --cluster check HOST:PORT")


def _settings(replies: list[Any]) -> list[Finding]:
    """Judge the settings of the nodes that tell them; the strictest opinion of all counts."""
    told = [config_of(one) for one in replies if not isinstance(one, ResponseError | Unavailable)]
    if not told:
        return []
    return [_coverage(told), _node_timeout(told)]


def _coverage(told: list[dict[str, str]]) -> Finding:
    name = "redis cluster coverage"
    if all(one.get("cluster-require-full-coverage") == "no" for one in told):
        return Finding(name=name, said="a node that is away stops its own sales alone")
    problem = (
        "cluster-require-full-coverage is yes: while one primary is away every sale is refused"
    )
    fix = "CONFIG SET cluster-require-full-coverage no on every node (and in redis.conf)"
    return warning(name, problem, fix)


def _node_timeout(told: list[dict[str, str]]) -> Finding:
    name = "redis cluster failover"
    longest_s = max(int(one.get("cluster-node-timeout", 0)) for one in told) / 1_000
    said = f"cluster-node-timeout {longest_s:g} s"
    if longest_s <= LAG_S_MAX:
        return Finding(name=name, said=said)
    problem = (
        f"{said}: a dead primary's sales wait so long for its replica, and again to be rebuilt"
    )
    fix = f"CONFIG SET cluster-node-timeout {LAG_S_MAX * 1_000} on every node (and in redis.conf)"
    return warning(name, problem, fix)


_: OperateGate = RedisClusterOperator
