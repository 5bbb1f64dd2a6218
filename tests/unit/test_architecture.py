"""The shape of the tree: what may know what, how large things may be, what is public."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("src", "src/adapters", "src/entrypoints")
BODY_LINES_MAX = 50
MODULE_LINES_MAX = 300
MODULES_OVER = {
    # The hexagon is read in one sitting: its docstrings are the contract.
    "flashsale_core/ports.py": 700,
    # A table is as long as its rows.
    "entrypoints/flashsale/settings.py": 420,
    # The one place where everything meets.
    "entrypoints/flashsale/container.py": 450,
    # A broker in one process, and its subscriptions.
    "adapters/flashsale_memory/bus.py": 320,
    # The cold path, from message to row.
    "flashsale_core/fulfilment.py": 370,
    # A contract is as long as what it promises.
    "flashsale_core/testing/stock_gate.py": 680,
    "flashsale_core/testing/event_bus.py": 640,
    "flashsale_core/testing/order_repository.py": 560,
    "flashsale_core/testing/sale_catalogue.py": 375,
    "flashsale_core/testing/parked_messages.py": 315,
}
"""May only shrink: a module that needs more room needs another module."""
BODIES_OVER = {
    # A table is as long as its columns.
    "adapters/flashsale_sql/migrations/versions/r0001_first_tables.py:_parked_messages": 60,
}
"""The same for functions."""
ADAPTERS_MADE_IN = ("container.py", "opening.py", "embedded.py", "mounting.py", "running.py")


def modules() -> list[Path]:
    """List every module of ours."""
    return sorted((ROOT / "src").rglob("*.py"))


def name_of(module: Path) -> str:
    """Name a module by its path under src/."""
    return module.relative_to(ROOT / "src").as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Find every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a body's lines without its docstring, and without functions of its own."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    if not body:
        return 0
    whole = (body[-1].end_lineno or 0) - body[0].lineno + 1
    inner = [f for f in ast.walk(function) if f is not function and isinstance(f, _FUNCTIONS)]
    return whole - sum((f.end_lineno or 0) - f.lineno + 1 for f in inner)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_modules_stay_small() -> None:
    """A module that grows past its line is two modules."""
    lines = {name_of(one): len(one.read_text("utf-8").splitlines()) for one in modules()}
    over = {
        name: count
        for name, count in lines.items()
        if count > MODULES_OVER.get(name, MODULE_LINES_MAX)
    }
    assert over == {}
    idle = {name for name in MODULES_OVER if lines.get(name, 0) <= MODULE_LINES_MAX}
    assert idle == set(), "no exception is needed any more: take it out"


def test_function_bodies_stay_small() -> None:
    """A body is seen at one look."""
    over: dict[str, int] = {}
    for module in modules():
        for function in functions(ast.parse(module.read_text("utf-8"))):
            name = f"{name_of(module)}:{function.name}"
            lines = body_lines(function)
            if lines > BODIES_OVER.get(name, BODY_LINES_MAX):
                over[name] = lines
    assert over == {}


def test_public_names_say_what_they_are() -> None:
    """Every public class and function of the core has a docstring."""
    silent = []
    for module in sorted((ROOT / "src" / "flashsale_core").rglob("*.py")):
        tree = ast.parse(module.read_text("utf-8"))
        assert ast.get_docstring(tree), module
        for node in tree.body:
            kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            if isinstance(node, kinds) and not node.name.startswith("_"):
                silent += [] if ast.get_docstring(node) else [f"{name_of(module)}:{node.name}"]
    assert silent == []


def test_importing_the_core_needs_attrs_alone() -> None:
    """A service that wants the domain gets nothing else."""
    code = (
        "import pkgutil, importlib, sys, flashsale_core\n"
        "for m in pkgutil.iter_modules(flashsale_core.__path__):\n"
        "    if m.name != 'testing': importlib.import_module(f'flashsale_core.{m.name}')\n"
        "ours = {'flashsale_core', 'attr', 'attrs'}\n"
        "known = sys.stdlib_module_names | ours | set(sys.builtin_module_names)\n"
        "strange = {n.partition('.')[0] for n in sys.modules} - known\n"
        "print(sorted(n for n in strange if not n.startswith(('_', 'site', 'sitecustomize'))))\n"
    )
    path = os.pathsep.join(str(ROOT / source) for source in SOURCES)
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{code}"],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_rules_hold() -> None:
    """Entrypoints use adapters, adapters the core; the core is pure."""
    path = os.pathsep.join(str(ROOT / source) for source in SOURCES)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


ADAPTERS = {
    "MemoryStockGate",
    "RedisStockGate",
    "MemoryBus",
    "KafkaBus",
    "RabbitMQBus",
    "SqlDatabase",
    "CoalescingGate",
    "CoalescingBus",
    "CoalescingCatalogue",
    "AvroCodec",
}


@pytest.mark.parametrize("module", sorted((ROOT / "src/entrypoints").rglob("*.py")), ids=name_of)
def test_no_entrypoint_builds_an_adapter_beside_the_container(module: Path) -> None:
    """What is built of what is seen in one place; adapters are opened by their own openers."""
    calls = [
        node.func.id
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    built = ADAPTERS.intersection(calls)
    assert not built or module.name in ADAPTERS_MADE_IN, built
