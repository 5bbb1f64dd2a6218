"""Traces by OpenTelemetry: what each purchase went through, in every process, as spans.

`open_traces` starts what makes and exports spans, by the standard `OTEL_*` variables; `Traces` puts
them around the ports. Nothing here is global, and nothing is put around anything unless asked for.
"""

from flashsale_otel.labels import Labels, labels_of
from flashsale_otel.opening import open_traces
from flashsale_otel.traces import Traces

__all__ = ["Labels", "Traces", "labels_of", "open_traces"]
