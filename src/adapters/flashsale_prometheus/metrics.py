"""The metrics themselves, made on a registry that is handed in."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from flashsale_prometheus import catalogue
from flashsale_prometheus.catalogue import Described
from flashsale_prometheus.shared import gauge_mode

LABEL_SETS_MAX = 200
"""Distinct label values of one counter. Reasons and outcomes are codes, some of the user's own: a
rule that invents a code per purchase must not own our memory nor Prometheus'."""
OTHER = "other"
"""What values beyond that limit are counted under."""


class Metrics:
    """Every metric of the catalogue, as an attribute; one set per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all of them; a registry takes one set only."""
        self.registry = registry
        self.answers = _counter(catalogue.ANSWERS, registry)
        self.orders = _counter(catalogue.ORDERS, registry)
        self.payments = _counter(catalogue.PAYMENTS, registry)
        self.parkings = _counter(catalogue.PARKINGS, registry)
        self.republished = _counter(catalogue.REPUBLISHED, registry)
        self.alarms = _counter(catalogue.ALARMS, registry)
        self.batch_size = _histogram(catalogue.BATCH_SIZE, registry)
        self.batch_seconds = _histogram(catalogue.BATCH_SECONDS, registry)
        self.sales = _gauge(catalogue.SALES, registry)
        self.sale_state = _gauge(catalogue.SALE_STATE, registry)
        self.sale_epoch = _gauge(catalogue.SALE_EPOCH, registry)
        self.sale_armed = _gauge(catalogue.SALE_ARMED, registry)
        self.stock = _gauge(catalogue.STOCK, registry)
        self.journal = _gauge(catalogue.JOURNAL, registry)
        self.journal_overdue = _gauge(catalogue.JOURNAL_OVERDUE, registry)
        self.journal_age = _gauge(catalogue.JOURNAL_AGE, registry)
        self.lag = _gauge(catalogue.LAG, registry)
        self.expired = _gauge(catalogue.EXPIRED, registry)
        self.parked = _gauge(catalogue.PARKED, registry)
        self.letters_holding = _gauge(catalogue.LETTERS_HOLDING, registry)
        self.outbox = _gauge(catalogue.OUTBOX, registry)
        self.outbox_age = _gauge(catalogue.OUTBOX_AGE, registry)
        self._drift = _gauge(catalogue.DRIFT, registry)
        self.payments_open = _gauge(catalogue.PAYMENTS_OPEN, registry)
        self.payments_age = _gauge(catalogue.PAYMENTS_AGE, registry)
        self._dependency = _gauge(catalogue.DEPENDENCY, registry)
        self._breaker = _gauge(catalogue.BREAKER, registry)
        self._breaker_openings = _counter(catalogue.BREAKER_OPENINGS, registry)
        self.sampled = _gauge(catalogue.SAMPLED, registry)

    def dependency(self, name: str, *, is_up: bool) -> None:
        """Say whether a dependency (`gate`, `bus`, `database`, `registry`) answered just now."""
        self._dependency.labels(name).set(is_up)

    def dependencies(self, seen: Mapping[str, bool]) -> None:
        """Say it of several at once, as a readiness check does."""
        for name, is_up in seen.items():
            self.dependency(name, is_up=is_up)

    def breaker(self, name: str, *, is_open: bool) -> None:
        """Say whether calls to a dependency are refused, and count when they begin to be."""
        self._breaker.labels(name).set(is_open)
        self._breaker_openings.labels(name).inc(is_open)

    def drift(self, purchases: Mapping[str, int]) -> None:
        """Say how many purchases of each unsettled sale differ; a settled one is told no more."""
        self._drift.clear()
        for sale, count in purchases.items():
            self._drift.labels(sale).set(count)


class Increments(dict[tuple[str, ...], Callable[..., None]]):
    """A counter's children by label values, bound once: an increment costs a look-up and a call."""

    def __init__(self, counter: Counter) -> None:
        """Begin without any child; each is made when its labels are first seen."""
        super().__init__()
        self._counter = counter

    def __missing__(self, labels: tuple[str, ...]) -> Callable[..., None]:
        """Bind a child; past the limit the last label becomes `other`."""
        if len(self) >= LABEL_SETS_MAX:
            labels = (*labels[:-1], OTHER)
        # Values may be members of StrEnums; labels are written with str().
        increment: Callable[..., None] = self._counter.labels(*labels).inc
        if len(self) < LABEL_SETS_MAX:
            self[labels] = increment
        return increment


def expose(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Write the page that Prometheus reads, and its content type."""
    return generate_latest(_WithoutCreationTimes(registry)), CONTENT_TYPE_PLAIN_0_0_4


class _WithoutCreationTimes(Collector):
    """A registry without the client's `_created` series, which double the page and serve nobody.

    The client can only leave them out for the whole process, which may not be ours alone.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


def _counter(one: Described, registry: CollectorRegistry) -> Counter:
    return Counter(one.name, one.help, one.labels, registry=registry)


def _gauge(one: Described, registry: CollectorRegistry) -> Gauge:
    mode = gauge_mode(one.across)
    return Gauge(one.name, one.help, one.labels, registry=registry, multiprocess_mode=mode)


def _histogram(one: Described, registry: CollectorRegistry) -> Histogram:
    return Histogram(one.name, one.help, one.labels, registry=registry, buckets=one.buckets)
