"""PostgreSQL and SQLite keep the contract of every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flashsale_core.opening import Database
from flashsale_core.testing.dead_letters import DeadLettersContract, HandlingNotesContract
from flashsale_core.testing.order_repository import OrderRepositoryContract
from flashsale_core.testing.outbox import OutboxContract
from flashsale_core.testing.parked_messages import ParkedMessagesContract
from flashsale_core.testing.payments import PaymentsContract
from flashsale_core.testing.rebuilds import RebuildsContract
from flashsale_core.testing.sale_catalogue import SaleCatalogueContract
from tests.integration.sql_world import copied, emptied, postgresql_url, sqlite_template
from tests.servers import Postgres


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> Iterator[str]:
    """Make one PostgreSQL database for all."""
    with postgresql_url(postgres_server) as made:
        yield made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one SQLite file to copy."""
    return sqlite_template(tmp_path_factory.mktemp("sqlite"))


class InPostgresql:
    """The database of a run's real server."""

    @pytest.fixture
    async def database(self, url: str) -> AsyncIterator[Database]:
        """Open it without rows."""
        async with emptied(url) as database:
            yield database


class InSqlite:
    """A file."""

    @pytest.fixture
    async def database(self, template: Path, tmp_path: Path) -> AsyncIterator[Database]:
        """Open a copy without rows."""
        async with copied(template, tmp_path) as database:
            yield database


class TestOrdersInPostgresql(InPostgresql, OrderRepositoryContract):
    """The contract, on a real server."""


class TestCatalogueInPostgresql(InPostgresql, SaleCatalogueContract):
    """The contract, on a real server."""


class TestOutboxInPostgresql(InPostgresql, OutboxContract):
    """The contract, on a real server."""


class TestParkedMessagesInPostgresql(InPostgresql, ParkedMessagesContract):
    """The contract, on a real server."""


class TestPaymentsInPostgresql(InPostgresql, PaymentsContract):
    """The contract, on a real server."""


class TestOrdersInSqlite(InSqlite, OrderRepositoryContract):
    """The contract, in a file."""


class TestCatalogueInSqlite(InSqlite, SaleCatalogueContract):
    """The contract, in a file."""


class TestOutboxInSqlite(InSqlite, OutboxContract):
    """The contract, in a file."""


class TestParkedMessagesInSqlite(InSqlite, ParkedMessagesContract):
    """The contract, in a file."""


class TestPaymentsInSqlite(InSqlite, PaymentsContract):
    """The contract, in a file."""


class TestRebuildsInPostgresql(InPostgresql, RebuildsContract):
    """The contract, on a real server."""


class TestRebuildsInSqlite(InSqlite, RebuildsContract):
    """The contract, on a file."""


class TestDeadLettersInPostgresql(InPostgresql, DeadLettersContract):
    """The contract, on a real server."""


class TestDeadLettersInSqlite(InSqlite, DeadLettersContract):
    """The contract, in a file."""


class TestHandlingNotesInPostgresql(InPostgresql, HandlingNotesContract):
    """The contract, on a real server."""


class TestHandlingNotesInSqlite(InSqlite, HandlingNotesContract):
    """The contract, in a file."""
