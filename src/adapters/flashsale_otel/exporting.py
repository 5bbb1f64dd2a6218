"""Spans on their way out: by a thread of their own, and without a line for each that was lost."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

LOG = logging.getLogger(__name__)
FLUSH_S = 1.0
"""What a stop may spend on the last spans: a third of what it keeps for closing."""
_ITS_OWN_WORDS = logging.getLogger("opentelemetry.exporter")


class TellingExporter(SpanExporter):
    """An exporter that says once when nobody takes its spans, and once when somebody does again."""

    def __init__(self, inner: SpanExporter) -> None:
        """Stand in front of it; it is called by one thread."""
        self._inner = inner
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; whatever goes wrong, they are gone and nobody waits."""
        try:
            result = self._inner.export(spans)
        except Exception:  # noqa: BLE001 - whatever it is, purchases go on
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                LOG.warning("spans are taken again, after %d were lost", self._lost)
            self._lost = 0
            return result
        if not self._lost:
            LOG.warning("spans are lost: nobody takes them; see OTEL_EXPORTER_OTLP_ENDPOINT")
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Close it."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what it holds."""
        return self._inner.force_flush(timeout_millis)


@asynccontextmanager
async def exporting(provider: TracerProvider) -> AsyncIterator[None]:
    """Let the provider work; leaving sends what is left, for FLUSH_S at most."""
    before = _ITS_OWN_WORDS.level
    _ITS_OWN_WORDS.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        try:
            await _shut_down(provider, FLUSH_S)
        finally:
            _ITS_OWN_WORDS.setLevel(before)


async def _shut_down(provider: TracerProvider, flush_s: float) -> None:
    """End it in a thread that keeps nobody: neither the event loop nor the process's end."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        try:
            provider.shutdown()
        finally:
            # A loop that is closed by now waits for nothing.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=shut_down, name="traces-end", daemon=True).start()
    try:
        async with asyncio.timeout(flush_s):
            await done.wait()
    except TimeoutError:
        LOG.warning("the last spans are lost: nobody took them within %g s", flush_s)
