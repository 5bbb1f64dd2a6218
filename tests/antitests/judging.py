"""Runs tests in a copy, and judges whether one is red for the right reason."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.antitests.antitest import AntiTest
from tests.antitests.witness import NOTES

TEST_S_MAX = 120
"""One test, with the start of its servers."""
WHOLE_S_MAX = 900
"""All named tests once, unpatched."""
STOP_S = 15
"""A run that is told to end stops its servers first."""
SOURCES = ("", "src", "src/adapters", "src/entrypoints")


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


@attrs.frozen(kw_only=True)
class Verdict:
    """`is_red`: the test noticed that the mechanism is missing, as it should."""

    antitest: AntiTest
    is_red: bool
    said: str
    seconds: float = 0.0


def run_tests(tree: Path, tests: Sequence[str], *, limit_s: float) -> Ran:
    """Run tests in a copy, in a process group of its own that ends with the limit."""
    notes = tree.parent / f"{tree.name}.notes"
    notes.write_text("", encoding="utf-8")
    environment = {
        **os.environ,
        NOTES: str(notes),
        "PYTHONPATH": os.pathsep.join(str(tree / one) for one in SOURCES),
        # A server that is missing is no skip, and chance is the same each time.
        "CI": "true",
    }
    options = ("-q", "-p", "no:cacheprovider", "-p", "tests.antitests.witness", "--tb=short")
    command = [sys.executable, "-m", "pytest", *options, f"--rootdir={tree}", *tests]
    began = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, is_overdue = process.communicate(timeout=limit_s)[0], False
        except subprocess.TimeoutExpired:
            output, is_overdue = _ended(process), True
    return Ran(
        phases=[_phase(json.loads(line)) for line in notes.read_text("utf-8").splitlines()],
        seconds=time.monotonic() - began,
        output=output,
        is_overdue=is_overdue,
    )


def _phase(noted: dict[str, Any]) -> Phase:
    return Phase(
        test=noted["test"],
        phase=noted["phase"],
        outcome=noted["outcome"],
        errors=tuple(noted["errors"]),
        said=noted["said"],
    )


def _ended(process: subprocess.Popen[str]) -> str:
    """End a run and all that it started."""
    for how in (signal.SIGINT, signal.SIGKILL):
        os.killpg(process.pid, how)
        try:
            return process.communicate(timeout=STOP_S)[0]
        except subprocess.TimeoutExpired:
            continue
    return ""


def why_not_green(ran: Ran, test: str) -> str | None:
    """Say why a test is not green in the whole copy; None when it is."""
    phases = ran.of(test)
    if not any(one.phase == "call" for one in phases):
        return f"it does not run: {_tail(ran)}"
    wrong = [one for one in phases if one.outcome != "passed"]
    return f"it is {wrong[0].outcome}: {wrong[0].said}" if wrong else None


def judge(antitest: AntiTest, ran: Ran) -> Verdict:
    """Judge a run without the mechanism."""
    said = _why_not_red(antitest, ran)
    return Verdict(antitest=antitest, is_red=said is None, said=said or "", seconds=ran.seconds)


def _why_not_red(antitest: AntiTest, ran: Ran) -> str | None:
    phases = ran.of(antitest.test)
    calls = [one for one in phases if one.phase == "call"]
    if ran.is_overdue:
        return f"it did not end: {_tail(ran)}"
    if not calls:
        return f"it broke before it was tried: {_tail(ran)}"
    failed = [one for one in calls if one.outcome == "failed"]
    if not failed:
        return "GREEN without the mechanism"
    strange = [one for one in failed if antitest.reddens_by not in one.errors]
    if strange:
        errors = ", ".join(strange[0].errors)
        return f"red by {errors}, not by {antitest.reddens_by}: {strange[0].said}"
    return None


def _tail(ran: Ran) -> str:
    lines = [line for line in ran.output.splitlines() if line.strip()]
    return " / ".join(lines[-4:])[-400:]
