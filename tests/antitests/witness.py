"""A plugin for pytest that notes how each test ended, and of which error.

An exit code says "failed" of a missing mechanism and of a name that was misspelt alike.
"""

import json
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

NOTES = "FLASHSALE_TEST_NOTES"
FOREIGN = ".foreign"
"""The file beside the notes that names what was imported from outside the tree."""
TIMEOUT = "Timeout"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Note a phase of a test: setup, call or teardown."""
    report = yield
    errors = sorted(set(_names(call.excinfo.value))) if call.excinfo is not None else []
    said = str(call.excinfo.value).strip()[:300] if call.excinfo is not None else ""
    with Path(os.environ[NOTES]).open("a", encoding="utf-8") as notes:
        phase = {"test": item.nodeid, "phase": call.when, "outcome": report.outcome}
        notes.write(json.dumps({**phase, "errors": errors, "said": said}) + "\n")
    return report


def pytest_sessionfinish() -> None:
    """Note the libraries, for runs to come."""
    tree = str(Path.cwd())
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    names = [name for name, file in files.items() if file and not file.startswith(tree)]
    Path(os.environ[NOTES]).with_suffix(FOREIGN).write_text(json.dumps(names), encoding="utf-8")


def _names(error: BaseException) -> Iterator[str]:
    """Name an error; of a group, what is in it."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _names(one)
    elif isinstance(error, pytest.fail.Exception):
        # What pytest fails by itself: an expected error that did not come, or the clock.
        yield TIMEOUT if str(error).startswith(TIMEOUT) else "AssertionError"
    else:
        yield type(error).__name__
