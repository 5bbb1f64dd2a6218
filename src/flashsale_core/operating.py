"""What an operator asks of a server before anything runs on it: is all well, make what is missing.

A package offers it as entry points beside its openers, in the groups `flashsale.gate-operators`,
`flashsale.bus-operators` and `flashsale.database-operators`; the name is the scheme. All of it is
optional: an adapter without an operator is judged by its `check` alone. Each call connects and
disconnects by itself.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import attrs

from flashsale_core.opening import BusOptions


class Verdict(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something will be worse than it need be when something else fails."""
    WRONG = "wrong"
    """It does not work, or loses purchases when something else fails."""


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at, and what to type where it is not as it should be."""

    name: str
    """What was looked at (`redis persistence`)."""
    verdict: Verdict = Verdict.OK
    said: str = ""
    """What was found: a version, or the problem. Carries no secret."""
    fix: str = ""
    """The command or the setting that mends it; empty when all is well."""


def wrong(name: str, problem: str, fix: str) -> Finding:
    """Find something that must be mended."""
    return Finding(name=name, verdict=Verdict.WRONG, said=problem, fix=fix)


def warning(name: str, problem: str, fix: str) -> Finding:
    """Find something that should be mended."""
    return Finding(name=name, verdict=Verdict.WARNING, said=problem, fix=fix)


@attrs.frozen(kw_only=True)
class Backlog:
    """What stands between a gate and its rebuild: promises that are no orders yet."""

    messages: int
    """Messages of ACCEPTED that wait for a worker."""
    consumers: int
    """Workers that are subscribed to it now."""


class GateOperator(Protocol):
    """Looks after a gate's server."""

    async def diagnose(self) -> Sequence[Finding]:
        """Look at everything, change nothing. A server that is away is a finding, not an error."""

    async def install(self) -> bool:
        """Load the gate's functions unless they are there; answer whether this call did.

        Raises Unavailable.
        """

    async def journal_faults(self) -> Sequence[str]:
        """Say what could make this server forget what it has answered, and what mends each.

        None of them: a crash and a restart lose nothing. Raises Unavailable.
        """


class BusOperator(Protocol):
    """Looks after a bus's topics or queues."""

    async def diagnose(self) -> Sequence[Finding]:
        """Look at everything, change nothing. A server that is away is a finding, not an error."""

    async def ensure(self) -> Sequence[str]:
        """Make what is missing and name it; change nothing that exists.

        Raises Conflict("topology-differs") with both shapes, and Unavailable.
        """

    async def accepted_backlog(self) -> Backlog:
        """Count what waits on ACCEPTED, and who consumes it; take nothing. Raises Unavailable."""


class DatabaseOperator(Protocol):
    """Looks after a database's tables."""

    async def diagnose(self) -> Sequence[Finding]:
        """Look at everything, change nothing. A server that is away is a finding, not an error."""

    async def upgrade(self) -> None:
        """Make or mend the tables; harmless when they are current. Raises Unavailable."""

    async def current(self) -> str | None:
        """Tell which migration the tables are at, None without tables. Raises Unavailable."""

    @property
    def needed(self) -> str:
        """Name the migration that this version needs."""

    def sql(self) -> str:
        """Write out what makes the tables from nothing, for whoever must read it first."""


class OperateGate(Protocol):
    """An entry point of `flashsale.gate-operators`."""

    def __call__(self, url: str, namespace: str) -> GateOperator:
        """Look after the server that the URL names; the gate's keys begin with `namespace`."""


class OperateBus(Protocol):
    """An entry point of `flashsale.bus-operators`."""

    def __call__(self, url: str, options: BusOptions) -> BusOperator:
        """Look after the broker that the URL names."""


class OperateDatabase(Protocol):
    """An entry point of `flashsale.database-operators`."""

    def __call__(self, url: str) -> DatabaseOperator:
        """Look after the database that the URL names."""
