"""Runs tests in copies of the tree: each run a fork of one process that has all libraries loaded.

A test takes milliseconds and its imports take seconds. So what is not ours is imported once; what
is ours is imported by each run, from its own copy.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import attrs
import pytest

from tests.antitests.copies import ROOT
from tests.antitests.witness import FOREIGN, NOTES

T = TypeVar("T")

AT_ONCE = 2
"""Runs side by side: more would only take the cores from each other's servers."""
LOOK_S = 0.02
STOP_S = 15
"""A run that is told to end stops its servers first."""
SOURCES = ("", "src", "src/adapters", "src/entrypoints")
OPTIONS = ("-q", "--tb=short", "-p", "no:cacheprovider", "-p", "tests.antitests.witness")
LOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""A plugin that was imported before has assertions that are not rewritten; they are not ours."""


@attrs.frozen
class Phase:
    """How a phase of a test ended."""

    test: str
    phase: str
    outcome: str
    errors: tuple[str, ...]
    said: str


@attrs.frozen(kw_only=True)
class Ran:
    """What a run of pytest came to."""

    phases: list[Phase]
    seconds: float
    output: str
    is_overdue: bool = False

    def of(self, test: str) -> list[Phase]:
        """Choose the phases of one test, in all its cases."""
        return [one for one in self.phases if one.test == test or one.test.startswith(f"{test}[")]


@attrs.define
class _Run:
    tree: Path
    pid: int
    limit_s: float
    began: float
    signals: list[signal.Signals] = attrs.field(
        factory=lambda: [signal.SIGINT, signal.SIGKILL, signal.SIGKILL]
    )

    def ended(self) -> Ran | None:
        """Say what it came to, when it has ended; end it when it is overdue."""
        pid, _ = os.waitpid(self.pid, os.WNOHANG)
        seconds = time.monotonic() - self.began
        if pid == 0:
            allowed_s = self.limit_s + STOP_S * (3 - len(self.signals))
            if seconds > allowed_s and self.signals:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, self.signals.pop(0))
            return None
        return Ran(
            phases=_phases(_notes_of(self.tree)),
            seconds=seconds,
            output=_output_of(self.tree).read_text("utf-8", "replace"),
            is_overdue=len(self.signals) < 3,
        )


def run_tests(tree: Path, tests: Sequence[str], *, limit_s: float) -> Ran:
    """Run tests in a copy, in a process group of its own that ends with the limit."""
    [(_, ran)] = run_side_by_side([(tree, lambda: (tree, tests))], limit_s=limit_s)
    return ran


def run_side_by_side(
    work: Iterable[tuple[T, Callable[[], tuple[Path, Sequence[str]]]]], *, limit_s: float
) -> Iterator[tuple[T, Ran]]:
    """Run many, each in the copy that its function makes, and answer each as it ends."""
    waiting, running = iter(work), dict[T, _Run]()
    is_all_begun = False
    while running or not is_all_begun:
        while len(running) < AT_ONCE and not is_all_begun:
            following = next(waiting, None)
            if following is None:
                is_all_begun = True
            else:
                name, make = following
                running[name] = _begun(*make(), limit_s)
        for name, run in list(running.items()):
            ran = run.ended()
            if ran is not None:
                del running[name]
                yield name, ran
        time.sleep(LOOK_S)


def load_what_is_not_ours(tree: Path) -> None:
    """Import what a run that has ended had imported from elsewhere, for all runs to come."""
    for name in json.loads(_notes_of(tree).with_suffix(FOREIGN).read_text("utf-8")):
        with suppress(Exception):
            importlib.import_module(name)
    gc.freeze()


def _begun(tree: Path, tests: Sequence[str], limit_s: float) -> _Run:
    _notes_of(tree).write_text("", encoding="utf-8")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _be_a_run(tree, tests)
    return _Run(tree=tree, pid=pid, limit_s=limit_s, began=time.monotonic())


def _be_a_run(tree: Path, tests: Sequence[str]) -> NoReturn:
    """Run pytest in this fork, and never return."""
    code = 70
    try:
        os.setsid()
        output = os.open(_output_of(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.chdir(tree)
        paths = [str(tree / one) for one in SOURCES]
        sys.path[:] = [*paths, *(one for one in sys.path if not _is_ours(one))]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        os.environ[NOTES] = str(_notes_of(tree))
        for name in [one for one in sys.modules if one.partition(".")[0] == "tests"]:
            del sys.modules[name]
        code = pytest.main([*OPTIONS, *LOADED, f"--rootdir={tree}", *tests])
        atexit._run_exitfuncs()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_ours(path: str) -> bool:
    return path == "" or Path(path) == ROOT or ROOT / "src" in (Path(path), *Path(path).parents)


def _notes_of(tree: Path) -> Path:
    return tree.parent / f"{tree.name}.notes"


def _output_of(tree: Path) -> Path:
    return tree.parent / f"{tree.name}.output"


def _phases(notes: Path) -> list[Phase]:
    noted = map(json.loads, notes.read_text("utf-8").splitlines())
    return [Phase(**{**one, "errors": tuple(one["errors"])}) for one in noted]
