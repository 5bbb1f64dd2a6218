"""schemathesis against the document: what it says and what the door does are the same.

The door runs as it does in production, on a socket, with the engine on memory adapters behind it.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from flashsale.http import Server
from tests.unit.http_world import ADMIN_TOKEN, Shop

OPERATIONS = 20
EXAMPLES_MAX = 25
"""For each of nineteen operations; together they stay below a minute on two busy cores."""


class Running:
    """A shop that serves in a thread of its own: the tests here are synchronous."""

    def __init__(self) -> None:
        """Begin with nothing running."""
        self.url = ""
        self._ready = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve until stopped."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        shop = Shop(admin_token=ADMIN_TOKEN)
        server = Server(shop.app, host="127.0.0.1", port=0, drain_s=5)
        server.bind()
        await server.start()
        self.url = "http://{}:{}".format(*server.address)
        await shop.world.sell("1", units=1_000_000)
        async with shop.world.worker():
            self._ready.set()
            await self._stopping.wait()
        await server.stop()

    def wait(self) -> None:
        """Wait until it serves."""
        assert self._ready.wait(30)

    def stop(self) -> None:
        """End it."""
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)


@contextmanager
def running() -> Iterator[str]:
    """Serve a shop and tell its URL."""
    server = Running()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        server.wait()
        yield server.url
    finally:
        server.stop()
        thread.join()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_door_does_what_its_document_says(mode: GenerationMode) -> None:
    """Good and bad requests of every route get statuses, headers and bodies of the document."""
    with running() as url:
        document = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [_whole(result) for result in document.get_all_operations()]
        assert len(operations) == OPERATIONS
        for operation in operations:
            if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
                continue
            _fuzz(operation.as_strategy(generation_mode=mode))


def _whole(result: Any) -> Any:
    """Take an operation that schemathesis understood; one that it did not fails here."""
    return result.ok()


def _can_be_wrong(operation: Any) -> bool:
    """Say whether the operation takes anything at all."""
    return bool(operation.body or operation.query or operation.path_parameters)


def _fuzz(cases: SearchStrategy[Any]) -> None:
    @given(cases)
    @settings(
        max_examples=EXAMPLES_MAX,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Any) -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
            # Good data may still meet a sale that is closed, or none at all.
            excluded_checks=[positive_data_acceptance],
            timeout=10,
        )

    one()
