"""How tracing is begun: by the standard variables of OpenTelemetry.

`OTEL_EXPORTER_OTLP_ENDPOINT` (and what goes with it) says where spans go, `OTEL_TRACES_SAMPLER` and
`OTEL_TRACES_SAMPLER_ARG` which traces are recorded, `OTEL_SERVICE_NAME` and
`OTEL_RESOURCE_ATTRIBUTES` whose they are, `OTEL_BSP_*` how they are batched.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from flashsale_otel.exporting import TellingExporter, exporting
from flashsale_otel.labels import Labels
from flashsale_otel.sampling import BatchesAsTheirPurchases
from flashsale_otel.traces import Traces

QUEUE_MAX = 8_192
"""Spans that wait to be sent: a delivery of a thousand purchases ends some thousands at once."""
LINKS_MAX = 2_000
"""Purchases that one batch links to: those of one transaction. OpenTelemetry's own is 128."""


@asynccontextmanager
async def open_traces(
    labels: Labels, service: str, *, exporter: SpanExporter | None = None
) -> AsyncIterator[Traces]:
    """Begin to trace as `service`, unless the environment calls it otherwise; leaving ends it.

    Waits for no collector: one that is away loses spans, and a line says so.
    """
    has_own = "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ
    provider = provider_of(service)
    provider.add_span_processor(
        BatchSpanProcessor(
            TellingExporter(exporter if exporter is not None else OTLPSpanExporter()),
            max_queue_size=None if has_own else QUEUE_MAX,
        )
    )
    async with exporting(provider):
        yield Traces(provider, labels)


def provider_of(service: str) -> TracerProvider:
    """Make what makes spans, and exports none yet."""
    has_own = "OTEL_SPAN_LINK_COUNT_LIMIT" in os.environ
    limits = SpanLimits(max_links=None if has_own else LINKS_MAX)
    provider = TracerProvider(
        resource=_resource(service), shutdown_on_exit=False, span_limits=limits
    )
    provider.sampler = BatchesAsTheirPurchases(provider.sampler)
    return provider


def _resource(service: str) -> Resource:
    ours = {
        "service.name": service,
        "service.namespace": "flashsale",
        "service.instance.id": str(uuid.uuid4()),
    }
    with suppress(PackageNotFoundError):
        ours["service.version"] = version("flashsale")
    # What an operator says of a process is truer than what it calls itself.
    from_environment = Resource.create().attributes
    unnamed = str(from_environment.get("service.name", "")).startswith("unknown_service")
    said = {name: value for name, value in from_environment.items() if name != "service.name"}
    if not unnamed:
        said["service.name"] = from_environment["service.name"]
    return Resource({**ours, **said})
