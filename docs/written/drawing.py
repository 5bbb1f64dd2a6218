"""Pictures as SVG: a sequence of messages between lanes, and states with ways between them."""

from collections.abc import Sequence
from html import escape
from textwrap import wrap

import attrs

INK, SOFT, PAPER, LINE = "#1d2733", "#5b6b7a", "#fbfaf7", "#33475b"
COLOURS = {"plain": LINE, "bad": "#b3261e", "good": "#1b7f4b"}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="14" role="img" aria-labelledby="t d">
  <title id="t">{title}</title>
  <desc id="d">{told}</desc>
  <defs>
{markers}
  </defs>
  <rect width="{width}" height="{height}" rx="10" fill="{paper}"/>
"""  # noqa: E501 - one element
MARKER = (
    '    <marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
    'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" '
    'fill="{colour}"/></marker>'
)
LANE_TOP, FIRST, STEP, LINE_HEIGHT = 70, 112, 44, 17


@attrs.frozen
class Lane:
    """Who speaks and listens."""

    name: str
    x: int
    fill: str = "#e8eef7"


@attrs.frozen
class Message:
    """From one lane to another; to itself it is work that the lane does."""

    sender: str
    receiver: str
    text: str
    kind: str = "plain"


@attrs.frozen
class Note:
    """A line over all lanes: what holds from here on."""

    text: str


def sequence(title: str, lanes: Sequence[Lane], steps: Sequence[Message | Note]) -> str:
    """Draw messages, one below the other."""
    width = max(lane.x for lane in lanes) + 110
    at = {lane.name: lane.x for lane in lanes}
    y, drawn, told = FIRST, [], []
    for step in steps:
        told.append(step.text if isinstance(step, Note) else f"{step.sender}: {step.text}")
        lines, y = _step(step, at, y, width)
        drawn += lines
    bottom = y - STEP // 2
    columns = [line for lane in lanes for line in _column(lane, bottom)]
    return _picture(title, ". ".join(told) + ".", width, bottom + 24, [*columns, *drawn])


def _column(lane: Lane, bottom: int) -> list[str]:
    return [
        f'  <path d="M{lane.x} {LANE_TOP} V{bottom}" stroke="{SOFT}" stroke-dasharray="3 4"/>',
        _box(lane.x, 24, LANE_TOP - 24, lane.fill),
        *_text(lane.name, lane.x, 52, weight="bold"),
    ]


def _step(step: Message | Note, at: dict[str, int], y: int, width: int) -> tuple[list[str], int]:
    if isinstance(step, Note):
        line = f'  <path d="M20 {y} H{width - 20}" stroke="{SOFT}" stroke-width="1"/>'
        return [
            line,
            *_text(step.text, width // 2, y + 20, colour=SOFT, is_free=True),
        ], y + STEP + 14
    begin, end, colour = at[step.sender], at[step.receiver], COLOURS[step.kind]
    if begin == end:
        lines = wrap(step.text, 24)
        high = LINE_HEIGHT * len(lines) + 12
        box = (
            f'  <rect x="{begin - 92}" y="{y - 14}" width="184" height="{high}" rx="5" '
            f'fill="#fff" stroke="{colour}" stroke-width="1.5"/>'
        )
        texts = [_text(line, begin, y + 5 + LINE_HEIGHT * n)[0] for n, line in enumerate(lines)]
        return [box, *texts], y + high + STEP - 20
    tip = end - 3 if end > begin else end + 3
    arrow = (
        f'  <path d="M{begin} {y + 6} H{tip}" stroke="{colour}" stroke-width="2" fill="none" '
        f'marker-end="url(#{step.kind})"/>'
    )
    return [arrow, *_text(step.text, (begin + end) // 2, y, colour=colour, is_free=True)], y + STEP


@attrs.frozen
class State:
    """A state, and where its middle is."""

    name: str
    told: str
    x: int
    y: int
    fill: str = "#e8eef7"


@attrs.frozen
class Way:
    """A way from one point to another, with its words at a third."""

    path: str
    words: str
    x: int
    y: int
    kind: str = "plain"


def states(
    title: str,
    told: str,
    size: tuple[int, int],
    boxes: Sequence[State],
    ways: Sequence[Way],
    group: tuple[str, int, int, int, int],
) -> str:
    """Draw states where they are put, the ways between them, and a group around some."""
    words, x, y, width, height = group
    border = f'fill="none" stroke="{SOFT}" stroke-dasharray="4 4"'
    drawn = [
        f'  <rect x="{x}" y="{y}" width="{width}" height="{height}" rx="12" {border}/>',
        *_text(words, x + width // 2, y - 8, colour=SOFT, size=13),
    ]
    drawn += [
        f'  <path d="{way.path}" stroke="{COLOURS[way.kind]}" stroke-width="2" fill="none" '
        f'marker-end="url(#{way.kind})"/>'
        for way in ways
    ]
    for state in boxes:
        drawn += [
            _box(state.x, state.y - 32, 64, state.fill),
            *_text(state.name, state.x, state.y - 6, weight="bold"),
            *_text(state.told, state.x, state.y + 14, size=12),
        ]
    for way in ways:
        for number, line in enumerate(way.words.split("\n")):
            drawn += _text(
                line, way.x, way.y + 16 * number, colour=COLOURS[way.kind], size=13, is_free=True
            )
    return _picture(title, told, *size, drawn)


def _box(middle: int, top: int, height: int, fill: str) -> str:
    look = f'rx="8" fill="{fill}" stroke="{LINE}" stroke-width="2"'
    return f'  <rect x="{middle - 75}" y="{top}" width="150" height="{height}" {look}/>'


def _text(
    text: str,
    x: int,
    y: int,
    *,
    colour: str = INK,
    weight: str = "normal",
    size: int = 14,
    is_free: bool = False,
) -> list[str]:
    style = f'text-anchor="middle" fill="{colour}" font-size="{size}" font-weight="{weight}"'
    halo = f' paint-order="stroke" stroke="{PAPER}" stroke-width="4"' if is_free else ""
    return [f'  <text x="{x}" y="{y}" {style}{halo}>{escape(text)}</text>']


def _picture(title: str, told: str, width: int, height: int, drawn: Sequence[str]) -> str:
    markers = "\n".join(MARKER.format(name=name, colour=one) for name, one in COLOURS.items())
    head = HEAD.format(
        width=width,
        height=height,
        title=escape(title),
        told=escape(told),
        markers=markers,
        paper=PAPER,
    )
    return head + "\n".join(drawn) + "\n</svg>\n"
