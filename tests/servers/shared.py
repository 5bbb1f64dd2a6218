"""One server of each kind for a whole test run, however many processes it has.

The first process that needs a server starts it and writes down where it is; the others join.
Sharing is quicker than one server per process: Kafka, RabbitMQ and the registry take seconds of
both cores to start and half a gigabyte to keep. File locks do it, because a lock is let go when
its process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, Any

import attrs
import pytest

from tests.servers import kafka, launch, postgres, rabbitmq, redis, registry
from tests.servers.launch import Server

STARTERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "redis": redis.running_redis,
    "postgres": postgres.running_postgres,
    "rabbitmq": rabbitmq.running_rabbitmq,
    "kafka": kafka.running_kafka,
    "registry": registry.running_registry,
}
ATTACH: dict[str, Callable[[str, str], Server]] = {
    "redis": redis.attach,
    "postgres": postgres.attach,
    "rabbitmq": rabbitmq.attach,
    "kafka": kafka.attach,
    "registry": registry.attach,
}


class SharedServers:
    """Hands out servers that nobody may stop, and stops its own once nobody needs them."""

    def __init__(self, folder: Path) -> None:
        """Meet the run's other processes in `folder`."""
        self._folder = folder
        self._held: dict[str, Server] = {}
        self._ending = ExitStack()

    def get(self, kind: str) -> Any:
        """Return the run's server of this kind; started when first asked for."""
        if kind not in self._held:
            with self._locked(f"{kind}.lock"):
                self._held[kind] = self._join(kind) or self._begin(kind)
        return self._held[kind]

    def close(self) -> None:
        """Leave the servers of others; end ours when all others have left them."""
        self._held.clear()
        self._ending.close()

    def _join(self, kind: str) -> Server | None:
        note = self._folder / f"{kind}.json"
        if not note.exists():
            return None
        with (self._folder / f"{kind}.owner").open("w") as owner:
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told = json.loads(note.read_text())
            else:
                # The owner died, and its keeper has ended the server.
                return None
        users = self._ending.enter_context((self._folder / f"{kind}.users").open("w"))
        fcntl.flock(users, fcntl.LOCK_SH)
        server = ATTACH[kind](told["url"], told["origin"])
        launch.used[kind] = server.origin
        return server

    def _begin(self, kind: str) -> Server:
        starting = STARTERS[kind]()
        server = starting.__enter__()
        self._ending.push(starting.__exit__)
        owner = self._ending.enter_context((self._folder / f"{kind}.owner").open("w"))
        fcntl.flock(owner, fcntl.LOCK_EX)
        note = self._folder / f"{kind}.json"
        note.write_text(json.dumps({"url": server.url, "origin": server.origin}))
        self._ending.callback(self._wait_for_users, kind)
        return attrs.evolve(server, runner=None)

    def _wait_for_users(self, kind: str) -> None:
        with self._locked(f"{kind}.lock"):
            # Who comes now starts a server of its own.
            (self._folder / f"{kind}.json").unlink(missing_ok=True)
        with self._locked(f"{kind}.users"):
            pass

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[IO[str]]:
        with (self._folder / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock


shared_servers = pytest.StashKey[SharedServers]()
