"""What many requests a second need, computed from what one was measured to cost.

python -m bench.scaling     writes the tables of docs/scaling.md anew
"""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import Any

from bench.table import LATEST

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- computed: python -m bench.scaling -->", "<!-- end of computed -->"
RATES = (10_000, 100_000, 1_000_000)
BUSY_MAX = 0.6
"""A core that is busier than this makes whoever waits for it wait long."""
SHARE_MAX = 0.8
"""Of the one core that serves an item's slot: it has one kind of work and no neighbours."""
MICRO = 1_000_000


def page(text: str, found: dict[str, Any]) -> str:
    """Put the tables into the page's text."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + "\n".join([BEGIN, "", *_tables(found["costs"]), "", END]) + after


def _tables(costs: dict[str, dict[str, float]]) -> list[str]:
    accept, drain = costs["accept, kafka"], costs["drain, kafka"]
    late, named = costs["sold out, no purchase id"], costs["sold out, with a purchase id"]
    one_item = _rate(accept["redis"], SHARE_MAX)
    late_named = _rate(named["redis"], SHARE_MAX)
    header = " | ".join(f"{rate:,}/s" for rate in RATES)
    return [
        "| CPU µs per request | API | Redis | Kafka | worker | PostgreSQL |",
        "|---|---|---|---|---|---|",
        _row("accepted and confirmed", [accept["api"], accept["redis"], accept["kafka"], 0, 0]),
        _row("sold out, no purchase id", [late["api"], late["redis"], 0, 0, 0]),
        _row("sold out, with a purchase id", [named["api"], named["redis"], 0, 0, 0]),
        _row(
            "made an order afterwards",
            [0, drain["redis"], drain["kafka"], drain["worker"], drain["postgres"]],
        ),
        "",
        f"| cores, each at most {BUSY_MAX:.0%} busy | {header} |",
        "|---|---|---|---|",
        _cores("API, everybody is accepted", accept["api"]),
        _cores("API, everybody is too late", late["api"]),
        _cores("API, too late, each with a purchase id", named["api"]),
        _cores("Redis, everybody is accepted", accept["redis"]),
        _cores("Redis, too late, each with a purchase id", named["redis"]),
        _cores("Kafka, everybody is accepted", accept["kafka"]),
        "",
        "| one of them alone gives | a second |",
        "|---|---|",
        f"| purchases accepted by one API process | {_rate(accept['api'], BUSY_MAX)} |",
        f"| purchases of ONE item, whose slot has one Redis core | {one_item} |",
        f"| buyers of one item who come too late with ids of their own | {late_named} |",
        f"| orders by one worker process | {_rate(drain['worker'], BUSY_MAX)} |",
        f"| orders by one PostgreSQL core | {_rate(drain['postgres'], BUSY_MAX)} |",
    ]


def _row(what: str, micros: list[float]) -> str:
    return f"| {what} | " + " | ".join(f"{one:.1f}" if one else "" for one in micros) + " |"


def _cores(what: str, micros: float) -> str:
    needed = (ceil(rate * micros / MICRO / BUSY_MAX) for rate in RATES)
    return f"| {what} | " + " | ".join(f"{cores:,}" for cores in needed) + " |"


def _rate(micros: float, busy: float) -> str:
    return f"{round(MICRO / micros * busy, -2):,.0f}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), json.loads(LATEST.read_text())))
