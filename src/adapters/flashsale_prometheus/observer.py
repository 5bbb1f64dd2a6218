"""The observer that moves the counters; cheap enough to stand on the hot path."""

from collections import Counter
from collections.abc import Callable, Sequence

from flashsale_core.events import ParkedMessage
from flashsale_core.model import Door, OrderStatus, PurchaseId
from flashsale_core.ports import Alarm, Observer, Standing
from flashsale_prometheus.metrics import Increments, Metrics

FROM_THE_START = ("outcome-unknown", "unavailable", "internal")
"""Answers that are shown as 0 before the first of them: Prometheus sees no rise of what is new."""


class PrometheusObserver:
    """Counts what happened."""

    def __init__(self, metrics: Metrics) -> None:
        """Bind what an alert or a rate waits for; the rest is bound when first seen."""
        self._answers = Increments(metrics.answers)
        self._orders = Increments(metrics.orders)
        self._payments = Increments(metrics.payments)
        self._parkings = Increments(metrics.parkings)
        self._republished = metrics.republished.inc
        self._alarms = {kind: metrics.alarms.labels(kind.value).inc for kind in Alarm}
        self._batches: dict[str, tuple[Callable[[float], None], Callable[[float], None]]] = {}
        self._metrics = metrics
        for outcome in FROM_THE_START:
            _ = self._answers[Door.HTTP._value_, outcome]
        _ = self._orders[OrderStatus.CONFIRMED._value_, ""]
        metrics.batch_size.labels("fulfil")

    def answered(self, door: Door, outcome: str, purchase_id: PurchaseId | None) -> None:  # noqa: ARG002 - ids are no labels
        """Count an answer by door and outcome."""
        # The value, not the member: hashing an enum's member runs Python code, a string's does not.
        self._answers[door._value_, outcome]()

    def recorded(self, standings: Sequence[Standing]) -> None:
        """Count new rows by status and reason, one step a pair of them."""
        counts = Counter((one.status._value_, one.reason or "") for one in standings)
        for labels, count in counts.items():
            self._orders[labels](count)

    def paid(self, purchase_id: PurchaseId, came_to: str) -> None:  # noqa: ARG002 - ids are no labels
        """Count one look at a payment by what it came to."""
        self._payments[(came_to,)]()

    def parked(self, message: ParkedMessage) -> None:
        """Count a message that was set aside."""
        self._parkings[message.status._value_, message.reason]()

    def republished(self, count: int) -> None:
        """Count purchases that were published again."""
        self._republished(count)

    def batch(self, stage: str, size: int, seconds: float) -> None:
        """Put a batch into its stage's two histograms."""
        bound = self._batches.get(stage)
        if bound is None:
            # Stages are names in our own code, so their number needs no limit.
            bound = self._batches[stage] = (
                self._metrics.batch_size.labels(stage).observe,
                self._metrics.batch_seconds.labels(stage).observe,
            )
        bound[0](size)
        bound[1](seconds)

    def alarm(self, alarm: Alarm, **facts: str | int) -> None:  # noqa: ARG002 - facts are for the log
        """Count an alarm by kind."""
        self._alarms[alarm]()


_: type[Observer] = PrometheusObserver
