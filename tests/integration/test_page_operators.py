"""What the pages for operators say to type, typed in its order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.reader import reader
from tests.integration.engine import Engine
from tests.integration.outside import Sent, sender

pytestmark = pytest.mark.timeout(240)

PREPARE = """\
flashsale db upgrade
flashsale topics ensure
flashsale gate install
flashsale worker 2>worker.log &
flashsale sale create --item 1 --stock 100
"""
ALL_SET_ASIDE = """\
until [ "$(flashsale dead-letters list --json | grep -c '"reason": ')" = 8 ]; do sleep 0.2; done
"""
UNREADABLE = Sent(b"k", b"nobody can read this")
UNKNOWN_SCHEMA = Sent(b"k", b"\x00\x00\x0f\xff\xff what follows an id that no registry knows")


async def _set_aside(bare_engine: Engine) -> None:
    """Put what nobody can read on the outside door, and wait until it is set aside."""
    async with sender(bare_engine) as send:
        await send([UNREADABLE] * 4 + [UNKNOWN_SCHEMA] * 4)


def test_what_operators_are_told_to_type(bare_engine: Engine, tmp_path: Path) -> None:
    """Dead letters looked at, rebare_engine and discarded; a gate that is lost, and comes back."""
    with reader(tmp_path, bare_engine.env) as somebody:
        somebody.type(PREPARE)
        asyncio.run(_set_aside(bare_engine))
        somebody.type(ALL_SET_ASIDE)
        somebody.read(ROOT / "docs/dead-letters.md")
        somebody.read(ROOT / "docs/recover-a-lost-redis.md")
        somebody.type("flashsale dead-letters show 7 --json | grep DISCARDED")
