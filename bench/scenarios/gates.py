"""The gate by itself: 256 callers in one process, with and without one call for many."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from statistics import median

import uvloop

from bench.place import ITEM, SALE, Place, Servers, place
from bench.plan import Plan
from bench.report import Report
from bench.result import Baseline, at_least
from flashsale.collector import calm_collector
from flashsale_coalesce import CoalescingGate
from flashsale_core.errors import Unavailable
from flashsale_core.model import (
    Door,
    Epoch,
    ItemId,
    PurchaseId,
    PurchaseRequest,
    SaleId,
    Source,
    UserId,
)
from flashsale_core.outcomes import Reserved
from flashsale_core.ports import Claim, ClaimBatch, StockGate
from flashsale_redis import open_redis_gate

CALLERS = 256
PATIENCE_S = 10.0
"""Callers who each make a call of their own wait for a connection far longer than a buyer may."""
NAME = "gate alone, 256 callers"

_numbers = itertools.count(1)


def gate_alone(servers: Servers, plan: Plan, report: Report) -> None:
    """Reserve as fast as the gate answers: many callers to a call, and one call each."""
    with place(servers) as here:
        here.start("serve")
        here.sell()
        before = _books(here)
        together, one_each, taken = uvloop.run(
            _both(here, here.count("SELECT epoch FROM sales"), plan)
        )
        if _books(here) - before != taken:
            raise AssertionError("the gate took other units than it answered")
    report.add(
        NAME,
        "reservations",
        together,
        "1/s",
        target=at_least(60_000),
        baseline=Baseline(
            name="one Redis call per request", value=one_each, known=8_400, known_is_rate=True
        ),
        ratio=together / one_each,
    )
    report.add(NAME, "times one call per request", together / one_each, "x", target=at_least(6))


def _books(here: Place) -> int:
    """Count the records that the gate has."""
    import redis  # noqa: PLC0415 - an extra

    namespace = here.engine.settings["FLASHSALE_NAMESPACE"]
    with redis.Redis.from_url(here.servers.redis.url) as client:
        return int(client.hlen(f"{namespace}:{{{SALE}}}:purchases"))


async def _both(here: Place, epoch: int, plan: Plan) -> tuple[float, float, int]:
    namespace = here.engine.settings["FLASHSALE_NAMESPACE"]
    async with open_redis_gate(
        here.servers.redis.url, namespace=namespace, installs=False, deadline_s=PATIENCE_S
    ) as gate:
        together = CoalescingGate(gate)
        rates: dict[StockGate, list[float]] = {together: [], gate: []}
        counts = {together: plan.reservations, gate: plan.reservations // 8}
        taken = 0
        for _ in range(plan.rounds):
            for way, found in rates.items():
                batches = [_batch(epoch) for _ in range(counts[way])]
                # As in a process that serves.
                calm_collector()
                found.append(await _reserved(way, batches))
                taken += len(batches)
        await together.aclose()
    return median(rates[together]), median(rates[gate]), taken


def _batch(epoch: int) -> ClaimBatch:
    number = next(_numbers)
    request = PurchaseRequest(
        purchase_id=PurchaseId(f"0197a1c2-7a3e-7b11-9d2c-{number:012d}"),
        user_id=UserId(str(number)),
        item_id=ItemId(ITEM),
        quantity=1,
        requested_at_ms=1,
        source=Source.API,
    )
    return ClaimBatch(
        sale_id=SaleId(SALE),
        epoch=Epoch(epoch),
        door=Door.HTTP,
        claims=(Claim(request=request),),
    )


async def _reserved(gate: StockGate, batches: list[ClaimBatch]) -> float:
    """Let callers take what is asked for, one at a time each; say how many in a second."""
    left = iter(batches)
    began = time.perf_counter()
    await asyncio.gather(*(_caller(gate, left) for _ in range(CALLERS)))
    return len(batches) / (time.perf_counter() - began)


async def _caller(gate: StockGate, left: Iterator[ClaimBatch]) -> None:
    for batch in left:
        [reply] = await gate.reserve((batch,))
        if isinstance(reply, Unavailable):
            raise reply
        match reply:
            case [Reserved()]:
                pass
            case _:
                raise RuntimeError(f"not reserved: {reply}")
