"""The dashboard "the sale at a glance", from which its JSON is written.

    python deploy/grafana/board.py > deploy/grafana/dashboards/flashsale.json

Every process shows what it saw of gate and database, so gauges are `max`, `min` or `avg` of them;
what a process counts itself is summed.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]
Queries = Mapping[str, str]
"""PromQL by what its lines are called; `{{label}}` in a name is the line's own label."""

SOURCE = {"type": "prometheus", "uid": "prometheus"}
"""As provisioning/datasources/prometheus.yml names it."""
COLUMNS = 24
RATE = "[$__rate_interval]"
OF_SALE = 'sale=~"$sale"'
GREEN, AMBER, RED, BLUE, GREY = "#56a64b", "#e0b400", "#d44a3a", "#3274d9", "#8e8e8e"
OUTCOMES = {
    "accepted": GREEN,
    "sold-out": GREY,
    "outcome-unknown": AMBER,
    "unavailable": RED,
    "internal": "#8f3bb8",
}


def stat(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str = "short",
    steps: Iterable[tuple[float | None, str]] = ((None, BLUE),),
    words: Mapping[int, tuple[str, str]] | None = None,
    shown: str = "auto",
) -> Json:
    """Show the last value of each line, large; `words` are told instead of numbers.

    `shown` is "auto" for values, "name" for names alone.
    """
    defaults: Json = {
        "unit": unit,
        "noValue": "unknown",
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in steps],
        },
        "mappings": [],
    }
    if words:
        told = {str(n): {"text": text, "color": color} for n, (text, color) in words.items()}
        defaults["mappings"] = [{"type": "value", "options": told}]
    options = {
        "colorMode": "background",
        "graphMode": "none",
        "textMode": shown,
        "reduceOptions": {"calcs": ["lastNotNull"]},
    }
    return _panel("stat", title, description, queries, defaults, [], options)


def lines(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str = "short",
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
) -> Json:
    """Show every line over time."""
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 2,
            "fillOpacity": 40 if stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if stacked else "none"},
        },
    }
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in (colors or {}).items()
    ]
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, description, queries, defaults, overrides, options)


def _panel(
    kind: str,
    title: str,
    description: str,
    queries: Queries,
    defaults: Json,
    overrides: list[Json],
    options: Json,
) -> Json:
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": name}
            for at, (name, expr) in enumerate(queries.items())
        ],
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
    }


def quantiles(stage: str) -> Queries:
    """Say how long a stage's batches took, the middle one and the slowest of a hundred."""
    took = f'sum by (le) (rate(flashsale_batch_duration_seconds_bucket{{stage="{stage}"}}{RATE}))'
    return {
        "p50": f"histogram_quantile(0.5, {took})",
        "p99": f"histogram_quantile(0.99, {took})",
    }


def units(standing: str) -> str:
    """Count a sale's units by where they stand in the gate.

    Processes look at different moments; of averages the sum is right, of maxima it is not.
    """
    return f'sum(avg by (sale) (flashsale_stock_units{{{OF_SALE},standing="{standing}"}}))'


def at_a_glance() -> list[Json]:
    """Say in one line whether all is well."""
    none_is_well = ((None, GREEN), (1, RED))
    return [
        stat("Units left", "In the gate, of the chosen sales.", {"left": units("available")}),
        stat("Units sold", "Of orders that are final.", {"sold": units("sold")}),
        stat(
            "Orders a second",
            "New rows in the database.",
            {"orders": f'sum(rate(flashsale_orders_total{{status="CONFIRMED"}}{RATE}))'},
        ),
        stat(
            "Refused by our fault",
            "Share of answers over HTTP that are a fault of ours. Sold out is none.",
            {
                "refused": 'sum(rate(flashsale_answers_total{door="http",'
                f'outcome=~"unavailable|outcome-unknown|internal"}}{RATE})) / '
                # Nobody asks: 0 of 0 is no number, and a panel that shows none is not green.
                f'(sum(rate(flashsale_answers_total{{door="http"}}{RATE})) > 0) or vector(0)'
            },
            unit="percentunit",
            steps=((None, GREEN), (0.01, AMBER), (0.05, RED)),
        ),
        stat(
            "Drift",
            "Purchases about which gate and database disagree for certain.",
            {"purchases": f"sum(max by (sale) (flashsale_drift_purchases{{{OF_SALE}}}))"},
            steps=none_is_well,
        ),
        stat(
            "Dead letters holding units",
            "Each is a buyer with a promise and no order; a person must act.",
            {"messages": "max(flashsale_dead_letters_holding_unit_messages)"},
            steps=none_is_well,
        ),
    ]


def the_sale() -> list[Json]:
    """Show stock, answers and orders."""
    standings = {"sold": BLUE, "queued": AMBER, "reserved": RED, "available": GREEN}
    return [
        lines(
            "Stock",
            "Units by where they stand in the gate. The sum is what the sale began with.",
            {standing: units(standing) for standing in standings},
            stacked=True,
            colors=standings,
        ),
        lines(
            "Answers a second, by outcome",
            "What buyers were told at both doors.",
            {
                "{{outcome}}": "sum by (outcome) (rate(flashsale_answers_total"
                f'{{door=~"http|outside"}}{RATE}))'
            },
            unit="ops",
            colors=OUTCOMES,
        ),
        lines(
            "Orders a second, by status",
            "New rows in the database, and pending ones that ended.",
            {"{{status}}": f"sum by (status) (rate(flashsale_orders_total{RATE}))"},
            unit="ops",
            colors={"CONFIRMED": GREEN, "REJECTED": RED, "PENDING_PAYMENT": AMBER},
        ),
    ]


def how_quick() -> list[Json]:
    """Show what buyers and orders wait for."""
    return [
        lines(
            "Gate: how long a call takes",
            "Every buyer waits for one call, which serves all who came together.",
            quantiles("reserve"),
            unit="s",
        ),
        lines(
            "Broker: how long a confirm takes",
            "An accepted buyer waits for this too.",
            quantiles("publish"),
            unit="s",
        ),
        lines(
            "Worker: how long a delivery takes",
            "From the bus to the database and the gate, a batch at a time.",
            quantiles("fulfil"),
            unit="s",
        ),
    ]


def what_waits() -> list[Json]:
    """Show what is not done yet, and for how long."""
    return [
        lines(
            "Journal: purchases that are not final",
            "Accepted, and no order yet.",
            {"{{sale}}": f"max by (sale) (flashsale_journal_purchases{{{OF_SALE}}})"},
        ),
        lines(
            "Journal: age",
            "Of the oldest such purchase, and for how long a sweeper has been overdue.",
            {
                "oldest": f"max(flashsale_journal_age_seconds{{{OF_SALE}}})",
                "overdue": f"max(flashsale_journal_overdue_seconds{{{OF_SALE}}})",
            },
            unit="s",
            colors={"overdue": RED},
        ),
        lines(
            "Consumer lag",
            "Messages that wait for a worker; one of `accepted` may hold hundreds of purchases.",
            {
                "{{channel}}": "sum by (channel) (flashsale_consumer_lag_messages)",
                "expired {{channel}}": "max by (channel) (flashsale_consumer_expired_messages) > 0",
            },
        ),
        lines(
            "Parked messages",
            "Set aside: WAITING and RETRYING go on by themselves, DEAD wait for a person.",
            {
                "{{status}}": "max by (status) (flashsale_parked_messages"
                '{status=~"WAITING|RETRYING|DEAD"})'
            },
            colors={"DEAD": RED, "RETRYING": AMBER, "WAITING": BLUE},
        ),
        lines(
            "Outbox: order events not told yet",
            "Orders are made; this is whether others hear of them.",
            {"events": "max(flashsale_outbox_backlog_events)"},
        ),
        lines(
            "Outbox and payments: age",
            "Of the oldest order event that waits, and of the oldest payment that is open.",
            {
                "order event": "max(flashsale_outbox_age_seconds)",
                "payment": "max(flashsale_open_payment_age_seconds)",
            },
            unit="s",
        ),
    ]


def what_it_needs() -> list[Json]:
    """Show dependencies, breakers, gates and processes."""
    return [
        stat(
            "Dependencies",
            "What the last looks of all processes found.",
            {"{{name}}": "min by (name) (flashsale_dependency_up)"},
            words={1: ("up", GREEN), 0: ("DOWN", RED)},
        ),
        stat(
            "Breakers",
            "Open: calls are refused at once, because the last got no answer.",
            {"{{name}}": "max by (name) (flashsale_breaker_open)"},
            words={0: ("closed", GREEN), 1: ("OPEN", RED)},
        ),
        stat(
            "Gates",
            "A sale whose gate is not armed sells nothing until a worker has rebuilt it.",
            {"{{sale}}": f"max by (sale) (flashsale_sale_armed{{{OF_SALE}}})"},
            words={1: ("armed", GREEN), 0: ("NOT ARMED", RED)},
        ),
        stat(
            "State",
            "Of the chosen sales.",
            {
                "{{sale}} {{state}}": f"max by (sale, state) (flashsale_sale_state{{{OF_SALE}}})"
                " == 1"
            },
            shown="name",
        ),
        stat(
            "Processes",
            "That Prometheus reads.",
            {"{{job}}": 'sum by (job) (up{job=~"flashsale-.+"})'},
            steps=((None, RED), (1, GREEN)),
        ),
        stat(
            "Alarms in an hour",
            "Things that a person must look at; the log names them.",
            {"alarms": "sum(increase(flashsale_alarms_total[1h]))"},
            steps=((None, GREEN), (1, RED)),
        ),
    ]


def placed() -> Iterator[Json]:
    """Give every panel its place: bands, each filled from left to right."""
    bands = ((4, 4, at_a_glance()), (8, 8, the_sale()), (8, 8, how_quick()), (8, 8, what_waits()))
    y, number = 0, 0
    for width, height, panels in (*bands, (4, 5, what_it_needs())):
        for at, panel in enumerate(panels):
            number += 1
            x, row = at * width % COLUMNS, at * width // COLUMNS
            place = {"x": x, "y": y + row * height, "w": width, "h": height}
            yield {"id": number, "gridPos": place, **panel}
        y += height * -(-len(panels) * width // COLUMNS)


def board() -> Json:
    """Make the dashboard."""
    sale = {
        "name": "sale",
        "label": "Sale",
        "type": "query",
        "datasource": SOURCE,
        "definition": "label_values(flashsale_sale_state, sale)",
        "query": {"query": "label_values(flashsale_sale_state, sale)", "refId": "sale"},
        "refresh": 2,
        "sort": 3,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
    return {
        "uid": "flashsale",
        "title": "Flashsale: the sale at a glance",
        "tags": ["flashsale"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [sale]},
        "panels": list(placed()),
    }


def text() -> str:
    """Write it as Grafana reads it."""
    return json.dumps(board(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
