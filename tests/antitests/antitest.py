"""What an anti-test is: a mechanism, how it is taken out, and the test that must notice."""

from enum import StrEnum

import attrs


class Server(StrEnum):
    """A real server that a test starts."""

    REDIS = "redis"
    POSTGRESQL = "postgresql"
    KAFKA = "kafka"
    RABBITMQ = "rabbitmq"


@attrs.frozen
class Patch:
    """Text that is replaced. It must stand in the file exactly once, so that moved code is noticed.

    Without a new text it is taken out. `file` is the anti-test's own, where none is given.
    """

    old: str
    new: str = ""
    file: str | None = None


@attrs.frozen(kw_only=True)
class AntiTest:
    """One mechanism, and the test that goes red when that mechanism alone is missing."""

    name: str
    promise: int
    """Which promise of `promises.py` the mechanism is for."""
    mechanism: str
    """What it does, in a sentence for `docs/guarantees.md`."""
    where: str
    """The file and the function that do it: `src/….py:Class.method`."""
    patches: tuple[Patch, ...]
    test: str
    """The test's node id. Without a case, all cases run, and one that is red is enough."""
    reddens_by: str = "AssertionError"
    """The error that the test must fail with: any other may be the patch's own mistake."""
    server: Server | None = None
    """The slowest real server that the test starts; without one, it is in the short form."""

    @property
    def file(self) -> str:
        """The file that the mechanism stands in."""
        return self.where.partition(":")[0]

    @property
    def function(self) -> str:
        """The function in it; empty where the file is the whole statement."""
        return self.where.partition(":")[2]
