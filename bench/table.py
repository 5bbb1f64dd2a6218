"""Results for people: a table in the terminal, Markdown for the README, and a chart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.report import Report
from bench.result import number, rounded

RESULTS = Path(__file__).with_name("results")
LATEST = RESULTS / "latest.json"
CHART = RESULTS / "latest.html"
BEGIN, END = "<!-- figures: python -m bench.table -->", "<!-- end of figures -->"
README = Path(__file__).parents[1] / "README.md"
MET = {True: "yes", False: "NO", None: ""}


def show(report: Report, console: Console) -> None:
    """Print what was measured, and the proof."""
    table = Table(title="Figures", title_justify="left")
    for column in ("scenario", "figure", "value", "unit", "target", "met", "baseline", "note"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in report.rows:
        base = row.baseline
        table.add_row(
            row.scenario,
            row.figure,
            number(row.value),
            row.unit,
            str(row.target or ""),
            MET[row.is_met],
            f"{base.name}: {number(base.value)}" if base else "",
            row.remark,
        )
    console.print(table)
    proofs = Table(title="Proof", title_justify="left")
    for column in ("scenario", "accepted", "under way", "orders", "oversold", "lost", "duplicates"):
        proofs.add_column(column, justify="left" if column == "scenario" else "right")
    for proof in report.proofs:
        counts = (proof.accepted, proof.unsure, proof.orders, proof.oversold, proof.lost)
        proofs.add_row(proof.scenario, *(f"{n:,}" for n in (*counts, proof.duplicates)))
    console.print(proofs)


def write(report: Report, about: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write the file of results and the chart."""
    found = {
        **about,
        "settings": report.settings,
        "costs": {
            work: {name: rounded(cost) for name, cost in costs.items()}
            for work, costs in report.costs.items()
        },
        "rows": [row.as_json() for row in report.rows],
        "proofs": [
            {
                "scenario": proof.scenario,
                "accepted": proof.accepted,
                "underWay": proof.unsure,
                "orders": proof.orders,
                "oversold": proof.oversold,
                "lost": proof.lost,
                "duplicates": proof.duplicates,
            }
            for proof in report.proofs
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LATEST.name).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    (folder / CHART.name).write_text(chart(found))


def chart(found: dict[str, Any]) -> str:
    """Draw how far each figure is beyond its target, as a page of its own."""
    pygal = _pygal()
    bars = pygal.HorizontalBar(
        title="Reached, in parts of the target (1 is the target; more is better)",
        width=1_000,
        height=60 + 34 * sum(row["target"] is not None for row in found["rows"]),
        x_title="times the target",
        show_legend=False,
        print_values=True,
        js=[],
        value_formatter=lambda value: f"{value:.2f}",
    )
    rows = [row for row in found["rows"] if row["target"] is not None]
    bars.x_labels = [f"{row['scenario']}: {row['figure']}" for row in reversed(rows)]
    bars.add("reached", [_reached(row) for row in reversed(rows)])
    drawn = bars.render(is_unicode=True).partition("?>")[2]
    where = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    return (
        "<!doctype html>\n<meta charset='utf-8'>\n<title>Flashsale: figures</title>\n"
        f"<p>{found['command']}, {found['date']}; {where}</p>\n{drawn}\n"
    )


def _pygal() -> Any:
    """Import the library, and take back its finder of plug-ins: of a kind that Python warns of."""
    import pygal  # noqa: PLC0415 - of the development tools

    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != "PluginImportFixer"]
    return pygal


def _reached(row: dict[str, Any]) -> float:
    """Say how many times better than wanted it is; at a limit of 0, 1 where it is kept."""
    sign, limit = row["target"].split()
    wanted, value = float(limit.replace(",", "")), float(row["value"])
    if not wanted or not value:
        return float(row["met"])
    return float(value / wanted if sign == "≥" else wanted / value)


def markdown(found: dict[str, Any]) -> str:
    """Write the README's table."""
    lines = [
        BEGIN,
        "",
        _where(found),
        "",
        "| scenario | figure | value | target | beside |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        base = row["baseline"]
        beside = f"{base['name']}: {number(base['value'])}" if base else ""
        target = f"{row['target']}{'' if row['met'] else ' **missed**'}" if row["target"] else ""
        value = f"{number(row['value'])} {row['unit']}"
        lines.append(f"| {row['scenario']} | {row['figure']} | {value} | {target} | {beside} |")
    lines += [
        "",
        _behind(found),
        "",
        END,
    ]
    return "\n".join(lines)


def _where(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return (
        f"`{found['command']}` on {found['date']}: {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory']}, Python {machine['python']}; engine, servers and load generator "
        "share them."
    )


def _behind(found: dict[str, Any]) -> str:
    proofs = found["proofs"]
    accepted, orders = (sum(proof[name] for proof in proofs) for name in ("accepted", "orders"))
    wrong = [
        f"{name} {sum(p[name] for p in proofs)}" for name in ("oversold", "lost", "duplicates")
    ]
    return (
        f"Behind these figures: {accepted:,} purchases accepted, {orders:,} orders (the others "
        f"were under way when a load's clock stopped), {', '.join(wrong)}."
    )


def in_readme(text: str, found: dict[str, Any]) -> str:
    """Put the table into the README's text."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + markdown(found) + after


if __name__ == "__main__":
    README.write_text(in_readme(README.read_text(), json.loads(LATEST.read_text())))
