"""Where something begins in a source file, by its name."""

import ast
import re
from pathlib import Path


def line_of(path: Path, name: str) -> int | None:
    """Find `Class.method`, a function or a constant; None where the file has no such thing."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        found = re.search(rf"^(?:local )?function {re.escape(name)}\b", text, re.MULTILINE)
        return None if found is None else text.count("\n", 0, found.start()) + 1
    lines: dict[str, int] = {}
    for node in ast.parse(text).body:
        lines.update(_named(node, ""))
    return lines.get(name)


def _named(node: ast.stmt, prefix: str) -> dict[str, int]:
    match node:
        case ast.ClassDef(name=name, body=body):
            inner = [_named(one, f"{name}.") for one in body]
            return {f"{prefix}{name}": node.lineno} | {
                k: v for one in inner for k, v in one.items()
            }
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return {f"{prefix}{name}": node.lineno}
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return {f"{prefix}{name}": node.lineno}
        case _:
            return {}
