"""The end of a test run is honest: what was missing or skipped shows, and in CI it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import pytest
from tests.servers import ServerMissing, launch

launch.used["redis"] = "a redis of this test"

def test_a_server_is_missing():
    raise ServerMissing("kafka", "it is not installed", "make test")

@pytest.mark.skip(reason="nobody allowed it")
def test_skipped():
    pass
"""


def run(folder: Path, *chosen: str, **env: str) -> tuple[int, str]:
    """Run the tests above, or some of them, by the suite's own rules."""
    (folder / "test_one.py").write_text(RUN)
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    # Of all plugins only the suite's own is wanted, and each costs a start.
    ours = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    ours["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = ["-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *command, f"--rootdir={folder}", "test_one.py", *chosen],
        cwd=folder,
        env={**inherited, **ours, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_run_ends_with_its_servers_and_its_skips_and_how_to_mend_them(tmp_path: Path) -> None:
    """On a laptop what is missing is skipped, and said."""
    code, shown = run(tmp_path)
    assert code == pytest.ExitCode.OK
    servers, _, skips = shown.partition("real servers")[2].partition("skipped")
    assert "redis: a redis of this test" in servers
    assert "no kafka: it is not installed. Fix: make test" in skips
    assert "test_one.py::test_skipped: nobody allowed it" in skips


@pytest.mark.parametrize("chosen", ["server_is_missing", "skipped"])
def test_ci_fails_where_a_laptop_skips(tmp_path: Path, chosen: str) -> None:
    """Nobody reads a skip there: a missing server fails, and so does a skip that is not listed."""
    code, shown = run(tmp_path, "-k", chosen, CI="true")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert ("NOT ALLOWED IN CI" in shown) == (chosen == "skipped")
