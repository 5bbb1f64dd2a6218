"""What a run came to: one row a figure, and the proof that nothing was lost for it."""

from __future__ import annotations

from typing import Any

import attrs

WHOLE_FROM = 100
SLOWER_MAX = 1.2
"""A baseline that is slower than its known figure by more than this flatters what it is beside."""


@attrs.frozen(kw_only=True)
class Target:
    """What a figure must reach."""

    limit: float
    at_least: bool

    def __str__(self) -> str:
        """Write it as the table does."""
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)}"

    def met_by(self, value: float) -> bool:
        """Say whether a figure reaches it."""
        return value >= self.limit if self.at_least else value <= self.limit


def at_least(limit: float) -> Target:
    """Want as much, or more."""
    return Target(limit=limit, at_least=True)


def at_most(limit: float) -> Target:
    """Want as much, or less."""
    return Target(limit=limit, at_least=False)


@attrs.frozen(kw_only=True)
class Baseline:
    """What a figure is compared with, measured in the same run in the same unit."""

    name: str
    value: float
    known: float | None = None
    """What it came to before in CPU time or rate; `note` says when this run's is much worse."""
    known_is_rate: bool = False

    @property
    def slowness(self) -> float:
        """Say how much worse it is than it is known to be; 1 where nothing is known."""
        if not self.known or not self.value:
            return 1.0
        return self.known / self.value if self.known_is_rate else self.value / self.known


@attrs.frozen(kw_only=True)
class Row:
    """One figure."""

    scenario: str
    figure: str
    value: float
    unit: str
    target: Target | None = None
    baseline: Baseline | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Say whether its target is reached; None without one."""
        return None if self.target is None else self.target.met_by(self.value)

    @property
    def remark(self) -> str:
        """Say what the figures do not: the note, and a baseline that is too slow to be fair."""
        slow = self.baseline is not None and self.baseline.slowness > SLOWER_MAX
        called_out = f"baseline {self.baseline.slowness:.1f}x slower than known" if slow else ""  # type: ignore[union-attr]
        return "; ".join(text for text in (self.note, called_out) if text)

    def as_json(self) -> dict[str, Any]:
        """Write it for the file of results."""
        base = self.baseline
        return {
            "scenario": self.scenario,
            "figure": self.figure,
            "value": rounded(self.value),
            "unit": self.unit,
            "target": None if self.target is None else str(self.target),
            "baseline": None
            if base is None
            else {"name": base.name, "value": rounded(base.value), "known": base.known},
            "ratio": None if self.ratio is None else rounded(self.ratio),
            "met": self.is_met,
            "note": self.remark,
        }


@attrs.frozen(kw_only=True)
class Proof:
    """What buyers were told, and what stands in the database afterwards."""

    scenario: str
    accepted: int
    unsure: int
    """Purchases under way when the load's clock stopped: they may have become orders, or not."""
    orders: int
    oversold: int
    lost: int
    duplicates: int

    @property
    def holds(self) -> bool:
        """Say whether nothing was oversold, lost or doubled."""
        return not (self.oversold or self.lost or self.duplicates)


def rounded(value: float) -> float:
    """Keep three digits, or all before the point."""
    return round(value) if abs(value) >= WHOLE_FROM else float(f"{value:.3g}")


def number(value: float) -> str:
    """Write a figure for people."""
    kept = rounded(value)
    return f"{kept:,.0f}" if kept == int(kept) else f"{kept:,}"
