"""The memory gate keeps the contract of every gate."""

import pytest
from flashsale_memory.gate import MemoryStockGate

from flashsale_core.ports import StockGate
from flashsale_core.testing.stock_gate import MakeGate, StockGateContract


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Tell the wall clock."""
        import time

        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Tell a clock that never steps."""
        import time

        return time.monotonic() * 1_000


class TestMemoryStockGate(StockGateContract):
    """The contract, in one process."""

    @pytest.fixture
    def make_gate(self) -> MakeGate:
        """Change the delays of one gate: its store is itself."""
        gate = MemoryStockGate(SystemClock())

        async def make(*, reserved_due_ms: int, queued_due_ms: int) -> StockGate:
            gate.reserved_due_ms = reserved_due_ms
            gate.queued_due_ms = queued_due_ms
            return gate

        return make
