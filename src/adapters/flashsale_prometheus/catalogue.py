"""Every metric, once: name, labels, meaning and buckets. `docs/metrics.md` is made from here."""

from enum import StrEnum

import attrs


class Kind(StrEnum):
    """What Prometheus may do with a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(StrEnum):
    """What a metric is when several processes of one `serve` answer as one."""

    SUM = "sum"
    """Of all processes since the start, those that have died included."""
    HIGHEST = "highest"
    """Of the processes that live."""
    LOWEST = "lowest"
    """The same."""
    OWN = "own"
    """As whoever answers saw it last: all look at the same thing, or it is that process's own."""


SECONDS_BUCKETS = (
    *(0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.2, 0.28, 0.5, 0.8, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""From a gate call on loopback to a database that hangs. 0.2, 0.28 and 0.8 s are the hot path's
own deadlines, so the share of calls that missed one can be read off exactly."""
SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""From no coalescing at all to the largest delivery that a worker takes."""


@attrs.frozen(kw_only=True)
class Described:
    """One metric. A counter's name ends `_total`, every other's with its unit."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    gauge_across: Across = Across.OWN

    @property
    def across(self) -> Across:
        """Say what several processes show: counters and histograms can only be summed."""
        return self.gauge_across if self.kind is Kind.GAUGE else Across.SUM


ANSWERS = Described(
    name="flashsale_answers_total",
    kind=Kind.COUNTER,
    labels=("door", "outcome"),
    help="Answers to purchases, by the door they came through and what was said.",
)
ORDERS = Described(
    name="flashsale_orders_total",
    kind=Kind.COUNTER,
    labels=("status", "reason"),
    help="New rows in the database, and pending ones that ended; reason is empty unless REJECTED.",
)
PAYMENTS = Described(
    name="flashsale_payments_total",
    kind=Kind.COUNTER,
    labels=("outcome",),
    help="Looks at payments by what they came to: charged, declined, in-progress, unknown, away, "
    "flagged, abandoned, lease-lost.",
)
PARKINGS = Described(
    name="flashsale_parkings_total",
    kind=Kind.COUNTER,
    labels=("status", "reason"),
    help="Messages set aside since the start, and why.",
)
REPUBLISHED = Described(
    name="flashsale_republished_total",
    kind=Kind.COUNTER,
    help="Purchases that the sweeper published again, their first message being lost or late.",
)
ALARMS = Described(
    name="flashsale_alarms_total",
    kind=Kind.COUNTER,
    labels=("kind",),
    help="Things that a person must look at; the log line beside it names them.",
)
BATCH_SIZE = Described(
    name="flashsale_batch_size_entries",
    kind=Kind.HISTOGRAM,
    labels=("stage",),
    help="How many entries one batch of a stage held.",
    buckets=SIZE_BUCKETS,
)
BATCH_SECONDS = Described(
    name="flashsale_batch_duration_seconds",
    kind=Kind.HISTOGRAM,
    labels=("stage",),
    help="How long one batch of a stage took.",
    buckets=SECONDS_BUCKETS,
)
SALES = Described(
    name="flashsale_sales",
    kind=Kind.GAUGE,
    help="Unsettled sales on this process's list.",
)
SALE_STATE = Described(
    name="flashsale_sale_state",
    kind=Kind.GAUGE,
    labels=("sale", "state"),
    help="1 for the state that the sale is in, 0 for the others.",
)
SALE_EPOCH = Described(
    name="flashsale_sale_epoch",
    kind=Kind.GAUGE,
    labels=("sale",),
    help="Which life of the sale's gate this is; it rises by one with every rebuild.",
)
SALE_ARMED = Described(
    name="flashsale_sale_armed",
    kind=Kind.GAUGE,
    labels=("sale",),
    help="1 while the gate knows the sale under its epoch; 0 means that nothing can be bought.",
)
STOCK = Described(
    name="flashsale_stock_units",
    kind=Kind.GAUGE,
    labels=("sale", "standing"),
    help="Units by where they stand in the gate: available, reserved, outside, queued, sold.",
)
JOURNAL = Described(
    name="flashsale_journal_purchases",
    kind=Kind.GAUGE,
    labels=("sale",),
    help="Purchases that are not final yet.",
)
JOURNAL_OVERDUE = Described(
    name="flashsale_journal_overdue_seconds",
    kind=Kind.GAUGE,
    labels=("sale",),
    help="For how long the oldest journal entry has been due; 0 while none is.",
)
JOURNAL_AGE = Described(
    name="flashsale_journal_age_seconds",
    kind=Kind.GAUGE,
    labels=("sale",),
    help="How long ago the oldest purchase that is not final was accepted; 0 while none is. Of "
    "more than 20, the oldest of the ten due first and the ten due last.",
)
LAG = Described(
    name="flashsale_consumer_lag_messages",
    kind=Kind.GAUGE,
    labels=("channel",),
    help="Messages that wait for a worker; missing where the broker cannot say.",
)
EXPIRED = Described(
    name="flashsale_consumer_expired_messages",
    kind=Kind.GAUGE,
    labels=("channel",),
    help="Messages that the broker deleted before the group had done them: by how much its "
    "committed offsets were behind the log's start since this worker began. Anything but 0 is a "
    "loss. Missing where a broker deletes nothing by itself.",
)
PARKED = Described(
    name="flashsale_parked_messages",
    kind=Kind.GAUGE,
    labels=("status",),
    help="Messages set aside, by what becomes of them.",
)
LETTERS_HOLDING = Described(
    name="flashsale_dead_letters_holding_unit_messages",
    kind=Kind.GAUGE,
    help="Dead letters that hold a unit, or may: a person must replay or discard each of them.",
)
OUTBOX = Described(
    name="flashsale_outbox_backlog_events",
    kind=Kind.GAUGE,
    help="Order events that are committed and not yet told.",
)
OUTBOX_AGE = Described(
    name="flashsale_outbox_age_seconds",
    kind=Kind.GAUGE,
    help="For how long the oldest order event has waited to be told; 0 while none does.",
)
DRIFT = Described(
    name="flashsale_drift_purchases",
    kind=Kind.GAUGE,
    labels=("sale",),
    help="Purchases about which gate and database disagree for certain; anything but 0 is wrong.",
)
PAYMENTS_OPEN = Described(
    name="flashsale_open_payments",
    kind=Kind.GAUGE,
    labels=("state",),
    help="Payments that are not final: pending, or flagged for a person.",
)
PAYMENTS_AGE = Described(
    name="flashsale_open_payment_age_seconds",
    kind=Kind.GAUGE,
    help="Age of the oldest payment that is not final; 0 while there is none.",
)
DEPENDENCY = Described(
    name="flashsale_dependency_up",
    kind=Kind.GAUGE,
    labels=("name",),
    gauge_across=Across.LOWEST,
    help="1 when the dependency answered the last time it was asked, else 0.",
)
BREAKER = Described(
    name="flashsale_breaker_open",
    kind=Kind.GAUGE,
    labels=("name",),
    gauge_across=Across.HIGHEST,
    help="1 while calls to the dependency are refused at once, because the last got no answer.",
)
BREAKER_OPENINGS = Described(
    name="flashsale_breaker_openings_total",
    kind=Kind.COUNTER,
    labels=("name",),
    help="How often a dependency fell silent, so that calls to it were refused at once.",
)
SAMPLED = Described(
    name="flashsale_sampled_timestamp_seconds",
    kind=Kind.GAUGE,
    labels=("source",),
    help="When the gauges of a source were last read (Unix time): older ones are history.",
)

METRICS: tuple[Described, ...] = (
    *(ANSWERS, ORDERS, PAYMENTS, PARKINGS, REPUBLISHED, ALARMS, BATCH_SIZE, BATCH_SECONDS),
    *(SALES, SALE_STATE, SALE_EPOCH, SALE_ARMED, STOCK),
    *(JOURNAL, JOURNAL_OVERDUE, JOURNAL_AGE),
    *(
        LAG,
        EXPIRED,
        PARKED,
        LETTERS_HOLDING,
        OUTBOX,
        OUTBOX_AGE,
        PAYMENTS_OPEN,
        PAYMENTS_AGE,
        DRIFT,
        DEPENDENCY,
        BREAKER,
        BREAKER_OPENINGS,
        SAMPLED,
    ),
)
"""All of them, in the order of the documentation."""


PAGE = """\
# Metrics

API and worker each serve `/metrics` in Prometheus' text format. Counters begin at 0 with the
process; gauges are read every few seconds, and `flashsale_sampled_timestamp_seconds` says how old
they are. A gauge that cannot be read vanishes, or is NaN: it never shows an old number.

With `flashsale serve --processes 2` any process answers for all of them, and the fourth column says
how. `sum`: of all processes since the start; a process that dies is still counted, and the one that
takes its place counts on. `highest` and `lowest`: of the processes that live. `own`: as the process
that answers saw it last; stock, states and journals are the same for all.

{table}
This page is written by `python -m flashsale_prometheus`.
"""


def page() -> str:
    """Write `docs/metrics.md`."""
    return PAGE.format(table=table())


def table() -> str:
    """Write the metrics as a Markdown table."""
    rows = [
        f"| `{one.name}` | {one.kind} | {_labels(one)} | {one.across} | {one.help} |"
        for one in METRICS
    ]
    head = ["| metric | kind | labels | several processes | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _labels(one: Described) -> str:
    return ", ".join(f"`{label}`" for label in one.labels) or "none"
