"""What a run has found so far, and where it is."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from bench.result import Baseline, Proof, Row, Target


@attrs.define
class Report:
    """Rows and proofs; `say` shows what is under way."""

    say: Callable[[str], None]
    rows: list[Row] = attrs.field(factory=list)
    proofs: list[Proof] = attrs.field(factory=list)
    settings: dict[str, str] = attrs.field(factory=dict)
    costs: dict[str, dict[str, float]] = attrs.field(factory=dict)
    """CPU microseconds per purchase of each process, by what was done."""

    def add(
        self,
        scenario: str,
        figure: str,
        value: float,
        unit: str,
        *,
        target: Target | None = None,
        baseline: Baseline | None = None,
        ratio: float | None = None,
        note: str = "",
    ) -> None:
        """Keep a figure."""
        row = Row(
            scenario=scenario,
            figure=figure,
            value=value,
            unit=unit,
            target=target,
            baseline=baseline,
            ratio=ratio,
            note=note,
        )
        self.rows.append(row)
        self.say(f"{scenario}: {figure} {value:,.1f} {unit}")

    def prove(self, proof: Proof) -> None:
        """Keep a proof; one that does not hold ends the run."""
        self.proofs.append(proof)
        if not proof.holds:
            raise AssertionError(f"the figures are worth nothing: {proof}")
