"""What the use cases tell, as metrics and log lines.

A refusal by fault, a parked message, an order's end and an alarm write one line each. A purchase
that was accepted, sold out, or refused by the sale's own terms writes none: they come by the
thousand, and are summed up once a second.
"""

import re
from collections import Counter
from collections.abc import Sequence

import structlog

from flashsale.logs import write_many
from flashsale_core.events import ParkedMessage
from flashsale_core.model import Door, PurchaseId
from flashsale_core.ports import Alarm, Observer, Standing

QUIET_OUTCOMES = frozenset(
    {
        "accepted",
        "sold-out",
        "limit-reached",
        "rate-limited",
        "not-open",
        "closed",
        "purchase-ended",
        "refused",
    }
)
"""Answers that are nobody's fault. Whatever is not named here, nor a rule's code, writes a line."""
_RULE_CODE = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
"""A refusal by a rule of the user's own (`Refused.code`): theirs, and no fault either."""
UNAVAILABLE_OUTCOMES = frozenset({"unavailable", "outcome-unknown", "internal"})
"""Faults of ours rather than of the sender: they are written as warnings."""
FAULT_LINES_MAX = 1_000
"""Lines about faults between two summaries. An outage under load makes tens of thousands a
second; those beyond the limit are counted in the summary as `unwritten`."""
SUMMARY_EVERY_S = 1.0


class WatchingObserver:
    """Tells the metrics, and writes what a person may have to look at."""

    def __init__(self, metrics: Observer) -> None:
        """Log with what `set_up_logging` set up by now."""
        self._metrics = metrics
        self._log = structlog.get_logger("flashsale").bind()
        self._answers: dict[str, Counter[str]] = {door.value: Counter() for door in Door}
        self._fault_lines = 0
        self.batch = metrics.batch
        """Batches are for the metrics alone."""
        self.paid = metrics.paid
        """So are looks at payments: an end writes a line as a row, a flag as an alarm."""

    def answered(self, door: Door, outcome: str, purchase_id: PurchaseId | None) -> None:
        """Count an answer; write a line about one that is somebody's fault."""
        self._metrics.answered(door, outcome, purchase_id)
        self._answers[door._value_][outcome] += 1
        if outcome not in QUIET_OUTCOMES and not _RULE_CODE.fullmatch(outcome):
            self._write_fault(door, outcome, purchase_id)

    def _write_fault(self, door: Door, outcome: str, purchase_id: PurchaseId | None) -> None:
        self._fault_lines += 1
        if self._fault_lines > FAULT_LINES_MAX:
            return
        write = self._log.warning if outcome in UNAVAILABLE_OUTCOMES else self._log.info
        write("purchase refused", door=door.value, outcome=outcome, purchase_id=purchase_id)

    def recorded(self, standings: Sequence[Standing]) -> None:
        """Write how purchases ended."""
        self._metrics.recorded(standings)
        write_many(
            "purchase recorded",
            (
                {
                    "purchase_id": standing.purchase_id,
                    "sale_id": standing.sale_id,
                    "status": standing.status._value_,
                    "reason": standing.reason,
                    "traceparent": standing.traceparent,
                }
                for standing in standings
            ),
        )

    def parked(self, message: ParkedMessage) -> None:
        """Write what was set aside, and why."""
        self._metrics.parked(message)
        self._log.warning(
            "message parked",
            status=message.status.value,
            reason=message.reason,
            detail=message.detail,
            channel=message.message.channel.value,
            origin=message.message.origin,
            purchase_id=message.purchase_id,
            sale_id=message.sale_id,
            holds_unit=message.holds_unit,
            traceparent=_traceparent_of(message),
        )

    def republished(self, count: int) -> None:
        """Write that the sweeper had something to do: a publish was lost or is late."""
        self._metrics.republished(count)
        self._log.info("purchases published again", count=count)

    def alarm(self, alarm: Alarm, **facts: str | int) -> None:
        """Write what a person must look at."""
        self._metrics.alarm(alarm, **facts)
        self._log.error("alarm", alarm=alarm.value, **facts)

    def summarise(self) -> None:
        """Write the answers since the last summary by door and outcome, where there were any."""
        answers = {door: dict(counts) for door, counts in self._answers.items() if counts}
        unwritten = max(0, self._fault_lines - FAULT_LINES_MAX)
        self._fault_lines = 0
        if not answers:
            return
        for counts in self._answers.values():
            counts.clear()
        more = {"unwritten": unwritten} if unwritten else {}
        self._log.info("answers", **answers, **more)


def _traceparent_of(parked: ParkedMessage) -> str | None:
    for name, value in parked.message.headers:
        if name.lower() == "traceparent":
            return value.decode("ascii", "replace")
    return None


_: type[Observer] = WatchingObserver
