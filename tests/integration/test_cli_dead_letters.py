"""`flashsale dead-letters --url`: the same commands, asked of a running API."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from typing import Self

import pytest

from flashsale.cli import EXIT_FAILED
from flashsale.commands.app import run_command
from flashsale.commands.letters import operator
from flashsale.http import Server
from tests.unit.http_world import ADMIN_TOKEN, Shop
from tests.unit.test_dead_letters import DISCARDED, parked_promise
from tests.unit.test_fulfilment import status


class Desk:
    """A shop with a parked promise and two letters nobody can read, served by a thread."""

    def __init__(self) -> None:
        """Begin with nothing running."""
        self.url = ""
        self.ends: dict[str, object] = {}
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve until stopped."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        shop = Shop(admin_token=ADMIN_TOKEN)
        world = shop.world
        await world.sell(units=1)
        assert await parked_promise(world) == 1
        await world.parking.deliver([world.message(b"x", 5), world.message(b"y", 6)])
        server = Server(shop.app, host="127.0.0.1", port=0, drain_s=5)
        server.bind()
        await server.start()
        self.url = "http://{}:{}".format(*server.address)
        self._ready.set()
        await self._stop.wait()
        await server.stop()
        self.ends = {"p1": await status(world, "p1"), "available": (await world.books()).available}

    def __enter__(self) -> Self:
        """Serve."""
        self._thread = threading.Thread(target=self.run)
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, once."""
        assert self._loop is not None
        assert self._stop is not None
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk whose token the command line has."""
    for variable in list(os.environ):
        if variable.startswith("FLASHSALE_") and not variable.startswith("FLASHSALE_TEST_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("FLASHSALE_ADMIN_TOKEN", ADMIN_TOKEN)
    with Desk() as made:
        yield made


def test_letters_are_worked_with_from_afar(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """List, show, replay, discard, by id and by filter; the trail names who sat there."""

    def run(*words: str) -> tuple[int, str, str]:
        code = run_command(["dead-letters", *words, "--url", desk.url])
        told = capsys.readouterr()
        return code, told.out, told.err

    _, listed, _ = run("list", "--json")
    assert [one["id"] for one in json.loads(listed)] == [3, 2, 1]
    _, held, _ = run("list", "--holding", "--json")
    assert [one["id"] for one in json.loads(held)] == [1]
    assert run("discard", "1", "--dry-run")[:2] == (0, "1 would be discarded\n")
    assert run("discard", "1", "--why", "refunded")[:2] == (0, "1 discarded\n")
    _, shown, _ = run("show", "1", "--json")
    [entry] = json.loads(shown)["trail"]
    assert (entry["who"], entry["why"]) == (f"admin:{operator()}", "refunded")
    assert run("replay", "--reason", "bad-json", "--rate", "1000")[:2] == (0, "2 sent on again\n")
    assert run("replay", "--reason", "bad-json")[:2] == (0, "nothing matches\n")
    code, out, err = run("replay", "1", "2", "404")
    assert (code, out) == (
        EXIT_FAILED,
        "2: it is on its way already\n0 sent on again, 1 left as they are, 2 refused\n",
    )
    assert "discarded" in err
    assert "404" in err
    code, _, err = run("show", "404")
    assert code == EXIT_FAILED
    assert "(404)" in err
    desk.__exit__()
    assert desk.ends == {"p1": DISCARDED, "available": 1}


def test_without_the_token_nothing_is_done(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what to set."""
    monkeypatch.delenv("FLASHSALE_ADMIN_TOKEN")
    for words in (["list"], ["show", "1"], ["replay", "1"], ["discard", "--all"]):
        assert run_command(["dead-letters", *words, "--url", desk.url]) == EXIT_FAILED
        assert "FLASHSALE_ADMIN_TOKEN" in capsys.readouterr().err
    desk.__exit__()
    assert desk.ends == {"p1": None, "available": 0}
