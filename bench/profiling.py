"""Where the microseconds go: the hot path and the drain under load, looked at from outside.

    make profile

py-spy looks at the running process some hundred times a second and changes nothing in it. For each
of the two it prints what a purchase costs by module of ours and by library, in microseconds of the
process's CPU time, and leaves the folded stacks in `results/profile/*.txt`, which any viewer of
flame graphs opens (speedscope.app reads them as they are).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.load import saturate
from bench.place import Place, place, servers_of
from bench.scenarios.doors import APART, WARM_UP_S
from bench.table import RESULTS

FOLDER = RESULTS / "profile"
SPY = Path(sys.executable).with_name("py-spy")
LOOKS = 400
"""Looks a second."""
LOAD_S = 8
FILL_S = 10
SHOWN = 28
OWN = re.compile(r"\((flashsale[a-z_]*/[a-z_/]+\.py)")
LIBRARY = re.compile(r"\(([a-z_]+)/")
IDLE = ("(concurrent/futures/thread.py", "(selectors.py", "(threading.py")
"""Threads that wait."""


def main() -> int:
    """Look at both."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with servers_of("kafka") as servers, place(servers) as here:
        api = here.start("serve")
        here.sell()
        saturate(api.url, WARM_UP_S, first=1)
        _look(here, "api", LOAD_S, lambda: saturate(api.url, LOAD_S + 1, first=APART).requests)
        _show(console, "hot path, a purchase accepted and confirmed", "api")
        total = saturate(api.url, FILL_S, first=2 * APART).accepted
        here.stop("api")
        here.start("worker")
        _look(here, "worker", LOAD_S, lambda: _drained(here, total))
        _show(console, "drain, a purchase that becomes an order", "worker")
    console.print(f"Folded stacks, for a flame graph: {FOLDER}/*.txt")
    return 0


_micros: dict[str, float] = {}


def _look(here: Place, name: str, seconds: int, work: Callable[[], int]) -> None:
    """Have py-spy look while the work is done."""
    process = here.programs[name].process.pid
    words = [str(SPY), "record", "--pid", str(process), "--duration", str(seconds)]
    words += ["--rate", str(LOOKS), "--format", "raw", "--output", str(_raw(name))]
    before = here.usage()
    spy = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = work()
    said, _ = spy.communicate(timeout=seconds + 60)
    if spy.returncode:
        raise SystemExit(f"py-spy may not look at another process here (run as root):\n{said}")
    _micros[name] = here.usage().since(before, done)[name]


def _drained(here: Place, total: int) -> int:
    had = here.orders()
    here.drained(total)
    return here.orders() - had


def _raw(name: str) -> Path:
    return FOLDER / f"{name}.txt"


def _stacks(name: str) -> list[tuple[list[str], int]]:
    found = []
    for line in _raw(name).read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not frames[-1].partition(" ")[2].startswith(IDLE):
            found.append((frames, int(count)))
    return found


def _show(console: Console, title: str, name: str) -> None:
    stacks = _stacks(name)
    looks = sum(count for _, count in stacks)
    micros = _micros[name]
    table = Table(title=f"{title}: {micros:.1f} µs of CPU", title_justify="left")
    table.add_column("where")
    table.add_column("µs in itself", justify="right")
    table.add_column("µs with all below", justify="right")
    alone, below = _by_place(stacks)
    for place_, _ in alone.most_common(SHOWN):
        table.add_row(
            place_, f"{alone[place_] / looks * micros:.1f}", f"{below[place_] / looks * micros:.1f}"
        )
    console.print(table)


def _by_place(stacks: list[tuple[list[str], int]]) -> tuple[Counter[str], Counter[str]]:
    """Count looks by module: its own, and with what it calls."""
    alone: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for frames, count in stacks:
        places = [_place(frame) for frame in frames]
        alone[places[-1]] += count
        for one in set(places):
            below[one] += count
    return alone, below


def _place(frame: str) -> str:
    """Name a frame's module: ours by its file, a library by its package."""
    if ours := OWN.search(frame):
        return ours[1]
    if "generated methods" in frame:
        return "attrs"
    library = LIBRARY.search(frame)
    return library[1] if library else "event loop, sockets and the rest"


if __name__ == "__main__":
    sys.exit(main())
