"""How commands speak: answers on standard output, what is wrong on standard error, in one line."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[
    bool,
    Parameter(name="--json", negative="", show_default=False, help="Write JSON, for programs."),
]

CELLS_MAX = 10_000
"""Wider than any table; where nobody sees it, a line is as long as it must be."""
STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


class CommandFailed(Exception):
    """A command cannot do what was asked; the message is the line that the person reads."""


def say(line: str, style: str = "") -> None:
    """Write one line of an answer; never broken into two, whatever the terminal's width."""
    Console(soft_wrap=True, highlight=False).print(Text(line, style=style))


def errors_console() -> Console:
    """Write on standard error: what is wrong, and how far a work is."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def complain(problem: str) -> None:
    """Write what is wrong."""
    console = errors_console()
    console.print(Text("flashsale: ", style="bold red").append(problem, style="not bold default"))


def write_json(value: object) -> None:
    """Write an answer for a program."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows for a person; numbers stand right. Cells are never cut off."""
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for at, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[at], int) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        # Where there is no terminal, no width of one may fold a line.
        console = Console(highlight=False, width=CELLS_MAX)
        console.width = console.measure(table).maximum
    console.print(table)


def write_facts(facts: Mapping[str, Any]) -> None:
    """Write names and values below each other; what is None is left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    width = max((len(name) for name in known), default=0)
    for name, value in known.items():
        say(f"{name.ljust(width)}  {value}")
