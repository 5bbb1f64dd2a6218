"""What the long run draws: everything is in it, and nothing that cannot come about."""

from __future__ import annotations

import random

import pytest

from flashsale.fault_points import Point
from tests.faults.kinds import ACTIONS, AT_THE_DOOR, IN_A_REBUILD, _natures, _plans

ORDER = list(Point)


def dealt(turn: int, seed: int) -> list[dict[Point, str]]:
    """Deal one turn out."""
    dice = random.Random(seed)
    return [plan for several in _natures() for plan in _plans(several, turn, dice)]


@pytest.mark.parametrize("seed", range(20))
def test_each_turn_breaks_every_point_once_and_three_turns_in_every_way(seed: int) -> None:
    """A long run that has gone round has tried the whole product."""
    seen: set[tuple[Point, str]] = set()
    for turn in range(len(ACTIONS)):
        plans = dealt(turn, seed)
        assert sorted((p for plan in plans for p in plan), key=ORDER.index) == ORDER
        seen |= {pair for plan in plans for pair in plan.items()}
    assert seen == {(point, action) for point in Point for action in ACTIONS}


@pytest.mark.parametrize("seed", range(20))
def test_one_process_passes_all_of_its_points_and_dies_at_the_last(seed: int) -> None:
    """What lies behind a death is never reached, and an API rebuilds nothing."""
    natures = [set(AT_THE_DOOR), set(IN_A_REBUILD), set(Point) - {*AT_THE_DOOR, *IN_A_REBUILD}]
    for plan in (plan for turn in range(len(ACTIONS)) for plan in dealt(turn, seed)):
        assert any(set(plan) <= nature for nature in natures)
        deaths = [point for point, action in plan.items() if action == "kill"]
        assert len(deaths) <= 1
        assert not deaths or max(plan, key=ORDER.index) is deaths[0]
