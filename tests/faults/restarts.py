"""Restarts behind a balancer: two APIs, a client that picks by /readyz and never asks twice.

    python -m tests.faults.restarts [--restarts 20] [--rate 1000] [--bus kafka]

Each API in turn is told to end and started again while buyers come at a steady rate. Every answer
must be a purchase: no connection that ends, nothing unavailable, no outcome unknown. Afterwards
every purchase is an order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs

from tests.faults.buyers import TICK_S, Door
from tests.integration.crowds import settled_orders
from tests.integration.engine import Engine, Program, ask, engine, entered, own_names
from tests.servers import running_kafka, running_postgres, running_rabbitmq, running_redis
from tests.servers.launch import free_port

POLL_S = 1.0
"""As a balancer looks; one look that says no is enough for it to go elsewhere."""
POLL_S_MAX = 1.0
API_STOP_S_MAX = 10.0
UNITS = 900_000


@attrs.define(eq=False)
class Balancer:
    """Sends each buyer to an API that was ready at its last look, in turn, once."""

    urls: list[str]
    ready: list[Door] = attrs.field(factory=list)
    answers: Counter[str] = attrs.field(factory=Counter)
    slowest_s: float = 0.0
    number: int = 0
    wrong: list[str] = attrs.field(factory=list)
    doors: list[Door] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Keep connections to each API."""
        self.doors = [Door(url) for url in self.urls]

    async def looks(self) -> None:
        """Look at every API each second, for ever."""
        while True:
            seen = await asyncio.gather(*(_is_ready(url) for url in self.urls))
            self.ready = [door for door, is_ready in zip(self.doors, seen, strict=True) if is_ready]
            await asyncio.sleep(POLL_S)

    async def one(self) -> None:
        """Let one buyer buy."""
        self.number += 1
        number, door = self.number, self.ready[self.number % len(self.ready)]
        body = {"userId": number, "productId": 1, "purchaseId": f"r{number}"}
        began = time.monotonic()
        try:
            status, said = await door.buy(json.dumps(body).encode())
            code = "accepted" if status == 200 else str(said["type"]).rpartition(":")[2]
        except (TimeoutError, OSError, EOFError) as nothing:
            code = type(nothing).__name__
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.answers[code] += 1
        if code != "accepted":
            self.wrong.append(f"{code} of r{number} at {door.url}")

    async def load(self, rate: float, until: asyncio.Event) -> None:
        """Let buyers come at a steady rate, and wait for the last."""
        buyers: set[asyncio.Task[None]] = set()
        began, begun = time.monotonic(), 0
        while not until.is_set():
            while begun < (time.monotonic() - began) * rate:
                begun += 1
                task = asyncio.create_task(self.one())
                buyers.add(task)
                task.add_done_callback(buyers.discard)
            await asyncio.sleep(TICK_S)
        if buyers:
            await asyncio.wait(buyers)


async def _is_ready(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        async with asyncio.timeout(POLL_S_MAX):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said = await reader.read(12)
            writer.close()
    except (TimeoutError, OSError):
        return False
    return said == b"HTTP/1.1 200"


@attrs.define
class Outcome:
    """What the restarts came to."""

    answers: Counter[str]
    wrong: list[str]
    stops_s: list[float]
    slowest_s: float
    orders: Counter[str]

    @property
    def failures(self) -> int:
        """Count what was no purchase."""
        return self.answers.total() - self.answers["accepted"]

    def line(self) -> str:
        """Write it for a person."""
        return (
            f"{len(self.stops_s)} restarts, {self.answers.total():,} buyers, "
            f"{self.failures} failures {dict(self.answers)}; slowest answer "
            f"{self.slowest_s * 1_000:.0f} ms; slowest stop {max(self.stops_s):.1f} s; "
            f"orders {dict(self.orders)}"
        )


async def _restarted(ours: Engine, program: Program) -> Program:
    port = program.url.rpartition(":")[2]
    fresh = ours.start("serve", FLASHSALE_HTTP_PORT=port)
    fresh.url = program.url
    await asyncio.to_thread(fresh.wait_until_ready)
    # The balancer must have seen it before the other one goes.
    await asyncio.sleep(2 * POLL_S)
    return fresh


async def restarted(ours: Engine, count: int, rate: float) -> Outcome:
    """Restart one API after the other, so often, under load."""
    ports = [free_port(), free_port()]
    apis = [ours.start("serve", FLASHSALE_HTTP_PORT=str(port)) for port in ports]
    for api, port in zip(apis, ports, strict=True):
        api.url = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(api.wait_until_ready)
    opened = f"{apis[0].url}/purchase/init?productId=1&stock={UNITS}"
    assert (await asyncio.to_thread(ask, "POST", opened)).status == 200
    # Both have the sale on their lists before anybody comes.
    await asyncio.sleep(2 * POLL_S)
    balancer, stop, stops_s = Balancer([api.url for api in apis]), asyncio.Event(), []
    looking = asyncio.create_task(balancer.looks())
    await asyncio.sleep(POLL_S)
    load = asyncio.create_task(balancer.load(rate, stop))
    try:
        for number in range(count):
            began, at = time.monotonic(), number % 2
            code = await asyncio.to_thread(apis[at].stop)
            stops_s.append(time.monotonic() - began)
            assert code == 0, apis[at].log.read_text()[-3000:]
            apis[at] = await _restarted(ours, apis[at])
    finally:
        stop.set()
        await load
        looking.cancel()
        for door in balancer.doors:
            door.close()
    found = await settled_orders(ours, balancer.answers["accepted"])
    return Outcome(balancer.answers, balancer.wrong, stops_s, balancer.slowest_s, found)


@asynccontextmanager
async def ready(bus: str, folder: Path) -> AsyncIterator[Engine]:
    """Start servers and one worker."""
    async with AsyncExitStack() as ending:
        broker = running_kafka if bus == "kafka" else running_rabbitmq
        redis, bus_server, postgres = await asyncio.gather(
            entered(ending, running_redis(ours=True)),
            entered(ending, broker(ours=True)),
            entered(ending, running_postgres(ours=True)),
        )
        settings = {
            **own_names(),
            "FLASHSALE_LAME_DUCK_MS": "3000",
            "FLASHSALE_GATE_URL": redis.url,
            "FLASHSALE_BUS_URL": bus_server.url,
            "FLASHSALE_DATABASE_URL": await asyncio.to_thread(postgres.create_database),
            "FLASHSALE_LOG_LEVEL": "warning",
        }
        ours = await entered(ending, engine(folder, settings))
        await asyncio.to_thread(ours.prepare)
        worker = ours.start("worker")
        await asyncio.to_thread(worker.wait_until_ready)
        yield ours


async def main(bus: str, count: int, rate: float) -> int:
    """Restart, and print what came of it."""
    with tempfile.TemporaryDirectory(prefix="restarts-") as folder:
        async with ready(bus, Path(folder)) as ours:
            outcome = await restarted(ours, count, rate)
    print(f"{bus}: {outcome.line()}")
    print("\n".join(outcome.wrong[:20]))
    is_good = outcome.failures == 0 and max(outcome.stops_s) <= API_STOP_S_MAX
    return 0 if is_good and outcome.orders["CONFIRMED"] == outcome.answers["accepted"] else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--bus", choices=["kafka", "rabbitmq"], default="rabbitmq")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sys.exit(asyncio.run(main(given.bus, given.restarts, given.rate)))
