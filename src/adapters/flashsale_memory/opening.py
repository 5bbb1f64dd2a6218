"""How `memory://` is opened, as a gate and as a bus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flashsale_core.opening import BusOptions, GateOptions, OpenBus, OpenGate
from flashsale_memory.bus import MemoryBus
from flashsale_memory.gate import MemoryStockGate


@asynccontextmanager
async def open_gate(url: str, options: GateOptions) -> AsyncIterator[MemoryStockGate]:  # noqa: ARG001 - memory:// says it all
    """Make an empty gate."""
    yield MemoryStockGate(
        options.clock,
        reserved_due_ms=options.reserved_due_ms,
        queued_due_ms=options.queued_due_ms,
        rates=options.rates,
    )


@asynccontextmanager
async def open_bus(url: str, options: BusOptions) -> AsyncIterator[MemoryBus]:  # noqa: ARG001 - memory:// says it all
    """Make an empty bus."""
    yield MemoryBus(options.codec, partitions=options.partitions)


_gate: OpenGate = open_gate
_bus: OpenBus = open_bus
