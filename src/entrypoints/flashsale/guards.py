"""The breakers of one process: one for each server, before every call that can do without it.

What is in this process's own memory, or in a file, cannot be silent, and is not guarded. Never
guarded are the looks of readiness, rebuilds and the list of sales: they must see what is there.
"""

from typing import Any, Protocol

import structlog

from flashsale.readiness import Probe
from flashsale.settings import Settings
from flashsale_coalesce import Breaker, GuardedBus, GuardedDatabase, GuardedGate
from flashsale_core.errors import Why


class Tell(Protocol):
    """Hears how a breaker stands, for whoever watches."""

    def __call__(self, name: str, *, is_open: bool) -> None:
        """Hear of a change, and at first that it is closed."""


class Guards:
    """The breakers, and what stands behind them."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        """Begin with all of them closed."""
        self._tell = tell
        self._log = structlog.get_logger("flashsale").bind()
        self._is_here = {
            "gate": settings.gate_url.is_memory,
            "bus": settings.bus_url.is_memory,
            "database": settings.database_url.scheme.startswith("sqlite"),
        }
        whys = {"gate": Why.GATE_AWAY, "bus": Why.BUS_AWAY, "database": Why.DATABASE_AWAY}
        self.of = {name: Breaker(name, why, told=self._changed) for name, why in whys.items()}
        for name in self.of:
            tell(name, is_open=False)

    def is_here(self, name: str) -> bool:
        """Say whether it is in this process or its file, where nothing can fall silent."""
        return self._is_here[name]

    def _changed(self, name: str, *, is_open: bool, detail: str) -> None:
        self._tell(name, is_open=is_open)
        if is_open:
            self._log.warning("calls are refused until it answers", dependency=name, error=detail)
        else:
            self._log.warning("it answers again", dependency=name, error=detail)


def guarded_gate(guards: Guards, inner: Any) -> Any:
    """Guard a gate."""
    return inner if guards.is_here("gate") else GuardedGate(inner, guards.of["gate"])


def guarded_bus(guards: Guards, inner: Any) -> Any:
    """Guard a bus."""
    return inner if guards.is_here("bus") else GuardedBus(inner, guards.of["bus"])


def guarded_database(guards: Guards, inner: Any) -> Any:
    """Guard a database."""
    return inner if guards.is_here("database") else GuardedDatabase(inner, guards.of["database"])


def asked_database(guards: Guards, inner: Any, settings: Settings) -> Any:
    """Guard a database for those who look something up: no question may take half their time."""
    if guards.is_here("database"):
        return inner
    deadline_ms = settings.lookup_deadline_ms / 2
    return GuardedDatabase(inner, guards.of["database"], deadline_ms=deadline_ms)


def watched(guards: Guards, name: str, look: Probe) -> Probe:
    """Let a look that succeeds close its breaker, so that it does not wait for traffic."""
    breaker = guards.of[name]

    async def watch() -> None:
        await breaker.watch(look)

    return watch
