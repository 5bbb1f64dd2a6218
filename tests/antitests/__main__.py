"""`python -m tests.antitests`: take out each mechanism, and print which tests noticed."""

import argparse
import sys
import time

from tests.antitests.judging import Verdict, verdicts
from tests.antitests.mechanisms import ANTITESTS
from tests.antitests.page import page

SHORT_OF = 5
"""The short form tries every fifth, in less than a minute; without it all are tried."""


def main() -> int:
    """Run what was asked for; 1 when a test stayed green, or was red for another reason."""
    parser = argparse.ArgumentParser(prog="tests.antitests", description=__doc__)
    parser.add_argument("names", nargs="*", help="anti-tests to run; all without")
    parser.add_argument("--short", action="store_true", help="a fifth of those that need no server")
    parser.add_argument("--page", action="store_true", help="write docs/guarantees.md instead")
    asked = parser.parse_args()
    if asked.page:
        sys.stdout.write(page(ANTITESTS))
        return 0
    unknown = set(asked.names) - {one.name for one in ANTITESTS}
    if unknown:
        parser.error(f"no anti-test is called {', '.join(sorted(unknown))}")
    chosen = [one for one in ANTITESTS if not asked.names or one.name in asked.names]
    if asked.short:
        chosen = [one for one in chosen if one.server is None][::SHORT_OF]
    began = time.monotonic()
    told = []
    print(f"{'mechanism':<34} {'test':<78} red as it should", flush=True)
    for verdict in verdicts(chosen):
        told.append(verdict)
        print(_line(verdict), flush=True)
    wrong = [one.antitest.name for one in told if not one.is_red]
    print(f"\n{len(told) - len(wrong)} of {len(told)} are red as they should be, ", end="")
    print(f"in {time.monotonic() - began:.0f} s")
    if wrong:
        print(f"NOT red as they should be: {', '.join(sorted(wrong))}")
    return 1 if wrong else 0


def _line(verdict: Verdict) -> str:
    test = verdict.antitest.test.rpartition("::")[2]
    end = f"yes ({verdict.seconds:.1f} s)" if verdict.is_red else f"NO: {verdict.said}"
    return f"{verdict.antitest.name:<34} {test:<78} {end}"


if __name__ == "__main__":
    sys.exit(main())
