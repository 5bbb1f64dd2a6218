"""Each entrypoint is put together in one place, from parts that can be swapped by their names."""

import asyncio
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from dependency_injector import containers, providers
from structlog.testing import capture_logs

from flashsale import container as composition
from flashsale.container import Commands, Embedded, HttpApi, Worker
from flashsale.embedded import FREE_DEMO_TERMS, open_demo_sale
from flashsale.entry_points import AdapterMissing
from flashsale.running import going, opened
from flashsale.setting_kinds import Url
from flashsale.settings import Settings
from flashsale.watching import Summaries
from flashsale_core.charges import PaymentCounts
from flashsale_core.errors import Invalid, Unavailable, Why
from flashsale_core.inquiry import PurchaseStatus
from flashsale_core.model import Door, ItemId, PurchaseRequest, SaleTerms
from flashsale_core.outcomes import Accepted, Refused
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_core.validation import needs_token
from flashsale_memory.bus import MemoryBus
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate
from flashsale_memory.payment_gateway import MemoryPaymentGateway
from tests.unit.world import TurnableClock, Witness, request

ALL = [Commands, HttpApi, Worker, Embedded]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


def refuse_mallory(request: PurchaseRequest, _: SaleTerms) -> Refused | None:
    """Serve as a rule of a user's own."""
    return Refused(code="NOT_YOU") if request.user_id == "mallory" else None


def _parts(clock: Any = None, **settings: object) -> dict[str, Any]:
    codec, clock = PlainCodec(), clock or SystemClock()
    return {
        "settings": attrs.evolve(Settings(), **settings),  # type: ignore[arg-type]
        "codec": codec,
        "gate": MemoryStockGate(clock),
        "bus": MemoryBus(codec, publish_deadline_ms=50),
        "database": MemoryDatabase(clock),
    }


@pytest.mark.parametrize("kind", ALL)
async def test_everything_in_a_container_can_be_built_from_open_parts(
    kind: type[containers.DeclarativeContainer],
) -> None:
    """Nothing is a future, nothing is missing, and nothing is opened by the container."""
    container = kind(**_parts())
    for name, provider in container.providers.items():
        if isinstance(provider, providers.Factory):
            continue  # Half of its arguments come from who asks it, in the same container.
        built = provider()
        assert not inspect.isawaitable(built), name
        if isinstance(provider, providers.Singleton):
            assert provider() is built, name


@pytest.mark.parametrize("kind", ALL)
async def test_two_containers_share_nothing(kind: type[Commands]) -> None:
    """One process may hold several, as tests do."""
    one, other = kind(**_parts()), kind(**_parts())
    assert one.board() is not other.board()
    assert one.registry() is not other.registry()


def test_a_part_that_was_not_handed_in_is_named() -> None:
    """A forgotten part is a sentence and not a None somewhere later."""
    with pytest.raises(Exception, match=r"Commands\.database"):
        Commands(settings=Settings()).board()


async def test_any_part_can_be_swapped_by_its_name() -> None:
    """What is made of it is made of the other one."""
    clock, witness = TurnableClock(), Witness()
    container = Embedded(**_parts(clock))
    container.clock.override(clock)
    container.observer.override(witness)
    await container.sale_desk().init(ItemId("1"), SaleTerms(units=1))
    assert container.purchase_desk()._clock is clock
    assert container.sweeper()._clock is clock
    assert container.fulfilment()._observer is witness
    assert isinstance(Embedded(**_parts()).clock(), SystemClock)


async def test_containers_take_overrides_for_all_names_at_once() -> None:
    """As a test or an embedding program hands them over."""
    clock = TurnableClock()
    container = Worker(**_parts())
    container.override_providers(clock=providers.Object(clock))
    assert container.relay().clock is clock


async def test_the_door_batches_and_the_worker_does_not() -> None:
    """Coalescing belongs where many callers come at once; a worker's batches are batches."""
    parts = _parts()
    container = Embedded(**parts)
    assert type(container.purchase_desk()._gate).__name__ == "CoalescingGate"
    assert type(container.purchase_desk()._bus).__name__ == "CoalescingBus"
    assert container.fulfilment()._gate is parts["gate"]
    assert container.relay().bus is parts["bus"]


async def test_rules_of_the_users_own_hold_at_both_doors() -> None:
    """They are named in the settings and asked in front of the gate."""
    container = Embedded(**_parts(rules=(f"{__name__}:refuse_mallory",)))
    await container.sale_desk().init(ItemId("1"), SaleTerms(units=5))
    answer = await container.purchase_desk().buy(request("p1", user="mallory"))
    assert answer == Refused(code="NOT_YOU")
    assert container.fulfilment()._rules == (refuse_mallory,)


async def test_the_api_is_ready_without_the_database_and_the_worker_is_not() -> None:
    """A slow database must not take the doors away."""

    class Away(MemoryDatabase):
        async def check(self) -> None:
            raise Unavailable(Why.DATABASE_AWAY)

    parts = {**_parts(), "database": Away(SystemClock())}
    assert (await HttpApi(**parts).readiness().look()).is_ready
    for kind in (Worker, Embedded):
        report = await kind(**parts).readiness().look()
        assert [one.name for one in report.dependencies if not one.is_up] == ["database"]


async def test_readiness_moves_the_dependencies_metric() -> None:
    """What /readyz says, /metrics says too."""
    container = HttpApi(**_parts())
    await container.readiness().look()
    body, content_type = container.metrics_text()()
    assert b'flashsale_dependency_up{name="gate"} 1.0' in body
    assert content_type.startswith("text/plain")


@pytest.mark.parametrize(
    ("kind", "loops"),
    [
        (HttpApi, {"sales", "readiness", "samples", "summaries"}),
        (
            Worker,
            {
                *("accepted", "requests", "relay", "sweeper", "parked messages", "settled sales"),
                *("gates", "reconciliation"),
                *("sales", "readiness", "samples", "summaries"),
            },
        ),
    ],
)
async def test_each_program_keeps_its_loops(kind: Any, loops: set[str]) -> None:
    """The embedded default keeps a worker's, which hold an API's."""
    assert set(kind(**_parts()).steps()) == loops
    assert set(Embedded(**_parts()).steps()) >= loops


def _with_gateway() -> dict[str, Any]:
    return _parts(payment_url=Url("http://127.0.0.1:1/charges"))


async def test_with_a_gateway_a_worker_charges_and_a_new_purchase_needs_a_token() -> None:
    """One setting turns it on everywhere; without it there is neither loop nor rule."""
    for kind in (Worker, Embedded):
        assert "payments" in kind(**_with_gateway()).steps()
        assert "payments" not in kind(**_parts()).steps()
    assert "payments" not in HttpApi(**_with_gateway()).steps()
    for entry in ALL:
        assert entry(**_with_gateway()).rules() == (needs_token,)
        assert entry(**_parts()).rules() == ()
    assert Worker(**_with_gateway()).fulfilment()._has_gateway
    assert not Worker(**_parts()).fulfilment()._has_gateway


async def test_with_a_gateway_no_entrypoint_opens_a_sale_without_a_price() -> None:
    """Neither the door nor a command; the demo's sale is free."""
    for kind in ALL:
        with pytest.raises(Invalid, match="unitPriceMinor"):
            await kind(**_with_gateway()).sale_desk().init(ItemId("1"), SaleTerms(units=1))
    parts = _with_gateway()
    container = Embedded(**parts)
    settings = attrs.evolve(parts["settings"], database_url=Url("sqlite+aiosqlite:///x.db"))
    assert await open_demo_sale(settings, container.catalogue(), container.sale_desk())
    [sale] = await container.catalogue().current()
    assert sale.terms == FREE_DEMO_TERMS


async def _pending(container: Embedded) -> int:
    counts: PaymentCounts = await container.database().payments.counts()
    return counts.pending


async def test_an_embedded_engine_charges_what_it_sells() -> None:
    """From the door to the gateway and back, in one process."""
    gateway = MemoryPaymentGateway()
    container = Embedded(**_with_gateway())
    container.payment_gateway.override(gateway)
    terms = SaleTerms(units=5, unit_price_minor=100, currency="CHF")
    await container.sale_desk().init(ItemId("1"), terms)
    loops = asyncio.create_task(container.loops().run())
    answer = await container.purchase_desk().buy(request("p1", token="tok"))
    assert isinstance(answer, Accepted)
    async with asyncio.timeout(5):
        while not gateway.charges or await _pending(container):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    container.stopping().set()
    await asyncio.wait_for(loops, 5)
    [charge] = gateway.charges.values()
    assert charge.amount_minor == 100
    view = await container.inquiry().find(answer.purchase_id)
    assert view is not None
    assert view.status is PurchaseStatus.CONFIRMED


async def test_loops_run_and_stop_together() -> None:
    """A whole worker begins and ends within the test's patience."""
    container = Embedded(**_parts())
    await container.sale_desk().init(ItemId("1"), SaleTerms(units=5))
    loops = asyncio.create_task(container.loops().run())
    answer = await container.purchase_desk().buy(request("p1"))
    assert isinstance(answer, Accepted)
    assert len(await container.database().orders.find(answer.purchase_id)) == 1
    container.stopping().set()
    await asyncio.wait_for(loops, 5)


async def test_what_was_answered_just_before_the_end_is_summed_up_too(tmp_path: Path) -> None:
    """A crowd's last second is told, although the loop that tells is over."""
    url = Url(f"sqlite+aiosqlite:///{tmp_path}/sale.db")
    settings = attrs.evolve(Settings(), database_url=url)
    with capture_logs() as lines:
        async with opened(Embedded, settings, may_install=True) as container:
            observer, looked = container.observer(), asyncio.Event()

            def summarise() -> None:
                observer.summarise()
                looked.set()

            container.summaries.override(Summaries(summarise=summarise, every_s=3_600))
            async with going(container):
                await looked.wait()
                observer.answered(Door.HTTP, "sold-out", None)
    [summary] = [line for line in lines if line["event"] == "answers"]
    assert summary["http"] == {"sold-out": 1}


async def test_a_missing_web_stack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` without its extra says what to install."""
    monkeypatch.delitem(sys.modules, "flashsale.http_door", raising=False)
    monkeypatch.setitem(sys.modules, "flashsale.http", None)
    with pytest.raises(AdapterMissing, match=r"pip install 'flashsale\[http\]'"):
        HttpApi(**_parts()).http_app()


def test_only_the_composition_root_knows_the_container_library() -> None:
    """Use cases and adapters take what they need as arguments."""
    package = Path(composition.__file__).parents[2]
    users = [
        path.name
        for path in package.rglob("*.py")
        if "dependency_injector" in path.read_text(encoding="utf-8")
    ]
    assert users == ["container.py"]


OUTSIDE = '''
"""A gate of somebody else's: it counts in a dict, as ours in memory does, and says its name."""

from contextlib import asynccontextmanager

from flashsale_memory.gate import MemoryStockGate


class OutsideGate(MemoryStockGate):
    pass


@asynccontextmanager
async def open_gate(url, options):
    gate = OutsideGate(options.clock, reserved_due_ms=options.reserved_due_ms)
    gate.url = url
    yield gate
'''


@pytest.fixture
def outside_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that brings a gate, as pip would: a module and its metadata."""
    (tmp_path / "outside_gate.py").write_text(OUTSIDE)
    info = tmp_path / "outside_gate-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-gate\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flashsale.gates]\noutside = outside_gate:open_gate\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("outside_package")
async def test_an_installed_package_of_anybodys_is_opened_by_its_url(tmp_path: Path) -> None:
    """The engine sells on a gate that it never heard of."""
    settings = attrs.evolve(
        Settings(),
        gate_url=Url("outside://somewhere/1"),
        database_url=Url(f"sqlite+aiosqlite:///{tmp_path}/sale.db"),
    )
    async with opened(Embedded, settings, may_install=True) as container, going(container):
        gate = container.gate()
        assert type(gate).__name__ == "OutsideGate"
        assert gate.url == "outside://somewhere/1"
        await container.sale_desk().init(ItemId("1"), SaleTerms(units=5))
        assert isinstance(await container.purchase_desk().buy(request("p1")), Accepted)
