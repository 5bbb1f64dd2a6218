"""Whether what a process needs answers: looked at in one place, in turn, for whoever asks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import attrs

from flashsale_core.ports import Alarm, Clock, Observer

Probe = Callable[[], Awaitable[None]]
"""Raises when a dependency does not answer."""


@attrs.frozen(kw_only=True)
class Dependency:
    """How one dependency was found. `error` is the last one seen, kept after it came back."""

    name: str
    is_up: bool
    error: str | None = None
    error_at_ms: int | None = None


@attrs.frozen(kw_only=True)
class Report:
    """What the last look found; a process that never looked is not ready."""

    looked_at_ms: int | None
    dependencies: tuple[Dependency, ...]
    faults: str | None = None
    """What breaks this process on purpose."""
    is_stopping: bool = False
    """It has been told to end: nobody should begin anything here."""

    @property
    def is_ready(self) -> bool:
        """Say whether everything answered, and it is here to stay."""
        return (
            not self.is_stopping
            and self.looked_at_ms is not None
            and all(one.is_up for one in self.dependencies)
        )

    def as_json(self) -> dict[str, object]:
        """Write it as /readyz answers it."""
        more: dict[str, object] = {} if self.faults is None else {"faults": self.faults}
        if self.is_stopping:
            more["stopping"] = True
        return {
            "ready": self.is_ready,
            "looked_at_ms": self.looked_at_ms,
            "dependencies": {
                one.name: {"up": one.is_up, "error": one.error, "error_at_ms": one.error_at_ms}
                for one in self.dependencies
            },
            **more,
        }


class Readiness:
    """Looks at the dependencies of one process, side by side, each with a deadline.

    `report` may be read by any thread and at any rate: only `look` asks anybody.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        *,
        clock: Clock,
        observer: Observer,
        timeout_ms: int,
        interval_ms: int,
        tell: Callable[[Mapping[str, bool]], None] = lambda _: None,
        faults: str | None = None,
    ) -> None:
        """Name the dependencies; `tell` hears after each look which are up.

        `faults` is what breaks this process on purpose: whoever asks must see it.
        """
        self._probes = dict(probes)
        self._clock = clock
        self._observer = observer
        self._timeout_s = timeout_ms / 1_000
        self._interval_s = interval_ms / 1_000
        self._tell = tell
        self.report = Report(
            looked_at_ms=None,
            dependencies=tuple(Dependency(name=name, is_up=False) for name in self._probes),
            faults=faults,
        )

    async def look(self) -> Report:
        """Ask every dependency once; never raises for one that is away."""
        before = self.report
        found = await asyncio.gather(*(self._ask(one) for one in before.dependencies))
        # Of the report as it is now: a stop may have been told meanwhile.
        self.report = attrs.evolve(
            self.report, looked_at_ms=self._clock.now_ms(), dependencies=tuple(found)
        )
        for was, now in zip(before.dependencies, found, strict=True):
            went_away = was.is_up or before.looked_at_ms is None
            if went_away and not now.is_up:
                self._observer.alarm(
                    Alarm.DEPENDENCY_DOWN, dependency=now.name, error=now.error or ""
                )
        self._tell({one.name: one.is_up for one in found})
        return self.report

    def leave(self) -> None:
        """Be ready no more, whatever is found: the process has been told to end."""
        self.report = attrs.evolve(self.report, is_stopping=True)

    async def step(self) -> float:
        """Look once, as a loop's step; answer how long to wait, in seconds."""
        await self.look()
        return self._interval_s

    async def _ask(self, was: Dependency) -> Dependency:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._probes[was.name]()
        except TimeoutError:
            error = f"no answer within {self._timeout_s:g} s"
        except Exception as exc:  # noqa: BLE001 - a probe that breaks is a dependency that is down
            error = str(exc) or type(exc).__name__
        else:
            return attrs.evolve(was, is_up=True)
        return attrs.evolve(was, is_up=False, error=error, error_at_ms=self._clock.now_ms())
