"""What tracing costs a purchase: nothing while it is off, and how much while it is on.

    python -m bench.tracing_off                    # off against on, by ratio
    python -m bench.tracing_off --before REVISION  # and against the code of another commit

Each variant is a process of its own, warmed up once, that does a round of purchases on command. At
the door: below ASGI, gate and database in memory, a bus that writes the message and confirms at
once. At a worker: from the message to the row that stands, gate and database in memory. Rounds
alternate, so that all variants see the same machine; what is told is the CPU time of a purchase,
its exporter's thread included, and its ratio to the first variant within each round. A second
process of the first variant shows how much of a ratio is chance.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("src", "src/adapters", "src/entrypoints")
PURCHASES = 4_096
"""Of one round: a quarter of a second."""
AT_ONCE = 64
"""As many buyers ask at once: what one call of the gate then carries."""
MESSAGES = 16
"""Of one delivery to a worker: a thousand purchases."""
DELIVERIES = PURCHASES // (MESSAGES * AT_ONCE)
PLACES = ("door", "worker")
ROUNDS = 24
WARM_ROUNDS = 3
LIMIT = 1.02
RATIO_VARIABLE = "FLASHSALE_TEST_TRACED_RATIO"
"""Says to a variant's process that it is traced, and how much of it."""


@attrs.frozen
class Variant:
    """One way to be measured."""

    name: str
    sources: Path
    ratio: str | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start its process."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
        paths = [str(self.sources / source) for source in SOURCES]
        environment = {**inherited, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT)])}
        if self.ratio is not None:
            environment |= {
                RATIO_VARIABLE: self.ratio,
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": self.ratio,
            }
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--variant"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def main() -> int:
    """Measure and print; 1 where off costs more than the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", metavar="REVISION")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--variant", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.variant:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve())
        return 0
    with tempfile.TemporaryDirectory(prefix="flashsale-tracing-") as folder:
        variants = list(_variants(asked.before, Path(folder)))
        measured = _alternate(variants, asked.rounds)
    print(f"{asked.rounds} rounds of {PURCHASES} purchases, {AT_ONCE} at once, alternating")
    return max([_told(place, variants, measured[place]) for place in PLACES])


def _variants(before: str | None, folder: Path) -> Iterator[Variant]:
    first = ROOT
    if before is not None:
        first = folder
        packed = subprocess.run(
            ["git", "archive", before, "src", "lua", "schemas"],  # noqa: S607 - the one on the path
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
    name = "off" if before is None else f"before ({before})"
    yield Variant(name, first)
    yield Variant(f"{name}, again", first)
    if before is not None:
        yield Variant("off", ROOT)
    yield Variant("on, ratio 0.01", ROOT, "0.01")
    yield Variant("on, ratio 1.0", ROOT, "1.0")


def _alternate(variants: Sequence[Variant], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Ask each for a round in turn, the order turned each time; CPU µs of a purchase."""
    measured: dict[str, dict[str, list[float]]] = {
        place: {variant.name: [] for variant in variants} for place in PLACES
    }
    with contextlib.ExitStack() as ending:
        processes = {one.name: ending.enter_context(one.start()) for one in variants}
        for process in processes.values():
            ending.callback(process.kill)
        for number in range(rounds + WARM_ROUNDS):
            names = list(processes)
            turn = number % len(names)
            for place in PLACES:
                for name in names[turn:] + names[:turn]:
                    microseconds = _round(processes[name], place)
                    if number >= WARM_ROUNDS:
                        measured[place][name].append(microseconds)
    return measured


def _round(process: subprocess.Popen[str], place: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{place}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _told(place: str, variants: Sequence[Variant], measured: Mapping[str, list[float]]) -> int:
    """Print what was measured in one place; 1 where off costs more than the limit."""
    first = measured[variants[0].name]
    print(f"\n{'at the ' + place:28} {'µs CPU':>8} {'ratio':>8} {'half of the rounds':>22}")
    medians: dict[str, float] = {}
    for variant in variants:
        own = measured[variant.name]
        ratios = [one / other for one, other in zip(own, first, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians[variant.name] = middle
        print(
            f"{variant.name:28} {statistics.median(own):8.1f} {middle:8.3f} "
            f"{low:12.3f} to {high:.3f}"
        )
    if variants[0].name == "off":
        return 0
    is_within = medians["off"] < LIMIT
    print(f"off costs {'less' if is_within else 'MORE'} than {LIMIT - 1:.0%} of a purchase")
    return 0 if is_within else 1


# ── in a variant's process ──────────────────────────────────────────────────────────────────────


def _loop_factory() -> Any:
    import uvloop  # noqa: PLC0415 - only a variant needs it

    return uvloop.new_event_loop


async def _serve() -> None:
    """Answer each line with a round."""
    from flashsale.logs import set_up_logging  # noqa: PLC0415 - of the variant's sources

    set_up_logging("warning")
    async with AsyncExitStack() as stack:
        traces = None
        if RATIO_VARIABLE in os.environ:
            traces = await stack.enter_async_context(_traces())
        begin = await stack.enter_async_context(_door(traces))
        drain = await _drain(traces)
        bodies = [b'{"userId":%d,"productId":1}' % n for n in range(PURCHASES)]
        while place := (await asyncio.to_thread(sys.stdin.readline)).strip():
            took = await (_answer_all(begin, bodies) if place == "door" else drain())
            sys.stdout.write(f"{took}\n")
            sys.stdout.flush()


async def _answer_all(begin: Any, bodies: Sequence[bytes]) -> float:
    headers = [
        (b"host", b"127.0.0.1:8080"),
        (b"content-type", b"application/json"),
        (b"content-length", b"30"),
    ]
    loop, client = asyncio.get_running_loop(), ("127.0.0.1", 5)
    began = time.process_time()
    for first in range(0, len(bodies), AT_ONCE):
        tasks = [
            loop.create_task(begin(body, headers, client))
            for body in bodies[first : first + AT_ONCE]
        ]
        await asyncio.wait(tasks)
        assert all(task.result().status == HTTPStatus.OK for task in tasks)
    return (time.process_time() - began) / len(bodies) * 1e6


@asynccontextmanager
async def _door(traces: Any) -> AsyncIterator[Any]:
    """Build the door as a process does; answer its way below ASGI."""
    from flashsale.collector import calm_collector  # noqa: PLC0415 - of the variant's sources
    from flashsale.container import HttpApi  # noqa: PLC0415 - the same
    from flashsale.settings import Settings  # noqa: PLC0415 - the same
    from flashsale_avro import AvroCodec  # noqa: PLC0415 - the same
    from flashsale_core.model import ItemId, SaleTerms  # noqa: PLC0415 - the same
    from flashsale_memory.clock import SystemClock  # noqa: PLC0415 - the same
    from flashsale_memory.database import MemoryDatabase  # noqa: PLC0415 - the same
    from flashsale_memory.gate import MemoryStockGate  # noqa: PLC0415 - the same

    codec, clock = AvroCodec(), SystemClock()

    class PromptBus:
        """Writes the message and confirms it."""

        async def publish(self, facts: Any) -> None:
            for fact in facts:
                codec.encode(fact)

        async def check(self) -> None:
            """Be there."""

    container = HttpApi(
        settings=Settings(),
        codec=codec,
        gate=MemoryStockGate(clock),
        bus=PromptBus(),
        database=MemoryDatabase(clock),
    )
    if traces is not None:
        container.traces.override(traces)
    await container.sale_desk().init(ItemId("1"), SaleTerms(units=10**9))
    calm_collector()
    yield container.http_app().short_cut.begin
    await container.door_bus().aclose()
    await container.door_gate().aclose()


async def _drain(traces: Any) -> Any:
    """Build a worker as a process does; answer what drains a round, and says its CPU time."""
    from flashsale.container import Worker  # noqa: PLC0415 - of the variant's sources
    from flashsale.settings import Settings  # noqa: PLC0415 - the same
    from flashsale_avro import AvroCodec  # noqa: PLC0415 - the same
    from flashsale_core.events import (  # noqa: PLC0415 - the same
        Channel,
        Message,
        PurchaseAccepted,
        PurchasesAccepted,
    )
    from flashsale_core.model import (  # noqa: PLC0415 - the same
        Epoch,
        ItemId,
        PurchaseId,
        SaleId,
        SaleTerms,
        Source,
        UserId,
    )
    from flashsale_memory.bus import MemoryBus  # noqa: PLC0415 - the same
    from flashsale_memory.clock import SystemClock  # noqa: PLC0415 - the same
    from flashsale_memory.database import MemoryDatabase  # noqa: PLC0415 - the same
    from flashsale_memory.gate import MemoryStockGate  # noqa: PLC0415 - the same

    codec, clock = AvroCodec(), SystemClock()
    container = Worker(
        settings=Settings(),
        codec=codec,
        gate=MemoryStockGate(clock),
        bus=MemoryBus(codec),
        database=MemoryDatabase(clock),
    )
    if traces is not None:
        container.traces.override(traces)
    await container.sale_desk().init(ItemId("1"), SaleTerms(units=10**9))
    parking, numbers = container.parking(), itertools.count(1)
    ratio = float(os.environ.get(RATIO_VARIABLE, "0"))

    def purchase() -> PurchaseAccepted:
        number = next(numbers)
        is_traced = int(number * ratio) > int((number - 1) * ratio)
        return PurchaseAccepted(
            purchase_id=PurchaseId(f"purchase-{number}"),
            user_id=UserId(f"user-{number}"),
            quantity=1,
            accepted_at_ms=clock.now_ms(),
            requested_at_ms=clock.now_ms(),
            source=Source.API,
            traceparent=f"00-{number:032x}-{number:016x}-01" if is_traced else None,
        )

    def message() -> Message:
        fact = PurchasesAccepted(
            sale_id=SaleId("1.1"),
            epoch=Epoch(1),
            purchases=tuple(purchase() for _ in range(AT_ONCE)),
        )
        encoded = codec.encode(fact)
        return Message(
            channel=Channel.ACCEPTED,
            body=encoded.body,
            content_type=encoded.content_type,
            origin=f"bench:0:{next(numbers)}",
        )

    async def drain() -> float:
        deliveries = [[message() for _ in range(MESSAGES)] for _ in range(DELIVERIES)]
        began = time.process_time()
        for delivery in deliveries:
            await parking.deliver(delivery)
        return (time.process_time() - began) / PURCHASES * 1e6

    return drain


@asynccontextmanager
async def _traces() -> AsyncIterator[Any]:
    """Trace as to a collector; what is left out is the sending."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import (  # noqa: PLC0415
        encode_spans,
    )
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    from flashsale_core.opening import BusNames  # noqa: PLC0415
    from flashsale_otel import labels_of, open_traces  # noqa: PLC0415

    class Writing(SpanExporter):
        """Writes spans as they are sent."""

        def export(self, spans: Any) -> SpanExportResult:
            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    names = BusNames(
        requests="flashsale.purchase.requests",
        accepted="flashsale.purchase.accepted",
        orders="flashsale.orders",
        dead_letters=None,
        exchange="flashsale",
        requests_group="requests",
        accepted_group="accepted",
    )
    labels = labels_of(
        gate_url="redis://127.0.0.1:6379/0",
        bus_url="kafka://127.0.0.1:9092",
        database_url="postgresql+asyncpg://127.0.0.1/flashsale",
        payment_url=None,
        names=names,
    )
    async with open_traces(labels, "flashsale-api", exporter=Writing()) as traces:
        yield traces


if __name__ == "__main__":
    sys.exit(main())
