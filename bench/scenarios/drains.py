"""The worker by itself: what waits in the bus becomes orders, and every order's event is told."""

from __future__ import annotations

import asyncio
import time

from bench.load import saturate
from bench.place import ITEM, Place, Servers, place
from bench.plan import Plan
from bench.report import Report
from bench.result import Baseline, at_least
from bench.scenarios.doors import APART
from bench.usage import Usage
from flashsale_avro import AvroCodec
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, UserId
from tests.integration.outside import Sent, sender

TARGETS = {"kafka": 20_000, "rabbitmq": 12_000}
FILL_S = 2.0
LOOK_S = 0.02
START_S_MAX = 30.0


def drain(servers: Servers, plan: Plan, report: Report) -> None:
    """Make orders of what was promised over HTTP and waits, beside one transaction per order."""
    bus = servers.bus.kind
    name = f"drain from {bus}"
    rate, micros = _promised(servers, plan, report, name)
    report.costs[f"drain, {bus}"] = micros
    alone = _one_by_one(servers, plan, report, name)
    baseline = Baseline(
        name="one transaction per order", value=alone, known=750, known_is_rate=True
    )
    report.add(
        name,
        "orders, follow-up events published",
        rate,
        "1/s",
        target=at_least(TARGETS[bus]),
        baseline=baseline,
        ratio=rate / alone,
        note=_costs(micros),
    )
    target = at_least(15) if bus == "kafka" else None
    report.add(name, "times one transaction per order", rate / alone, "x", target=target)


def outside_drain(servers: Servers, plan: Plan, report: Report) -> None:
    """Make orders of what another service has put at the outside door, a message each."""
    name = f"drain of the outside door, {servers.bus.kind}"
    with place(servers) as here:
        here.start("serve")
        here.sell()
        asyncio.run(_put(here, plan.waiting))
        rate, micros = _drained(here, plan.waiting)
        report.prove(here.proof(name, accepted=plan.waiting, unsure=0))
    report.add(name, "orders, follow-up events published", rate, "1/s", note=_costs(micros))


def _promised(
    servers: Servers, plan: Plan, report: Report, name: str
) -> tuple[float, dict[str, float]]:
    with place(servers) as here:
        here.start("serve")
        here.sell()
        total = rounds = 0
        while total < plan.waiting:
            rounds += 1
            url = here.programs["api"].url
            total += saturate(url, FILL_S, first=rounds * APART).accepted
        here.stop("api")
        found = _drained(here, total)
        report.prove(here.proof(name, accepted=total, unsure=256 * rounds))
    return found


def _one_by_one(servers: Servers, plan: Plan, report: Report, name: str) -> float:
    """Publish each purchase by itself, and let the same worker take one message at a time."""
    with place(servers, {"FLASHSALE_WORKER_BATCH": "1"}) as here:
        here.start("serve")
        here.sell()
        total = rounds = 0
        while total < plan.one_by_one:
            rounds += 1
            url = here.programs["api"].url
            # With one client nothing is coalesced: a message a purchase.
            total += saturate(url, FILL_S, first=rounds * APART, clients=1).accepted
        rate, _ = _drained(here, total)
        report.prove(here.proof(f"{name}, one by one", accepted=total, unsure=rounds))
    return rate


def _drained(here: Place, total: int) -> tuple[float, dict[str, float]]:
    """Start a worker; count from its first order, so that its start does not count."""
    here.start("worker", waits=False)
    before, had, began = _first_order(here)
    here.drained(total)
    seconds = time.perf_counter() - began
    count = here.orders() - had
    return count / seconds, here.usage().since(before, count)


def _first_order(here: Place) -> tuple[Usage, int, float]:
    until = time.monotonic() + START_S_MAX
    while not (had := here.orders()):
        if time.monotonic() > until:
            raise TimeoutError("the worker makes no orders")
        time.sleep(LOOK_S)
    return here.usage(), had, time.perf_counter()


def _costs(micros: dict[str, float]) -> str:
    ours = ("worker", "redis", "postgres", "kafka", "rabbitmq")
    named = ", ".join(f"{name} {micros[name]:.0f}" for name in ours if name in micros)
    return f"µs CPU: {named}"


async def _put(here: Place, count: int) -> None:
    codec = AvroCodec()
    async with sender(here.engine) as send:
        for begin in range(0, count, 1_000):
            await send(
                [
                    Sent(key=str(number).encode(), body=codec.encode(_request(number)).body)
                    for number in range(begin, min(count, begin + 1_000))
                ]
            )


def _request(number: int) -> PurchaseRequest:
    return PurchaseRequest(
        purchase_id=PurchaseId(f"outside-{number}"),
        user_id=UserId(str(number)),
        item_id=ItemId(ITEM),
        requested_at_ms=1_700_000_000_000,
    )
