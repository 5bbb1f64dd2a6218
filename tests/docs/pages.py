"""The project's pages and their fenced blocks."""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """One fenced block: its info string, its text, and the line where it begins."""

    info: str
    text: str
    line: int


def pages() -> list[Path]:
    """List README and everything written by hand or generated under docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Find a page's blocks, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start(2)) + 1
        yield Block(found[1].strip(), found[2], line)


def python_of(page: Path) -> str:
    """Put a page's Python blocks together, each at its own line, so that errors name the page's."""
    code = ""
    for block in blocks(page):
        if block.info == "python":
            code += "\n" * (block.line - 1 - code.count("\n")) + block.text
    return code
