"""How `redis://`, `rediss://`, `redis+cluster://` and `rediss+cluster://` are opened."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from flashsale_core.errors import Unavailable
from flashsale_core.opening import GateOptions, OpenGate
from flashsale_core.rates import RateLimits
from flashsale_redis.cluster import wire_to
from flashsale_redis.gate import QUEUED_DUE_MS, RESERVED_DUE_MS, RedisStockGate
from flashsale_redis.wire import DEADLINE_S


@asynccontextmanager
async def open_redis_gate(
    url: str,
    *,
    namespace: str = "fs",
    reserved_due_ms: int = RESERVED_DUE_MS,
    queued_due_ms: int = QUEUED_DUE_MS,
    deadline_s: float = DEADLINE_S,
    installs: bool = True,
    rates: RateLimits | None = None,
) -> AsyncIterator[RedisStockGate]:
    """Open the gate; with `installs`, load the function library where this user may.

    Opens even while Redis is away: a door that opens late is better than one that does not.
    """
    wire = wire_to(url, deadline_s=deadline_s)
    gate = RedisStockGate(
        wire,
        namespace=namespace,
        reserved_due_ms=reserved_due_ms,
        queued_due_ms=queued_due_ms,
        may_install=installs,
        rates=rates,
    )
    try:
        if installs:
            # `check` and `doctor` say what is wrong, and how it is put right.
            with suppress(Unavailable):
                await gate.install()
        yield gate
    finally:
        await wire.aclose()


def open_gate(url: str, options: GateOptions) -> AbstractAsyncContextManager[RedisStockGate]:
    """Open the gate; only a process that may install loads the function library."""
    return open_redis_gate(
        url,
        namespace=options.namespace,
        reserved_due_ms=options.reserved_due_ms,
        queued_due_ms=options.queued_due_ms,
        installs=options.may_install,
        rates=options.rates,
    )


_: OpenGate = open_gate
