"""What rebuilds agree on, in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flashsale_core.ports import Rebuilds
from flashsale_memory.tables import Tables


class MemoryRebuilds:
    """One at a time within this process, and how far the barriers have come."""

    def __init__(self, tables: Tables) -> None:
        """Share the tables."""
        self._tables = tables
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Enter as the only rebuild, or be told False at once."""
        if self._lock.locked():
            yield False
            return
        async with self._lock:
            yield True

    async def pass_barrier(self, rebuild_id: str, partition: int) -> None:
        """Note a passed barrier."""
        self._tables.barriers.add((rebuild_id, partition))

    async def passed(self, rebuild_id: str) -> frozenset[int]:
        """Tell which partitions' barriers were passed."""
        return frozenset(
            partition for of_rebuild, partition in self._tables.barriers if of_rebuild == rebuild_id
        )


_: type[Rebuilds] = MemoryRebuilds
