"""Goes through the anti-tests, two at a time: the whole copy first, then each mechanism."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.antitests.antitest import AntiTest
from tests.antitests.copies import DoesNotFit, copy_tree, copy_without
from tests.antitests.judging import (
    TEST_S_MAX,
    WHOLE_S_MAX,
    Verdict,
    judge,
    run_tests,
    why_not_green,
)

AT_ONCE = 2
"""Runs side by side: more would only take the cores from each other's servers."""


def verdicts(antitests: Sequence[AntiTest]) -> Iterator[Verdict]:
    """Judge each, as it is ready."""
    with tempfile.TemporaryDirectory(prefix="flashsale-antitests-") as folder:
        whole = Path(folder) / "whole"
        copy_tree(whole)
        # One run for all: what is green here has also left its compiled form for the copies.
        tests = list(dict.fromkeys(one.test for one in antitests))
        ran = run_tests(whole, tests, limit_s=WHOLE_S_MAX)
        sound = []
        for one in antitests:
            why = why_not_green(ran, one.test)
            if why is None:
                sound.append(one)
            else:
                yield Verdict(antitest=one, is_red=False, said=f"with the mechanism, {why}")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            work = [pool.submit(_without, one, whole, Path(folder) / one.name) for one in sound]
            for done in as_completed(work):
                yield done.result()


def _without(antitest: AntiTest, whole: Path, tree: Path) -> Verdict:
    try:
        copy_without(antitest, whole, tree)
    except (DoesNotFit, SyntaxError) as wrong:
        return Verdict(antitest=antitest, is_red=False, said=f"the patch does not fit: {wrong}")
    return judge(antitest, run_tests(tree, [antitest.test], limit_s=TEST_S_MAX))
