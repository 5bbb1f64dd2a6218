"""What pyproject.toml says about the source tree is true."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("src", "src/adapters", "src/entrypoints")
# What a pure core may use of the standard library: values, types and arithmetic.
PURE = {
    "__future__",
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "string",
    "types",
    "typing",
    "unicodedata",
    "uuid",
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages() -> dict[str, str]:
    """Return every package of the source tree and the folder that it lies in."""
    return {
        marker.parent.name: str(marker.parent.relative_to(ROOT))
        for source_root in SOURCE_ROOTS
        for marker in (ROOT / source_root).glob("*/__init__.py")
    }


def test_every_package_is_in_the_wheel_and_nothing_else(project: dict[str, Any]) -> None:
    """Guarantee: no package is forgotten when the project is shipped."""
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["sources"] == {folder: name for name, folder in packages().items()}
    assert set(wheel["only-include"]) == set(packages().values())


def test_every_package_is_watched_by_the_import_rules(project: dict[str, Any]) -> None:
    """Guarantee: the import rules are exhaustive."""
    rules = project["tool"]["importlinter"]
    (layers,) = (contract for contract in rules["contracts"] if contract["type"] == "layers")
    named = [name.strip() for layer in layers["layers"] for name in layer.split("|")]
    assert set(rules["root_packages"]) == set(packages())
    assert sorted(named) == sorted(packages())


def test_every_package_tells_type_checkers_that_it_is_typed() -> None:
    """Guarantee: whoever imports a package of ours gets its types."""
    assert [
        folder for folder in packages().values() if not (ROOT / folder / "py.typed").exists()
    ] == []


def test_the_core_imports_attrs_and_pure_parts_of_the_standard_library_alone() -> None:
    """Guarantee: `import flashsale_core` needs attrs alone, and does no I/O."""
    core = ROOT / "src/flashsale_core"
    foreign = {
        (str(module.relative_to(core)), name)
        for module in core.rglob("*.py")
        if "testing" not in module.relative_to(core).parts
        for name in _imported(module)
        if name not in PURE | {"attrs", "flashsale_core"}
    }
    assert foreign == set()


def test_the_test_kit_imports_hypothesis_and_pytest_and_nothing_else() -> None:
    """Guarantee: the extra `testing` is all that the public test kit needs."""
    kit = ROOT / "src/flashsale_core/testing"
    allowed = set(sys.stdlib_module_names) | {"attrs", "flashsale_core", "hypothesis", "pytest"}
    foreign = {
        (str(module.relative_to(kit)), name)
        for module in kit.rglob("*.py")
        for name in _imported(module) - allowed
    }
    assert foreign == set()


def test_pins_name_no_place_that_packages_came_from() -> None:
    """Guarantee: the requirements hold names, versions and hashes, and work from any mirror."""
    for pins in (ROOT / "requirements").glob("*.txt"):
        lines = [line.strip() for line in pins.read_text().splitlines()]
        foreign = [
            line
            for line in lines
            if not line.startswith(("#", "--hash=sha256:")) and "==" not in line
        ]
        assert foreign == []
        assert not any("://" in line or " @ " in line for line in lines)


def test_what_the_default_runs_on_is_what_the_tests_ran_with() -> None:
    """Guarantee: `make run` installs no version that `make test` did not see."""
    run, dev = (_pinned(ROOT / f"requirements/{name}.txt") for name in ("run", "dev"))
    assert run - dev == set()


def _imported(module: Path) -> set[str]:
    """Return the first names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _pinned(pins: Path) -> set[str]:
    return {line.split()[0] for line in pins.read_text().splitlines() if "==" in line}
