"""Tracing that is not wanted is not there; wanted without its extra, it is one sentence."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flashsale import tracing
from flashsale.container import Commands, Embedded, HttpApi, Worker
from flashsale.http.buy import BuyHandler
from flashsale.http.front import Front
from flashsale.http.traced_buy import TracedBuyHandler
from flashsale.settings import Entrypoint, Settings, TracesTo
from flashsale.settings_loading import SettingsError, load_settings
from flashsale.starting import StartFailed
from flashsale_core.parking import Parking
from flashsale_core.payment import Cashier
from tests.unit.test_container import _parts
from tests.unit.test_traces import Recorder

ROOT = Path(__file__).resolve().parents[2]


async def test_off_every_port_and_use_case_is_what_its_adapter_made() -> None:
    """Not a decorator, not a question: the hot path is the same objects as without tracing."""
    for kind in (HttpApi, Worker, Embedded):
        parts = _parts()
        container: Any = kind(**parts)
        assert container.safe_gate() is parts["gate"]
        assert container.safe_bus() is parts["bus"]
        assert container.safe_database() is parts["database"]
    worker = Worker(**_parts())
    assert type(worker.parking()) is Parking
    assert type(worker.cashier()) is Cashier
    app = HttpApi(**_parts()).http_app()
    assert isinstance(app, Front)
    assert type(app._buy) is BuyHandler


async def test_on_each_of_them_is_traced() -> None:
    """In every program; a command of the command line is none."""
    for kind in (HttpApi, Worker, Embedded):
        container: Any = kind(**_parts())
        container.traces.override(Recorder().traces)
        for name in ("safe_gate", "safe_bus", "safe_database"):
            assert type(getattr(container, name)()).__name__.startswith("Traced"), name
    worker = Worker(**_parts())
    worker.traces.override(Recorder().traces)
    assert type(worker.parking()).__name__ == "TracedParking"
    assert type(worker.cashier()).__name__ == "TracedCashier"
    api = HttpApi(**_parts())
    api.traces.override(Recorder().traces)
    assert type(api.http_app()._buy) is TracedBuyHandler
    assert {HttpApi.__name__, Worker.__name__, Embedded.__name__} == set(tracing.SERVICES)
    assert Commands.__name__ not in tracing.SERVICES


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    """It costs an import of its own, and is an extra that need not be there."""
    code = (
        "import asyncio, sys\n"
        "from flashsale import running, http_door\n"
        "from flashsale.settings import Settings\n"
        "from flashsale.tracing import opened_traces\n"
        "async def main():\n"
        "    async with opened_traces(Settings(), 'HttpApi') as traces: assert traces is None\n"
        "asyncio.run(main())\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'flashsale_otel'))])\n"
    )
    sources = [str(ROOT / source) for source in ("src", "src/adapters", "src/entrypoints")]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def _problem(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in {"FLASHSALE_TRACES": "otlp", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings(Entrypoint.RUN)
    [problem] = refused.value.problems
    return problem


def test_a_missing_extra_is_one_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is opened, and whichever of its packages is missing."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for module in [one for one in sys.modules if one.startswith("flashsale_otel")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    problem = _problem(monkeypatch)
    assert "FLASHSALE_TRACES" in problem
    assert "which is not installed: pip install 'flashsale[otel]'" in problem


def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would lose every span in silence."""
    problem = _problem(monkeypatch, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in problem
    assert "http/protobuf" in problem


def test_commands_need_no_extra_for_a_setting_of_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They share the environment of a pod, and trace nothing."""
    monkeypatch.setenv("FLASHSALE_TRACES", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert load_settings(Entrypoint.COMMAND).traces == "otlp"


async def test_variables_that_contradict_each_other_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no traceback of the library's."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    with pytest.raises(StartFailed, match=r"OTEL_\*: .*max_queue_size"):
        async with tracing.opened_traces(Settings(traces=TracesTo.OTLP), "Worker"):
            raise AssertionError("nothing is opened")


async def test_commands_are_not_traced() -> None:
    """They end before anybody could take a span, and are an operator's."""
    async with tracing.opened_traces(Settings(traces=TracesTo.OTLP), "Commands") as traces:
        assert traces is None


def test_it_is_off_by_default() -> None:
    """Whoever wants traces says so, and where they go."""
    assert Settings().traces == "off"
