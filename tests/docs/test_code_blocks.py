"""Every Python block of every page runs; what is a test in a page is a test here."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, pages, python_of
from tests.docs.reader import SHOWN, is_typed

TYPED = "".join(
    path.read_text("utf-8") for path in (ROOT / "tests" / "integration").glob("test_page_*.py")
)
"""Names the pages that tests/docs/reader.py types."""
NOT_RUN = {"text", "toml", "json", ""}
"""Nobody runs these: what needs a cloud, a cluster or Docker is `text`."""
RUN_BY = {
    "sh newcomer": "scripts/newcomer",
    "sh servers": "tests/integration/test_readme.py",
    "sh redis": "tests/integration/granted.py",
    "sh kafka": "tests/integration/granted.py",
    "sh rabbitmq": "tests/integration/granted.py",
    "sql roles": "tests/integration/granted.py",
    "sql grants": "tests/integration/granted.py",
    "sh redis-cluster": "tests/integration/test_redis_cluster.py",
    "text kafka": "tests/deploy/test_kubernetes.py",
    "text rabbitmq": "tests/deploy/test_kubernetes.py",
}
"""Who runs a block, by what is said behind its fence; that file names it."""
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


def strays(page: Path, typed: str) -> list[str]:
    """List the blocks of a page that nobody runs, though they look as if they were run."""
    name = name_of(page)
    return [
        f"{name}:{block.line} {block.info}"
        for block in blocks(page)
        if block.info not in {"python", *NOT_RUN, *RUN_BY}
        and not (f'"{name}"' in typed and (is_typed(block.info) or block.info == SHOWN))
    ]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_is_run_or_does_not_look_so(page: Path) -> None:
    """A shell block that no test types is an error of its page."""
    assert strays(page, TYPED) == []


def test_a_shell_block_that_nobody_types_is_found(tmp_path: Path) -> None:
    """Whatever page it stands on."""
    page = ROOT / "docs" / "tutorial.md"
    assert strays(page, '"docs/other.md"')
    assert not strays(page, '"docs/tutorial.md"')


@pytest.mark.parametrize("info", RUN_BY)
def test_who_runs_a_block_names_it(info: str) -> None:
    """By the words behind the fence, or by the last of them."""
    runner = (ROOT / RUN_BY[info]).read_text("utf-8")
    assert info in runner or f'"{info.split()[1]}"' in runner


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_entry_point_of_a_page_is_made_on_it(page: Path) -> None:
    """What TOML names as `shop.audit:open_audited_gate`, the page's Python defines."""
    code = python_of(page)
    for block in blocks(page):
        if block.info == "toml":
            told = tomllib.loads(block.text)
            groups = told.get("project", {}).get("entry-points", {})
            for target in [one for group in groups.values() for one in group.values()]:
                assert re.search(rf"def {target.partition(':')[2]}\(", code)
