"""The lives of the Redis gate: its functions, loading, arming, ending, adopting."""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.model import Epoch, GateRecord, SaleId, SaleState, SaleTerms
from flashsale_core.ports import GateBooks
from flashsale_redis.faults import refusal_of
from flashsale_redis.library import GateLibrary, gate_library, versions_of
from flashsale_redis.packing import books_of, books_row, pack, record_of, record_row, unpack
from flashsale_redis.wire import LAG_S_DEFAULT, Command, GateServer, GateWire, config_of

LOAD_DEADLINE_S = 5.0
"""Loading and installing are not on the hot path: they wait out a busy server."""

LIMITS = ("min-replicas-*", "cluster-enabled", "cluster-node-timeout")
"""What decides for how long a primary that was cut off goes on."""

_Sale = tuple[SaleId, Epoch]


class RedisLives:
    """Calls the functions that begin and end a sale's life in the gate."""

    def __init__(
        self,
        wire: GateWire,
        *,
        namespace: str,
        reserved_due_ms: int,
        queued_due_ms: int,
        may_install: bool,
    ) -> None:
        """Use an open wire; the due delays decide when the sweeper looks at a purchase."""
        self._wire = wire
        self._namespace = namespace
        self._reserved_due_ms = reserved_due_ms
        self._queued_due_ms = queued_due_ms
        self._may_install = may_install
        self._library = gate_library()

    def _call(
        self,
        name: str,
        sale_id: SaleId,
        *args: str | bytes | int,
        of: GateLibrary | None = None,
        with_window: bool = False,
    ) -> Command:
        tag = self._tag(sale_id)
        keys = (f"{tag}sale", f"{tag}users", f"{tag}purchases", f"{tag}journal")
        function = (of or self._library).function(name)
        if with_window:
            return ("FCALL", function, 5, *keys, f"{tag}window", *args)
        return ("FCALL", function, 4, *keys, *args)

    def _tag(self, sale_id: SaleId) -> str:
        """Begin every key of a sale: what stands in braces decides which node has them all."""
        return f"{self._namespace}:{{{sale_id}}}:"

    async def _one(
        self, command: Command, *, deadline_s: float | None = None, is_waited_for: bool = False
    ) -> Any:
        """Run one command; raises Unavailable for an error reply too."""
        [reply] = await self._wire.run(
            [command], deadline_s=deadline_s, is_waited_for=is_waited_for
        )
        if (refused := refusal_of(reply)) is not None:
            raise refused
        return reply

    async def install(self) -> bool:
        """Load the function library unless it is there; answer whether this call did.

        Raises Unavailable, also when this Redis user may not load functions; of several servers
        each has been asked first.
        """
        load = ("FUNCTION", "LOAD", self._library.source)
        told = await self._wire.everywhere(lambda _: [load], deadline_s=LOAD_DEADLINE_S)
        refused = [refusal_of(reply) for [reply] in told]
        for one in refused:
            if one is not None and "already exists" not in str(one):
                raise one
        return None in refused

    async def begin_load(
        self, sale_id: SaleId, epoch: Epoch, terms: SaleTerms, state: SaleState
    ) -> str | None:
        """See `StockGate.begin_load`."""
        token = uuid.uuid4().hex
        optional = (terms.per_user_limit, terms.opens_at_ms, terms.closes_at_ms)
        opened = await self._one(
            self._call(
                "begin_load",
                sale_id,
                epoch,
                token,
                state.value,
                terms.units,
                *("" if value is None else value for value in optional),
            ),
            deadline_s=LOAD_DEADLINE_S,
        )
        return token if opened else None

    async def load(self, sale_id: SaleId, token: str, records: Sequence[GateRecord]) -> None:
        """See `StockGate.load`."""
        rows = pack([record_row(record) for record in records])
        await self._one(
            self._call("load", sale_id, token, self._reserved_due_ms, self._queued_due_ms, rows),
            deadline_s=LOAD_DEADLINE_S,
        )

    async def arm(self, sale_id: SaleId, token: str, expected: GateBooks) -> None:
        """See `StockGate.arm`."""
        differing = await self._one(
            self._call("arm", sale_id, token, pack(books_row(expected))),
            deadline_s=LOAD_DEADLINE_S,
        )
        if differing:
            seen = books_of(unpack(differing))
            raise Corrupt("books-differ", f"{sale_id}: loaded {seen}, expected {expected}")

    async def drop(self, sale_id: SaleId) -> None:
        """See `StockGate.drop`."""
        await self._one(self._call("drop", sale_id, with_window=True))

    async def disarm(self, sales: Sequence[_Sale]) -> int:
        """See `StockGate.disarm`.

        A primary that was cut off from its replicas goes on for `min-replicas-max-lag`, and
        stops for want of them where `min-replicas-to-write` is set; a second on top, as replicas
        report each second. In a cluster it stops after `cluster-node-timeout`, which is waited
        out too. Of several servers the longest counts.
        """
        if not sales:
            return 0
        longest_ms = 0
        for server, share in await self._wire.shares([self._tag(sale[0]) for sale in sales]):
            replies = await server.run(
                [*(self._call("disarm", *sales[at]) for at in share), ("CONFIG", "GET", *LIMITS)],
                deadline_s=LOAD_DEADLINE_S,
            )
            for reply in replies[:-1]:
                if (refused := refusal_of(reply)) is not None:
                    raise refused
            longest_ms = max(longest_ms, _lag_ms(replies[-1], server.lag_s_default))
        return longest_ms

    async def survivors(self, sale_id: SaleId, *, skip: int, limit: int) -> list[GateRecord] | None:
        """See `StockGate.survivors`."""
        reply = await self._one(
            self._call("survivors", sale_id, skip, limit), deadline_s=LOAD_DEADLINE_S
        )
        looked_at, *rows = unpack(reply)
        if not looked_at:
            return None
        return [record_of(purchase_id, row) for purchase_id, row in rows]

    async def adopt(self, sales: Sequence[_Sale]) -> list[bool]:
        """See `StockGate.adopt`.

        Asks and arms on ONE connection: a server that restarted in between is not armed by what
        it knew before.
        """
        if not sales:
            return []
        if self._may_install:
            # Where it may not after all, `check` and `doctor` say so.
            with suppress(Unavailable):
                await self.install()
        adopted: set[_Sale] = set()
        for server, share in await self._wire.shares([self._tag(sale[0]) for sale in sales]):
            [libraries] = await server.run(
                [("FUNCTION", "LIST", "LIBRARYNAME", "flashsale_gate_*")],
                deadline_s=LOAD_DEADLINE_S,
            )
            others = [one for one in versions_of(libraries) if one != self._library]
            questions = [(sales[at], version) for at in share for version in others]
            adopted |= await self._adopted(server, questions) if questions else set()
        return [sale in adopted for sale in sales]

    async def _adopted(
        self, server: GateServer, questions: Sequence[tuple[_Sale, GateLibrary]]
    ) -> set[_Sale]:
        alive: list[_Sale] = []

        def adopt_what_is_armed(replies: Sequence[Any]) -> list[Command]:
            alive.extend(
                dict.fromkeys(
                    sale
                    for (sale, _), epoch in zip(questions, replies, strict=True)
                    if epoch == sale[1]
                )
            )
            return [self._call("adopt", sale_id, epoch) for sale_id, epoch in alive]

        replies = await server.run(
            [self._call("armed_epoch", sale[0], of=version) for sale, version in questions],
            adopt_what_is_armed,
            deadline_s=LOAD_DEADLINE_S,
        )
        return {sale for sale, reply in zip(alive, replies, strict=True) if reply == 1}


def _lag_ms(limits: Any, default_s: int) -> int:
    """Work out how long a cut-off primary may still answer; 0 where nothing ever stops it."""
    if isinstance(limits, ResponseError):
        return (default_s + 1) * 1_000
    told, waits_ms = config_of(limits), [0]
    if int(told.get("min-replicas-to-write", 0)) > 0:
        waits_ms.append((int(told.get("min-replicas-max-lag", LAG_S_DEFAULT)) + 1) * 1_000)
    if told.get("cluster-enabled") == "yes":
        waits_ms.append(int(told["cluster-node-timeout"]) + 1_000)
    return max(waits_ms)
