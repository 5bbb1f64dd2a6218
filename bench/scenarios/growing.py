"""What grows: one sale to a million purchases, and one sale to a thousand."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.place import Place, Servers, place
from bench.plan import Plan
from bench.report import Report
from bench.result import Baseline, at_most
from bench.scenarios.doors import WARM_UP_S, Loads, Rounds
from bench.usage import REWRITES, rss_mib

WINDOWS = 10
OPENED_AT_ONCE = 16
FLAT = 1.1
"""The most expensive tenth of a sale costs at most so many times the cheapest of the others."""
SHARE_S = 3.0
LOOK_S = 0.25


def growing_sale(servers: Servers, plan: Plan, report: Report) -> None:
    """Sell ever more of one sale: what a purchase costs, and what processes and Redis hold."""
    name = f"one sale grows to {plan.sale_size:,} purchases"
    with place(servers) as here:
        here.start("serve")
        here.sell()
        loads, empty = Loads(here), _redis_bytes(here)
        total = loads.load(WARM_UP_S).accepted
        sent, tenths, memory = 1, Rounds(), [rss_mib(here.programs["api"].process.pid)]
        while total < plan.sale_size:
            # Loads go by time: the first says how long a tenth takes.
            rate = tenths.rates[-1] if tenths.rates else total / WARM_UP_S
            total += loads.load(plan.sale_size / WINDOWS / rate, tenths).accepted
            sent += 1
            memory.append(rss_mib(here.programs["api"].process.pid))
        held = (_redis_bytes(here) - empty) / total
        _tell_costs(report, name, "accept: API + Redis", tenths)
        rewrites = sum(one[REWRITES] for one in tenths.micros) / len(tenths.micros)
        report.add(name, "Redis rewriting its append-only file", rewrites, "µs CPU a purchase")
        report.add(
            name,
            "Redis at its fullest",
            held,
            "bytes a purchase",
            target=at_most(300),
            note="nothing sold yet; with a limit per user some 70 more",
        )
        _tell_memory(report, name, "API", memory)
        here.start("worker")
        drained, memory = _drained_in_tenths(here, total)
        _tell_costs(report, name, "drain: worker + Redis + PostgreSQL", drained)
        _tell_memory(report, name, "worker", memory)
        here.drained(total)
        report.prove(here.proof(name, accepted=total, unsure=256 * sent))


def many_sales(servers: Servers, plan: Plan, report: Report) -> None:
    """Put the same load on one sale alone, on one of many, and on all of them."""
    name = f"{plan.sales:,} sales"
    with place(servers) as here:
        here.start("serve")
        here.sell()
        loads, alone, one_of_many, spread = Loads(here), Rounds(), Rounds(), Rounds()
        total = loads.load(WARM_UP_S).accepted
        total += loads.load(plan.round_s, alone).accepted
        with ThreadPoolExecutor(OPENED_AT_ONCE) as opening:
            # Its results are read so that an error is raised.
            list(opening.map(lambda n: here.sell(item=str(n)), range(2, plan.sales + 1)))
        time.sleep(SHARE_S)  # The list of sales is read each second.
        for _ in range(plan.rounds):
            total += loads.load(plan.round_s, one_of_many).accepted
            total += loads.load(plan.round_s, spread, items=plan.sales).accepted
        here.start("worker")
        here.drained(total)
        report.prove(here.proof(name, accepted=total, unsure=256 * (2 + 2 * plan.rounds)))
    base = Baseline(name="the only sale", value=alone.cost("api", "redis"))
    for figure, rounds, limit in (
        ("load on one of them", one_of_many, FLAT),
        ("load spread over all", spread, 2.0),
    ):
        ratio = rounds.cost("api", "redis") / base.value
        report.add(
            name,
            f"{figure}: times the cost of the only sale",
            ratio,
            "x",
            target=at_most(limit),
            baseline=base,
            ratio=ratio,
            note=f"µs CPU: API {rounds.cost('api'):.0f}, Redis {rounds.cost('redis'):.0f}; "
            f"{rounds.rate:,.0f}/s",
        )


def _drained_in_tenths(here: Place, total: int) -> tuple[Rounds, list[float]]:
    """Look at the worker after each tenth of its way."""
    worker, tenths, memory = here.programs["worker"].process.pid, Rounds(), []
    had = here.orders()
    before = here.usage()
    for tenth in range(1, WINDOWS + 1):
        while (now := here.orders()) < total * tenth / WINDOWS:
            time.sleep(LOOK_S)
        usage = here.usage()
        if now > had:
            tenths.micros.append(usage.since(before, now - had))
        before, had = usage, now
        memory.append(rss_mib(worker))
    return tenths, memory


def _tell_costs(report: Report, name: str, figure: str, tenths: Rounds) -> None:
    counted = ("api", "redis") if figure.startswith("accept") else ("worker", "redis", "postgres")
    costs = [sum(one[process] for process in counted) for one in tenths.micros]
    # The first tenth has what a process does once.
    first, last = sum(costs[1:3]) / len(costs[1:3]), sum(costs[-2:]) / len(costs[-2:])
    report.add(
        name,
        f"{figure}, last fifth to first",
        last / first,
        "x",
        target=at_most(FLAT),
        note=f"{first:.0f} → {last:.0f} µs CPU: {_parts(tenths, counted)}",
    )


def _parts(tenths: Rounds, counted: tuple[str, ...]) -> str:
    early, late = tenths.micros[1], tenths.micros[-1]
    return ", ".join(f"{name} {early[name]:.0f} → {late[name]:.0f}" for name in counted)


def _tell_memory(report: Report, name: str, figure: str, memory: list[float]) -> None:
    warm, last = memory[min(2, len(memory) - 1)], memory[-1]
    report.add(
        name,
        f"{figure} memory at the end",
        last,
        "MiB RSS",
        target=at_most(150),
        note=f"{warm:.0f} MiB when warm",
    )
    report.add(name, f"{figure} memory, end to warm", last / warm, "x", target=at_most(FLAT))


def _redis_bytes(here: Place) -> int:
    import redis  # noqa: PLC0415 - an extra

    with redis.Redis.from_url(here.servers.redis.url) as client:
        return int(client.info("memory")["used_memory"])
