"""The composition root: what is made of what, one container per entrypoint.

The only module that knows the container library, and the only place where a use case or an
adapter around another one is built. What is opened and closed (gate, bus, codec, database) is
handed in open: a container that opened it would turn everything made of it into futures.
Every provider can be overridden by its name.
"""

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from dependency_injector import containers, providers
from prometheus_client import CollectorRegistry

from flashsale.assembling import (
    cashier_of,
    has_gateway_in,
    http_door_of,
    rules_of,
    with_payments,
)
from flashsale.background import Background
from flashsale.board_keeping import BoardKeeper
from flashsale.gate_look import GateLook
from flashsale.guards import (
    Guards,
    asked_database,
    guarded_bus,
    guarded_database,
    guarded_gate,
    watched,
)
from flashsale.observing import SUMMARY_EVERY_S, WatchingObserver
from flashsale.paying import Paying
from flashsale.readiness import Readiness
from flashsale.relaying import Relay
from flashsale.settings import Settings
from flashsale.supervision import Backoff, Loops, Step
from flashsale.tracing import seen_by
from flashsale.watching import Samples, Summaries
from flashsale.worker import (
    FORGET_INTERVAL_MS,
    Consumer,
    Feeding,
    Forgetting,
    Rebuilding,
    Reconciling,
    Sweeping,
)
from flashsale_coalesce import Bounds, CoalescingBus, CoalescingCatalogue, CoalescingGate
from flashsale_core.board import SaleBoard
from flashsale_core.discarding import Discarder
from flashsale_core.ending import Ender
from flashsale_core.events import Channel
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.handling import Handling
from flashsale_core.inquiry import Inquiry
from flashsale_core.letter_desk import LetterDesk
from flashsale_core.parking import Parking
from flashsale_core.ports import Subscription
from flashsale_core.purchase import JournaledDesk, PurchaseDesk
from flashsale_core.rebuild import Rebuild
from flashsale_core.reconciliation import Reconciler
from flashsale_core.selling import SaleDesk
from flashsale_core.sweeper import Forgetter, Sweeper
from flashsale_memory.clock import SystemClock
from flashsale_prometheus import Metrics, PrometheusObserver, Sampler, expose

T = TypeVar("T")


async def _sleep_ms(milliseconds: int) -> None:
    await asyncio.sleep(milliseconds / 1_000)


def _made_of(kind: Callable[..., T], parts: dict[str, Any], **more: Any) -> T:
    return kind(**parts, **more)


def _new_id() -> str:
    """Name a rebuild, or a run of the process, as no other was or will be."""
    return uuid.uuid4().hex


class Commands(containers.DeclarativeContainer):
    """What every program is made of, and all that a command of the command line needs."""

    settings = providers.Dependency(instance_of=Settings)
    gate: providers.Dependency[Any] = providers.Dependency()
    bus: providers.Dependency[Any] = providers.Dependency()
    codec: providers.Dependency[Any] = providers.Dependency()
    database: providers.Dependency[Any] = providers.Dependency()

    clock = providers.Singleton(SystemClock)
    registry = providers.Singleton(CollectorRegistry)
    metrics = providers.Singleton(Metrics, registry)
    observer = providers.Singleton(
        WatchingObserver, providers.Singleton(PrometheusObserver, metrics)
    )
    guards = providers.Singleton(Guards, settings, metrics.provided.breaker)
    traces: providers.Object[Any] = providers.Object(None)
    seen_gate = providers.Singleton(seen_by, traces, "gate", gate)
    seen_bus = providers.Singleton(seen_by, traces, "bus", bus)
    seen_database = providers.Singleton(seen_by, traces, "database", database)
    safe_gate = providers.Singleton(guarded_gate, guards, seen_gate)
    safe_bus = providers.Singleton(guarded_bus, guards, seen_bus)
    safe_database = providers.Singleton(guarded_database, guards, seen_database)
    asked_database = providers.Singleton(asked_database, guards, database, settings)
    has_gateway = providers.Callable(has_gateway_in, settings)
    rules = providers.Singleton(rules_of, settings)
    sleep_ms = providers.Object(_sleep_ms)
    new_rebuild_id = providers.Object(_new_id)

    doubt = providers.Singleton(asyncio.Event)
    catalogue = providers.Singleton(CoalescingCatalogue, database.provided.catalogue)
    board = providers.Singleton(SaleBoard, catalogue, on_doubt=doubt.provided.set)
    sale_desk = providers.Singleton(
        SaleDesk,
        board=board,
        catalogue=catalogue,
        gate=gate,
        parked=database.provided.parked,
        clock=clock,
        wait=sleep_ms,
        has_gateway=has_gateway,
    )
    rebuild = providers.Singleton(
        Rebuild,
        board=board,
        catalogue=catalogue,
        gate=gate,
        bus=bus,
        rebuilds=database.provided.rebuilds,
        observer=observer,
        clock=clock,
        wait=sleep_ms,
        new_id=new_rebuild_id,
    )
    reconciler = providers.Singleton(
        Reconciler,
        board=board,
        catalogue=catalogue,
        gate=gate,
        observer=observer,
        tell=metrics.provided.drift,
    )
    inquiry = providers.Singleton(
        Inquiry,
        board=board,
        gate=safe_gate,
        orders=asked_database.provided.orders,
        parked=asked_database.provided.parked,
    )

    letter_desk = providers.Singleton(LetterDesk, safe_database.provided.letters)
    discarder = providers.Singleton(
        Discarder,
        board=board,
        gate=safe_gate,
        orders=safe_database.provided.orders,
        letters=safe_database.provided.letters,
        codec=codec,
        observer=observer,
    )
    ender = providers.Singleton(
        Ender,
        board=board,
        gate=gate,
        parked=database.provided.parked,
        codec=codec,
        discarder=discarder,
    )


class _Process(Commands):
    """What every process that goes on has: loops, and a look at what it needs."""

    stopping = providers.Singleton(asyncio.Event)
    backoff = providers.Factory(
        Backoff,
        initial_ms=Commands.settings.provided.backoff_initial_ms,
        max_ms=Commands.settings.provided.backoff_max_ms,
    )
    board_keeper = providers.Singleton(BoardKeeper, Commands.board, Commands.doubt, stopping)
    summaries = providers.Singleton(
        Summaries,
        summarise=Commands.observer.provided.summarise,
        every_s=SUMMARY_EVERY_S,
    )
    metrics_text = providers.Singleton(partial, expose, Commands.registry)
    gate_look = providers.Singleton(GateLook, Commands.gate, Commands.board).provided.look
    gate_probe = providers.Singleton(watched, Commands.guards, "gate", gate_look)
    bus_probe = providers.Singleton(watched, Commands.guards, "bus", Commands.bus.provided.check)
    database_probe = providers.Singleton(
        watched, Commands.guards, "database", Commands.database.provided.check
    )
    look = providers.Factory(
        Readiness,
        clock=Commands.clock,
        observer=Commands.observer,
        timeout_ms=Commands.settings.provided.probe_timeout_ms,
        interval_ms=Commands.settings.provided.probe_interval_ms,
        tell=Commands.metrics.provided.dependencies,
        faults=Commands.settings.provided.faults,
    )
    own_loops = providers.Factory(Loops, stopping=stopping, backoff=backoff.provider)


class HttpApi(_Process):
    """`flashsale serve`: the HTTP door, ready while gate and bus answer.

    A slow database must not take the doors away.
    """

    readiness = providers.Singleton(
        _Process.look, providers.Dict(gate=_Process.gate_probe, bus=_Process.bus_probe)
    )
    door_gate = providers.Singleton(
        CoalescingGate, Commands.safe_gate, told=Commands.observer.provided.batch
    )
    door_bus = providers.Singleton(
        CoalescingBus, Commands.safe_bus, told=Commands.observer.provided.batch
    )
    background = providers.Singleton(Background)
    desk_parts = providers.Dict(
        board=Commands.board,
        gate=door_gate,
        bus=door_bus,
        clock=Commands.clock,
        rules=Commands.rules,
        within=providers.Singleton(Bounds).provided.within,
    )
    purchase_desk = providers.Selector(
        Commands.settings.provided.durability,
        confirmed=providers.Singleton(_made_of, PurchaseDesk, desk_parts),
        journaled=providers.Singleton(
            _made_of, JournaledDesk, desk_parts, later=background.provided.start
        ),
    )
    sampler = providers.Singleton(
        Sampler,
        Commands.metrics,
        board=Commands.board,
        gate=Commands.safe_gate,
        clock=Commands.clock,
    )
    http_door: providers.Factory[Any] = providers.Factory(
        http_door_of,
        purchase_desk=purchase_desk,
        sale_desk=Commands.sale_desk,
        inquiry=Commands.inquiry,
        letter_desk=Commands.letter_desk,
        discarder=Commands.discarder,
        ender=Commands.ender,
        clock=Commands.clock,
        metrics_text=_Process.metrics_text,
        observer=Commands.observer,
        settings=Commands.settings,
        traces=Commands.traces,
    )
    http_app = providers.Singleton(http_door, readiness=readiness)
    steps: providers.Provider[dict[str, Step]] = providers.Dict(
        {
            "sales": _Process.board_keeper.provided.step,
            "readiness": readiness.provided.step,
            "samples": providers.Singleton(
                Samples, sampler=sampler, every_ms=Commands.settings.provided.sample_interval_ms
            ).provided.step,
            "summaries": _Process.summaries.provided.step,
        }
    )
    loops = providers.Singleton(_Process.own_loops, steps)


class Worker(_Process):
    """`flashsale worker`: consumers, relay, sweeper, feeder. It is ready while all three answer."""

    fulfilment = providers.Singleton(
        Fulfilment,
        board=Commands.board,
        gate=Commands.safe_gate,
        orders=Commands.safe_database.provided.orders,
        codec=Commands.codec,
        observer=Commands.observer,
        rules=Commands.rules,
        has_gateway=Commands.has_gateway,
    )
    payment_gateway: providers.Object[Any] = providers.Object(None)
    charging = providers.Singleton(
        cashier_of,
        Commands.settings,
        payments=Commands.safe_database.provided.payments,
        gateway=providers.Callable(seen_by, Commands.traces, "gateway", payment_gateway),
        gate=Commands.safe_gate,
        observer=Commands.observer,
        clock=Commands.clock,
    )
    cashier = providers.Singleton(seen_by, Commands.traces, "cashier", charging)
    paying = providers.Singleton(
        Paying,
        cashier,
        stopping=_Process.stopping,
        interval_ms=Commands.settings.provided.payment_interval_ms,
        at_once=Commands.settings.provided.payment_at_once,
    )
    handling = providers.Singleton(
        Handling,
        Commands.safe_database.provided.notes,
        life=providers.Callable(_new_id),
        alone=providers.Callable(asyncio.Lock),
    )
    setting_aside = providers.Singleton(
        Parking,
        fulfilment=fulfilment,
        parked=Commands.safe_database.provided.parked,
        rebuilds=Commands.database.provided.rebuilds,
        bus=Commands.safe_bus,
        observer=Commands.observer,
        handling=handling,
        feed_lease_ms=Commands.settings.provided.parked_lease_ms,
    )
    parking = providers.Singleton(seen_by, Commands.traces, "parking", setting_aside)
    sweeper = providers.Singleton(
        Sweeper,
        board=Commands.board,
        gate=Commands.safe_gate,
        orders=Commands.safe_database.provided.orders,
        parked=Commands.safe_database.provided.parked,
        bus=Commands.safe_bus,
        observer=Commands.observer,
        clock=Commands.clock,
    )
    readiness = providers.Singleton(
        _Process.look,
        providers.Dict(
            gate=_Process.gate_probe, bus=_Process.bus_probe, database=_Process.database_probe
        ),
    )
    subscriptions: providers.Singleton[dict[Channel, Subscription]] = providers.Singleton(dict)
    consumer = providers.Factory(
        Consumer,
        bus=Commands.safe_bus,
        parking=parking,
        board=Commands.board,
        observer=Commands.observer,
        clock=Commands.clock,
        stopping=_Process.stopping,
        backoff=_Process.backoff.provider,
        batch=Commands.settings.provided.worker_batch,
        deliveries=Commands.settings.provided.worker_deliveries,
        subscriptions=subscriptions,
    )
    accepted_consumer = providers.Singleton(consumer, Channel.ACCEPTED)
    requests_consumer = providers.Singleton(consumer, Channel.REQUESTS)
    relay = providers.Singleton(
        Relay,
        outbox=Commands.safe_database.provided.outbox,
        bus=Commands.safe_bus,
        observer=Commands.observer,
        clock=Commands.clock,
        batch=Commands.settings.provided.relay_batch,
        interval_ms=Commands.settings.provided.relay_interval_ms,
    )
    sweeping = providers.Singleton(
        Sweeping,
        sweeper=sweeper,
        interval_ms=Commands.settings.provided.sweep_interval_ms,
    )
    rebuilding = providers.Singleton(
        Rebuilding,
        rebuild=Commands.rebuild,
        stopping=_Process.stopping,
        interval_ms=Commands.settings.provided.rebuild_interval_ms,
    )
    reconciling = providers.Singleton(
        Reconciling,
        reconciler=Commands.reconciler,
        interval_ms=Commands.settings.provided.reconcile_interval_ms,
    )
    forgetting = providers.Singleton(
        Forgetting,
        forgetter=providers.Singleton(
            Forgetter,
            catalogue=Commands.database.provided.catalogue,
            gate=Commands.safe_gate,
            keep_ms=Commands.settings.provided.settled_keep_ms,
        ),
        interval_ms=FORGET_INTERVAL_MS,
    )
    feeding = providers.Singleton(
        Feeding,
        parking=parking,
        interval_ms=Commands.settings.provided.parked_interval_ms,
    )
    sampler = providers.Singleton(
        Sampler,
        Commands.metrics,
        board=Commands.board,
        gate=Commands.safe_gate,
        clock=Commands.clock,
        parked=Commands.safe_database.provided.parked,
        letters=Commands.safe_database.provided.letters,
        outbox=Commands.safe_database.provided.outbox,
        payments=Commands.safe_database.provided.payments,
        subscriptions=subscriptions,
    )
    lasting_steps = providers.Dict(
        {
            "accepted": accepted_consumer.provided.step,
            "requests": requests_consumer.provided.step,
            "relay": relay.provided.step,
            "sweeper": sweeping.provided.step,
            "parked messages": feeding.provided.step,
            "gates": rebuilding.provided.step,
            "reconciliation": reconciling.provided.step,
            "settled sales": forgetting.provided.step,
            "sales": _Process.board_keeper.provided.step,
            "readiness": readiness.provided.step,
            "samples": providers.Singleton(
                Samples, sampler=sampler, every_ms=Commands.settings.provided.sample_interval_ms
            ).provided.step,
            "summaries": _Process.summaries.provided.step,
        }
    )
    steps = providers.Callable(with_payments, lasting_steps, Commands.settings, paying.provider)
    loops = providers.Singleton(_Process.own_loops, steps)


class Embedded(HttpApi, Worker):
    """`flashsale run`: both in one process, which needs all three and looks at each once."""

    readiness = Worker.readiness
    sampler = Worker.sampler
    http_app = providers.Singleton(HttpApi.http_door, readiness=Worker.readiness)
    steps = Worker.steps
    loops = Worker.loops
