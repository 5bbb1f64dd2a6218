"""The sale itself: a crowd that wants a hundred times what there is, each at his own time."""

from __future__ import annotations

from bench.load import come
from bench.place import Servers, place
from bench.plan import Plan
from bench.report import Report
from bench.result import at_most
from bench.scenarios.doors import APART, Loads

SATURATING_S = 4.0
NAME = "flash crowd, open model"


def flash_crowd(servers: Servers, plan: Plan, report: Report) -> None:
    """Let the crowd come at half the rate at which the same crowd saturates the door."""
    with place(servers) as here:
        api = here.start("serve")
        here.start("worker")
        here.sell(plan.units)
        saturating = Loads(here).load(SATURATING_S)
        here.drained(plan.units)
    with place(servers) as here:
        api = here.start("serve")
        here.start("worker")
        here.sell(plan.units)
        rate = saturating.rate / 2
        found = come(api.url, rate=rate, buyers=plan.buyers, first=APART)
        here.drained(plan.units)
        asked = {int(row["user_id"]) for row in here.query("SELECT user_id FROM orders")}
        told = set(found["accepted"])
        if asked != told:
            raise AssertionError(
                f"{len(told - asked)} told and not ordered, {len(asked - told)} else"
            )
        proof = here.proof(NAME, accepted=len(told), unsure=0, units=plan.units)
        report.prove(proof)
    waits = found["milliseconds"]
    answers = found["answers"]
    if answers != {"200": plan.units, "429": plan.buyers - plan.units}:
        raise AssertionError(f"other answers than expected: {answers}")
    note = (
        f"{plan.buyers:,} buyers, {plan.units:,} units, {rate:,.0f}/s; p50 {waits['50']:.1f}, "
        f"p99.9 {waits['99.9']:.1f}, max {waits['100']:.1f} ms"
    )
    report.add(NAME, "p99 from the intended time", waits["99"], "ms", target=at_most(25), note=note)
    report.add(NAME, "oversold", proof.oversold, "units", target=at_most(0))
