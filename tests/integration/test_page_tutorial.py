"""The tutorial, typed from its beginning to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.reader import reader
from tests.integration.crowds import orders
from tests.integration.engine import Engine

pytestmark = pytest.mark.timeout(240)
PRINTED = ("GATE_URL", "BUS_URL", "DATABASE_URL", "SCHEMA_REGISTRY_URL")


def test_the_tutorial(bare_engine: Engine, tmp_path: Path) -> None:
    """From `make run` to a killed worker, and two orders at the end."""
    printed = {f"FLASHSALE_{name}" for name in PRINTED}
    servers = "\n".join(f"export {name}={bare_engine.env[name]}" for name in sorted(printed))
    env = {name: value for name, value in bare_engine.env.items() if name not in printed}
    with reader(tmp_path, env, servers) as somebody:
        somebody.read(ROOT / "docs/tutorial.md")
        assert somebody.typed
    assert asyncio.run(orders(bare_engine, "ticket.1")) == {"CONFIRMED": 2}
