"""Exporting: by a thread of its own, told once, and never in anybody's way."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link

from flashsale_otel import exporting, open_traces
from flashsale_otel.contexts import context_of
from flashsale_otel.exporting import TellingExporter
from flashsale_otel.opening import LINKS_MAX, QUEUE_MAX, provider_of
from tests.servers.collector import running_collector
from tests.unit.test_traces import CALLER, LABELS


class Sink(SpanExporter):
    """An exporter whose answers a test sets."""

    def __init__(self) -> None:
        """Begin by taking everything."""
        self.taken: list[ReadableSpan] = []
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take them as it is told to."""
        self.may_go_on.wait()
        if isinstance(self.result, Exception):
            raise self.result
        if self.result is SpanExportResult.SUCCESS:
            self.taken += spans
        return self.result


@pytest.fixture
def sink() -> Iterator[Sink]:
    """One whose thread is let go whatever the test does."""
    made = Sink()
    yield made
    made.may_go_on.set()


async def test_leaving_sends_what_is_left(sink: Sink) -> None:
    """The spans of a process's last seconds are those that one looks for."""
    async with open_traces(LABELS, "test", exporter=sink) as traces:
        trace = traces.requests.begin(None, [])
        assert trace is not None
        trace.answered(200, "accepted")
        assert sink.taken == []
    assert [span.name for span in sink.taken] == ["POST /purchase/buy"]


async def test_leaving_waits_for_a_silent_collector_no_longer_than_its_share(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop has a time of its own; the event loop goes on meanwhile."""
    monkeypatch.setattr(exporting, "FLUSH_S", 0.2)
    sink.may_go_on.clear()
    # Late, but not never: a test that hangs says less than one that fails.
    threading.Timer(3.0, sink.may_go_on.set).start()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    async with open_traces(LABELS, "test", exporter=sink) as traces:
        trace = traces.requests.begin(None, [])
        assert trace is not None
        trace.answered(200, "accepted")
        began, before = time.monotonic(), turns
    assert 0.15 < time.monotonic() - began < 0.9
    assert turns - before > 5
    counting.cancel()
    assert "the last spans are lost" in caplog.text


async def test_a_full_queue_drops_spans_and_keeps_nobody_waiting(sink: Sink) -> None:
    """A collector that is slower than the sale costs spans, never purchases."""
    sink.may_go_on.clear()
    async with open_traces(LABELS, "test", exporter=sink) as traces:
        began = time.monotonic()
        for _ in range(QUEUE_MAX + 1_000):
            trace = traces.requests.begin(None, [])
            assert trace is not None
            trace.answered(200, "accepted")
        assert time.monotonic() - began < 10
        sink.may_go_on.set()
    assert 0 < len(sink.taken) <= QUEUE_MAX + 512


@pytest.mark.parametrize("failure", [SpanExportResult.FAILURE, OSError("away")])
def test_a_collector_that_is_away_is_told_of_once_and_once_when_it_is_back(
    sink: Sink, failure: SpanExportResult | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each batch would be a line each second."""
    told = TellingExporter(sink)
    span = provider_of("test").get_tracer("t").start_span("s")
    assert isinstance(span, ReadableSpan)
    sink.result = failure
    for _ in range(3):
        assert told.export([span]) is SpanExportResult.FAILURE
    sink.result = SpanExportResult.SUCCESS
    for _ in range(3):
        assert told.export([span]) is SpanExportResult.SUCCESS
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, lines
    assert "spans are lost" in lines[0]
    assert "after 3 were lost" in lines[1]


async def test_the_librarys_own_lines_are_kept_out_of_the_log(sink: Sink) -> None:
    """And only as long as we trace: a host's own settings come back."""
    own = logging.getLogger("opentelemetry.exporter")
    before = own.level
    async with open_traces(LABELS, "test", exporter=sink):
        assert own.level == logging.CRITICAL
    assert own.level == before


async def test_spans_reach_a_collector_over_http_with_whose_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the standard variables; what an operator says stands over what we call ourselves."""
    with running_collector() as collector:
        for name, value in collector.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        for service, said in (("flashsale-api", None), ("mine", "mine")):
            if said is not None:
                monkeypatch.setenv("OTEL_SERVICE_NAME", said)
            async with open_traces(LABELS, "flashsale-api") as traces:
                trace = traces.requests.begin(None, [(b"host", b"[::1]:80")])
                assert trace is not None
                trace.answered(429, "sold-out")
            span = collector.spans()[-1]
            assert span.service == service
            assert span.resource["deployment.environment.name"] == "test"
            assert span.resource["service.namespace"] == "flashsale"
            assert span.resource["service.instance.id"]
            assert span.attributes["server.address"] == "[::1]"
            assert not span.is_error


async def test_the_standard_sampler_decides(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the server begins; a caller's own decision stands."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0")
    async with open_traces(LABELS, "test", exporter=sink) as traces:
        assert traces.requests.begin(None, []) is None
        begun = traces.requests.begin(CALLER, [])
        assert begun is not None
        begun.left()


def test_a_batch_may_link_to_every_purchase_of_a_transaction() -> None:
    """The library's own limit is 128, and drops the others in silence."""
    links = [Link(context_of(CALLER))] * LINKS_MAX
    span = provider_of("test").get_tracer("t").start_span("batch", links=links)
    assert isinstance(span, ReadableSpan)
    assert len(span.links) == LINKS_MAX
