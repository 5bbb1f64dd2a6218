"""How `redis://`, `rediss://`, `redis+cluster://` and `rediss+cluster://` are opened."""

from contextlib import AbstractAsyncContextManager

from flashsale_core.opening import GateOptions, OpenGate
from flashsale_redis.gate import RedisStockGate, open_redis_gate


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
