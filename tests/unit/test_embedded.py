"""The embedded default, mounted into other applications, and what it says to a newcomer."""

import asyncio
import gc
import re
import sys
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import httpx
import pytest
from structlog.testing import capture_logs

import flashsale
from flashsale.collector import COLLECTOR_THRESHOLDS, calm_collector
from flashsale.embedded import banner
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale.settings_loading import SettingsError

DOCS = Path(__file__).parents[2] / "docs"


def test_a_banner_names_an_address_that_can_be_typed() -> None:
    """0.0.0.0 is where it listens, not where anybody goes."""
    shown = banner(attrs.evolve(Settings(), http_host="0.0.0.0"), is_demo=True)  # noqa: S104 - shown only
    assert "http://127.0.0.1:8080" in shown
    assert "0.0.0.0" not in shown  # noqa: S104 - shown only
    ipv6 = banner(attrs.evolve(Settings(), http_host="::1"), is_demo=False)
    assert "http://[::1]:8080" in ipv6
    assert "curl" not in ipv6


@asynccontextmanager
async def _client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        yield client


def _example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the example of docs/mounting.md, its file in a folder of the test's."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "mounting.md").read_text(), re.DOTALL)
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    exec(code.replace("///shop.db", f"///{folder}/shop.db"), module.__dict__)  # noqa: S102 - ours
    return module


async def test_the_engine_mounts_into_another_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented example sells under a prefix, inside the host's own lifespan."""
    with capture_logs():
        shop = _example(tmp_path, monkeypatch)
        async with shop.app.lifespan(), _client(shop.app) as client:
            assert (await client.get("/")).text == "the shop around the sale"
            made = await client.post("/sale/purchase/init?productId=7&stock=1")
            assert made.status_code == 200, made.text
            bought = await client.post("/sale/purchase/buy", json={"userId": 1, "productId": 7})
            assert bought.status_code == 200, bought.text
            found = await client.get(bought.headers["location"])
            assert found.json()["status"] == "CONFIRMED"
            late = await client.post("/sale/purchase/buy", json={"userId": 2, "productId": 7})
            assert late.status_code == 429


async def test_a_mounted_engine_that_nobody_opened_says_how_it_is_opened(tmp_path: Path) -> None:
    """The first request tells it, instead of a hang."""
    app = flashsale.asgi_app(Settings(database_url=Url(f"sqlite+aiosqlite:///{tmp_path}/a.db")))
    async with _client(app) as client:
        with pytest.raises(RuntimeError, match=r"opened\(\) in the host's lifespan"):
            await client.get("/healthz")


async def test_served_alone_it_is_opened_by_the_servers_lifespan(tmp_path: Path) -> None:
    """As any ASGI server does it."""
    app = flashsale.asgi_app(Settings(database_url=Url(f"sqlite+aiosqlite:///{tmp_path}/a.db")))
    told: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    heard: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    with capture_logs():
        life = asyncio.create_task(app({"type": "lifespan"}, told.get, heard.put))
        await told.put({"type": "lifespan.startup"})
        async with asyncio.timeout(20):
            assert await heard.get() == {"type": "lifespan.startup.complete"}
            async with _client(app) as client:
                assert (await client.get("/readyz")).status_code == 200
            await told.put({"type": "lifespan.shutdown"})
            assert await heard.get() == {"type": "lifespan.shutdown.complete"}
            await life


async def test_a_mounted_engine_leaves_the_hosts_collector_alone(tmp_path: Path) -> None:
    """It is set for the whole process, which is not ours."""
    before = (gc.get_threshold(), gc.get_freeze_count())
    app = flashsale.asgi_app(Settings(database_url=Url(f"sqlite+aiosqlite:///{tmp_path}/a.db")))
    with capture_logs():
        async with app.opened():
            assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_a_process_of_our_own_seldom_looks_through_what_it_is_made_of() -> None:
    """What is there at the start is never looked at again; what comes later is, but seldom."""
    before = gc.get_threshold()
    try:
        calm_collector()
        assert gc.get_threshold() == COLLECTOR_THRESHOLDS
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_settings_that_do_not_fit_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    """A door on a broker needs a gate that others share."""
    with pytest.raises(SettingsError, match="counts units inside one process"):
        flashsale.asgi_app(Settings(bus_url=Url("amqp://127.0.0.1/")))
    assert not list(tmp_path.iterdir())
