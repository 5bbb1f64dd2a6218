"""The programs: `run` (everything in one process), `serve` (the HTTP door), `worker`.

Each begins in one order: the port, the settings' adapters, a look at what it needs, the list of
sales, the loops, the door; and ends in the other: the door first, so that what was asked is
answered, then the loops, so that what is in hand is done, then everything that was opened. What
that may take stands in `stopping`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import structlog

from flashsale.collector import calm_collector
from flashsale.container import Commands, Embedded, HttpApi, Worker
from flashsale.embedded import banner, load_gate, open_demo_sale
from flashsale.entry_points import AdapterMissing
from flashsale.fault_points import Point
from flashsale.faults import Faults, parse
from flashsale.one_of_several import OneOfSeveral
from flashsale.opening import opened_bus, opened_codec, opened_database, opened_gate, opened_payment
from flashsale.settings import Settings
from flashsale.settings_loading import SettingsError
from flashsale.starting import (
    StartFailed,
    bus_fits,
    claim_port,
    journal_keeps,
    wait_until_answering,
)
from flashsale.stopping import (
    CANCELLED_WAIT_S,
    Goodbye,
    door_drain_s,
    go_lame,
    loops_drain_s,
    until_stopped,
)
from flashsale.supervision import LoopBroken
from flashsale.tracing import opened_traces
from flashsale.worker_http import WorkerPages, serving
from flashsale_core.errors import FlashsaleError
from flashsale_prometheus import SharedRegistry, leave

C = TypeVar("C", bound=Commands)

EXPECTED = (StartFailed, AdapterMissing, SettingsError, LoopBroken, FlashsaleError)
"""Ends of a program that are told in a sentence; anything else is a mistake, with a traceback."""


def run(settings: Settings) -> int:
    """Run API and worker in one process until a signal; answer the exit code."""
    return _program(_run(settings))


def serve(settings: Settings, one: OneOfSeveral | None = None) -> int:
    """Run the HTTP door until a signal; answer the exit code.

    As `one` of several, on a socket that it was handed, and until its parent is gone.
    """
    return _program(_serve(settings, one))


def worker(settings: Settings) -> int:
    """Run the worker until a signal; answer the exit code."""
    return _program(_worker(settings))


@asynccontextmanager
async def opened(
    container_class: type[C], settings: Settings, *, may_install: bool
) -> AsyncIterator[C]:
    """Open what the settings name and hand it to a container; leaving closes it all.

    Opens gate, bus, codec and database; waits for no server.
    """
    container = container_class(settings=settings)
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(opened_traces(settings, container_class.__name__))
        container.traces.override(traces)
        gate = opened_gate(settings, container.clock(), may_install=may_install)
        container.gate.override(await stack.enter_async_context(gate))
        codec = await stack.enter_async_context(opened_codec(settings))
        container.codec.override(codec)
        container.bus.override(await stack.enter_async_context(opened_bus(settings, codec)))
        faults = _armed(settings)
        before_commit = faults.hook(Point.BEFORE_COMMIT) if faults is not None else None
        database = opened_database(settings, before_commit=before_commit)
        container.database.override(await stack.enter_async_context(database))
        # An API charges nobody, and need not have what a gateway needs.
        if (payment_gateway := container.providers.get("payment_gateway")) is not None:
            carried = traces.carrier if traces is not None else None
            opening = opened_payment(settings, carried=carried)
            gateway = await stack.enter_async_context(opening)
            payment_gateway.override(gateway)
        if faults is not None:
            _break(container, faults)
        yield container


def _armed(settings: Settings) -> Faults | None:
    """Make what breaks this process on purpose, and say so; None as a rule."""
    if settings.faults is None:
        return None
    structlog.get_logger("flashsale").warning("faults armed", faults=settings.faults)
    return Faults(parse(settings.faults))


def _break(container: Commands, faults: Faults) -> None:
    """Let every use case reach its ports by way of the fault points."""
    container.gate.override(faults.around("gate", container.gate()))
    container.bus.override(faults.around_bus(container.bus()))
    container.database.override(faults.around_database(container.database()))
    gateway = container.providers.get("payment_gateway")
    if gateway is not None and gateway() is not None:
        gateway.override(faults.around("payment_gateway", gateway()))


@asynccontextmanager
async def batching(container: HttpApi) -> AsyncIterator[None]:
    """Let the door's batches go before that which they are sent to is closed."""
    try:
        yield
    finally:
        await container.background().aclose()
        await container.door_bus().aclose()
        await container.door_gate().aclose()


@asynccontextmanager
async def looping(container: HttpApi | Worker) -> AsyncIterator["asyncio.Task[None]"]:
    """Keep the container's loops going; leaving ends them and waits for what is in hand."""
    drain_s = loops_drain_s(container.settings(), is_worker=_is_worker(container))
    loops = asyncio.create_task(container.loops().run(), name="loops")
    try:
        yield loops
    finally:
        container.stopping().set()
        await asyncio.wait({loops}, timeout=drain_s)
        if not loops.done():
            loops.cancel()
            await asyncio.wait({loops}, timeout=CANCELLED_WAIT_S)
        # What was answered in the last second, after the loop that tells of it.
        container.summaries().summarise()
        if loops.done() and not loops.cancelled() and (broken := loops.exception()) is not None:
            raise broken


@asynccontextmanager
async def listening(container: HttpApi, one: OneOfSeveral | None = None) -> AsyncIterator[Goodbye]:
    """Serve the HTTP door; leaving stops accepting and waits for the answers under way."""
    from flashsale.http.server import Server  # noqa: PLC0415 - an extra that a worker may lack

    settings = container.settings()
    server = Server(
        container.http_app(),
        host=settings.http_host,
        port=settings.http_port,
        drain_s=door_drain_s(settings, is_worker=_is_worker(container)),
        listener=one.own_listener() if one is not None else None,
    )
    try:
        server.bind()
    except OSError as exc:
        raise StartFailed(str(exc.strerror)) from exc
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def going(container: Embedded) -> AsyncIterator["asyncio.Task[None]"]:
    """Run API and worker of one process, without a server: what `run` and `asgi_app` share."""
    async with batching(container):
        await begin(container)
        async with looping(container) as loops:
            yield loops


async def _run(settings: Settings) -> None:
    claim_port(settings.http_host, settings.http_port, "FLASHSALE_HTTP_PORT")
    async with (
        opened(Embedded, settings, may_install=True) as container,
        going(container) as loops,
    ):
        calm_collector()
        is_demo = await open_demo_sale(settings, container.catalogue(), container.sale_desk())
        async with listening(container) as door:
            sys.stdout.write(banner(settings, is_demo=is_demo))
            sys.stdout.flush()
            await until_stopped(loops, is_worker=True)
            await go_lame(container.readiness(), door, settings)


async def _serve(settings: Settings, one: OneOfSeveral | None) -> None:
    if one is None:
        claim_port(settings.http_host, settings.http_port, "FLASHSALE_HTTP_PORT")
    async with opened(HttpApi, settings, may_install=False) as container, batching(container):
        if one is not None:
            container.registry.override(_counting_together(one))
        await begin(container)
        calm_collector()
        async with looping(container) as loops, listening(container, one) as door:
            _log_started("serve", f"http://{settings.http_host}:{settings.http_port}")
            if one is not None:
                one.tell_serving()
            await until_stopped(loops, is_worker=False)
            await go_lame(container.readiness(), door, settings)
    if one is not None and one.is_orphan:
        leave(one.folder, one.place)


def _counting_together(one: OneOfSeveral) -> SharedRegistry:
    try:
        return SharedRegistry(one.folder, one.place)
    except OSError as exc:
        problem = f"cannot write to {one.folder}, where processes count together: {exc.strerror}"
        raise StartFailed(problem) from exc


async def _worker(settings: Settings) -> None:
    address = settings.worker_http
    if address.port:
        claim_port(address.host, address.port, "FLASHSALE_WORKER_HTTP")
    async with opened(Worker, settings, may_install=True) as container:
        await begin(container)
        calm_collector()
        readiness, clock = container.readiness(), container.clock()
        pages = WorkerPages(
            report=lambda: readiness.report,
            metrics_text=container.metrics_text(),
            now_ms=clock.now_ms,
        )
        with serving(pages, address) as port:
            async with looping(container) as loops:
                _log_started("worker", f"http://{address.host}:{port}")
                await until_stopped(loops, is_worker=True)
                readiness.leave()


async def begin(container: HttpApi | Worker) -> None:
    """Refuse an old schema and a missing topology, and read the list of sales.

    The gate may still be away: the process says that it is not ready, and goes on when it is.
    """
    settings = container.settings()
    bus_looks_right = bus_fits(settings, container.bus(), container.codec())
    await wait_until_answering(
        {"database": container.database().check, "bus": bus_looks_right},
        settings.start_timeout_ms / 1_000,
    )
    if "purchase_desk" in container.providers:
        journal = journal_keeps(settings)
        await wait_until_answering({"gate": journal}, settings.start_timeout_ms / 1_000)
    if settings.gate_url.is_memory:
        await load_gate(container.catalogue(), container.gate())
    await container.board().refresh()
    await container.readiness().look()


def _is_worker(container: HttpApi | Worker) -> bool:
    return "consumer" in container.providers


def _log_started(program: str, where: str) -> None:
    structlog.get_logger("flashsale").info("started", program=program, url=where)


def _program(main: Coroutine[Any, Any, None]) -> int:
    """Run a program in an event loop of its own and tell how it ended."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(main)
        except EXPECTED as exc:
            sys.stderr.write(f"flashsale: {exc}\n")
            return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Take uvloop where it is installed: a third less CPU per purchase."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
