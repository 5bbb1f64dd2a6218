"""README's commands for real servers, typed as they stand, on either bus."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.docs.reader import reader
from tests.integration.crowds import settled_orders
from tests.integration.engine import STOP_S_MAX, Engine, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis, Registry
from tests.servers.launch import free_port

TYPED_S_MAX = 120
AS_PRINTED = "http://127.0.0.1:8080"
"""README names the port that is the default; here others may use it."""


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def played(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
    registry_server: Registry,
) -> Iterator[Engine]:
    """Have what `make servers` prints in the environment, and nothing prepared."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
        "FLASHSALE_SCHEMA_REGISTRY_URL": registry_server.url,
        "FLASHSALE_HTTP_PORT": str(free_port()),
        "FLASHSALE_WORKER_HTTP": f"127.0.0.1:{free_port()}",
    }
    with engine(tmp_path, settings) as ours:
        yield ours


@pytest.fixture
def env(played: Engine, tmp_path: Path) -> dict[str, str]:
    """Have `flashsale` on the path, as an activated environment has."""
    command = tmp_path / "bin" / "flashsale"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flashsale "$@"\n')
    command.chmod(0o755)
    return {**played.env, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.timeout(240)
def test_what_readme_types_for_real_servers_ends_as_an_order(
    played: Engine, env: dict[str, str]
) -> None:
    """Pasted at once, without a pause of a person between the lines."""
    [block] = [one for one in blocks(ROOT / "README.md") if one.info == "sh servers"]
    here = f"http://127.0.0.1:{played.settings['FLASHSALE_HTTP_PORT']}"
    assert AS_PRINTED in block.text
    log = played.folder / "typed.log"
    with log.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block.text.replace(AS_PRINTED, here)],
            env=env,
            cwd=played.folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert shell.wait(TYPED_S_MAX) == 0, log.read_text()[-3000:]
            assert asyncio.run(settled_orders(played, 1)) == {"CONFIRMED": 1}
        finally:
            _end_group(shell.pid)


def test_what_readme_types_first_buys_and_is_looked_up(tmp_path: Path) -> None:
    """`make run`, and the lines below it; scripts/newcomer does the same on a bare machine."""
    typed = [one.text for one in blocks(ROOT / "README.md") if one.info == "sh newcomer"]
    [run] = [text for text in typed if text.startswith("make run")]
    [curls] = [text for text in typed if text.startswith("curl")]
    env = Engine(tmp_path, {"FLASHSALE_HTTP_PORT": str(free_port())}).env
    with reader(tmp_path, env) as newcomer:
        newcomer.type_there("1", run)
        printed = newcomer.type(curls)
    assert '"purchaseId":"mine","status":"ACCEPTED"' in printed
    assert '"status":"CONFIRMED"' in printed
    assert '"sold":1' in printed


def _end_group(group: int) -> None:
    """End what the block left running, which is what it says with `&`."""
    os.killpg(group, signal.SIGTERM)
    gone = ["bash", "-c", f"while kill -0 -- -{group} 2>/dev/null; do sleep 0.1; done"]
    try:
        subprocess.run(gone, timeout=STOP_S_MAX, check=True)
    except subprocess.TimeoutExpired:
        os.killpg(group, signal.SIGKILL)
        raise
