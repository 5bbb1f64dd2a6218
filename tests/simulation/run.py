"""Live many episodes, and tell of the first that goes wrong how it is lived again.

make model-test                                  a million commands in memory, and SQLite's share
make model-test SEED=7 COMMANDS=20000            fewer, from another seed
python -m tests.simulation.run --replay 7:123    one episode, with everything that happened
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import attrs

from tests.simulation.databases import InMemory, InSqlite
from tests.simulation.episode import COMMANDS, begin

TRACE_LINES = 60
SQLITE_SHARE = 100
"""An episode on SQLite costs as much as a hundred in memory."""
TELL_EVERY_S = 5.0


@attrs.define
class Tally:
    """What has been lived through."""

    episodes: int = 0
    commands: int = 0
    calls: int = 0
    """Calls of ports, each of which might have been the last of its caller."""

    def __str__(self) -> str:
        """Write it for a person."""
        return f"{self.episodes:,} episodes, {self.commands:,} commands, {self.calls:,} port calls"


class WentWrong(AssertionError):
    """An episode that broke a promise; the text says how to live it again."""


def live(databases: InMemory | InSqlite, seed: str, tally: Tally, commands: int = COMMANDS) -> None:
    """Live the episode of a seed. Raises WentWrong."""
    wrong, lines = _outcome(databases, seed, commands, tally)
    if not wrong:
        return
    kind = "sqlite" if isinstance(databases, InSqlite) else "memory"
    fewest = next(n for n in range(1, commands + 1) if _outcome(databases, seed, n)[0])
    wrong, lines = _outcome(databases, seed, fewest)
    command = f"python -m tests.simulation.run --database {kind} --replay {seed} --first {fewest}"
    told = [f"episode {seed} goes wrong within its first {fewest} commands:", *wrong]
    raise WentWrong("\n".join([*told, f"again: {command}", *lines[-TRACE_LINES:]]))


def _outcome(
    databases: InMemory | InSqlite, seed: str, commands: int, tally: Tally | None = None
) -> tuple[list[str], list[str]]:
    episode = begin(seed, databases.make, databases.run, commands)
    try:
        wrong = [str(violation) for violation in episode.live()]
    except Exception as broken:  # noqa: BLE001 - whatever breaks is what was looked for
        wrong = [f"{type(broken).__name__}: {broken}"]
    if tally is not None:
        tally.episodes += 1
        tally.commands += commands
        tally.calls += episode.world.dice.calls
    return wrong, episode.trace


def live_many(databases: InMemory | InSqlite, seed: int, commands: int, *, tell: bool) -> Tally:
    """Live episodes until so many commands were given. Raises WentWrong."""
    tally, told_s = Tally(), time.monotonic()
    while tally.commands < commands:
        live(databases, f"{seed}:{tally.episodes}", tally)
        if tell and time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            print(tally, flush=True)
    return tally


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--database", choices=["memory", "sqlite", "both"], default="both")
    parser.add_argument("--replay")
    parser.add_argument("--first", type=int, default=COMMANDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("memory", "sqlite"):
            if given.database not in (kind, "both") or (given.replay and given.database == "both"):
                continue
            databases = InMemory() if kind == "memory" else InSqlite(Path(folder))
            try:
                if given.replay:
                    return _replay(databases, given.replay, given.first)
                share = given.commands if kind == "memory" else given.commands // SQLITE_SHARE
                print(f"{kind}: {live_many(databases, given.seed, share, tell=True)}: all promises")
            except WentWrong as wrong:
                print(wrong)
                return 1
            finally:
                databases.close()
        if given.replay:
            return _replay(InMemory(), given.replay, given.first)
    return 0


def _replay(databases: InMemory | InSqlite, seed: str, first: int) -> int:
    wrong, lines = _outcome(databases, seed, first)
    print("\n".join([*lines, *(wrong or ["nothing is wrong"])]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
