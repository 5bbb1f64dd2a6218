"""What holds for every test: servers that are missing, and an honest end of the run.

A missing server fails a test in CI and skips it, with the reason and the fix, on a laptop. The
run ends with the list of real servers and of skips; in CI a skip that `allowed-skips.txt` does
not name fails the run.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.servers import ServerMissing, launch
from tests.servers.shared import SharedServers, shared_servers

ALLOWED_SKIPS = Path(__file__).with_name("allowed-skips.txt")
MEETING_PLACE = "FLASHSALE_TEST_SHARED"


class RunRecord:
    """Which servers a run used and what it skipped, over all its processes."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.servers: dict[str, str] = {}
        self.skips: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skip(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a skipped module."""
        if report.skipped:
            self._skip(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of pytest-xdist used."""
        self.servers.update(getattr(node, "workeroutput", {}).get("servers", {}))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what this process used; fail where a skip is not allowed."""
        self.servers.update(launch.used)
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["servers"] = self.servers
        elif in_ci() and self.forbidden() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the servers and the skips."""
        terminalreporter.section("real servers")
        for kind, origin in sorted(self.servers.items()):
            terminalreporter.line(f"{kind}: {origin}")
        if not self.servers:
            terminalreporter.line("none")
        terminalreporter.section("skipped")
        forbidden = self.forbidden()
        for test, reason in sorted(self.skips.items()):
            verdict = "NOT ALLOWED IN CI: " if test in forbidden else ""
            terminalreporter.line(f"{verdict}{test}: {reason}")
        if not self.skips:
            terminalreporter.line("nothing")

    def forbidden(self) -> set[str]:
        """Return the skipped tests that the committed list does not name."""
        patterns = allowed_patterns()
        return {
            test
            for test in self.skips
            if not any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)
        }

    def _skip(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        self.skips[report.nodeid] = str(reason).removeprefix("Skipped: ")


def in_ci() -> bool:
    """Tell whether nobody is there to read a skip."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def allowed_patterns() -> list[str]:
    """Read the list: one pattern of test ids a line, then ` # ` and the reason."""
    lines = ALLOWED_SKIPS.read_text().splitlines() if ALLOWED_SKIPS.exists() else []
    return [line.split(" # ")[0].strip() for line in lines if line and not line.startswith("#")]


def pytest_configure(config: pytest.Config) -> None:
    """Choose the place where the processes of a run meet, and record what they do."""
    if not hasattr(config, "workerinput"):
        os.environ[MEETING_PLACE] = str(launch.private_folder("shared"))
    servers = config.stash[shared_servers] = SharedServers(Path(os.environ[MEETING_PLACE]))
    if not hasattr(config, "workerinput"):
        servers.begin()
    config.pluginmanager.register(RunRecord(), "flashsale-run-record")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the run's servers, and tell which of them did not live to its end."""
    if not hasattr(config, "workerinput"):
        for died in config.stash[shared_servers].end():
            sys.stderr.write(f"{died}\n")
        shutil.rmtree(os.environ.pop(MEETING_PLACE), ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    """Say what a missing server means, when a fixture wanted it."""
    return (yield from _missing_server_speaks())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Say what a missing server means, when a test wanted it."""
    return (yield from _missing_server_speaks())


def _missing_server_speaks() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ServerMissing as missing:
        if in_ci():
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a program under test set up in this process: logging belongs to all of it."""
    root = logging.getLogger()
    handlers, level = _not_pytests(root), root.level
    levels = {name: one.level for name, one in _loggers().items()}
    was_configured, configured = structlog.is_configured(), structlog.get_config()
    yield
    root.handlers = [one for one in root.handlers if one not in _not_pytests(root)] + handlers
    _set_level(root, level)
    for name, one in _loggers().items():
        _set_level(one, levels.get(name, logging.NOTSET))
    if was_configured:
        structlog.configure(**configured)
    else:
        structlog.reset_defaults()


def _set_level(logger: logging.Logger, level: int) -> None:
    # Setting one clears what every logger remembers: after each test, of hundreds of loggers.
    if logger.level != level:
        logger.setLevel(level)


def _not_pytests(root: logging.Logger) -> list[logging.Handler]:
    return [one for one in root.handlers if not type(one).__module__.startswith("_pytest")]


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    return {name: one for name, one in known.items() if isinstance(one, logging.Logger)}
