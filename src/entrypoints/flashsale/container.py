"""The composition root: what is made of what, one container per entrypoint.

The only module that knows the container library, and the only place where a use case or an
adapter around another one is built. What is opened and closed (gate, bus, codec, database) is
handed in open: a container that opened it would turn everything made of it into futures.
Every provider can be overridden by its name.
"""

import asyncio
from functools import partial
from typing import Any

from dependency_injector import containers, providers
from prometheus_client import CollectorRegistry

from flashsale.board_keeping import BoardKeeper
from flashsale.entry_points import AdapterMissing
from flashsale.observing import SUMMARY_EVERY_S, WatchingObserver
from flashsale.readiness import Readiness
from flashsale.settings import Settings
from flashsale.settings_rules import load_rules
from flashsale.supervision import Backoff, Loops
from flashsale.watching import Samples, Summaries
from flashsale.worker import FORGET_INTERVAL_MS, Consumer, Feeding, Forgetting, Relay, Sweeping
from flashsale_coalesce import CoalescingBus, CoalescingCatalogue, CoalescingGate
from flashsale_core.board import SaleBoard
from flashsale_core.events import Channel
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.inquiry import Inquiry
from flashsale_core.parking import Parking
from flashsale_core.ports import Subscription
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.selling import SaleDesk
from flashsale_core.sweeper import Forgetter, Sweeper
from flashsale_memory.clock import SystemClock
from flashsale_prometheus import Metrics, PrometheusObserver, Sampler, expose


def _http_door(**parts: Any) -> Any:
    """Build the HTTP application; its web stack is an extra that a worker does not need."""
    try:
        from flashsale.http_door import http_door  # noqa: PLC0415 - see above
    except ImportError as exc:
        needs = f"the HTTP API needs {exc.name}, which is not installed"
        raise AdapterMissing(f"{needs}: pip install 'flashsale[http]'") from exc
    return http_door(**parts)


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
    rules = providers.Singleton(load_rules, settings)

    doubt = providers.Singleton(asyncio.Event)
    catalogue = providers.Singleton(CoalescingCatalogue, database.provided.catalogue)
    board = providers.Singleton(SaleBoard, catalogue, on_doubt=doubt.provided.set)
    sale_desk = providers.Singleton(
        SaleDesk, board=board, catalogue=catalogue, gate=gate, parked=database.provided.parked
    )
    inquiry = providers.Singleton(
        Inquiry,
        board=board,
        gate=gate,
        orders=database.provided.orders,
        parked=database.provided.parked,
    )


class _Process(Commands):
    """What every process that goes on has: loops, and a look at what it needs."""

    stopping = providers.Singleton(asyncio.Event)
    backoff = providers.Factory(
        Backoff,
        initial_ms=Commands.settings.provided.backoff_initial_ms,
        max_ms=Commands.settings.provided.backoff_max_ms,
    )
    board_keeper = providers.Singleton(BoardKeeper, Commands.board, Commands.doubt)
    summaries = providers.Singleton(
        Summaries,
        summarise=Commands.observer.provided.summarise,
        every_s=SUMMARY_EVERY_S,
    )
    metrics_text = providers.Singleton(partial, expose, Commands.registry)
    gate_probe = Commands.gate.provided.check
    bus_probe = Commands.bus.provided.check
    database_probe = Commands.database.provided.check
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
        CoalescingGate, Commands.gate, told=Commands.observer.provided.batch
    )
    door_bus = providers.Singleton(
        CoalescingBus, Commands.bus, told=Commands.observer.provided.batch
    )
    purchase_desk = providers.Singleton(
        PurchaseDesk,
        board=Commands.board,
        gate=door_gate,
        bus=door_bus,
        clock=Commands.clock,
        rules=Commands.rules,
    )
    sampler = providers.Singleton(
        Sampler, Commands.metrics, board=Commands.board, gate=Commands.gate, clock=Commands.clock
    )
    http_door: providers.Factory[Any] = providers.Factory(
        _http_door,
        purchase_desk=purchase_desk,
        sale_desk=Commands.sale_desk,
        inquiry=Commands.inquiry,
        clock=Commands.clock,
        metrics_text=_Process.metrics_text,
        observer=Commands.observer,
        settings=Commands.settings,
    )
    http_app = providers.Singleton(http_door, readiness=readiness)
    steps = providers.Dict(
        {
            "sales": _Process.board_keeper.provided.step,
            "readiness": readiness.provided.step,
            "samples": providers.Singleton(Samples, sampler=sampler).provided.step,
            "summaries": _Process.summaries.provided.step,
        }
    )
    loops = providers.Singleton(_Process.own_loops, steps)


class Worker(_Process):
    """`flashsale worker`: consumers, relay, sweeper, feeder. It is ready while all three answer."""

    fulfilment = providers.Singleton(
        Fulfilment,
        board=Commands.board,
        gate=Commands.gate,
        orders=Commands.database.provided.orders,
        codec=Commands.codec,
        observer=Commands.observer,
        rules=Commands.rules,
    )
    parking = providers.Singleton(
        Parking,
        fulfilment=fulfilment,
        parked=Commands.database.provided.parked,
        bus=Commands.bus,
        observer=Commands.observer,
    )
    sweeper = providers.Singleton(
        Sweeper,
        board=Commands.board,
        gate=Commands.gate,
        orders=Commands.database.provided.orders,
        parked=Commands.database.provided.parked,
        bus=Commands.bus,
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
        bus=Commands.bus,
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
        outbox=Commands.database.provided.outbox,
        bus=Commands.bus,
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
    forgetting = providers.Singleton(
        Forgetting,
        forgetter=providers.Singleton(
            Forgetter,
            catalogue=Commands.database.provided.catalogue,
            gate=Commands.gate,
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
        gate=Commands.gate,
        clock=Commands.clock,
        parked=Commands.database.provided.parked,
        outbox=Commands.database.provided.outbox,
        subscriptions=subscriptions,
    )
    steps = providers.Dict(
        {
            "accepted": accepted_consumer.provided.step,
            "requests": requests_consumer.provided.step,
            "relay": relay.provided.step,
            "sweeper": sweeping.provided.step,
            "parked messages": feeding.provided.step,
            "settled sales": forgetting.provided.step,
            "sales": _Process.board_keeper.provided.step,
            "readiness": readiness.provided.step,
            "samples": providers.Singleton(Samples, sampler=sampler).provided.step,
            "summaries": _Process.summaries.provided.step,
        }
    )
    loops = providers.Singleton(_Process.own_loops, steps)


class Embedded(HttpApi, Worker):
    """`flashsale run`: both in one process, which needs all three and looks at each once."""

    readiness = Worker.readiness
    sampler = Worker.sampler
    http_app = providers.Singleton(HttpApi.http_door, readiness=Worker.readiness)
    steps = Worker.steps
    loops = Worker.loops
