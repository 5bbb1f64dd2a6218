"""The long run: faults drawn by seed on both buses, under load, until the time is over.

    make faults SECONDS=600 SEED=1

Shows each fault as it happens, prints a table, writes `results/latest.json`, and fails unless
everything stands in the books that was promised and enough was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import attrs

from flashsale.fault_points import Point
from tests.faults.checker import Name, Violation
from tests.faults.kinds import Fault, drawn, kind_of, missing_here
from tests.faults.stack import RECOVERY_S_MAX, Stack, standing

RESULTS = Path(__file__).with_name("results") / "latest.json"
FAULTS_MIN = 30
KINDS_MIN = 10
ACCEPTED_MIN = 50_000
RATE = 105.0
"""Buyers a second: 50,000 accepted in the ten minutes of a bus, and room on two cores."""
OVERTIME_S = 240.0
"""Of a long run, for points that were not hit in time; nothing else is begun then."""
SLOW_MAX = 10
SLOWNESS = ("is not ready", "nothing struck")
REST_S = 0.5
"""Between a fault's recovery and the next one."""
LONG_S = 600
"""From so many seconds on a run must have broken and sold enough."""


@attrs.define
class Outcome:
    """What one bus went through."""

    bus: str
    faults: list[tuple[str, float]] = attrs.field(factory=list)
    """Name, and seconds until a new purchase was an order."""
    purchases: int = 0
    accepted: int = 0
    points_hit: dict[str, int] = attrs.field(factory=dict)
    violations: list[Violation] = attrs.field(factory=list)
    unruly: list[str] = attrs.field(factory=list)
    """Faults whose process did not end as it must."""
    slow: list[str] = attrs.field(factory=list)
    """Faults that did not come about because a process did not start in time; tried again."""
    discarded: int = 0
    """Dead letters that a named operator threw away."""

    def count(self, *names: Name) -> int:
        """Count violations of these names."""
        return sum(one.name in names for one in self.violations)

    def as_json(self) -> dict[str, object]:
        """Write it as it is committed."""
        return {
            "faults": len(self.faults),
            "kinds": sorted({kind_of(name) for name, _ in self.faults}),
            "points_hit": self.points_hit,
            "purchases": self.purchases,
            "accepted": self.accepted,
            "discarded": self.discarded,
            "not_begun": len(self.slow),
            "oversold": self.count(Name.OVERSOLD),
            "lost": self.count(Name.LOST),
            "duplicated": self.count(Name.DUPLICATE_ORDER, Name.DOUBLE_CHARGE, Name.DOUBLE_EVENT),
            "leaked": self.count(Name.LEAK, Name.JOURNAL_LEFT),
            "violations": dict(Counter(one.name.value for one in self.violations)),
            "slowest_recovery_s": round(max((s for _, s in self.faults), default=0.0), 1),
        }


async def strike(stack: Stack, outcome: Outcome, fault: Fault) -> None:
    """Let one fault happen, end it, and measure how soon a purchase is an order again."""
    began, before = time.monotonic(), dict(stack.points_hit)
    async with stack.breaking():
        await fault.strike(stack)
        await stack.whole()
    mended = time.monotonic()
    recovery_s = await stack.recovered()
    for name in fault.names:
        point = name.partition(" ")[2]
        if not point or stack.points_hit.get(point, 0) > before.get(point, 0):
            outcome.faults.append((name, recovery_s))
    print(
        f"{stack.bus:9} {len(outcome.faults):3}  broken {mended - began:5.1f} s, "
        f"recovered in {recovery_s:5.1f} s  asked {stack.load.asked:7,}  "
        f"accepted {stack.load.accepted:7,}  {', '.join(fault.names)}",
        flush=True,
    )


async def go_through(
    stack: Stack, outcome: Outcome, queue: list[Fault], until: float, overtime_s: float
) -> None:
    """Let one fault after the other happen until the time is over and every point was hit.

    When all that were drawn have happened before that, they are drawn anew.
    """
    while time.monotonic() < until + overtime_s:
        if not queue:
            if time.monotonic() > until:
                break
            queue = drawn(stack)
        fault = queue.pop(0)
        points = {name.partition(" ")[2] for name in fault.names} - {""}
        if time.monotonic() > until and points <= set(stack.points_hit):
            continue
        try:
            await strike(stack, outcome, fault)
        except (AssertionError, TimeoutError) as wrong:
            told = f"{', '.join(fault.names)}: {str(wrong)[:500] or type(wrong).__name__}"
            is_slow = any(words in told for words in SLOWNESS)
            (outcome.slow if is_slow else outcome.unruly).append(told)
            print(f"{stack.bus:9}      went otherwise: {told}", flush=True)
            await stack.whole()
            if is_slow and len(outcome.slow) < SLOW_MAX:
                queue.insert(2, fault)
        await asyncio.sleep(REST_S)


async def on_bus(bus: str, seconds: float, seed: int, rate: float = RATE) -> Outcome:
    """Break one bus's engine for so long, and judge what is left."""
    outcome = Outcome(bus)
    with tempfile.TemporaryDirectory(prefix=f"faults-{bus}-") as folder:
        async with standing(bus, Path(folder), seed) as stack:
            print(f"{bus}: two APIs, two workers, {rate:.0f} buyers a second", flush=True)
            if missing := missing_here(stack):
                print(f"{bus}: left out, as this machine allows it not: {', '.join(missing)}")
            until = time.monotonic() + seconds
            async with stack.under_load(rate):
                overtime_s = OVERTIME_S if seconds >= LONG_S else 0.0
                await go_through(stack, outcome, drawn(stack), until, overtime_s)
            outcome.discarded = await stack.discard_some()
            _, outcome.violations = await stack.judged()
            outcome.purchases = len(stack.history.asked)
            outcome.accepted = sum(one.was_accepted for one in stack.history.asked.values())
            outcome.points_hit = dict(stack.points_hit)
            if outcome.violations:
                kept = Path(tempfile.mkdtemp(prefix=f"faults-{bus}-kept-"))
                stack.history.write(kept / "history.jsonl")
                for program in stack.engine.programs:
                    (kept / program.log.name).write_bytes(program.log.read_bytes())
                print(f"{bus}: history and logs are kept in {kept}")
                for violation in outcome.violations[:20]:
                    print(f"{bus}: {violation}", flush=True)
    return outcome


def shortcomings(outcomes: list[Outcome], *, is_long: bool) -> list[str]:
    """Say why a run does not count: what is wrong, or too little that was broken or sold."""
    found = [f"{one.bus}: {violation}" for one in outcomes for violation in one.violations[:20]]
    found += [f"{one.bus}: {unruly}" for one in outcomes for unruly in one.unruly]
    if not is_long:
        return found
    faults = [name for one in outcomes for name, _ in one.faults]
    kinds = {kind_of(name) for name in faults}
    if len(faults) < FAULTS_MIN or len(kinds) < KINDS_MIN:
        found.append(f"{len(faults)} faults of {len(kinds)} kinds; {FAULTS_MIN} of {KINDS_MIN}")
    for one in outcomes:
        missed = [p.site.name for p in Point if p.site.name not in one.points_hit]
        if missed:
            found.append(f"{one.bus}: never hit: {', '.join(missed)}")
        slow = [name for name, seconds in one.faults if seconds > RECOVERY_S_MAX]
        if slow:
            found.append(f"{one.bus}: over {RECOVERY_S_MAX:.0f} s to recover: {', '.join(slow)}")
        if one.accepted < ACCEPTED_MIN:
            found.append(f"{one.bus}: {one.accepted:,} accepted, {ACCEPTED_MIN:,} wanted")
    return found


def table(outcomes: list[Outcome]) -> str:
    """Write the outcomes side by side."""
    rows = [(key, [one.as_json()[key] for one in outcomes]) for key in outcomes[0].as_json()]
    lines = ["".join(["what".ljust(20), *(one.bus.rjust(14) for one in outcomes)])]
    for key, values in rows:
        shown = [len(v) if isinstance(v, list | dict) else v for v in values]
        lines.append("".join([key.ljust(20), *(f"{value:>14}" for value in shown)]))
    return "\n".join(lines)


def write_results(seconds: float, seed: int, outcomes: list[Outcome], wrong: list[str]) -> None:
    """Keep what a long run came to, for the repository."""
    RESULTS.parent.mkdir(exist_ok=True)
    result = {
        "seconds": seconds,
        "seed": seed,
        "passed": not wrong,
        "buses": {one.bus: one.as_json() for one in outcomes},
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=LONG_S)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--bus", choices=["kafka", "rabbitmq", "both"], default="both")
    parser.add_argument("--rate", type=float, default=RATE)
    given = parser.parse_args()
    # Whoever ends a run by either signal has its servers and disks put away.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    # What a broken client library says of broken connections is no news here.
    logging.disable(logging.CRITICAL)
    buses = ["kafka", "rabbitmq"] if given.bus == "both" else [given.bus]
    outcomes = [asyncio.run(on_bus(bus, given.seconds, given.seed, given.rate)) for bus in buses]
    print("\n" + table(outcomes))
    print(
        f"seed {given.seed}: again with make faults SECONDS={given.seconds:.0f} SEED={given.seed}"
    )
    is_long = given.seconds >= LONG_S and given.bus == "both"
    wrong = shortcomings(outcomes, is_long=is_long)
    if is_long:
        write_results(given.seconds, given.seed, outcomes, wrong)
    print("\n".join(wrong) if wrong else "nothing was oversold, lost, duplicated or leaked")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
