"""Every promise has a mechanism that is tried, and the machine that tries it says no."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.antitests.antitest import AntiTest, Patch
from tests.antitests.copies import ROOT, DoesNotFit, patched
from tests.antitests.judging import is_test, judge, why_not_green
from tests.antitests.mechanisms import ANTITESTS
from tests.antitests.page import page
from tests.antitests.promises import PROMISES, RULES
from tests.antitests.trying import Phase, Ran

PAGE = ROOT / "docs/guarantees.md"
BY_NAME = [pytest.param(one, id=one.name) for one in ANTITESTS]
PURCHASE = "src/flashsale_core/purchase.py:PurchaseDesk._promise"
BEFORE = "sale.epoch, (record.purchase_id,))\n        "
RULE = f"{BEFORE}if self._clock.monotonic_ms() - started_ms >= PROMISE_MS:"
TEST = "tests/unit/test_purchase.py::test_a_confirm_after_the_promises_time_is_an_unknown_outcome"


def antitest(name: str, *patches: Patch) -> AntiTest:
    """Take something out of the rule of 0.8 s."""
    return AntiTest(name=name, promise=2, mechanism="m", where=PURCHASE, patches=patches, test=TEST)


def ran(*phases: Phase, is_overdue: bool = False) -> Ran:
    """Make a run that came to this."""
    return Ran(phases=list(phases), seconds=1.0, output="", is_overdue=is_overdue)


def phase(outcome: str, *errors: str, of: str = "call", case: str = "") -> Phase:
    """Make a phase of the test."""
    return Phase(test=TEST + case, phase=of, outcome=outcome, errors=errors, said="")


# ── the page ────────────────────────────────────────────────────────────────────────────────────


def test_the_page_is_what_the_anti_tests_say() -> None:
    """`python -m tests.antitests --page > docs/guarantees.md` after a change."""
    assert PAGE.read_text("utf-8") == page(ANTITESTS)


def test_every_promise_has_a_mechanism_and_every_anti_test_a_promise() -> None:
    """None of either is missing from the page, and no name is used twice."""
    text = PAGE.read_text("utf-8")
    numbers = [int(found) for found in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert numbers == list(PROMISES) == sorted({one.promise for one in ANTITESTS})
    named = re.findall(r"\| `([a-z0-9-]+)` \|$", text, re.MULTILINE)
    assert sorted(named) == sorted({one.name for one in ANTITESTS})


def test_the_rules_of_the_protocol_are_found_by_their_names() -> None:
    """Each leads to an anti-test that bears it."""
    known = {one.name for one in ANTITESTS}
    assert all(names and known.issuperset(names) for names in RULES.values())
    wanted = {"journal", "confirm before answer", "0.8 s rule", "duplicate check", "lock order"}
    wanted |= {"row before release", "gate follows row", "epoch in record", "epoch in message"}
    wanted |= {"function memory", "barrier"}
    text = PAGE.read_text("utf-8")
    assert [rule for rule in wanted if f"| {rule} | `" not in text] == []


@pytest.mark.parametrize("one", BY_NAME)
def test_an_anti_test_names_a_test_that_is_there_and_code_that_is_there(one: AntiTest) -> None:
    """Code that has moved takes its anti-test along, or this says so."""
    assert is_test(ROOT, one.test)
    texts = patched(one, ROOT)
    assert one.file in texts
    if one.function and one.file.endswith(".py"):
        assert one.function in _names(ROOT / one.file)
    elif one.function:
        assert f"local function {one.function}(" in (ROOT / one.file).read_text("utf-8")


def _names(path: Path) -> set[str]:
    """List functions, methods and constants of a module."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        for inner in [node, *getattr(node, "body", [])]:
            name = getattr(inner, "name", None) or getattr(
                getattr(inner, "target", None), "id", None
            )
            owner = f"{node.name}." if inner is not node and isinstance(node, ast.ClassDef) else ""
            found.add(f"{owner}{name}")
    return found


# ── the machine ─────────────────────────────────────────────────────────────────────────────────


def test_red_by_the_expected_error_is_as_it_should_be() -> None:
    """Of several cases, one is enough."""
    verdict = judge(
        antitest("a"),
        ran(phase("passed", case="[1]"), phase("failed", "AssertionError", case="[2]")),
    )
    assert verdict.is_red


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (ran(phase("passed")), "GREEN"),
        (ran(phase("failed", "NameError")), "NameError"),
        (ran(phase("failed", "Timeout")), "Timeout"),
        (ran(phase("failed", "ImportError", of="setup")), "before it was tried"),
        (ran(phase("skipped", "Skipped", of="setup")), "before it was tried"),
        (ran(), "before it was tried"),
        (ran(phase("failed", "AssertionError"), is_overdue=True), "did not end"),
        (
            ran(
                phase("failed", "AssertionError", case="[1]"),
                phase("failed", "KeyError", case="[2]"),
            ),
            "KeyError",
        ),
    ],
)
def test_anything_else_is_not(without: Ran, said: str) -> None:
    """A patch that breaks the code proves nothing about the mechanism."""
    verdict = judge(antitest("a"), without)
    assert not verdict.is_red
    assert said in verdict.said


def test_a_test_must_be_green_with_its_mechanism() -> None:
    """One that is red anyway, skipped or not run says nothing when it is red without."""
    assert why_not_green(ran(phase("passed", of="setup"), phase("passed")), TEST) is None
    assert why_not_green(ran(phase("failed", "AssertionError")), TEST) is not None
    assert why_not_green(ran(phase("skipped", "Skipped", of="setup")), TEST) is not None
    assert why_not_green(ran(phase("passed"), phase("failed", of="teardown")), TEST) is not None
    assert why_not_green(ran(), TEST) is not None


@pytest.mark.parametrize(
    ("old", "error"), [("moved away", DoesNotFit), ("return ", DoesNotFit), (RULE, SyntaxError)]
)
def test_a_patch_fits_exactly_once_and_leaves_code(old: str, error: type[Exception]) -> None:
    """Code that moved, text that stands twice, and a patch that cannot be compiled are told."""
    with pytest.raises(error):
        patched(antitest("a", Patch(old, "if:")), ROOT)


SCRIPT = """
from tests.antitests.judging import verdicts
from tests.unit.test_antitests import BEFORE, RULE, antitest
from tests.antitests.antitest import Patch
tried = [
    antitest("out", Patch(RULE, f"{BEFORE}if False:")),
    antitest("in-other-words", Patch(RULE, RULE.replace("if ", "if not not "))),
    antitest("misspelt", Patch(RULE, RULE.replace("PROMISE_MS", "PROMISES_MS"))),
    antitest("moved", Patch("not there")),
]
for verdict in verdicts(tried):
    print(verdict.antitest.name, verdict.is_red, verdict.said)
"""


def test_the_machine_tells_a_missing_mechanism_from_a_broken_one() -> None:
    """On real copies: the rule taken out, written otherwise, misspelt, and not found."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    told = sorted(line for line in done.stdout.splitlines())
    assert [line.split()[:2] for line in told] == [
        ["in-other-words", "False"],
        ["misspelt", "False"],
        ["moved", "False"],
        ["out", "True"],
    ], done.stdout + done.stderr
    assert "GREEN" in told[0]
    assert "NameError" in told[1]
    assert "does not fit" in told[2]
