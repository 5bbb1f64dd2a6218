"""How long each scenario goes on, in the three lengths of a run."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Plan:
    """Seconds and counts."""

    name: str
    rounds: int
    """Each thing and its baseline are measured in turn, so often, and the medians compared."""
    round_s: float
    reservations: int
    """Of one round at the gate alone; an eighth with a call each."""
    waiting: int
    """Purchases that wait in the bus before a drain begins."""
    one_by_one: int
    """Purchases of the drain's baseline."""
    buyers: int
    units: int
    sale_size: int
    """Purchases of the sale that grows."""
    sales: int


FULL = Plan(
    name="full",
    rounds=3,
    round_s=8.0,
    reservations=80_000,
    waiting=100_000,
    one_by_one=3_000,
    buyers=100_000,
    units=1_000,
    sale_size=1_000_000,
    sales=1_000,
)
QUICK = Plan(
    name="quick",
    rounds=1,
    round_s=2.0,
    reservations=80_000,
    waiting=20_000,
    one_by_one=1_000,
    buyers=10_000,
    units=100,
    sale_size=50_000,
    sales=50,
)
SMOKE = Plan(
    name="smoke",
    rounds=1,
    round_s=1.0,
    reservations=8_000,
    waiting=2_000,
    one_by_one=100,
    buyers=2_000,
    units=100,
    sale_size=5_000,
    sales=1_000,
)
