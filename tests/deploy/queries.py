"""The queries of the board and of the alert rules, and which metrics they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
BOARD = ROOT / "deploy" / "grafana" / "dashboards" / "flashsale.json"
SELECTOR = re.compile(r"\b(flashsale_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
SUFFIX = re.compile(r"_(?:bucket|count|sum)$")
BY_PROMETHEUS = {"job", "instance", "le"}
"""Labels that no metric of ours has by itself."""


@attrs.frozen
class Selector:
    """One metric as a query names it, with what it demands of the labels."""

    metric: str
    demands: tuple[tuple[str, str, str], ...]

    def fits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Say whether a series is meant; a variable of the board means any."""
        return name == self.metric and all(
            _holds(labels.get(label, ""), how, wanted)
            for label, how, wanted in self.demands
            if "$" not in wanted and label not in BY_PROMETHEUS
        )


def _holds(value: str, how: str, wanted: str) -> bool:
    matches = re.fullmatch(wanted, value) is not None if "~" in how else value == wanted
    return matches != how.startswith("!")


def alerts() -> list[dict[str, Any]]:
    """List the rules."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board() -> dict[str, Any]:
    """Read the dashboard."""
    read: dict[str, Any] = json.loads(BOARD.read_text("utf-8"))
    return read


def queries() -> Iterator[tuple[str, str]]:
    """Go through all queries, each with the rule or panel that asks it."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in board()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def selectors(query: str) -> list[Selector]:
    """Find every metric of ours that a query names."""
    return [
        Selector(name, tuple(MATCHER.findall(inside))) for name, inside in SELECTOR.findall(query)
    ]


def grouped(query: str) -> set[str]:
    """Find the labels by which a query sorts its series."""
    found = {one.strip() for inside in GROUPED.findall(query) for one in inside.split(",")}
    return found - BY_PROMETHEUS - {""}
