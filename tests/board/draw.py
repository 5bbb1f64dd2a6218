"""Draws the board's panels, at their places, as one SVG: what Grafana would show, in its colours.

Knows the two kinds of panel that the board has, and of each what the board uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import attrs

from tests.board.numbers import ticks, written

Json = Mapping[str, Any]
Points = Sequence[tuple[float, float]]
CELL_W, CELL_H, GAP = 60, 30, 8
"""Grafana's own: a cell is 30 high with 8 between, and the width is shared among 24."""
HEAD, LEFT, BOTTOM, TITLE = 56, 56, 44, 30
BACK, PANEL, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#d8d9da", "#8e9196"
WHITE = "#ffffff"
PALETTE = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9"),
    *("#37872d", "#fade2a", "#c4162a"),
)
NAMED = re.compile(r"\{\{\s*(\w+)\s*\}\}")
LEGEND_CHARACTER_W = 6.0
LABELS = 6
STEP_S = 1.0
"""Between two points of an unbroken line."""


@attrs.frozen
class Line:
    """One series as it is shown."""

    name: str
    points: Points

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


Ask = Callable[[str], Iterable[tuple[Mapping[str, str], Points]]]
"""Answers a query with the labels and points of its series."""


class EmptyPanel(Exception):
    """A panel has nothing to show."""


@attrs.define
class Drawing:
    """A board drawn for one stretch of time."""

    board: Json
    ask: Ask
    begin: float
    end: float
    _out: list[str] = attrs.field(factory=list, init=False)

    def svg(self, note: str) -> str:
        """Draw all of it; raises EmptyPanel where a query finds nothing."""
        panels = self.board["panels"]
        places = [panel["gridPos"] for panel in panels]
        width = 24 * CELL_W + GAP
        height = HEAD + max(one["y"] + one["h"] for one in places) * (CELL_H + GAP) + GAP
        self._box(0, 0, width, height, BACK)
        self._text(16, 34, self.board["title"], size=20, weight=600)
        self._text(width - 16, 34, note, size=12, color=FAINT, anchor="end")
        for panel in panels:
            self._panel(panel)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'font-family="Inter, DejaVu Sans, sans-serif">{"".join(self._out)}</svg>'
        )

    # ── panels ──────────────────────────────────────────────────────────────────────────────────

    def _panel(self, panel: Json) -> None:
        place = panel["gridPos"]
        x, y = place["x"] * CELL_W + GAP, HEAD + place["y"] * (CELL_H + GAP)
        width, height = place["w"] * CELL_W - GAP, place["h"] * (CELL_H + GAP) - GAP
        self._box(x, y, width, height, PANEL, edge=EDGE)
        self._text(x + 12, y + 20, panel["title"], size=13, weight=600)
        lines = self._lines(panel)
        if not lines:
            raise EmptyPanel(panel["title"])
        kind = self._stat if panel["type"] == "stat" else self._chart
        kind(panel, lines, (x, y + TITLE, width, height - TITLE))

    def _lines(self, panel: Json) -> list[Line]:
        return [
            Line(_named(target["legendFormat"], labels), points)
            for target in panel["targets"]
            for labels, points in self.ask(target["expr"])
        ]

    def _stat(
        self, panel: Json, lines: Sequence[Line], box: tuple[float, float, float, float]
    ) -> None:
        """Show the last values as coloured tiles."""
        x, y, width, height = box
        now = [line for line in lines if line.points[-1][0] >= self.end - 1]
        if not now:
            raise EmptyPanel(panel["title"])
        defaults = panel["fieldConfig"]["defaults"]
        is_name = panel["options"]["textMode"] == "name"
        each = (width - GAP) / len(now)
        for at, line in enumerate(now):
            left, tall = x + GAP / 2 + at * each, height - GAP
            text, color = _told(line.last, defaults)
            self._box(left + 2, y, each - 4, tall, color, radius=3)
            if is_name:
                self._large(left, y, each, tall, line.name)
            elif len(now) == 1:
                self._large(left, y, each, tall, text)
            else:
                middle = left + each / 2
                self._text(middle, y + 24, line.name, size=12, anchor="middle", color=WHITE)
                self._large(left, y + 12, each, tall, text, size=18)

    def _large(
        self, x: float, y: float, width: float, height: float, text: str, size: int = 30
    ) -> None:
        """Write a text in the middle of a tile, as large as it fits."""
        size = min(size, int(width / len(text) * 1.3))
        low = y + height / 2 + size / 3
        self._text(x + width / 2, low, text, size=size, weight=600, color=WHITE, anchor="middle")

    def _chart(
        self, panel: Json, lines: Sequence[Line], box: tuple[float, float, float, float]
    ) -> None:
        """Show lines over time, stacked where the panel says so."""
        x, y, width, height = box
        left, top, right, low = x + LEFT, y + 8, x + width - 14, y + height - BOTTOM
        defaults = panel["fieldConfig"]["defaults"]
        colors = _colors(panel, lines)
        stacked = defaults["custom"]["stacking"]["mode"] == "normal"
        layers = _stacked(lines) if stacked else [(line.points, None) for line in lines]
        marks = ticks(max((value for points, _ in layers for _, value in points), default=0))
        to_x = _scale(self.begin, self.end, left, right)
        to_y = _scale(0, marks[-1], low, top)
        for mark in marks:
            self._rule(left, to_y(mark), right)
            label = written(mark, defaults["unit"])
            self._text(left - 6, to_y(mark) + 4, label, size=11, color=FAINT, anchor="end")
        for at in range(LABELS):
            moment = self.begin + (self.end - self.begin) * at / (LABELS - 1)
            told = f"{int(moment - self.begin) // 60}:{int(moment - self.begin) % 60:02d}"
            self._text(to_x(moment), low + 16, told, size=11, color=FAINT, anchor="middle")
        opacity = defaults["custom"]["fillOpacity"] / 100
        for (points, floor), line in reversed(list(zip(layers, lines, strict=True))):
            under = dict(floor or [])
            for piece in _unbroken(points):
                path = [(to_x(at), to_y(value)) for at, value in piece]
                base = [(to_x(at), to_y(under.get(at, 0))) for at, _ in reversed(piece)]
                self._out.append(
                    f'<polygon points="{_joined([*path, *base])}" fill="{colors[line.name]}" '
                    f'fill-opacity="{opacity}"/><polyline points="{_joined(path)}" fill="none" '
                    f'stroke="{colors[line.name]}" stroke-width="1.6"/>'
                )
        self._legend(lines, colors, x + 14, y + height - 12)

    def _legend(self, lines: Sequence[Line], colors: Mapping[str, str], x: float, y: float) -> None:
        for name in dict.fromkeys(line.name for line in lines):
            self._box(x, y - 6, 14, 4, colors[name], radius=2)
            self._text(x + 18, y, name, size=10, color=TEXT)
            x += 29 + len(name) * LEGEND_CHARACTER_W

    # ── strokes ─────────────────────────────────────────────────────────────────────────────────

    def _box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        color: str,
        *,
        edge: str = "none",
        radius: int = 2,
    ) -> None:
        self._out.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'rx="{radius}" fill="{color}" stroke="{edge}"/>'
        )

    def _rule(self, left: float, y: float, right: float) -> None:
        self._out.append(
            f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}" stroke="{EDGE}"/>'
        )

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int,
        weight: int = 400,
        color: str = TEXT,
        anchor: str = "start",
    ) -> None:
        self._out.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
            f'fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'
        )


def _named(pattern: str, labels: Mapping[str, str]) -> str:
    return NAMED.sub(lambda label: labels.get(label[1], ""), pattern)


def _told(value: float, defaults: Json) -> tuple[str, str]:
    """Say a value in the panel's words and colour."""
    for mapping in defaults["mappings"]:
        told = mapping["options"].get(f"{value:g}")
        if told is not None:
            return told["text"], told["color"]
    steps = defaults["thresholds"]["steps"]
    color = [one["color"] for one in steps if one["value"] is None or value >= one["value"]][-1]
    return written(value, defaults["unit"]), color


def _colors(panel: Json, lines: Sequence[Line]) -> dict[str, str]:
    colors = {line.name: PALETTE[at % len(PALETTE)] for at, line in enumerate(lines)}
    for one in panel["fieldConfig"]["overrides"]:
        colors[one["matcher"]["options"]] = one["properties"][0]["value"]["fixedColor"]
    return colors


def _stacked(lines: Sequence[Line]) -> list[tuple[Points, Points | None]]:
    """Put every line on those before it; answer its upper and its lower edge."""
    layers: list[tuple[Points, Points | None]] = []
    below: dict[float, float] = {}
    for line in lines:
        floor = [(at, below.get(at, 0.0)) for at, _ in line.points]
        below |= {at: below.get(at, 0.0) + value for at, value in line.points}
        layers.append(([(at, below[at]) for at, _ in line.points], floor))
    return layers


def _unbroken(points: Points) -> Iterable[Points]:
    """Cut a line where nobody answered: a straight line there would be a lie."""
    begin = 0
    for at in range(1, len(points) + 1):
        if at == len(points) or points[at][0] - points[at - 1][0] > STEP_S:
            yield points[begin:at]
            begin = at


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    return lambda value: begin + (value - low) / (high - low) * (end - begin)


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
