"""Gates on a wire, as the contracts want to make them; each module says what the wire leads to."""

import uuid

from flashsale_core.ports import StockGate
from flashsale_core.rates import RateLimits
from flashsale_core.testing.gate_rates import MakeRatedGate
from flashsale_core.testing.stock_gate import MakeGate
from flashsale_redis import RedisStockGate
from flashsale_redis.wire import GateWire


def gates_on(wire: GateWire) -> MakeGate:
    """Make gates with other delays on one namespace, so that they see the same sales."""
    namespace = _new_namespace()

    async def make(*, reserved_due_ms: int = 10_000, queued_due_ms: int = 600_000) -> StockGate:
        return RedisStockGate(
            wire,
            namespace=namespace,
            reserved_due_ms=reserved_due_ms,
            queued_due_ms=queued_due_ms,
        )

    return make


def limited_gates_on(wire: GateWire) -> MakeRatedGate:
    """Make gates with limits, each on a namespace of its own."""

    async def make(limits: RateLimits) -> StockGate:
        return RedisStockGate(wire, namespace=_new_namespace(), rates=limits)

    return make


def _new_namespace() -> str:
    return f"t{uuid.uuid4().hex[:12]}"
