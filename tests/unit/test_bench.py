"""The benchmark's own judgement: what it calls met, slow, proved; and what it writes of it."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from bench import scaling, table
from bench.open_model import crowd_of
from bench.report import Report
from bench.result import Baseline, Proof, Row, at_least, at_most, number
from bench.usage import REDIS, REWRITES, Usage, usage_of
from flashsale.http import Server
from tests.unit.http_world import Shop, selling
from tests.unit.test_http_server import running

GOOD = Proof(scenario="s", accepted=10, unsure=2, orders=11, oversold=0, lost=0, duplicates=0)
ABOUT = {
    "command": "make bench",
    "plan": "full",
    "date": "2026-01-02",
    "seconds": 1,
    "machine": {"cpu": "a CPU", "cores": "2", "memory": "4 GiB", "system": "x", "python": "3.11"},
}


def test_a_target_is_met_on_its_own_side() -> None:
    """Exactly the limit is enough."""
    assert at_least(10).met_by(10)
    assert not at_least(10).met_by(9.99)
    assert at_most(10).met_by(10)
    assert not at_most(10).met_by(10.01)
    row = Row(scenario="s", figure="f", value=1, unit="u")
    assert row.is_met is None


@pytest.mark.parametrize(
    ("value", "is_rate", "called_out"),
    [
        (100.0, True, False),
        (84.0, True, False),
        (80.0, True, True),
        (119.0, False, False),
        (125.0, False, True),
    ],
)
def test_a_baseline_that_is_a_fifth_slower_than_known_is_called_out(
    value: float, is_rate: bool, called_out: bool
) -> None:
    """It would flatter what stands beside it."""
    base = Baseline(name="b", value=value, known=100.0, known_is_rate=is_rate)
    row = Row(scenario="s", figure="f", value=1, unit="u", baseline=base, note="n")
    assert ("slower than known" in row.remark) == called_out
    assert row.remark.startswith("n")


@pytest.mark.parametrize("wrong", ["oversold", "lost", "duplicates"])
def test_figures_without_their_proof_end_the_run(wrong: str) -> None:
    """Nothing is shown that was bought with a lost or doubled purchase."""
    report = Report(say=lambda _: None)
    report.prove(GOOD)
    with pytest.raises(AssertionError, match=wrong):
        report.prove(attrs.evolve(GOOD, **{wrong: 1}))  # type: ignore[arg-type]


def test_cpu_time_is_counted_per_purchase_and_redis_without_its_rewrites() -> None:
    """In microseconds; what a child of Redis does comes all at once."""
    before, after = Usage({"api": 1.0}), Usage({"api": 1.5, "late": 0.1})
    assert after.since(before, 10_000) == {"api": pytest.approx(50.0), "late": pytest.approx(10.0)}
    assert set(usage_of({REDIS: os.getpid()}).seconds) == {REDIS, REWRITES}


def test_what_is_written_is_what_was_measured(tmp_path: Path) -> None:
    """The file of results, the README's table and the chart."""
    report = Report(say=lambda _: None)
    base = Baseline(name="slow way", value=2.0)
    report.add("one", "rate", 12_345.6, "1/s", target=at_least(10_000), baseline=base, ratio=3)
    report.add("two", "p99", 30.04, "ms", target=at_most(25))
    report.add("three", "wait", 7.5, "ms")
    report.prove(GOOD)
    table.write(report, ABOUT, tmp_path)
    found = json.loads((tmp_path / "latest.json").read_text())
    assert [(row["value"], row["met"]) for row in found["rows"]] == [
        (12_346, True),
        (30.0, False),
        (7.5, None),
    ]
    text = table.in_readme(f"before\n{table.BEGIN}\nwritten before\n{table.END}\nafter", found)
    assert text.startswith(f"before\n{table.BEGIN}")
    assert text.endswith(f"{table.END}\nafter")
    assert "written before" not in text
    assert "| two | p99 | 30 ms | ≤ 25 **missed** |" in text
    assert "10 purchases accepted, 11 orders" in text
    assert table.in_readme(text, found) == text
    chart = (tmp_path / "latest.html").read_text()
    assert "one: rate" in chart
    assert "three" not in chart


def test_what_more_requests_need_follows_from_the_costs() -> None:
    """Cores are requests a second times microseconds, at most 60 % busy; rounded up."""
    costs = {
        "accept, kafka": {"api": 60.0, "redis": 15.0, "kafka": 12.0},
        "sold out, no purchase id": {"api": 30.0, "redis": 0.3},
        "sold out, with a purchase id": {"api": 33.0, "redis": 3.0},
        "drain, kafka": {"worker": 45.0, "redis": 10.0, "postgres": 20.0, "kafka": 9.0},
    }
    text = scaling.page(f"a\n{scaling.BEGIN}\n{scaling.END}\nz", {"costs": costs})
    assert "| API, everybody is accepted | 1 | 10 | 100 |" in text
    assert "| purchases of ONE item, whose slot has one Redis core | 53,300 |" in text
    assert text.endswith("z")


def test_numbers_are_written_for_people() -> None:
    """Three digits are all that a measurement has."""
    assert [number(n) for n in (0, 7.456, 30.0, 123.6, 15_643.2)] == [
        "0",
        "7.46",
        "30",
        "124",
        "15,643",
    ]


@asynccontextmanager
async def _door(shop: Shop) -> AsyncIterator[Server]:
    async with selling(shop), running(shop.app) as here:
        yield here


async def test_a_crowd_of_the_open_model_comes_at_its_time_and_hears_everybody() -> None:
    """Each buyer is told something, whoever is accepted is named, and waits count from then."""
    async with _door(Shop()) as here:
        host, port = here.address
        crowd = await crowd_of(f"http://{host}:{port}", 2_000.0, 100, 5_000, 4)
    assert crowd.answers == {200: 10, 429: 90}
    assert set(crowd.accepted) <= set(range(5_000, 5_100))
    assert len(crowd.accepted) == 10
    assert crowd.waits.get_total_count() == 100
