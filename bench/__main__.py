"""Run the scenarios, show the table, and write `results/`."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.place import Servers, servers_of
from bench.plan import FULL, QUICK, SMOKE, Plan
from bench.report import Report
from bench.scenarios import ON_KAFKA, ON_RABBITMQ, SMOKED
from bench.settings_read import machine, settings_of
from bench.table import RESULTS, show, write

Scenario = Callable[[Servers, Plan, Report], None]


def main() -> int:
    """Measure; 1 where a proof fails, 0 also where a target is missed: the table says so."""
    asked = _asked()
    console = Console(width=None if sys.stdout.isatty() else 220)
    work = {"kafka": ON_KAFKA, "rabbitmq": ON_RABBITMQ}
    if asked.plan is SMOKE and not asked.only:
        work = {"kafka": SMOKED}
    if asked.only:
        work = {
            bus: tuple(one for one in scenarios if one.__name__ in asked.only)
            for bus, scenarios in work.items()
        }
    began = time.monotonic()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        report = Report(say=console.log if console.is_terminal else console.print)
        bar = progress.add_task("servers", total=sum(map(len, work.values())))
        for bus, scenarios in work.items():
            if scenarios:
                _on(bus, scenarios, asked.plan, report, partial(progress.update, bar))
    for name, value in sorted(report.settings.items()):
        console.print(f"{name}: {value}")
    show(report, console)
    console.print(f"{time.monotonic() - began:.0f} s in all")
    about = {
        "command": f"make bench{'' if asked.plan is FULL else ' QUICK=1'}",
        "plan": asked.plan.name,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "machine": machine(),
    }
    # Only a full run's figures are kept with the source.
    folder = RESULTS if asked.plan is FULL and not asked.only else RESULTS / "partial"
    write(report, about, asked.results or folder)
    return 0


def _on(
    bus: str,
    scenarios: tuple[Scenario, ...],
    plan: Plan,
    report: Report,
    tell: Callable[..., None],
) -> None:
    with servers_of(bus) as servers:
        report.settings.update(settings_of(servers))
        for scenario in scenarios:
            tell(description=f"{scenario.__name__} on {bus}")
            scenario(servers, plan, report)
            tell(advance=1)


def _asked() -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    length = words.add_mutually_exclusive_group()
    for plan, says in ((QUICK, "in less than three minutes"), (SMOKE, "only whether it works")):
        length.add_argument(
            f"--{plan.name}", dest="plan", action="store_const", const=plan, help=says
        )
    names = sorted({one.__name__ for one in (*ON_KAFKA, *ON_RABBITMQ)})
    words.add_argument("--only", action="append", choices=names, help="this scenario alone")
    words.add_argument("--results", type=Path, help="the folder for latest.json and the chart")
    words.set_defaults(plan=FULL)
    return words.parse_args()


if __name__ == "__main__":
    sys.exit(main())
