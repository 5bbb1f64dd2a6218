"""Figures on the pages are those that the runs wrote."""

import json
import re
from html import escape

from bench import scaling, table
from bench.table import LATEST
from tests.docs.pages import ROOT

RUN = json.loads((ROOT / "tests/faults/results/latest.json").read_text("utf-8"))
PAGE = (ROOT / "docs/faults.md").read_text("utf-8")
ROWS = {
    "faults": "faults",
    "kinds of fault": "kinds",
    "points hit": "points_hit",
    "purchases asked for": "purchases",
    "accepted": "accepted",
    "oversold": "oversold",
    "lost": "lost",
    "duplicated": "duplicated",
    "leaked": "leaked",
    "slowest recovery in s": "slowest_recovery_s",
}


def test_the_faults_page_tells_what_the_last_long_run_came_to() -> None:
    """Each row of the table, and the seed; the run was one that counts."""
    buses = [RUN["buses"]["kafka"], RUN["buses"]["rabbitmq"]]
    said = dict(re.findall(r"^\| ([a-z ]+?) \| ([\d.]+ \| [\d.]+) \|$", PAGE, re.MULTILINE))
    values = {row: [bus[key] for bus in buses] for row, key in ROWS.items()}
    assert said == {
        row: " | ".join(str(len(one) if isinstance(one, list | dict) else one) for one in both)
        for row, both in values.items()
    }
    assert f"SECONDS={RUN['seconds']:.0f} SEED={RUN['seed']}`" in PAGE
    assert RUN["passed"]


TARGETED = {
    ("gate alone, 256 callers", "reservations"),
    ("gate alone, 256 callers", "times one call per request"),
    ("accepted and confirmed over HTTP, Redis + kafka", "rate"),
    ("accepted and confirmed over HTTP, Redis + kafka", "API + Redis"),
    ("accepted and confirmed over HTTP, Redis + rabbitmq", "rate"),
    ("sold out over HTTP", "API + Redis, no purchase id"),
    ("sold out over HTTP", "times the constant answer"),
    ("sold out over HTTP", "API + Redis, with a purchase id"),
    ("flash crowd, open model", "p99 from the intended time"),
    ("flash crowd, open model", "oversold"),
    ("drain from kafka", "orders, follow-up events published"),
    ("drain from kafka", "times one transaction per order"),
    ("drain from rabbitmq", "orders, follow-up events published"),
    ("one sale grows to 1,000,000 purchases", "accept: API + Redis, last fifth to first"),
    ("one sale grows to 1,000,000 purchases", "Redis at its fullest"),
    ("one sale grows to 1,000,000 purchases", "API memory at the end"),
    ("one sale grows to 1,000,000 purchases", "worker memory at the end"),
    ("1,000 sales", "load on one of them: times the cost of the only sale"),
    ("1,000 sales", "load spread over all: times the cost of the only sale"),
}
"""What must be reached, or be shown as missed."""


def test_the_readmes_table_is_the_last_full_benchmarks() -> None:
    """Not one figure is written by hand; machine and command are named."""
    found = json.loads(LATEST.read_text("utf-8"))
    readme = (ROOT / "README.md").read_text("utf-8")
    assert readme == table.in_readme(readme, found)
    assert found["plan"] == "full"
    assert "`make bench`" in readme
    assert found["machine"]["cpu"] in readme
    chart = table.CHART.read_text("utf-8")
    assert all(escape(row["scenario"]) in chart for row in found["rows"] if row["target"])
    assert found["date"] in chart


def test_what_more_requests_need_is_computed_from_the_same_run() -> None:
    """`docs/scaling.md`."""
    found = json.loads(LATEST.read_text("utf-8"))
    page = scaling.PAGE.read_text("utf-8")
    assert page == scaling.page(page, found)


def test_every_scenario_that_is_promised_was_measured_and_proved() -> None:
    """A row for each target, and for each load a proof that holds."""
    found = json.loads(LATEST.read_text("utf-8"))
    assert {(row["scenario"], row["figure"]) for row in found["rows"]} >= TARGETED
    assert all(row["met"] is not None for row in found["rows"] if row["target"])
    assert found["proofs"]
    for proof in found["proofs"]:
        assert proof["oversold"] == proof["lost"] == proof["duplicates"] == 0, proof
        assert proof["accepted"] <= proof["orders"] <= proof["accepted"] + proof["underWay"], proof
