"""`python -m docs.written`: write every generated page and picture anew."""

from pathlib import Path

from docs.written import capacity, cli, http, pictures, problems

DOCS = Path(__file__).resolve().parents[1]
WRITTEN = {
    "cli.md": cli.page,
    "plan-capacity.md": capacity.page,
    "http.md": http.page,
    "problems.md": problems.page,
    "pictures/buying.svg": pictures.buying,
    "pictures/gate-states.svg": pictures.gate_states,
    "pictures/lost-gate.svg": pictures.lost_gate,
}

if __name__ == "__main__":
    for name, written in WRITTEN.items():
        (DOCS / name).write_text(written(), "utf-8")
