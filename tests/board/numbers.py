"""How the board writes numbers: short, with the unit that Grafana would show."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

THOUSANDS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))
SECONDS = ((60.0, 60.0, " min"), (1.0, 1.0, " s"), (1e-3, 1e-3, " ms"), (0.0, 1e-6, " µs"))
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
TICKS = 4


def written(value: float, unit: str) -> str:
    """Write a value: `1.2 K`, `14 ms`, `250/s`, `3 %`."""
    match unit:
        case "s" if value:
            _, by, name = next(one for one in SECONDS if value >= one[0])
            return f"{_plain(value / by)}{name}"
        case "percentunit":
            return f"{_plain(value * 100)} %"
        case "ops":
            return f"{_short(value)}/s"
        case _:
            return _short(value)


def _short(value: float) -> str:
    for limit, name in THOUSANDS:
        if value >= limit:
            return f"{_plain(value / limit)} {name}"
    return _plain(value)


def _plain(value: float) -> str:
    """Write at most three digits that mean something."""
    if value >= 100 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def ticks(highest: float) -> Sequence[float]:
    """Choose round values from 0 to just above the highest."""
    if highest <= 0:
        return (0.0, 1.0)
    rough = highest / TICKS
    power = 10 ** floor(log10(rough))
    step = next(power * nice for nice in NICE if power * nice >= rough)
    count = int(highest / step) + 1
    return [step * n for n in range(count + 1)]
