"""How long a buyer waits while a server is dead, how often that is asked, and how soon it sells.

    python -m tests.faults.outages [--bus kafka] [--crowd 2000]

Prints a table of real percentiles; `test_deadlines.py` holds ten times the promised values.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from flashsale_core.events import OrderEvent, OrderEventType
from flashsale_core.model import ItemId, PurchaseId, SaleId, Source, UserId
from flashsale_sql.facts import to_json
from tests.faults.buyers import Door
from tests.faults.counting import CountingWire, counting
from tests.faults.crowd import buyer
from tests.faults.stack import QUICK
from tests.integration.crowds import connected, orders, settled_orders
from tests.integration.engine import ROOT, Engine, Program, ask, engine, entered, own_names
from tests.integration.outside import Sent, sender
from tests.servers import running_kafka, running_postgres, running_rabbitmq, running_redis

WAYS = ("stopped", "killed", "frozen", "hole")
HEARS_MS = {"gate": 300.0, "bus": 1_000.0}
"""Within these a buyer hears that a server is dead."""
AMPLIFICATION_MAX = 1.1
RECOVERY_S_MAX = 60.0
CROWD_S_MAX = 60.0
RATE = 100.0
STEADY_S = 2.0
TOGETHER_S = 10.0
UNITS = 900_000
LOOK_UP_MS = 500
LOOK_UP = {"FLASHSALE_LOOKUP_DEADLINE_MS": str(LOOK_UP_MS)}


@attrs.define
class Measured:
    """What one outage was for those who came meanwhile."""

    what: str
    way: str
    crowd_ms: list[float] = attrs.field(factory=list)
    steady_ms: list[float] = attrs.field(factory=list)
    answers: Counter[str] = attrs.field(factory=Counter)
    asked: int = 0
    calls: int = 0
    recovery_s: float = 0.0
    memory_mb: float = 0.0

    @property
    def amplification(self) -> float:
        """Calls sent to the server ÷ requests received."""
        return self.calls / max(self.asked, 1)

    def line(self) -> str:
        """Write it for a person."""
        said = ", ".join(f"{count} {code}" for code, count in self.answers.most_common(3))
        return (
            f"{self.what:9}{self.way:9}"
            f"crowd {_percentiles(self.crowd_ms)}  steady {_percentiles(self.steady_ms)}  "
            f"calls/requests {self.calls:5}/{self.asked:<5} = {self.amplification:.2f}  "
            f"sells again after {self.recovery_s:4.2f} s  memory +{self.memory_mb:.0f} MB  ({said})"
        )


def percentile(times_ms: Sequence[float], share: float) -> float:
    """Read a percentile off."""
    ordered = sorted(times_ms)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _percentiles(times_ms: Sequence[float]) -> str:
    return "/".join(f"{percentile(times_ms, share):.0f}" for share in (0.5, 0.99, 1.0)) + " ms"


@attrs.define(eq=False)
class Place:
    """One API and one worker, each on wires of its own."""

    engine: Engine
    servers: dict[str, Any]
    api: Program
    worker: Program
    api_wires: dict[str, CountingWire]
    worker_wires: dict[str, CountingWire]
    number: int = 0

    async def buyers(self, count: int) -> tuple[list[float], Counter[str]]:
        """Let so many come in the same moment, on connections that are there already.

        The wires are in this process, so the crowd is in another.
        """
        first, self.number = self.number + 1, self.number + count
        crowd = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.crowd", self.api.url, str(count), str(first)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(CROWD_S_MAX):
            told, _ = await crowd.communicate()
        found = json.loads(told)
        return [ms for ms, _ in found], Counter(code for _, code in found)

    async def buyer(self, door: Door) -> tuple[float, str]:
        """Ask once; answer how long it took and what was said."""
        self.number += 1
        return await buyer(door, self.number)

    async def steadily(self, seconds: float) -> tuple[list[float], Counter[str]]:
        """Let buyers come one by one at a steady rate."""
        door, began = Door(self.api.url), time.monotonic()
        tasks: list[asyncio.Task[tuple[float, str]]] = []
        while time.monotonic() - began < seconds:
            while len(tasks) < (time.monotonic() - began) * RATE:
                tasks.append(asyncio.create_task(self.buyer(door)))
            await asyncio.sleep(0.005)
        told = await asyncio.gather(*tasks)
        door.close()
        return [ms for ms, _ in told], Counter(code for _, code in told)

    async def until_sold(self) -> float:
        """Buy until somebody is accepted; answer how long that took."""
        began, door = time.monotonic(), Door(self.api.url)
        while (await self.buyer(door))[1] != "accepted":
            assert time.monotonic() - began < RECOVERY_S_MAX, self.api.log.read_text()[-3000:]
            await asyncio.sleep(0.02)
        door.close()
        return time.monotonic() - began

    async def breaks(self, what: str, way: str) -> None:
        """Let a server die in one of four ways."""
        server = self.servers[what]
        if way == "hole":
            for wires in (self.api_wires, self.worker_wires):
                wires[what].swallow()
        else:
            does = {"stopped": server.stop, "killed": server.kill, "frozen": server.freeze}
            await asyncio.to_thread(does[way])

    async def mends(self, what: str, way: str) -> None:
        """Have it back; it answers when this returns."""
        server = self.servers[what]
        if way == "hole":
            for wires in (self.api_wires, self.worker_wires):
                wires[what].mend()
        else:
            await asyncio.to_thread(server.thaw if way == "frozen" else server.start)

    def memory_mb(self) -> float:
        """Read what the API has in memory."""
        status = Path(f"/proc/{self.api.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1_024


async def outage(place: Place, what: str, way: str, crowd: int) -> Measured:
    """Break one server, let a crowd and then a steady stream come, mend it, and sell again."""
    found = Measured(what, way)
    before_mb, wire = place.memory_mb(), place.api_wires[what]
    await place.breaks(what, way)
    wire.begin()
    try:
        found.crowd_ms, crowds = await place.buyers(crowd)
        found.steady_ms, steadys = await place.steadily(STEADY_S)
        found.calls = wire.asked
        found.memory_mb = place.memory_mb() - before_mb
    finally:
        await place.mends(what, way)
    found.answers = crowds + steadys
    found.asked = len(found.crowd_ms) + len(found.steady_ms)
    found.recovery_s = await place.until_sold()
    return found


async def worker_outage(place: Place, what: str, messages: int) -> Measured:
    """Let requests come by the outside door while a server hangs; count what the worker asks."""
    found, wire = Measured(f"w:{what}", "frozen", asked=messages), place.worker_wires[what]
    made = (await orders(place.engine)).total()
    await place.breaks(what, "frozen")
    wire.begin()
    try:
        async with sender(place.engine) as send:
            for n in range(messages):
                place.number += 1
                await send([Sent(b"k", _request(f"w{place.number}-{n}"))])
                await asyncio.sleep(STEADY_S / messages)
        await asyncio.sleep(3 * STEADY_S)
        found.calls = wire.asked
    finally:
        began = time.monotonic()
        await place.mends(what, "frozen")
    await settled_orders(place.engine, made + messages)
    found.recovery_s = time.monotonic() - began
    return found


def _request(purchase: str) -> bytes:
    from tests.faults.stack import _encoded  # noqa: PLC0415 - one word of another drill

    return _encoded(purchase, purchase, "1")


async def steady_outage(place: Place, what: str, way: str, seconds: float) -> Measured:
    """Let buyers come steadily, and count what API and worker together ask of a dead server.

    With the broker dead the worker has work for it too: facts to tell, letters to copy, and what
    was reserved and not confirmed to publish again.
    """
    found, wires = Measured(f"a+w:{what}", way), (place.api_wires[what], place.worker_wires[what])
    await place.breaks(what, way)
    if what == "bus":
        await _give_work(place)
    for wire in wires:
        wire.begin()
    try:
        found.steady_ms, found.answers = await place.steadily(seconds)
        found.asked = len(found.steady_ms)
        found.calls = sum(wire.asked for wire in wires)
    finally:
        await place.mends(what, way)
    found.recovery_s = await place.until_sold()
    return found


WORK = """
INSERT INTO outbox (occurrence_id, fact, written_at)
SELECT fact->>'occurrence_id', fact::json, now() FROM json_array_elements($1::json) AS fact
"""
NOISE = """
INSERT INTO parked_messages (origin, channel, partition, body, headers, status, reason, detail,
    holds_unit, attempts, next_attempt_at, parked_at, changed_at)
SELECT 'noise ' || gen_random_uuid(), 'requests', 0, 'noise', '[]'::json, 'RETRYING', 'drill', '',
    false, 0, now(), now(), now() FROM generate_series(1, 100)
"""


async def _give_work(place: Place) -> None:
    """Write facts that the relay must tell, and messages whose copies the feeder must send."""
    async with connected(place.engine) as database:
        facts = [to_json(_fact(number)) for number in range(100)]
        await database.execute(WORK, f"[{','.join(facts)}]")
        await database.execute(NOISE)


def _fact(number: int) -> OrderEvent:
    return OrderEvent(
        occurrence_id=str(uuid.uuid4()),
        type=OrderEventType.ORDER_CREATED,
        purchase_id=PurchaseId(f"told-{number}"),
        user_id=UserId("u"),
        item_id=ItemId("1"),
        sale_id=SaleId("1.1"),
        quantity=1,
        source=Source.API,
        requested_at_ms=1_700_000_000_000,
        occurred_at_ms=1_700_000_000_000,
    )


LOOKS = ("/purchase/o{}", "/sales", "/sales/1.1", "/dead-letters")


async def look_up_outage(place: Place, requests: int) -> Measured:
    """Let people look things up while the database hangs, and buyers ask for what nobody sells."""
    found, wire = Measured("database", "frozen", asked=requests), place.api_wires["database"]
    await place.breaks("database", "frozen")
    wire.begin()

    def look(number: int) -> tuple[float, str]:
        began = time.perf_counter()
        path = LOOKS[number % len(LOOKS)].format(number)
        answer = ask("GET", place.api.url + path, timeout=20.0)
        return (time.perf_counter() - began) * 1_000, str(answer.status)

    people = ThreadPoolExecutor(requests)
    try:
        looks = []
        for number in range(requests):
            looks.append(asyncio.get_running_loop().run_in_executor(people, look, number))
            await asyncio.sleep(STEADY_S / requests)
        told = await asyncio.gather(*looks)
        found.steady_ms, found.answers = [ms for ms, _ in told], Counter(code for _, code in told)
        # Nobody who buys waits for a database either, not even for what is not listed.
        unlisted = json.dumps({"userId": 1, "productId": 404}).encode()
        began, door = time.perf_counter(), Door(place.api.url)
        status, _ = await door.buy(unlisted)
        door.close()
        found.crowd_ms.append((time.perf_counter() - began) * 1_000)
        found.answers[str(status)] += 1
        found.calls = wire.asked
    finally:
        people.shutdown(wait=False)
        await place.mends("database", "frozen")
    return found


@asynccontextmanager
async def placed(bus: str, folder: Path) -> AsyncIterator[Place]:
    """Start servers, wires, an API and a worker, and open a sale."""
    async with AsyncExitStack() as ending:
        broker_context = running_kafka if bus == "kafka" else running_rabbitmq
        redis, broker, postgres = await asyncio.gather(
            entered(ending, running_redis(ours=True)),
            entered(ending, broker_context(ours=True)),
            entered(ending, running_postgres(ours=True)),
        )
        urls = {
            "gate": redis.url,
            "bus": broker.url,
            "database": await asyncio.to_thread(postgres.create_database),
        }
        sides = []
        for _ in range(2):
            wires = {k: await ending.enter_async_context(counting(url)) for k, url in urls.items()}
            sides.append(wires)
        names = {k: f"FLASHSALE_{k.upper()}_URL" for k in urls}
        beside = {names[k]: url for k, url in urls.items()}
        ours = await entered(ending, engine(folder, {**own_names(), **QUICK, **LOOK_UP, **beside}))
        await asyncio.to_thread(ours.prepare)
        programs = [
            ours.start(kind, **{names[k]: wire.url for k, wire in wires.items()})
            for kind, wires in zip(("serve", "worker"), sides, strict=True)
        ]
        for program in programs:
            await asyncio.to_thread(program.wait_until_ready)
        opened = f"{programs[0].url}/purchase/init?productId=1&stock={UNITS}"
        assert (await asyncio.to_thread(ask, "POST", opened)).status == 200
        servers = {"gate": redis, "bus": broker, "database": postgres}
        (api, worker), (api_wires, worker_wires) = programs, sides
        yield Place(ours, servers, api, worker, api_wires, worker_wires)


async def main(bus: str, crowd: int) -> int:
    """Measure everything on one bus, and print it."""
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="outages-") as folder:
        async with placed(bus, Path(folder)) as place:
            print(f"{bus}: answers in ms as median/99 %/slowest; a crowd of {crowd}", flush=True)
            healthy_ms, _ = await place.buyers(crowd)
            print(f"healthy           crowd {_percentiles(healthy_ms)}", flush=True)
            for what in ("gate", "bus"):
                for way in WAYS:
                    found.append(await outage(place, what, way, crowd))
                    print(found[-1].line(), flush=True)
                    await asyncio.sleep(2)
            found.append(await look_up_outage(place, 100))
            print(found[-1].line(), flush=True)
            for what in ("gate", "database"):
                found.append(await worker_outage(place, what, 200))
                print(found[-1].line(), flush=True)
            for what in ("gate", "bus", "database"):
                for way in ("frozen", "killed"):
                    found.append(await steady_outage(place, what, way, TOGETHER_S))
                    print(found[-1].line(), flush=True)
    wrong = [one.line() for one in found if one.amplification > AMPLIFICATION_MAX]
    print("\n".join(["asked too often:", *wrong]) if wrong else "nothing was asked too often")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bus", choices=["kafka", "rabbitmq"], default="rabbitmq")
    parser.add_argument("--crowd", type=int, default=2_000)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sys.exit(asyncio.run(main(given.bus, given.crowd)))
