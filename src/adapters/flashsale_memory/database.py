"""A database inside one process: for tests, and for trying things out; it forgets at exit."""

from flashsale_core.opening import Database
from flashsale_core.ports import Clock
from flashsale_memory.order_repository import MemoryOrderRepository
from flashsale_memory.outbox import MemoryOutbox
from flashsale_memory.parked_messages import MemoryParkedMessages
from flashsale_memory.payments import MemoryPayments
from flashsale_memory.sale_catalogue import MemorySaleCatalogue
from flashsale_memory.tables import Tables


class MemoryDatabase:
    """The five ports on one set of tables."""

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        tables = Tables(clock=clock)
        self.orders = MemoryOrderRepository(tables)
        self.catalogue = MemorySaleCatalogue(tables)
        self.outbox = MemoryOutbox(tables)
        self.parked = MemoryParkedMessages(tables)
        self.payments = MemoryPayments(tables)

    async def check(self) -> None:
        """Find nothing wrong: there is nothing that could be away."""


_: type[Database] = MemoryDatabase
