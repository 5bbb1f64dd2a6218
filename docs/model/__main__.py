"""Search everything and tell what was found: `make model`, or `python3 -m docs.model [--short]`."""

import argparse
import resource
import sys
import time
from dataclasses import replace

from .scene import Rules, Scene
from .scenes import BELTS, FULL, SHORT, STUCK_WITHOUT, WITHOUT, without
from .search import Found, Search


def main() -> int:
    """Answer 0 when the protocol holds and every rule is needed."""
    parser = argparse.ArgumentParser(prog="python3 -m docs.model", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the scenes of the unit tests")
    parser.add_argument("--trace", metavar="RULE", choices=WITHOUT, help="show what RULE prevents")
    chosen = parser.parse_args()
    if chosen.trace:
        found = Search(without(chosen.trace), promises_only=True).run()
        print(f"without {chosen.trace}: {found.violation}")
        _print_trace(found)
        return 0
    began = time.process_time()
    bad = _whole(SHORT if chosen.short else FULL) + _each_rule()
    if not chosen.short:
        _belts()
    took = time.process_time() - began
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"\n{took:.0f} s of one core, {memory_mib} MiB at most, {bad} surprises")
    return 1 if bad else 0


def _whole(scenes: tuple[Scene, ...]) -> int:
    print("The protocol with all its rules\n")
    print(f"{'states':>9} {'quiet':>6} {'stuck':>6} {'cpu s':>5}  scene")
    bad = total = 0
    for scene in scenes:
        began = time.process_time()
        found = Search(scene, finds_stuck=True).run()
        took = time.process_time() - began
        print(f"{found.states:9,} {found.quiet:6} {found.stuck:6} {took:5.0f}  {scene.name}")
        if found.violation:
            print(f"VIOLATION: {found.violation}")
            _print_trace(found)
        bad += bool(found.violation or found.stuck)
        total += found.states
        sys.stdout.flush()
    print(f"{total:9,} states in all, {bad} violations")
    return bad


def _each_rule() -> int:
    print("\nWithout one rule: the shortest way to a promise broken\n")
    print(f"{'steps':>5} {'states':>7}  rule and what happens")
    bad = 0
    for rule in WITHOUT:
        found = Search(without(rule), promises_only=True).run()
        print(f"{len(found.trace):5} {found.states:7,}  {rule}: {found.violation or 'NOTHING'}")
        bad += found.violation is None
    for rule in STUCK_WITHOUT:
        found = Search(without(rule), finds_stuck=True).run()
        print(
            f"{'-':>5} {found.states:7,}  {rule}: {found.stuck} states with no way to a quiet one"
        )
        bad += found.stuck == 0
    return bad


def _belts() -> None:
    print("\nHalves of rules without which nothing was found; the other half is enough here\n")
    scene = FULL[1]
    for half, what in BELTS.items():
        found = Search(replace(scene, rules=replace(Rules(), **{half: False}))).run()
        print(f"{len(found.trace):5} {found.states:7,}  {what}: {found.violation or 'nothing'}")


def _print_trace(found: Found) -> None:
    for number, step in enumerate(found.trace, 1):
        print(f"  {number:2}. {step}")


if __name__ == "__main__":
    sys.exit(main())
