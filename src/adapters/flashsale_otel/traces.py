"""What is put around the ports of one process where it is traced."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import TracerProvider

from flashsale_otel.bus import TracedBus
from flashsale_otel.contexts import written
from flashsale_otel.database import TracedDatabase
from flashsale_otel.gate import TracedGate
from flashsale_otel.in_hand import current
from flashsale_otel.labels import Labels
from flashsale_otel.requests import RequestTraces
from flashsale_otel.spans import Spans
from flashsale_otel.work import TracedCashier, TracedGateway, TracedParking


class Traces:
    """Puts spans around ports, and around the two use cases that hold a piece of work."""

    def __init__(self, provider: TracerProvider, labels: Labels) -> None:
        """Take who makes and exports the spans."""
        tracer = provider.get_tracer("flashsale")
        self._spans = Spans(tracer)
        self._labels = labels
        self.requests = RequestTraces(tracer)
        """For the HTTP door."""

    def around_gate(self, gate: Any) -> Any:
        """Trace a gate."""
        return TracedGate(gate, self._spans, self._labels)

    def around_bus(self, bus: Any) -> Any:
        """Trace a bus."""
        return TracedBus(bus, self._spans, self._labels.bus)

    def around_database(self, database: Any) -> Any:
        """Trace a database."""
        return TracedDatabase(database, self._spans, self._labels)

    def around_gateway(self, gateway: Any) -> Any:
        """Trace a payment gateway, where there is one."""
        return None if gateway is None else TracedGateway(gateway, self._spans, self._labels)

    def around_parking(self, parking: Any) -> Any:
        """Trace the work on deliveries and on what was parked."""
        return TracedParking(parking, self._spans, self._labels)

    def around_cashier(self, cashier: Any) -> Any:
        """Trace the work on payments."""
        return TracedCashier(cashier, self._spans)

    @staticmethod
    def carrier() -> Mapping[str, str]:
        """Say what a call to another server carries, so that it can go on below this one."""
        context = current()
        return {} if context is None else {"traceparent": written(context)}
