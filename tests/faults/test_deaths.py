"""The deaths that every run of the tests has: each point once by kill -9, and what dies besides.

`make faults` draws from all of them, on both buses, for as long as one likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from flashsale.fault_points import Point
from tests.faults.kinds import AT_THE_DOOR, IN_A_REBUILD, KINDS, die_at
from tests.faults.stack import RECOVERY_S_MAX, standing

RATE = 60.0
"""Enough that every point is passed within a second, on two cores that do all the rest too."""
SEED = 1
EVERY_POINT = {point.site.name for point in Point}
pytestmark = pytest.mark.timeout(600)

AT_WORK = [one for one in Point if one not in (*AT_THE_DOOR, *IN_A_REBUILD)]
TOGETHER = 4
KINDS_IN_SHORT = [
    "broker-killed",
    "database-killed",
    "gate-killed",
    "gate-frozen",
    "gate-wire-swallows",
    "bus-wire-swallows",
    "database-backends-terminated",
]
"""The quickest; the long run has all."""


def _together(points: Sequence[Point]) -> list[Sequence[Point]]:
    return [points[at : at + TOGETHER] for at in range(0, len(points), TOGETHER)]


async def test_deaths_at_every_point_and_of_every_server_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    """Each process that passes a point dies there by kill -9, while buyers go on coming.

    Then broker, database and Redis die and come back or hang, and replies of both are lost.
    """
    async with standing("kafka", tmp_path, SEED) as stack:
        async with stack.under_load(RATE):
            # One fault: whoever comes is armed, and nobody works off what the dead have left.
            async with stack.breaking():
                for several in (AT_THE_DOOR, AT_WORK, IN_A_REBUILD):
                    for points in _together(several):
                        await die_at(stack, *points)
                    await stack.whole()
            for name in KINDS_IN_SHORT:
                async with stack.breaking():
                    await KINDS[name](stack)
            assert await stack.recovered() < RECOVERY_S_MAX
        assert await stack.discard_some()
        _, violations = await stack.judged()
    assert Counter(one.name.value for one in violations) == {}, violations[:5]
    assert set(stack.points_hit) == EVERY_POINT
