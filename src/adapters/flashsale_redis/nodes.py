"""One node of a cluster: a wire, and whether it keeps silent."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from flashsale_core.errors import Unavailable, Why
from flashsale_redis.cluster_map import Address, SlotMap, read_slots
from flashsale_redis.wire import Command, Then, Wire

LOG = logging.getLogger(__name__)


class Node:
    """Refuses at once, after a silence, all that is not asked to find out whether it is back.

    Nobody's command is that question: one sale's buyers do not wait for another's node.
    """

    lag_s_default = 15
    """Redis's own `cluster-node-timeout`, for a user who may not ask for it."""

    def __init__(
        self,
        address: Address,
        wire: Wire,
        *,
        fell_silent: Callable[["Node"], None],
        is_all_silent: Callable[[], bool],
    ) -> None:
        """Use a wire of its own; `fell_silent` hears once each time that it does."""
        self.address = address
        self.is_silent = False
        self._wire = wire
        self._fell_silent = fell_silent
        self._is_all_silent = is_all_silent
        self._detail = ""
        self._heard_at_s = float("-inf")

    async def run(
        self,
        commands: Sequence[Command],
        then: Then | None = None,
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """See `Wire.run`; a MOVED is a reply like others. What is not asked has not happened."""
        if self.is_silent:
            raise self._away(Unavailable(Why.GATE_AWAY, f"not asked again yet: {self._detail}"))
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        try:
            replies = await self._wire.run(
                commands, then, deadline_s=deadline_s, is_waited_for=is_waited_for
            )
        except Unavailable as away:
            # A failure that another answer has overtaken is no silence.
            if not away.was_refused and self._heard_at_s <= began_s and not self.is_silent:
                self.is_silent, self._detail = True, away.detail
                self._fell_silent(self)
                LOG.warning("node %s of the cluster keeps silent: %s", self.address, away.detail)
            raise self._away(away) from away
        self._heard_at_s = now_s()
        return replies

    async def probe(self) -> None:
        """Find out whether it is back: any answer will do."""
        try:
            await self._wire.run([("PING",)], is_waited_for=True)
        except Unavailable as away:
            if away.was_refused:
                self.forget()
        else:
            self.forget()

    def forget(self) -> None:
        """Hold its silence against it no longer."""
        if self.is_silent:
            LOG.warning("node %s of the cluster answers again, or was replaced", self.address)
        self.is_silent = False

    async def view(self) -> SlotMap:
        """Ask how it sees the cluster. Raises Unavailable."""
        told, info = await self._wire.run(
            [("CLUSTER", "SLOTS"), ("CLUSTER", "INFO")], is_waited_for=True
        )
        if isinstance(told, Exception):
            hint = " (redis:// is for a single server)" if "cluster support" in str(told) else ""
            detail = f"{self.address}: {told}{hint}"
            raise Unavailable(Why.GATE_AWAY, detail, was_refused=True)
        return read_slots(self.address, told, info)

    async def aclose(self) -> None:
        """Close its connections."""
        with suppress(OSError):
            await self._wire.aclose()

    def _away(self, away: Unavailable) -> Unavailable:
        """Name the node. While others answer it is not the gate that keeps silent."""
        return Unavailable(
            away.why,
            f"{self.address}: {away.detail}",
            retry_after_ms=away.retry_after_ms,
            may_have_happened=away.may_have_happened,
            was_refused=away.was_refused or not self._is_all_silent(),
        )
