"""A database inside one process: for tests, and for trying things out; it forgets at exit."""

from flashsale_core.opening import Database
from flashsale_core.ports import Clock
from flashsale_memory.dead_letters import MemoryDeadLetters
from flashsale_memory.handling_notes import MemoryHandlingNotes
from flashsale_memory.order_repository import MemoryOrderRepository
from flashsale_memory.outbox import MemoryOutbox
from flashsale_memory.parked_messages import MemoryParkedMessages
from flashsale_memory.payments import MemoryPayments
from flashsale_memory.rebuilds import MemoryRebuilds
from flashsale_memory.sale_catalogue import MemorySaleCatalogue
from flashsale_memory.tables import Tables


class MemoryDatabase:
    """The ports on one set of tables."""

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        tables = Tables(clock=clock)
        self.orders = MemoryOrderRepository(tables)
        self.catalogue = MemorySaleCatalogue(tables)
        self.outbox = MemoryOutbox(tables)
        self.parked = MemoryParkedMessages(tables)
        self.rebuilds = MemoryRebuilds(tables)
        self.letters = MemoryDeadLetters(tables)
        self.notes = MemoryHandlingNotes(tables)
        self.payments = MemoryPayments(tables)

    async def check(self) -> None:
        """Find nothing wrong: there is nothing that could be away."""


_: type[Database] = MemoryDatabase
