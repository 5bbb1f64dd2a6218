"""The memory database keeps the contract of every database."""

import pytest

from flashsale_core.opening import Database
from flashsale_core.testing.dead_letters import DeadLettersContract, HandlingNotesContract
from flashsale_core.testing.order_repository import OrderRepositoryContract
from flashsale_core.testing.outbox import OutboxContract
from flashsale_core.testing.parked_messages import ParkedMessagesContract
from flashsale_core.testing.payments import PaymentsContract
from flashsale_core.testing.rebuilds import RebuildsContract
from flashsale_core.testing.sale_catalogue import SaleCatalogueContract
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase


@pytest.fixture
def database() -> Database:
    """Make an empty database."""
    return MemoryDatabase(SystemClock())


class TestMemoryOrders(OrderRepositoryContract):
    """The contract, in one process."""


class TestMemoryCatalogue(SaleCatalogueContract):
    """The contract, in one process."""


class TestMemoryOutbox(OutboxContract):
    """The contract, in one process."""


class TestMemoryParkedMessages(ParkedMessagesContract):
    """The contract, in one process."""


class TestMemoryPayments(PaymentsContract):
    """The contract, in one process."""


class TestMemoryRebuilds(RebuildsContract):
    """The contract, in one process."""


class TestMemoryDeadLetters(DeadLettersContract):
    """The contract, in one process."""


class TestMemoryHandlingNotes(HandlingNotesContract):
    """The contract, in one process."""


async def test_a_memory_database_is_never_away(database: Database) -> None:
    """There is nothing behind it that could be."""
    await database.check()
