"""The memory gate keeps the contract of every gate."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from flashsale_core.ports import StockGate
from flashsale_core.rates import RateLimits
from flashsale_core.testing.gate_lives import GateLivesContract
from flashsale_core.testing.gate_machine import gate_machine
from flashsale_core.testing.gate_rates import GateRatesContract, MakeRatedGate
from flashsale_core.testing.stock_gate import MakeGate, StockGateContract
from flashsale_memory.clock import SystemClock
from flashsale_memory.gate import MemoryStockGate

STEPS_MIN = 2_000
"""Commands given to the gate and to the model, with all books compared after each."""


@pytest.fixture
def make_gate() -> MakeGate:
    """Change the delays of one gate: its store is itself."""
    gate = MemoryStockGate(SystemClock())

    async def make(*, reserved_due_ms: int, queued_due_ms: int) -> StockGate:
        gate.reserved_due_ms = reserved_due_ms
        gate.queued_due_ms = queued_due_ms
        return gate

    return make


class TestMemoryStockGate(StockGateContract):
    """The contract, in one process."""


class TestMemoryGateLives(GateLivesContract):
    """The contract, in one process."""


class TestMemoryGateRates(GateRatesContract):
    """The contract, in one process."""

    @pytest.fixture
    def make_gate(self) -> MakeRatedGate:
        """Make a gate with limits."""

        async def make(limits: RateLimits) -> StockGate:
            return MemoryStockGate(SystemClock(), rates=limits)

        return make


def test_the_memory_gate_is_the_machine() -> None:
    """Random commands: conservation, limits and answers as the model says."""
    with asyncio.Runner() as runner:
        machine = gate_machine(lambda: [MemoryStockGate(SystemClock())], runner.run)
        run_state_machine_as_test(machine, settings=settings(max_examples=60, deadline=None))
        assert machine.steps >= STEPS_MIN


def test_the_memory_gate_with_limits_is_the_machine_with_limits() -> None:
    """The same, where nobody may ask for more than three new purchases."""
    limits = RateLimits(per_user=3, window_ms=3_600_000)
    with asyncio.Runner() as runner:
        machine = gate_machine(
            lambda: [MemoryStockGate(SystemClock(), rates=limits)], runner.run, per_user=3
        )
        run_state_machine_as_test(machine, settings=settings(max_examples=60, deadline=None))
