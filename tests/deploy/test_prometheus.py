"""Alert rules and board: sound, complete, and about metrics that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flashsale_prometheus import METRICS
from flashsale_prometheus.catalogue import Kind
from tests.deploy.files import PRODUCTION, the
from tests.deploy.queries import (
    BOARD,
    BY_PROMETHEUS,
    ROOT,
    RULES,
    SUFFIX,
    alerts,
    board,
    grouped,
    queries,
    selectors,
)
from tests.servers import launch

FOLDER = RULES.parent
GRAFANA = ROOT / "deploy" / "grafana"
LABELS = {
    **{one.name: set(one.labels) for one in METRICS if one.kind is not Kind.HISTOGRAM},
    **{
        one.name + suffix: set(one.labels)
        for one in METRICS
        if one.kind is Kind.HISTOGRAM
        for suffix in ("_bucket", "_count", "_sum")
    },
}
"""The labels of every series that a process can show."""
TOLD = re.compile(r"\{\{\s*\$labels\.(\w+)\s*\}\}")
SECTIONS = ("What it means", "What buyers see", "What to type", "It is over when")


def promtool(*arguments: str) -> str:
    """Run promtool, which must find nothing wrong."""
    tool = launch.program("promtool", ["promtool"], "prometheus")
    done = subprocess.run(
        [tool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    """Syntax, queries and templates, by Prometheus' own tool."""
    assert f"{len(alerts())} rules found" in promtool("check", "config", "prometheus.yml")


def test_every_alert_fires_when_it_must_and_not_before() -> None:
    """`promtool test rules` on alerts_test.yml: each fires, alone, after its wait, and ends."""
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_among_those_that_are_tried() -> None:
    """In one case it fires; where nothing is expected, none of them does."""
    tried = (FOLDER / "alerts_test.yml").read_text("utf-8")
    fired = set(re.findall(r"""labels: '\{alertname="(\w+)"\}'""", tried))
    assert fired == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_tells_whoever_is_woken_what_to_do(rule: dict[str, Any]) -> None:
    """How bad, for how long, what and why, and a page with the command to type."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    kebab = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", rule["alert"].removeprefix("Flashsale")).lower()
    assert told["runbook_url"] == f"docs/runbooks/{kebab}.md"
    page = (ROOT / told["runbook_url"]).read_text("utf-8")
    assert page.startswith(f"# {rule['alert']}\n")
    assert tuple(re.findall(r"^## (.+)$", page, re.MULTILINE)) == SECTIONS
    typed = page.split("## What to type")[1].split("## ")[0]
    assert "```text\n" in typed


def test_every_runbook_has_its_alert_and_stands_in_the_table() -> None:
    """No page is about an alert of yesterday; the overview names all of them."""
    named = {ROOT / rule["annotations"]["runbook_url"] for rule in alerts()}
    assert set((ROOT / "docs" / "runbooks").glob("*.md")) == named
    overview = (ROOT / "docs" / "observe.md").read_text("utf-8")
    rows = re.findall(
        r"^\| \[(\w+)\]\((runbooks/[a-z-]+\.md)\) \| (\w+) \|", overview, re.MULTILINE
    )
    assert rows == [
        (
            rule["alert"],
            rule["annotations"]["runbook_url"].removeprefix("docs/"),
            rule["labels"]["severity"],
        )
        for rule in alerts()
    ]


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_a_query_names_metrics_and_labels_that_exist(where: str, query: str) -> None:
    """A misspelt metric is no error anywhere: its panel is empty and its alert never fires."""
    named = selectors(query)
    assert named or "up{" in query, where
    known: set[str] = set()
    for one in named:
        assert one.metric in LABELS, (where, one.metric)
        assert {label for label, _, _ in one.demands} <= LABELS[one.metric] | BY_PROMETHEUS, where
        known |= LABELS[one.metric]
    assert grouped(query) <= known, where


def test_a_text_names_labels_that_its_alert_has() -> None:
    """Else a person reads an empty place."""
    for rule in alerts():
        shown = {label for text in rule["annotations"].values() for label in TOLD.findall(text)}
        kept = {"job", "instance"} if rule["expr"].startswith("up{") else set()
        for inside in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
            kept |= set(inside.split(", "))
        assert shown <= kept, rule["alert"]


def test_the_board_is_what_its_source_writes() -> None:
    """`python deploy/grafana/board.py > deploy/grafana/dashboards/flashsale.json`."""
    written = subprocess.run(
        [sys.executable, str(GRAFANA / "board.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert written.stdout == BOARD.read_text("utf-8")


def test_the_boards_panels_have_room_and_a_source() -> None:
    """None lies over another or beyond the edge; Grafana's own files name the same source."""
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    [source] = _provisioned("datasources/prometheus.yml")["datasources"]
    assert {target["datasource"]["uid"] for one in board()["panels"] for target in one["targets"]}
    assert {one["datasource"]["uid"] for one in board()["panels"]} == {source["uid"]}
    [provider] = _provisioned("dashboards/flashsale.yml")["providers"]
    assert Path(provider["options"]["path"]).is_absolute()


def test_rates_are_taken_over_what_is_read() -> None:
    """Grafana's shortest rate and Prometheus' reading go by the same seconds."""
    read = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    [source] = _provisioned("datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == read["global"]["scrape_interval"]
    assert {one["job_name"] for one in read["scrape_configs"]} == {
        job for _, query in queries() for job in re.findall(r'job="([^"]+)"', query)
    }


def test_what_is_read_by_default_is_where_the_processes_answer() -> None:
    """The ports are those that API and worker have by themselves."""
    from flashsale.settings import Settings  # noqa: PLC0415 - the only test that wants it

    read = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    ports = {one["job_name"]: one["dns_sd_configs"][0]["port"] for one in read["scrape_configs"]}
    plain = Settings()
    assert ports == {
        "flashsale-api": plain.http_port,
        "flashsale-worker": plain.worker_http.port,
    }


def test_in_a_cluster_the_jobs_have_the_same_names() -> None:
    """The operator names a job by its service, unless a label of the monitor says otherwise."""
    jobs = {job for _, query in queries() for job in re.findall(r'job="([^"]+)"', query)}
    assert jobs == {"flashsale-api", "flashsale-worker"}
    for overlay in PRODUCTION:
        assert all(the(overlay, "Service", job) for job in jobs)
    for monitor in (ROOT / "deploy").rglob("service-monitor.yaml"):
        assert "jobLabel" not in monitor.read_text("utf-8"), monitor


def test_the_share_that_is_refused_is_0_while_nobody_asks(tmp_path: Path) -> None:
    """0 of 0 is NaN, and the runbook waits for the panel to be green again."""
    [panel] = [one for one in board()["panels"] if one["title"] == "Refused by our fault"]
    [target] = panel["targets"]
    series = 'flashsale_answers_total{door="http",outcome="%s"}'
    case = {
        "interval": "5s",
        "input_series": [
            {"series": series % "accepted", "values": "0+10x10 100x100"},
            {"series": series % "unavailable", "values": "0+10x10 100x100"},
        ],
        "promql_expr_test": [
            {
                "expr": target["expr"].replace("$__rate_interval", "1m"),
                "eval_time": at,
                "exp_samples": [{"value": value}],
            }
            for at, value in (("45s", 0.5), ("8m", 0))
        ],
    }
    file = tmp_path / "idle.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}), "utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(file))


@pytest.mark.parametrize("overlay", PRODUCTION)
def test_a_cluster_is_given_the_same_alerts(overlay: str) -> None:
    """An operator there reads no file of ours, and whoever sleeps there is woken by the same."""
    rules = the(overlay, "PrometheusRule", "flashsale")["spec"]
    assert rules == yaml.safe_load(RULES.read_text("utf-8")), (
        "write deploy/kubernetes/components/observed/alerts.yaml again: its head, and below "
        "`spec:` every line of alerts.yml, two blanks further in"
    )


def _provisioned(path: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning" / path).read_text("utf-8"))
    return read


def test_a_counter_is_named_with_its_suffix_and_a_histogram_by_a_part() -> None:
    """`flashsale_batch_size_entries` alone is no series."""
    whole = {one.name for one in METRICS if one.kind is Kind.HISTOGRAM}
    assert not {one.metric for _, query in queries() for one in selectors(query)} & whole
    assert {SUFFIX.sub("", name) for name in LABELS} >= whole
