"""The tool that draws the board leaves nothing out and makes nothing up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pytest

from tests.board.draw import Drawing, EmptyPanel, Points
from tests.board.numbers import ticks, written
from tests.deploy.queries import board

LINE = [(float(at), float(at * at)) for at in range(11)]


def everything(_query: str) -> Iterable[tuple[Mapping[str, str], Points]]:
    """Answer each query with one series."""
    yield {"sale": "1.1", "name": "gate", "state": "OPEN"}, LINE


def test_every_panel_is_drawn_with_its_title_and_its_lines() -> None:
    """And the picture says on its face who drew it."""
    drawn = Drawing(board(), everything, 0.0, 10.0).svg("drawn by us")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {panel["title"] for panel in board()["panels"]} <= set(texts)
    assert "drawn by us" in texts
    charts = [panel for panel in board()["panels"] if panel["type"] == "timeseries"]
    assert drawn.count("<polyline") == sum(len(panel["targets"]) for panel in charts)


def test_a_panel_that_finds_nothing_ends_the_drawing() -> None:
    """An empty panel must not be overlooked among twenty full ones."""
    with pytest.raises(EmptyPanel, match="Drift"):
        Drawing(
            board(), lambda query: [] if "drift" in query else everything(query), 0.0, 10.0
        ).svg("")


def test_a_line_is_broken_where_nobody_answered() -> None:
    """A straight line over an outage would be a lie."""
    halves = [point for point in LINE if not 3 < point[0] < 8]
    drawn = Drawing(board(), lambda _: [({}, halves)], 0.0, 10.0).svg("")
    charts = [panel for panel in board()["panels"] if panel["type"] == "timeseries"]
    assert drawn.count("<polyline") == 2 * sum(len(panel["targets"]) for panel in charts)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (20_000, "short", "20 K"),
        (0, "s", "0"),
        (0.0123, "s", "12.3 ms"),
        (0.000_25, "s", "250 µs"),
        (90, "s", "1.5 min"),
        (0.05, "percentunit", "5 %"),
        (1_500, "ops", "1.5 K/s"),
    ],
)
def test_numbers_are_written_shortly(value: float, unit: str, text: str) -> None:
    """With the unit that the panel names."""
    assert written(value, unit) == text


@pytest.mark.parametrize("highest", [0, 0.004, 1, 7, 20_000, 123_456])
def test_an_axis_ends_above_what_it_shows(highest: float) -> None:
    """And begins at nothing."""
    marks = ticks(highest)
    assert marks[0] == 0
    assert marks[-1] > highest
    assert len(marks) <= 7
