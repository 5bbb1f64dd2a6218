"""Which node of a Redis Cluster serves which slot: its URL, its nodes, and their own tellings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from flashsale_core.errors import Invalid, Violation
from flashsale_core.urls import url_parts

PORT_DEFAULT = 6379
_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_TAGS_MAX = 20 * REDIS_CLUSTER_HASH_SLOTS
"""Tags tried: so many fall into a single slot's node with near certainty."""


@attrs.frozen(order=True)
class Address:
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_cluster(url: str) -> bool:
    """Say whether a URL names a cluster."""
    return url.partition("://")[0] in _SCHEMES


@attrs.frozen(repr=False)
class ClusterUrl:
    """`redis+cluster://user:password@host:port,host:port?options`, taken apart.

    The hosts are where the cluster is asked for its nodes; the rest counts for each of them.
    """

    scheme: str
    login: str
    query: str
    seeds: tuple[Address, ...]

    @classmethod
    def of(cls, url: str) -> "ClusterUrl":
        """Read it. Raises Invalid, which never repeats the URL: it may hold a password."""
        try:
            parts = url_parts(url)
        except ValueError as exc:
            raise _wrong(str(exc)) from None
        if parts.scheme not in _SCHEMES:
            raise _wrong("a cluster's URL begins with redis+cluster:// or rediss+cluster://")
        if parts.path not in ("", "/", "/0"):
            raise _wrong("a Redis Cluster has database 0 alone: name no other in its URL")
        if "@" in parts.login:
            raise _wrong("a cluster's URL has one user and password, before its first host")
        if not all(host.name for host in parts.hosts):
            raise _wrong("the cluster's URL names no host: redis+cluster://host:port,host:port")
        seeds = (Address(host.name, host.port or PORT_DEFAULT) for host in parts.hosts)
        login = f"{parts.login}@" if parts.login else ""
        return cls(_SCHEMES[parts.scheme], login, parts.query, tuple(dict.fromkeys(seeds)))

    def node(self, address: Address) -> str:
        """Write the URL of one node."""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.login}{address}/0{query}"


def _wrong(problem: str) -> Invalid:
    return Invalid([Violation(field="FLASHSALE_GATE_URL", problem=problem)])


@attrs.frozen(kw_only=True)
class SlotMap:
    """Who serves each slot, as a node of the cluster told it."""

    slots: Sequence[Address | None] = attrs.field(repr=False)
    replicas: Mapping[Address, int] = attrs.field(factory=dict)
    """How many each primary has."""
    others: frozenset[Address] = frozenset()
    epoch: int = 0
    """The cluster's, which grows with each change: of two tellings the higher is the later."""
    state: str = "?"

    @property
    def primaries(self) -> list[Address]:
        """List the nodes that serve slots."""
        return sorted(self.replicas)

    def of_key(self, key: str | bytes) -> Address | None:
        """Name the primary of a key."""
        return self.slots[slot_of(key)]

    def tags(self) -> dict[Address, str]:
        """Find a hash tag for each primary, so that a question may be put to it."""
        found: dict[Address, str] = {}
        for number in range(_TAGS_MAX):
            if len(found) == len(self.replicas):
                break
            home = self.of_key(tag := f"-{number}")
            if home is not None:
                found.setdefault(home, tag)
        return found


def slot_of(key: str | bytes) -> int:
    """Work out the slot of a key, which is that of its hash tag."""
    return key_slot(key.encode() if isinstance(key, str) else key)


def read_slots(asked: Address, told: Any, info: Any) -> SlotMap:
    """Read the replies of CLUSTER SLOTS and CLUSTER INFO; the latter may be an error."""
    slots: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    replicas: dict[Address, int] = {}
    others: set[Address] = set()
    for first, last, primary, *followers in told:
        home = _told_address(asked, primary)
        slots[first : last + 1] = [home] * (last + 1 - first)
        replicas[home] = max(replicas.get(home, 0), len(followers))
        others.update(_told_address(asked, one) for one in followers)
    facts = dict(_facts(info))
    return SlotMap(
        slots=slots,
        replicas=replicas,
        others=frozenset(others),
        epoch=int(facts.get("cluster_current_epoch", 0)),
        state=facts.get("cluster_state", "?"),
    )


def _told_address(asked: Address, node: Sequence[Any]) -> Address:
    """Read a node's address; one that knows no name for itself is where it was asked."""
    host = bytes(node[0] or b"").decode()
    return Address(asked.host if host in ("", "?") else host, int(node[1]))


def _facts(info: Any) -> Iterable[tuple[str, str]]:
    if isinstance(info, bytes | bytearray | str):
        text = info if isinstance(info, str) else bytes(info).decode("utf-8", "replace")
        for line in text.splitlines():
            name, _, value = line.partition(":")
            yield name, value.strip()
