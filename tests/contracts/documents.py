"""The contracts as they are committed: today's, and those of each release."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
Json = dict[str, Any]
Change = Callable[[Json], object]


def committed(kind: str) -> Json:
    """Read today's document: `asyncapi` or `openapi`."""
    return read(DOCS / f"{kind}.json")


def released(kind: str) -> list[Path]:
    """List the documents of all releases. Raises LookupError where there is none to hold to."""
    found = sorted((DOCS / "released").glob(f"{kind}-*.json"))
    if not found:
        raise LookupError(f"no {kind} document of any release is in docs/released")
    return found


def read(file: Path) -> Json:
    """Read a document."""
    document: Json = json.loads(file.read_text(encoding="utf-8"))
    return document


def after(change: Change, document: Json) -> Json:
    """Make a copy with the change."""
    changed = copy.deepcopy(document)
    change(changed)
    return changed
