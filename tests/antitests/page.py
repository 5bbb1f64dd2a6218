"""Writes `docs/guarantees.md`: each promise, with what keeps it."""

from collections.abc import Iterable, Sequence

from tests.antitests.antitest import AntiTest
from tests.antitests.promises import NOT_PROMISED, PREFACE, PROMISES

HEAD = "| mechanism | where | its test | anti-test |\n|---|---|---|---|"


def page(antitests: Sequence[AntiTest]) -> str:
    """Write the whole page."""
    return "\n".join([PREFACE, *_promises(antitests), NOT_PROMISED])


def _promises(antitests: Sequence[AntiTest]) -> Iterable[str]:
    for number, (sentence, more) in PROMISES.items():
        rows = [_row(one) for one in antitests if one.promise == number]
        yield "\n".join([f"## {number}. {sentence}\n", f"{more}\n", HEAD, *rows, ""])


def _row(one: AntiTest) -> str:
    cells = (one.mechanism, f"`{one.where.rstrip(':')}`", f"`{one.test}`", f"`{one.name}`")
    return f"| {' | '.join(cells)} |"
