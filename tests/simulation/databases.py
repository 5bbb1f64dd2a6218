"""The databases on which episodes are lived: in memory, and SQLite under the episode's clock."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from flashsale_core.opening import Database
from flashsale_memory.database import MemoryDatabase
from flashsale_sql.database import SqlDatabase, open_database
from flashsale_sql.migrate import upgrade
from tests.simulation.chance import Runner, WrittenClock

UNIX_EPOCH_DAYS = 2_440_587.5
"""1970 as SQLite counts days."""
DAY_MS = 86_400_000


class InMemory:
    """A new one for each episode."""

    def __init__(self) -> None:
        """Nothing to prepare."""
        self.run = Runner()

    def make(self, clock: WrittenClock) -> Database:
        """Make one that has nothing."""
        return MemoryDatabase(clock)

    def close(self) -> None:
        """Nothing to close."""


class InSqlite:
    """A file for each episode, copied from one that was migrated once; its time is the clock's."""

    def __init__(self, folder: Path) -> None:
        """Migrate the file that all others are copies of."""
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self.run = Runner(self._loop)
        self._loop.run_until_complete(upgrade(f"sqlite+aiosqlite:///{folder}/empty.db"))
        self._opened: AbstractAsyncContextManager[SqlDatabase] | None = None

    def make(self, clock: WrittenClock) -> Database:
        """Make one that has nothing, and close the one before."""
        self._leave()
        shutil.copy(self._folder / "empty.db", self._folder / "episode.db")
        self._opened = open_database(f"sqlite+aiosqlite:///{self._folder}/episode.db", pool_size=1)
        database = self.run(self._opened.__aenter__())
        engines = database._transactions._engines
        for engine in (engines.readers, engines.writers):
            event.listen(engine.sync_engine, "connect", _turned_by(clock))
        return database

    def close(self) -> None:
        """Close what is open, and the loop."""
        self._leave()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _leave(self) -> None:
        if self._opened is not None:
            self.run(self._opened.__aexit__(None, None, None))
            self._opened = None
        for left in self._folder.glob("episode.db*"):
            left.unlink()


def _turned_by(clock: WrittenClock) -> Any:
    def connected(connection: Any, _: object) -> None:
        connection.create_function(
            "julianday", 1, lambda _: UNIX_EPOCH_DAYS + clock.ms / DAY_MS, deterministic=False
        )
        # Nobody pulls the plug of the machine that runs a test.
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    return connected
