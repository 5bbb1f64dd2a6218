"""A traced port keeps the contract of every port: whoever uses it sees no difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from structlog.testing import capture_logs

from flashsale_core.opening import Database
from flashsale_core.ports import StockGate
from flashsale_core.testing.event_bus import EventBusContract
from flashsale_core.testing.order_repository import OrderRepositoryContract
from flashsale_core.testing.parked_messages import ParkedMessagesContract
from flashsale_core.testing.payments import PaymentsContract
from flashsale_core.testing.stock_gate import MakeGate, StockGateContract
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate
from tests.unit.test_memory_bus import MemoryWorld
from tests.unit.test_traces import Recorder


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class TestTracedGate(StockGateContract):
    """Every claim of the contract that has a trace is recorded."""

    @pytest.fixture
    def make_gate(self) -> MakeGate:
        """Put spans around a gate in memory."""
        gate = MemoryStockGate(SystemClock())
        traced: StockGate = Recorder().traces.around_gate(gate)

        async def make(*, reserved_due_ms: int, queued_due_ms: int) -> StockGate:
            gate.reserved_due_ms = reserved_due_ms
            gate.queued_due_ms = queued_due_ms
            return traced

        return make


class TracedWorld(MemoryWorld):
    """A bus around which nothing is recorded: what is recorded goes on below a span of ours."""

    def __init__(self) -> None:
        """Put spans around the bus."""
        super().__init__()
        self.bus = Recorder(ALWAYS_OFF).traces.around_bus(self.bus)


class TestTracedBus(EventBusContract):
    """What is not recorded comes as it was sent."""

    @pytest.fixture
    async def world(self) -> TracedWorld:
        """Make an empty bus."""
        return TracedWorld()


@pytest.fixture
def database() -> Database:
    """Make an empty database, around which nothing is recorded."""
    database: Database = Recorder(ALWAYS_OFF).traces.around_database(MemoryDatabase(SystemClock()))
    return database


class TestTracedOrders(OrderRepositoryContract):
    """Rows, units and events are what they are without spans."""


class TestTracedPayments(PaymentsContract):
    """So are charges."""


class TestTracedParkedMessages(ParkedMessagesContract):
    """And what was set aside."""
