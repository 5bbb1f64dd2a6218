"""Goes through the anti-tests: each test must be green with its mechanism, and red without."""

import ast
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import attrs

from tests.antitests.antitest import AntiTest
from tests.antitests.copies import DoesNotFit, copy_tree, copy_without, patched
from tests.antitests.trying import Phase, Ran, load_what_is_not_ours, run_side_by_side, run_tests

TEST_S_MAX = 180
"""One test, with the start of its servers: longer than pytest's own limit of a test."""
WHOLE_S_MAX = 900
"""All named tests once, unpatched."""


@attrs.frozen(kw_only=True)
class Verdict:
    """`is_red`: the test noticed that the mechanism is missing, as it should."""

    antitest: AntiTest
    is_red: bool
    said: str = ""
    seconds: float = 0.0


def verdicts(antitests: Sequence[AntiTest]) -> Iterator[Verdict]:
    """Judge each, as it is ready."""
    # A server that is missing is no skip, and chance is the same each time.
    os.environ["CI"] = "true"
    folder = Path(tempfile.mkdtemp(prefix="flashsale-antitests-")).resolve()
    try:
        yield from _judged(antitests, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(antitests: Sequence[AntiTest], folder: Path) -> Iterator[Verdict]:
    whole = folder / "whole"
    copy_tree(whole)
    fitting = []
    for one in antitests:
        wrong = _why_it_does_not_fit(one, whole)
        if wrong is None:
            fitting.append(one)
        else:
            yield Verdict(antitest=one, is_red=False, said=wrong)
    if not fitting:
        return
    # One run for all: what is green here has also left its compiled form for the copies.
    tests = list(dict.fromkeys(one.test for one in fitting))
    ran = run_tests(whole, tests, limit_s=WHOLE_S_MAX)
    load_what_is_not_ours(whole)
    green = []
    for one in fitting:
        why = why_not_green(ran, one.test)
        if why is None:
            green.append(one)
        else:
            yield Verdict(antitest=one, is_red=False, said=f"with the mechanism, {why}")
    again = []
    for one, without in _without(green, whole, folder):
        if one.server is not None and not _calls(one, without):
            # Its server did not start: a port may have been taken meanwhile. Once more, then.
            again.append(one)
        else:
            yield judge(one, without)
    for one, without in _without(again, whole, folder):
        yield judge(one, without)


def _without(
    antitests: Sequence[AntiTest], whole: Path, folder: Path
) -> Iterator[tuple[AntiTest, Ran]]:
    work = [(one, _copying(one, whole, folder / one.name)) for one in antitests]
    for one, ran in run_side_by_side(work, limit_s=TEST_S_MAX):
        shutil.rmtree(folder / one.name, ignore_errors=True)
        yield one, ran


def _copying(
    antitest: AntiTest, whole: Path, tree: Path
) -> Callable[[], tuple[Path, Sequence[str]]]:
    def make() -> tuple[Path, Sequence[str]]:
        copy_without(antitest, whole, tree)
        return tree, [antitest.test]

    return make


def _why_it_does_not_fit(antitest: AntiTest, whole: Path) -> str | None:
    try:
        patched(antitest, whole)
    except (DoesNotFit, SyntaxError, OSError) as wrong:
        return f"the patch does not fit: {wrong}"
    # One test that is not there would keep pytest from running all others.
    return None if is_test(whole, antitest.test) else "there is no such test"


def is_test(tree: Path, test: str) -> bool:
    """Say whether a node id names a test; one that a class inherits stands in the test kit."""
    file, *classes, function = test.partition("[")[0].split("::")
    path = tree / file
    if not path.is_file():
        return False
    text = path.read_text("utf-8")
    if any(f"class {one}(" not in text and f"class {one}:" not in text for one in classes):
        return False
    kit = sorted((tree / "src/flashsale_core/testing").glob("*.py")) if classes else []
    return any(function in _functions(one.read_text("utf-8")) for one in (path, *kit))


@cache
def _functions(text: str) -> frozenset[str]:
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(text)) if isinstance(node, found))


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


def _calls(antitest: AntiTest, ran: Ran) -> list[Phase]:
    return [one for one in ran.of(antitest.test) if one.phase == "call"]


def _why_not_red(antitest: AntiTest, ran: Ran) -> str | None:
    calls = _calls(antitest, ran)
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
