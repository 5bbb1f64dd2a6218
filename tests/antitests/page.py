"""Writes `docs/guarantees.md`: each promise, with what keeps it."""

from collections.abc import Iterable, Sequence

from tests.antitests.antitest import AntiTest
from tests.antitests.promises import NOT_PROMISED, PREFACE, PROMISES, RULES

RULES_HEAD = """\
## Where to find the rules of the protocol

| rule | anti-tests | promise |
|---|---|---|"""
HEAD = "| mechanism | where | its test | anti-test |\n|---|---|---|---|"


def page(antitests: Sequence[AntiTest]) -> str:
    """Write the whole page."""
    return "\n".join([PREFACE, *_rules(antitests), *_promises(antitests), NOT_PROMISED])


def _rules(antitests: Sequence[AntiTest]) -> Iterable[str]:
    """Lead from a rule's name to its anti-tests and the promises they stand under."""
    promises = {one.name: one.promise for one in antitests}
    yield RULES_HEAD
    for rule, names in RULES.items():
        quoted = ", ".join(f"`{name}`" for name in names)
        under = ", ".join(str(number) for number in sorted({promises[name] for name in names}))
        yield f"| {rule} | {quoted} | {under} |"
    yield ""


def _promises(antitests: Sequence[AntiTest]) -> Iterable[str]:
    for number, (sentence, more) in PROMISES.items():
        rows = [_row(one) for one in antitests if one.promise == number]
        yield "\n".join([f"## {number}. {sentence}\n", f"{more}\n", HEAD, *rows, ""])


def _row(one: AntiTest) -> str:
    cells = (one.mechanism, f"`{one.where.rstrip(':')}`", f"`{one.test}`", f"`{one.name}`")
    return f"| {' | '.join(cells)} |"
