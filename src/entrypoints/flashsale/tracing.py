"""Tracing as the settings want it: opened with a program, put around its ports by the container.

Off, nothing is imported, and every port is what its adapter made.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

from flashsale.entry_points import AdapterMissing
from flashsale.opening import bus_names
from flashsale.settings import Settings, TracesTo
from flashsale.starting import StartFailed

SERVICES = {"HttpApi": "flashsale-api", "Worker": "flashsale-worker", "Embedded": "flashsale"}
"""What the programs call themselves, by their containers, unless OTEL_SERVICE_NAME does; a command
of the command line is not traced."""
PROTOCOL = "http/protobuf"
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def look_at_environment() -> None:
    """Refuse what would lose every span in silence.

    Raises AdapterMissing without the extra, and ValueError where another protocol is asked for.
    """
    _adapter()
    for name in PROTOCOL_VARIABLES:
        asked = os.environ.get(name, PROTOCOL)
        if asked != PROTOCOL:
            raise ValueError(f"{name} is {asked}, and spans are sent by {PROTOCOL} alone")


def _adapter() -> ModuleType:
    try:
        import flashsale_otel  # noqa: PLC0415 - an extra
    except ImportError as exc:
        needs = f"traces need {exc.name}, which is not installed"
        raise AdapterMissing(f"{needs}: pip install 'flashsale[otel]'") from exc
    return flashsale_otel


@asynccontextmanager
async def opened_traces(settings: Settings, program: str) -> AsyncIterator[Any]:
    """Open what traces the program that a container of this name is for; None where nothing does.

    Waits for nobody, and leaving waits no longer than its share of a stop. Raises StartFailed where
    the variables of OpenTelemetry contradict each other.
    """
    service = SERVICES.get(program)
    if settings.traces is TracesTo.OFF or service is None:
        yield None
        return
    adapter = _adapter()
    payment_url = settings.payment_url
    labels = adapter.labels_of(
        gate_url=settings.gate_url.text,
        bus_url=settings.bus_url.text,
        database_url=settings.database_url.text,
        payment_url=payment_url.text if payment_url is not None else None,
        names=bus_names(settings),
    )
    async with AsyncExitStack() as stack:
        try:
            traces = await stack.enter_async_context(adapter.open_traces(labels, service))
        except ValueError as wrong:
            raise StartFailed(f"traces cannot begin, look at OTEL_*: {wrong}") from wrong
        yield traces


def seen_by(traces: Any, port: str, inner: Any) -> Any:
    """Put spans around a port, or around the use case of a piece of work; nothing where off."""
    return inner if traces is None else getattr(traces, f"around_{port}")(inner)
