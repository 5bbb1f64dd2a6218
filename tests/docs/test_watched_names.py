"""What the pages tell an operator to look for can be found: metrics, and lines of the log."""

import re
import shlex

import pytest

from flashsale.commands.app import build_app
from flashsale.commands.gates import COLUMNS
from flashsale_core.ports import Alarm
from flashsale_prometheus import METRICS
from tests.deploy.queries import SUFFIX
from tests.docs.pages import ROOT, blocks, pages

METRIC = re.compile(r"`(flashsale_[a-z_]+)[`{]")
EVENTS = re.compile(r"^\| ((?:`[a-z][a-z, ]+`(?:, )?)+) \|", re.MULTILINE)
SOURCES = {
    path.relative_to(ROOT): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "src").rglob("*.py"))
}
PACKAGES = {path.parts[-2] for path in SOURCES} | {"flashsale_breaker"}
"""Names of our packages; and what is searched for by the beginning of its name."""


def test_metrics_that_pages_name_exist() -> None:
    """A metric that was renamed is searched for in vain, at the worst of times."""
    known = {one.name for one in METRICS} | PACKAGES
    named = {
        (page.name, name) for page in pages() for name in METRIC.findall(page.read_text("utf-8"))
    }
    assert {(page, name) for page, name in named if SUFFIX.sub("", name) not in known} == set()


def test_lines_of_the_log_that_the_page_names_are_written_somewhere() -> None:
    """Word for word, in the code."""
    page = (ROOT / "docs" / "observe.md").read_text("utf-8").split("## What to search")[1]
    events = {event for cell in EVENTS.findall(page) for event in re.findall(r"`([^`]+)`", cell)}
    assert {"alarm", "delivery waits", "loop goes on"} <= events
    written = "\n".join(SOURCES.values())
    assert {event for event in events if f'"{event}"' not in written} == set()


def test_runbooks_quote_no_line_that_nobody_writes() -> None:
    """In quotes of code with a blank between small words there stands a line of the log."""
    written = "\n".join(SOURCES.values())
    quoted = {
        (page.name, line)
        for page in (ROOT / "docs" / "runbooks").glob("*.md")
        for line in re.findall(r"`([a-z]+(?: [a-z]+)+)`", page.read_text("utf-8"))
        if not line.startswith("flashsale ")
    }
    assert {(page, line) for page, line in quoted if f'"{line}"' not in written} == set()


def test_every_kind_of_alarm_has_its_row() -> None:
    """Whoever reads a kind in the log finds where to go on; no row is of yesterday."""
    page = (ROOT / "docs" / "runbooks" / "alarm.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == set(Alarm)


def test_a_column_that_a_runbook_waits_for_is_shown() -> None:
    """`flashsale gate show` has no column "journal", and somebody waited for it to be empty."""
    page = (ROOT / "docs" / "runbooks" / "messages-expired.md").read_text("utf-8")
    columns = re.findall(r"`([a-z]+)` is 0", page)
    assert columns
    assert set(columns) <= set(COLUMNS)


NO_LETTER = {
    *("books-differ", "not-conserved", "gate-answer", "record-version"),
    *("payment-refused", "not-writable", "unit-unnamed"),
}
"""What is no message's fault: of a gate, a payment, and what we write ourselves."""


def test_every_reason_of_a_dead_letter_has_its_row() -> None:
    """Whose fault, and what to do; nobody reads the code at two in the morning."""
    page = (ROOT / "docs" / "dead-letters.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", page, re.MULTILINE)
    told = {reason for row in rows for reason in re.findall(r"`([a-z-]+)`", row)}
    raised = re.findall(r"""Corrupt\(\s*"([a-z-]+)\"""", "\n".join(SOURCES.values()))
    assert set(raised) - NO_LETTER - told == set()
    assert set(raised) >= NO_LETTER


RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
TYPED = {
    line.removesuffix("&").strip(): page.stem
    for page in [ROOT / "docs" / "dead-letters.md", *RUNBOOKS]
    for block in blocks(page)
    if block.info in {"sh", "text"}
    for line in block.text.splitlines()
    if line.startswith("flashsale ")
}
"""What begins with `flashsale`, with a page that says it; runbooks are fenced as text."""


def test_runbooks_say_what_to_type() -> None:
    """Else the next test would be about nothing."""
    silent = {page.stem for page in RUNBOOKS if "\nflashsale " not in page.read_text("utf-8")}
    assert silent == {"process-down"}
    assert len(TYPED) > len(RUNBOOKS)


@pytest.mark.parametrize("line", sorted(TYPED))
def test_what_a_runbook_says_to_type_can_be_typed(line: str) -> None:
    """With its options and arguments: nobody looks them up at two in the morning."""
    command, _, unused = build_app().parse_args(
        shlex.split(line)[1:], exit_on_error=False, print_error=False
    )
    assert callable(command)
    assert not unused


BY_REDIS_CLI = re.compile(r"""redis-cli -u "\$FLASHSALE_GATE_URL" ([A-Z]+)""")


def test_redis_answers_what_a_runbook_asks_it_as_the_engine() -> None:
    """`NOPERM` helps nobody: both users of the page on security must have the right."""
    asked = {
        word.lower()
        for page in (ROOT / "docs" / "runbooks").glob("*.md")
        for word in BY_REDIS_CLI.findall(page.read_text("utf-8"))
    }
    assert asked
    security = (ROOT / "docs" / "security.md").read_text("utf-8")
    rights = re.findall(r"ACL SETUSER flashsale-\w+ reset on (.+)", security)
    assert len(rights) == 2
    for granted in rights:
        assert asked <= {one.removeprefix("+") for one in granted.split()}


def test_pages_say_which_programs_the_image_lacks() -> None:
    """Whoever is woken types into a container that has Python and `flashsale`, and no more."""
    typed = {
        line.split()[0]
        for page in (ROOT / "docs" / "runbooks").glob("*.md")
        for block in blocks(page)
        for line in block.text.splitlines()
        if line.strip()
    }
    others = typed - {"flashsale"}
    assert others == {"curl", "redis-cli", "psql"}
    for page in ("observe.md", "kubernetes.md"):
        text = (ROOT / "docs" / page).read_text("utf-8")
        assert all(f"`{name}`" in text for name in others), page
