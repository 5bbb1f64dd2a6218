"""The Lua function library as a text with its own name: its file and that file's hash."""

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

_FILE = "stock_gate.lua"
_CHECKOUT = Path(__file__).resolve().parents[3] / "lua"


@attrs.frozen(kw_only=True)
class GateLibrary:
    """The library's source as it is loaded, and the version that its names carry."""

    source: str = attrs.field(eq=False, repr=False)
    version: str

    @property
    def name(self) -> str:
        """Name the library as FUNCTION LIST does."""
        return f"flashsale_gate_{self.version}"

    def function(self, name: str) -> str:
        """Name one of its functions as FCALL wants it."""
        return f"{name}_{self.version}"


@cache
def gate_library() -> GateLibrary:
    """Read the library: from inside the installed package, else from the checkout."""
    packed = resources.files("flashsale_redis") / "lua" / _FILE
    text = (packed if packed.is_file() else _CHECKOUT / _FILE).read_text(encoding="utf-8")
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    return GateLibrary(source=text.replace("VERSION", version), version=version)


def versions_of(libraries: Any) -> list[GateLibrary]:
    """Read the reply of FUNCTION LIST: which versions of this library a server has.

    An error, as of a user who may not ask, lists none.
    """
    if not isinstance(libraries, list):
        return []
    names = [bytes(library[b"library_name"]).decode() for library in libraries]
    return [GateLibrary(source="", version=name.rpartition("_")[2]) for name in names]
