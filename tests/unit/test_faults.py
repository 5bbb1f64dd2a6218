"""Faults on purpose: refused unless asked for twice, shown to all, and free when unarmed."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import attrs
import pytest
from dependency_injector import providers
from structlog.testing import capture_logs

from flashsale.container import Embedded
from flashsale.fault_points import BY_NAME, Moment, Permission, Point
from flashsale.faults import DELAY_MS_MAX, Action, Faults, parse
from flashsale.running import going, opened
from flashsale.setting_kinds import Url
from flashsale.settings import Entrypoint, Settings
from flashsale.settings_loading import SettingsError, load_settings
from flashsale.supervision import FAILURES_MAX
from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import Channel, Message
from flashsale_core.model import ItemId, OrderStatus, PurchaseId, SaleId, SaleTerms
from flashsale_core.outcomes import Accepted
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_memory.bus import MemoryBus
from flashsale_memory.gate import MemoryStockGate
from flashsale_sql.database import SqlDatabase
from flashsale_sql.migrate import upgrade
from flashsale_sql.recording import Recording
from tests.servers.provider import Handler, Ledger
from tests.unit.world import request

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 10
UNITS = 1_000


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one file for all tests."""
    path = tmp_path_factory.mktemp("made") / "sale.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(autouse=True)
def _database(made_once: Path, tmp_path: Path) -> None:
    shutil.copy(made_once, tmp_path / "sale.db")


def settings_at(folder: Path, plan: str | None = None) -> Settings:
    """Have an embedded engine with a file of its own, and perhaps with faults."""
    return attrs.evolve(
        Settings(),
        database_url=Url(f"sqlite+aiosqlite:///{folder}/sale.db"),
        relay_interval_ms=10,
        backoff_initial_ms=1,
        backoff_max_ms=10,
        faults=plan,
        faults_allowed=Permission.YES if plan else None,
    )


def test_the_page_lists_every_point() -> None:
    """A drill is planned from the page; its names are the code's, in the code's order."""
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(BY_NAME)


def test_a_plan_says_where_what_and_when() -> None:
    """Every form of an entry, and the seed of those that go by chance."""
    plan = parse("after-reserve=kill@3; after-commit=delay:500@0.25;before-ack=error;seed=7;")
    assert plan.seed == 7
    assert [
        (one.point, one.action, one.delay_ms, one.at_hit, one.chance) for one in plan.armed
    ] == [
        (Point.AFTER_RESERVE, Action.KILL, 0, 3, None),
        (Point.AFTER_COMMIT, Action.DELAY, 500, None, 0.25),
        (Point.BEFORE_ACK, Action.ERROR, 0, None, None),
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("after-reserv=kill", "no such fault point; did you mean after-reserve"),
        ("after-reserve=explode", "expected point=action@when"),
        ("after-reserve", "expected point=action@when"),
        ("after-reserve=kill@0", "a count from 1, or a chance"),
        ("after-reserve=kill@1.5", "a count from 1, or a chance"),
        ("after-reserve=kill@.0", "a count from 1, or a chance"),
        ("after-reserve=delay", "delay takes 1 to"),
        (f"after-reserve=delay:{DELAY_MS_MAX + 1}", "delay takes 1 to"),
        ("after-reserve=kill:5", "nothing else does"),
        ("seed=x;after-reserve=kill", "a seed is a whole number"),
        ("seed=7", "names no fault"),
        (";", "names no fault"),
    ],
)
@pytest.mark.parametrize("entrypoint", [Entrypoint.RUN, Entrypoint.SERVE, Entrypoint.WORKER])
def test_a_plan_that_is_wrong_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, entrypoint: Entrypoint, wrong: str, says: str
) -> None:
    """A drill with a misspelt point would break nothing and prove nothing."""
    monkeypatch.setenv("FLASHSALE_FAULTS", wrong)
    monkeypatch.setenv("FLASHSALE_FAULTS_ALLOWED", "yes")
    with pytest.raises(SettingsError, match=f"FLASHSALE_FAULTS: .*{re.escape(says)}"):
        load_settings(entrypoint)


def test_faults_need_two_settings_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a plan that was left behind nor a permission alone is passed over in silence."""
    monkeypatch.setenv("FLASHSALE_FAULTS", "before-ack=error")
    with pytest.raises(SettingsError, match="FLASHSALE_FAULTS_ALLOWED=yes must allow it"):
        load_settings(Entrypoint.RUN)
    monkeypatch.setenv("FLASHSALE_FAULTS_ALLOWED", "no")
    with pytest.raises(SettingsError, match="FLASHSALE_FAULTS_ALLOWED: must be one of: yes"):
        load_settings(Entrypoint.RUN)
    monkeypatch.setenv("FLASHSALE_FAULTS_ALLOWED", "yes")
    assert load_settings(Entrypoint.RUN).faults == "before-ack=error"
    monkeypatch.delenv("FLASHSALE_FAULTS")
    with pytest.raises(SettingsError, match="FLASHSALE_FAULTS_ALLOWED: goes with FLASHSALE_FAULTS"):
        load_settings(Entrypoint.RUN)


async def test_unarmed_nothing_stands_between_the_use_cases_and_their_ports(tmp_path: Path) -> None:
    """A sale pays nothing for faults that it does not have."""
    with capture_logs() as lines:
        async with opened(Embedded, settings_at(tmp_path), may_install=True) as container:
            assert type(container.gate()) is MemoryStockGate
            assert type(container.bus()) is MemoryBus
            assert type(container.database()) is SqlDatabase
            assert type(container.database().orders._recording) is Recording
            assert "faults" not in container.readiness().report.as_json()
    assert [line for line in lines if line["event"] == "faults armed"] == []


async def test_only_ports_with_an_armed_point_are_stood_before(tmp_path: Path) -> None:
    """A drill of the worker's acknowledgements leaves the gate as quick as it was."""
    settings = settings_at(tmp_path, "before-ack=error@9")
    with capture_logs():
        async with opened(Embedded, settings, may_install=True) as container:
            assert type(container.gate()) is MemoryStockGate
            assert type(container.database()) is SqlDatabase
            assert type(container.bus()) is not MemoryBus


async def test_a_process_with_faults_says_so(tmp_path: Path) -> None:
    """In its log when it starts, and to whoever asks whether it is ready."""
    plan = "after-reserve=error@1000"
    with capture_logs() as lines:
        async with opened(Embedded, settings_at(tmp_path, plan), may_install=True) as container:
            await container.readiness().look()
            assert container.readiness().report.as_json()["faults"] == plan
            told = await _ready_page(container)
    assert f'"faults":"{plan}"'.encode() in told
    [armed] = [line for line in lines if line["event"] == "faults armed"]
    assert (armed["log_level"], armed["faults"]) == ("warning", plan)


async def _ready_page(container: Embedded) -> bytes:
    """Ask the HTTP door itself."""
    said = b""

    async def send(message: Any) -> None:
        nonlocal said
        said += message.get("body", b"")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/readyz",
        "raw_path": b"/readyz",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await container.http_app()(scope, receive, send)
    return said


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note whom a fault would kill, and how, instead of doing it."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda *whom: killed.append(whom))
    return killed


IN_A_REBUILD = list(Point)[list(Point).index(Point.AFTER_RAISE_EPOCH) :]
CHARGED = list(Point)[list(Point).index(Point.AFTER_CLAIM) : list(Point).index(IN_A_REBUILD[0])]
ACTIONS = ("kill@1", "delay:5@2", "error@3")


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Url]:
    """Have a payment provider inside this process."""
    ledger = Ledger(tmp_path / "ledger.db")
    handler = type("Own", (Handler,), {"ledger": ledger, "drops_one_in": 0})
    with closing(ledger), ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield Url(f"http://127.0.0.1:{server.server_port}/charges")
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(
    "point",
    [one for one in Point if one not in (*IN_A_REBUILD, *CHARGED)],
    ids=lambda point: point.site.name,
)
async def test_every_point_is_passed_and_no_fault_there_loses_or_doubles_a_purchase(
    tmp_path: Path, deaths: list[tuple[int, int]], point: Point
) -> None:
    """Each action strikes once on the way of some purchases, all of which are orders in the end."""
    settings = settings_at(tmp_path, ";".join(f"{point.site.name}={one}" for one in ACTIONS))
    async with _broken_thrice(point, settings, SaleTerms(units=UNITS)):
        pass
    assert deaths == [(os.getpid(), signal.SIGKILL)]


@pytest.mark.parametrize("point", CHARGED, ids=lambda point: point.site.name)
async def test_no_fault_around_a_payment_charges_twice_or_never(
    tmp_path: Path, deaths: list[tuple[int, int]], provider: Url, point: Point
) -> None:
    """The same for what must be paid for, and the provider's own ledger agrees."""
    settings = attrs.evolve(
        settings_at(tmp_path, ";".join(f"{point.site.name}={one}" for one in ACTIONS)),
        payment_url=provider,
        payment_interval_ms=10,
        payment_deadline_ms=100,
        payment_lease_ms=300,
        payment_retry_initial_ms=10,
        payment_retry_max_ms=20,
        sweep_interval_ms=100,
    )
    terms = SaleTerms(units=UNITS, unit_price_minor=4_990, currency="CHF")
    async with _broken_thrice(point, settings, terms) as count:
        pass
    ledger = await asyncio.to_thread(_ledger, provider)
    assert [(one["state"], one["charges"]) for one in ledger] == [("charged", 1)] * len(count)
    assert deaths == [(os.getpid(), signal.SIGKILL)]


def _ledger(provider: Url) -> list[dict[str, Any]]:
    with urlopen(provider.text.replace("/charges", "/ledger"), timeout=5) as reply:
        rows: list[dict[str, Any]] = json.load(reply)
        return rows


@pytest.mark.parametrize("point", IN_A_REBUILD, ids=lambda point: point.site.name)
async def test_a_rebuild_may_break_at_every_step_and_the_next_one_puts_it_right(
    tmp_path: Path, deaths: list[tuple[int, int]], point: Point
) -> None:
    """The gate is lost again and again until every action has struck."""
    settings = settings_at(tmp_path, ";".join(f"{point.site.name}={one}" for one in ACTIONS))
    settings = attrs.evolve(settings, rebuild_interval_ms=50, parked_interval_ms=100)
    async with _broken_thrice(point, settings, SaleTerms(units=UNITS), is_lost=True):
        pass
    assert deaths == [(os.getpid(), signal.SIGKILL)]


@asynccontextmanager
async def _broken_thrice(
    point: Point, settings: Settings, terms: SaleTerms, *, is_lost: bool = False
) -> AsyncIterator[list[str]]:
    """Sell until every action has struck at the point, and see that the books agree."""
    bought: list[str] = []
    with capture_logs() as lines:
        async with opened(Embedded, settings, may_install=True) as container:
            container.sleep_ms.override(providers.Object(_soon))
            # Shorter than a setting may be: a follow that failed is made good by the sweeper.
            container.gate().queued_due_ms = 300
            async with going(container), asyncio.timeout(PATIENCE_S):
                await _opened(container, terms)
                while len(_strikes(lines)) < len(ACTIONS):
                    if is_lost:
                        await container.gate().drop(SaleId("1.1"))
                    bought.append(f"p{len(bought)}")
                    await _buy(container, bought[-1])
                await _until_told(container, len(bought))
                [books] = await _gate_books(container)
    left = UNITS - len(bought)
    assert (books.sold, books.available, books.journal) == (len(bought), left, 0)
    assert _strikes(lines) == [(point.site.name, 1), (point.site.name, 2), (point.site.name, 3)]
    yield bought


async def _soon(_: int) -> None:
    """Wait no time: there is one process, whose list is read when it asks for it."""
    await asyncio.sleep(0.001)


async def _opened(container: Embedded, terms: SaleTerms) -> None:
    """Open the sale, again where a fault is in the way."""
    while True:
        with contextlib.suppress(Unavailable):
            await container.sale_desk().init(ItemId("1"), terms)
            return
        await asyncio.sleep(0.005)


async def _gate_books(container: Embedded) -> Sequence[Any]:
    sale = container.board().seen(ItemId("1"))
    assert sale is not None
    books: Sequence[Any] = await container.gate().books([(sale.sale_id, sale.epoch)])
    return books


def _strikes(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    return [(line["point"], line["hit"]) for line in lines if line["event"] == "fault strikes"]


async def _buy(container: Embedded, purchase: str) -> None:
    """Ask with the same id until it is an order, as a buyer does."""
    while True:
        try:
            answer = await container.purchase_desk().buy(request(purchase, token="t"))
        except Unavailable:
            await asyncio.sleep(0.005)
            continue
        if isinstance(answer, Accepted):
            break

    async def is_final() -> bool:
        rows = await container.database().orders.find(PurchaseId(purchase))
        return [row.status for row in rows] == [OrderStatus.CONFIRMED]

    await _seen(is_final)


async def _until_told(container: Embedded, count: int) -> None:
    async def all_told() -> bool:
        left: int = await container.database().outbox.backlog()
        return left == 0

    async def all_sold() -> bool:
        [books] = await _gate_books(container)
        return not isinstance(books, Unavailable) and bool(books.sold == count)

    await _seen(all_told)
    await _seen(all_sold)


async def _seen(look: Callable[[], Awaitable[T]]) -> T:
    """Look again and again until there is something."""
    while True:
        if found := await look():
            return found
        await asyncio.sleep(0.01)


async def test_a_delivery_whose_fetching_fails_comes_again() -> None:
    """What was fetched and never ended would hold its partition up for ever."""
    codec = PlainCodec()
    bus = Faults(parse("after-fetch=error@1")).around_bus(MemoryBus(codec))
    body = codec.encode(request("p1")).body
    bus.put(Message(channel=Channel.REQUESTS, body=body, origin=""))
    async with bus.subscribe(Channel.REQUESTS, messages_max=9) as subscription:
        with pytest.raises(Unavailable), capture_logs():
            await subscription.take()
        async with asyncio.timeout(1):
            delivery = await subscription.take()
    assert [message.body for message in delivery.messages] == [body]


async def test_a_bus_that_cannot_be_told_is_waited_for_however_often(tmp_path: Path) -> None:
    """An acknowledgement that fails ends a subscription, and never the process."""
    times = FAILURES_MAX + 5
    plan = ";".join(f"before-ack=error@{time_}" for time_ in range(1, times + 1))
    with capture_logs() as lines:
        async with (
            opened(Embedded, settings_at(tmp_path, plan), may_install=True) as container,
            going(container) as loops,
            asyncio.timeout(PATIENCE_S),
        ):
            await container.sale_desk().init(ItemId("1"), SaleTerms(units=UNITS))
            count = 0
            while len(_strikes(lines)) < times:
                await _buy(container, f"p{count}")
                count += 1
            assert not loops.done()
            await _until_told(container, count)
    assert [line for line in lines if line["event"] == "loop failed"] == []


async def test_a_failing_port_says_what_its_adapter_would_say() -> None:
    """Before the call nothing happened; after it the outcome is unknown to whoever hears of it."""
    for point in Point:
        struck = Faults(parse(f"{point.site.name}=error"))
        with pytest.raises(Unavailable) as away, capture_logs():
            await struck.reach(point)
        happened = point.site.moment in (Moment.SENT, Moment.AFTER)
        assert away.value.may_have_happened is happened
        ports = {
            "gate": Why.GATE_AWAY,
            "bus": Why.BUS_AWAY,
            "subscription": Why.BUS_AWAY,
            "payment_gateway": Why.PAYMENT_AWAY,
        }
        assert away.value.why is ports.get(point.site.port, Why.DATABASE_AWAY)


async def test_chance_is_the_same_for_the_same_seed() -> None:
    """A long run that found something can be run again."""

    async def strikes(seed: int) -> list[bool]:
        struck = Faults(parse(f"before-ack=error@0.3;seed={seed}"))
        return [await _struck(struck) for _ in range(200)]

    with capture_logs():
        assert await strikes(1) == await strikes(1) != await strikes(2)
        assert 30 < sum(await strikes(1)) < 90


async def _struck(struck: Faults) -> bool:
    try:
        await struck.reach(Point.BEFORE_ACK)
    except Unavailable:
        return True
    return False


async def test_unarmed_a_call_costs_what_it_costs_without_faults(tmp_path: Path) -> None:
    """The quickest of many rounds through an opened engine's gate, against one made by hand."""
    with capture_logs():
        async with opened(Embedded, settings_at(tmp_path), may_install=True) as container:
            wired, bare = container.gate(), MemoryStockGate(container.clock())
            rounds = [(await _spent_s(wired), await _spent_s(bare)) for _ in range(30)]
    ratio = min(of_wired for of_wired, _ in rounds) / min(of_bare for _, of_bare in rounds)
    assert ratio < 1.2, f"{ratio:.3f} times the CPU"


async def _spent_s(gate: Any) -> float:
    began = time.thread_time()
    for _ in range(1_000):
        await gate.books([])
    return time.thread_time() - began
