"""What the pages call public is there, and what they import is public."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, pages, python_of

PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
NAMED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
PUBLIC = {name for page in PAGES for name in NAMED.findall(page.read_text("utf-8"))}
OURS = ("flashsale",)


def imported(code: str) -> set[str]:
    """List what is imported of ours, as module.name."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_what_is_called_public_is_there(name: str) -> None:
    """A module, or a name in one; and it says what it is."""
    try:
        found: object = importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        found = getattr(importlib.import_module(module), last)
    assert found.__doc__


@pytest.mark.parametrize(
    "page", [page for page in pages() if python_of(page)], ids=lambda p: p.name
)
def test_pages_import_public_names_only(page: Path) -> None:
    """A reader builds on what a release keeps."""
    private = {
        one
        for one in imported(python_of(page))
        if one not in PUBLIC and one.rpartition(".")[0] not in PUBLIC
    }
    assert private == set()


def test_every_module_of_the_test_kit_is_public() -> None:
    """It is there to be imported."""
    folder = ROOT / "src" / "flashsale_core" / "testing"
    modules = {f"flashsale_core.testing.{path.stem}" for path in folder.glob("*.py")}
    assert modules - PUBLIC == {"flashsale_core.testing.__init__"}
