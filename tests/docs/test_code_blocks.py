"""Every Python block of every page runs; what is a test in a page is a test here."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, pages, python_of

KNOWN = {"python", "sh", "sh newcomer", "sh servers", "toml", "json", "text", ""}
# Run by tests/integration/test_least_privilege.py.
KNOWN |= {"sh redis", "sh kafka", "sh rabbitmq", "sql roles", "sql grants"}
# Read by tests/deploy/test_kubernetes.py.
KNOWN |= {"text kafka", "text rabbitmq"}
# Run by tests/integration/test_redis_cluster.py.
KNOWN |= {"sh redis-cluster"}
PYTHON_PAGES = [page for page in pages() if any(b.info == "python" for b in blocks(page))]
SOURCES = ("", "src", "src/adapters", "src/entrypoints")


def name_of(page: Path) -> str:
    """Name a page as a person does."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=name_of)
def test_a_pages_code_runs_and_its_tests_pass(page: Path, tmp_path: Path) -> None:
    """In a process of its own, as a reader would type it in."""
    module = tmp_path / f"test_{page.stem.replace('-', '_')}_page.py"
    module.write_text(python_of(page), encoding="utf-8")
    path = os.pathsep.join(str(ROOT / source) for source in SOURCES)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--rootdir={tmp_path}",
            "-o",
            "asyncio_mode=auto",
            "-o",
            "asyncio_default_fixture_loop_scope=function",
            "-W",
            "ignore::hypothesis.errors.NonInteractiveExampleWarning",
            str(module),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    no_tests = done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    has_tests = "def test_" in module.read_text(encoding="utf-8")
    assert done.returncode == 0 or (no_tests and not has_tests), done.stdout + done.stderr


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block that nobody runs must not look like one that is run."""
    strange = {block.info for block in blocks(page)} - KNOWN
    assert not strange
    assert importlib.util.find_spec("flashsale_core") is not None
