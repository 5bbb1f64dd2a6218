"""The sale itself: a crowd that wants a hundred times what there is, each at his own time."""

from __future__ import annotations

import time

from bench.load import come
from bench.place import SALE, Servers, place
from bench.plan import Plan
from bench.report import Report
from bench.result import Target, at_most
from bench.scenarios.doors import APART, WARM_UP_S, Loads

SATURATING_S = 4.0
REST_S = 2.0
CROWD = 1_000 * APART
WARM = "warm"
USERS_OF = "SELECT user_id FROM orders WHERE sale_id = $1"
NAME = "flash crowd, open model"


def flash_crowd(servers: Servers, plan: Plan, report: Report) -> None:
    """Let the crowd come at half the rate at which the door accepts; and at a harder one.

    The first of a crowd are accepted, so half the rate at which purchases are accepted is what a
    door is to bear. At half the rate of "sold out" the first come faster than anybody can be
    accepted, and wait in a row; how long is shown without a target.
    """
    with place(servers) as here:
        here.start("serve")
        here.sell()
        accepting = Loads(here).load(SATURATING_S).rate
    _crowd(servers, plan, report, accepting / 2, target=at_most(25))
    if plan.name == "quick":
        return
    _crowd(servers, plan, report, accepting / 2, ", the worker begins afterwards", is_beside=False)
    with place(servers) as here:
        here.start("serve")
        here.sell(1)
        refusing = Loads(here).load(SATURATING_S).rate
    _crowd(servers, plan, report, refusing / 2, ", at half the rate of sold out")


def _crowd(
    servers: Servers,
    plan: Plan,
    report: Report,
    rate: float,
    how: str = "",
    *,
    target: Target | None = None,
    is_beside: bool = True,
) -> None:
    """Let one crowd come; `is_beside`: a worker makes orders meanwhile, on the same cores."""
    name = NAME + how
    with place(servers) as here:
        api = here.start("serve")
        if is_beside:
            here.start("worker")
        # A door that is opened for a sale has served before.
        here.sell(item=WARM)
        warmed = Loads(here).load(WARM_UP_S, item=WARM).accepted
        if is_beside:
            here.drained(warmed)
        time.sleep(REST_S)
        here.sell(plan.units)
        found = come(api.url, rate=rate, buyers=plan.buyers, first=CROWD)
        if not is_beside:
            here.start("worker")
        here.drained(plan.units, SALE)
        ordered = {int(row["user_id"]) for row in here.query(USERS_OF, SALE)}
        told = set(found["accepted"])
        if ordered != told:
            wrong = f"{len(told - ordered)} told and not ordered, {len(ordered - told)} else"
            raise AssertionError(wrong)
        proof = here.proof(name, accepted=len(told), unsure=0, units=plan.units, sale=SALE)
        report.prove(proof)
    waits, answers = found["milliseconds"], found["answers"]
    if answers != {"200": plan.units, "429": plan.buyers - plan.units}:
        raise AssertionError(f"other answers than expected: {answers}")
    note = (
        f"{plan.buyers:,} buyers, {plan.units:,} units, {rate:,.0f}/s; p50 {waits['50']:.1f}, "
        f"p99.9 {waits['99.9']:.1f}, max {waits['100']:.1f} ms"
    )
    figure = "p99 from the intended time"
    report.add(name, figure, waits["99"], "ms", target=target, note=note)
    report.add(name, "oversold", proof.oversold, "units", target=at_most(0))
