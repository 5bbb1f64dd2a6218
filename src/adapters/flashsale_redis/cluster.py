"""Commands to a Redis Cluster: each to the node of its slot, a round trip a node, never twice.

What one node keeps silent about is the trouble of its own sales: their commands are answered with
an Unavailable in the reply's place, and all others as if nothing were.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import AskError, MovedError, ResponseError

from flashsale_core.errors import Unavailable, Why
from flashsale_redis.cluster_map import Address, ClusterUrl, SlotMap, is_cluster
from flashsale_redis.faults import unavailable_of
from flashsale_redis.nodes import Node
from flashsale_redis.wire import DEADLINE_S, SILENCE_SHARE, Command, GateWire, Wire

PROBE_APART_S = 0.25
"""Between two looks at a node that is silent, and at who serves its slots meanwhile."""
GRACE_S = 0.02
"""After the first node has told how it sees the cluster, the others have this long: one that was
cut off answers too, and the latest telling counts."""
SHORTEST_S = 0.001
_NOWHERE = SlotMap(slots=())


class ClusterWire:
    """Several wires that look like one."""

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        """Open nothing yet. Raises Invalid unless `url` is a cluster's (`ClusterUrl`)."""
        self._url = ClusterUrl.of(url)
        self._deadline_s = deadline_s
        self._map = _NOWHERE
        self._nodes: dict[Address, Node] = {}
        self._looking: asyncio.Task[None] | None = None
        self._unserved_look_s = 0.0
        self._watches: dict[Address, asyncio.Task[None]] = {}

    async def run(
        self,
        commands: Sequence[Command],
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """Send each FCALL to the primary of its first key; answer a reply each, in their order.

        See `Wire.run`. What concerns a node is an Unavailable in the place of each reply that it
        owes; nothing is raised. A node that sends elsewhere has done nothing, and is followed once.
        """
        loop, whole_s = asyncio.get_running_loop(), deadline_s or self._deadline_s
        until_s = loop.time() + whole_s
        try:
            await self._listed(whole_s * (SILENCE_SHARE if is_waited_for else 1))
        except Unavailable as away:
            return [away] * len(commands)
        homes = [self._map.of_key(_key_of(command)) for command in commands]
        waits: dict[str, Any] = {
            "deadline_s": max(until_s - loop.time(), SHORTEST_S),
            "is_waited_for": is_waited_for,
        }
        replies = await self._round(commands, homes, **waits)
        sent_on = [at for at, reply in enumerate(replies) if isinstance(reply, AskError)]
        if sent_on and (left_s := until_s - loop.time()) > 0:
            again = await self._round(
                [commands[at] for at in sent_on],
                [self._other(homes[at], replies[at]) for at in sent_on],
                asking=[not isinstance(replies[at], MovedError) for at in sent_on],
                **{**waits, "deadline_s": left_s},
            )
            for at, reply in zip(sent_on, again, strict=True):
                replies[at] = reply
        return [_of_its_sale(reply) for reply in replies]

    async def _round(
        self,
        commands: Sequence[Command],
        homes: Sequence[Address | None],
        *,
        asking: Sequence[bool] | None = None,
        **waits: Any,
    ) -> list[Any]:
        """Send each command to its node, to all nodes at the same time."""
        shares: dict[Address | None, list[int]] = {}
        for at, home in enumerate(homes):
            shares.setdefault(home, []).append(at)
        replies: list[Any] = [None] * len(commands)

        async def of_one(home: Address | None, share: list[int]) -> None:
            asks = [asking is not None and asking[at] for at in share]
            packed: list[Command] = []
            for at, is_asking in zip(share, asks, strict=True):
                packed += [("ASKING",), commands[at]] if is_asking else [commands[at]]
            try:
                told = iter(await self._node_of(home).run(packed, **waits))
            except Unavailable as away:
                for at in share:
                    replies[at] = away
                return
            for at, is_asking in zip(share, asks, strict=True):
                if is_asking:
                    next(told)
                replies[at] = next(told)

        asked = [of_one(home, share) for home, share in shares.items()]
        if len(asked) == 1:
            await asked[0]
        else:
            await asyncio.gather(*asked)
        return replies

    def _other(self, home: Address | None, sent_on: AskError) -> Address:
        """Name the node that a command was sent on to; a move is remembered, an ASK is not."""
        to = Address(sent_on.host or (home.host if home is not None else ""), sent_on.port)
        if isinstance(sent_on, MovedError):
            slots = list(self._map.slots)
            slots[sent_on.slot_id] = to
            replicas = {**self._map.replicas, to: self._map.replicas.get(to, 0)}
            self._map = SlotMap(
                slots=slots, replicas=replicas, others=self._map.others, epoch=self._map.epoch
            )
            self._look()
        return to

    async def everywhere(
        self,
        ask: Callable[[str], Sequence[Command]],
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[list[Any]]:
        """Run them on every primary; `ask` is told a hash tag that it serves.

        Answers the replies of each, an Unavailable in each one's place where it is away. Raises
        Unavailable when no node can be asked who serves what.
        """
        await self._listed(deadline_s or self._deadline_s)

        async def of_one(home: Address, tag: str) -> list[Any]:
            commands = ask(tag)
            try:
                return await self._node_of(home).run(
                    commands, deadline_s=deadline_s, is_waited_for=is_waited_for
                )
            except Unavailable as away:
                return [away] * len(commands)

        return await asyncio.gather(*(of_one(*one) for one in self._map.tags().items()))

    async def shares(self, keys: Sequence[str]) -> list[tuple[Node, list[int]]]:
        """Say which node serves which keys, by their places. Raises Unavailable."""
        await self._listed(self._deadline_s)
        shares: dict[Address | None, list[int]] = {}
        for at, key in enumerate(keys):
            shares.setdefault(self._map.of_key(key), []).append(at)
        return [(self._node_of(home), share) for home, share in shares.items()]

    async def map(self) -> SlotMap:
        """Ask anew who serves what. Raises Unavailable when no node can tell."""
        await self._looked()
        return self._map

    def _node_of(self, address: Address | None) -> Node:
        if address is None:
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._unserved_look_s:
                self._unserved_look_s = now_s + PROBE_APART_S
                self._look()
            detail = "no node of the cluster serves the slot"
            raise Unavailable(Why.GATE_AWAY, detail, was_refused=True)
        if address not in self._nodes:
            wire = Wire(self._url.node(address), deadline_s=self._deadline_s)
            self._nodes[address] = Node(
                address, wire, fell_silent=self._watch, is_all_silent=self._is_all_silent
            )
        return self._nodes[address]

    def _is_all_silent(self) -> bool:
        return all(one in self._nodes and self._nodes[one].is_silent for one in self._map.primaries)

    # ── who serves what ─────────────────────────────────────────────────────────────────────────

    async def _listed(self, seconds: float) -> None:
        """Wait for the first list of slots. Raises Unavailable; nothing was asked of a sale."""
        if self._map is not _NOWHERE:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._looked()
        except TimeoutError:
            raise Unavailable(Why.GATE_AWAY, "no node of the cluster answers in time") from None

    async def _looked(self) -> None:
        # Whoever gives up does not end it for the others.
        await asyncio.shield(self._look())

    def _look(self) -> "asyncio.Task[None]":
        """Ask the nodes who serves what, unless they are being asked."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_around())
            # Read, so that a look that nobody waits for may fail in peace.
            self._looking.add_done_callback(_read)
        return self._looking

    async def _look_around(self) -> None:
        known = [*self._map.primaries, *self._map.others, *self._url.seeds]
        nodes = [self._node_of(address) for address in dict.fromkeys(known)]
        asked = [node for node in nodes if not node.is_silent] or nodes
        views = [asyncio.create_task(node.view()) for node in asked]
        for view in views:
            view.add_done_callback(_read)
        try:
            told = await _first_tellings(views)
        finally:
            for view in views:
                view.cancel()
        self._map = max(told, key=lambda one: one.epoch)

    def _watch(self, node: Node) -> None:
        if node.address not in self._watches:
            task = asyncio.get_running_loop().create_task(self._until_it_answers(node))
            self._watches[node.address] = task

    async def _until_it_answers(self, node: Node) -> None:
        """Look, behind everybody's back, whether a silent node is back or was replaced."""
        try:
            while True:
                await asyncio.gather(node.probe(), self._look_quietly())
                if node.address not in self._map.primaries:
                    node.forget()
                if not node.is_silent:
                    return
                await asyncio.sleep(PROBE_APART_S)
        finally:
            del self._watches[node.address]

    async def _look_quietly(self) -> None:
        with suppress(Unavailable):
            await self._looked()

    async def aclose(self) -> None:
        """Close every connection."""
        tasks = [*self._watches.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in self._nodes.values():
            await node.aclose()


async def _first_tellings(views: "Sequence[asyncio.Task[SlotMap]]") -> list[SlotMap]:
    """Wait for the first that tells, and a moment for the others. Raises Unavailable: nobody."""
    pending: set[asyncio.Task[SlotMap]] = set(views)
    told: list[SlotMap] = []
    while pending and not told:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        told += [one.result() for one in done if one.exception() is None]
    if pending:
        done, _ = await asyncio.wait(pending, timeout=GRACE_S)
        told += [one.result() for one in done if one.exception() is None]
    if not told:
        whys = [str(one.exception()) for one in views]
        raise Unavailable(Why.GATE_AWAY, "no node tells who serves what: " + "; ".join(whys[:3]))
    return told


def _read(done: "asyncio.Task[Any]") -> None:
    """Take note of a failure that nobody may have waited for; asyncio would complain of it."""
    if not done.cancelled():
        done.exception()


def _key_of(command: Command) -> str | bytes:
    """Read the first key of `FCALL function count key…`."""
    key = command[3]
    if command[0] != "FCALL" or isinstance(key, int):
        raise ValueError(f"{command[0]!r} names no key")
    return key


def _of_its_sale(reply: Any) -> Any:
    """Put what a node says of itself in a form that is its own sales' trouble alone."""
    if not isinstance(reply, ResponseError):
        return reply
    refused = unavailable_of(reply, was_sent=True)
    if refused.why is not Why.GATE_AWAY:
        return reply
    # It answered: the gate does not keep silent.
    unsure = refused.may_have_happened
    return Unavailable(refused.why, refused.detail, may_have_happened=unsure, was_refused=True)


def wire_to(url: str, *, deadline_s: float = DEADLINE_S) -> GateWire:
    """Make the wire that a URL asks for."""
    return (ClusterWire if is_cluster(url) else Wire)(url, deadline_s=deadline_s)
