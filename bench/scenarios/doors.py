"""The HTTP door as fast as it answers: accepted and confirmed, and sold out."""

from __future__ import annotations

from statistics import median

import attrs

from bench.baselines.constant import serving_constant
from bench.load import Saturated, saturate
from bench.place import Place, Servers, place
from bench.plan import Plan
from bench.report import Report
from bench.result import Baseline, at_least, at_most
from bench.usage import usage_of

WARM_UP_S = 2.0
APART = 10_000_000
"""Buyers are counted from as far apart, so that no round has one of another's."""


@attrs.define
class Rounds:
    """Rounds of one kind of load: rates, and CPU microseconds per request by process."""

    rates: list[float] = attrs.field(factory=list)
    micros: list[dict[str, float]] = attrs.field(factory=list)
    accepted: int = 0

    @property
    def rate(self) -> float:
        """The median rate."""
        return median(self.rates)

    def costs(self, *names: str) -> dict[str, float]:
        """Say the median of each."""
        return {name: self.cost(name) for name in names}

    def cost(self, *names: str) -> float:
        """Say the median of what these processes together take for one request."""
        return median(sum(one[name] for name in names) for one in self.micros)


class Loads:
    """Sends load after load, each of other buyers."""

    def __init__(self, here: Place) -> None:
        """Count buyers from the first."""
        self._here = here
        self._first = 0

    def load(self, seconds: float, rounds: Rounds | None = None, **how: object) -> Saturated:
        """Send one load; keep what it came to."""
        self._first += APART
        before = self._here.usage()
        url = self._here.programs["api"].url
        done = saturate(url, seconds, first=self._first, **how)  # type: ignore[arg-type]
        if rounds is not None:
            rounds.rates.append(done.rate)
            rounds.micros.append(self._here.usage().since(before, done.requests))
        return done


def accepted(servers: Servers, plan: Plan, report: Report) -> None:
    """Buy as fast as purchases are accepted AND confirmed by the broker; then drain them."""
    bus = servers.bus.kind
    name = f"accepted and confirmed over HTTP, Redis + {bus}"
    with place(servers) as here:
        here.start("serve")
        here.sell()
        loads, rounds = Loads(here), Rounds()
        total = loads.load(WARM_UP_S).accepted
        sent = 1
        for _ in range(plan.rounds):
            total += loads.load(plan.round_s, rounds).accepted
            sent += 1
        _tell_accepted(report, name, bus, rounds)
        here.start("worker")
        here.drained(total)
        report.prove(here.proof(name, accepted=total, unsure=256 * sent))


def _tell_accepted(report: Report, name: str, bus: str, rounds: Rounds) -> None:
    report.costs[f"accept, {bus}"] = rounds.costs("api", "redis", bus)
    if bus == "kafka":
        report.add(name, "rate", rounds.rate, "1/s", target=at_least(12_000))
        cost = rounds.cost("api", "redis")
        target = at_most(80)
        report.add(
            name,
            "API + Redis",
            cost,
            "µs CPU",
            target=target,
            note=f"API {rounds.cost('api'):.0f}, Redis {rounds.cost('redis'):.0f}, "
            f"{bus} {rounds.cost(bus):.0f}",
        )
        return
    report.add(name, "rate", rounds.rate, "1/s", target=at_least(8_000))
    report.add(
        name,
        "API + Redis",
        rounds.cost("api", "redis"),
        "µs CPU",
        note=f"{bus} {rounds.cost(bus):.0f}",
    )


def sold_out(servers: Servers, plan: Plan, report: Report) -> None:
    """Answer a crowd that comes too late, beside a constant answer by the same server."""
    name = "sold out over HTTP"
    with place(servers) as here, serving_constant() as constant:
        here.start("serve")
        here.sell(1)
        loads = Loads(here)
        loads.load(WARM_UP_S)
        latched, named, framework, ceiling = Rounds(), Rounds(), Rounds(), Rounds()
        for _ in range(plan.rounds):
            loads.load(plan.round_s / 2, latched)
            loads.load(plan.round_s / 2, named, named=True)
            loads.load(plan.round_s / 2, framework, named=True, path="/purchase/buy/")
            before = usage_of({"constant": constant.pid})
            done = saturate(constant.url, plan.round_s / 2, first=1)
            ceiling.rates.append(done.rate)
            ceiling.micros.append(usage_of({"constant": constant.pid}).since(before, done.requests))
        here.start("worker")
        here.drained(1)
        report.prove(here.proof(name, accepted=1, unsure=0, units=1))
    report.costs["sold out, no purchase id"] = latched.costs("api", "redis")
    report.costs["sold out, with a purchase id"] = named.costs("api", "redis")
    raw = Baseline(
        name="constant answer by the same server", value=ceiling.cost("constant"), known=36
    )
    cost = latched.cost("api", "redis")
    report.add(
        name,
        "API + Redis, no purchase id",
        cost,
        "µs CPU",
        target=at_most(40),
        baseline=raw,
        ratio=cost / raw.value,
        note=f"{latched.rate:,.0f}/s",
    )
    report.add(name, "times the constant answer", cost / raw.value, "x", target=at_most(1.15))
    cost = named.cost("api", "redis")
    baseline = Baseline(
        name="framework's handler instead of the raw one", value=framework.cost("api", "redis")
    )
    report.add(
        name,
        "API + Redis, with a purchase id",
        cost,
        "µs CPU",
        target=at_most(60),
        baseline=baseline,
        ratio=cost / baseline.value,
        note=f"{named.rate:,.0f}/s",
    )
