"""Figures on the pages are those that the runs wrote."""

import json
import re

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
