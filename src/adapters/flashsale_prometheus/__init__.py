"""Metrics for Prometheus, on a registry that the caller owns; nothing here is global.

`Metrics(registry)` makes every metric of `catalogue`, `PrometheusObserver` moves the counters,
`Sampler` reads what must be asked for, and `expose` writes the page.
"""

from flashsale_prometheus.catalogue import METRICS, Described
from flashsale_prometheus.metrics import Metrics, expose
from flashsale_prometheus.observer import PrometheusObserver
from flashsale_prometheus.sampling import Sampler
from flashsale_prometheus.shared import SharedRegistry, leave

__all__ = [
    "METRICS",
    "Described",
    "Metrics",
    "PrometheusObserver",
    "Sampler",
    "SharedRegistry",
    "expose",
    "leave",
]
