"""Faults on purpose: a process that is told to die, dawdle or fail at a named point.

    FLASHSALE_FAULTS="after-reserve=kill@3;after-commit=delay:500@0.1;before-ack=error;seed=7"
    FLASHSALE_FAULTS_ALLOWED=yes

Each entry is a point, an action (`kill`, `delay:MILLISECONDS`, `error`) and when: `@3` at the
third time, `@0.1` at one in ten by chance (the same for the same `seed`), nothing each time.
"""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

import attrs
import structlog

from flashsale.fault_points import AWAY, BY_NAME, IN_DATABASE, Moment, Point
from flashsale_core.errors import Unavailable, Why

DELAY_MS_MAX = 600_000
"""Longer than any deadline; a process that should hang for good is stopped by a signal."""
SENT_S = 0.001
"""A message that the event loop has had so long is with the operating system, which sends it even
if the process dies."""
_ENTRY = re.compile(
    r"(?P<point>[a-z-]+)=(?P<action>kill|delay|error)(?::(?P<ms>\d{1,9}))?(?:@(?P<when>[\d.]{1,12}))?"
)
_ANSWERS_UNAVAILABLE = ("mark_queued",)
"""Methods that promise never to raise."""


class Action(StrEnum):
    """What happens at a point."""

    KILL = "kill"
    DELAY = "delay"
    ERROR = "error"


@attrs.define(kw_only=True)
class Armed:
    """One fault that waits at its point."""

    point: Point
    action: Action
    delay_ms: int = 0
    at_hit: int | None = None
    chance: float | None = None
    hits: int = 0

    def is_due(self, dice: random.Random) -> bool:
        """Count one passing; say whether the fault strikes now."""
        self.hits += 1
        if self.at_hit is not None:
            return self.hits == self.at_hit
        return self.chance is None or dice.random() < self.chance


@attrs.frozen(kw_only=True)
class Plan:
    """All faults of a process, and the seed of those that strike by chance."""

    armed: tuple[Armed, ...]
    seed: int = 0


def parse(text: str) -> Plan:
    """Read a plan; raises ValueError that names the entry and what was expected."""
    armed: list[Armed] = []
    seed = 0
    for entry in (one.strip() for one in text.split(";") if one.strip()):
        if entry.startswith("seed="):
            if not re.fullmatch(r"\d{1,18}", entry.removeprefix("seed="), re.ASCII):
                raise ValueError(f"{entry!r}: a seed is a whole number")
            seed = int(entry.removeprefix("seed="))
        else:
            armed.append(_parse_entry(entry))
    if not armed:
        raise ValueError("names no fault")
    return Plan(armed=tuple(armed), seed=seed)


def _parse_entry(entry: str) -> Armed:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        example = "after-reserve=kill@3, after-commit=delay:500@2, before-ack=error"
        raise ValueError(f"{entry!r}: expected point=action@when, as in {example}")
    name, action = found["point"], Action(found["action"])
    if name not in BY_NAME:
        [near] = get_close_matches(name, BY_NAME, n=1, cutoff=0.0)
        raise ValueError(f"{entry!r}: there is no such fault point; did you mean {near}?")
    delay_ms = int(found["ms"] or 0)
    if (action is Action.DELAY) != (0 < delay_ms <= DELAY_MS_MAX) or (
        action is not Action.DELAY and found["ms"]
    ):
        raise ValueError(f"{entry!r}: delay takes 1 to {DELAY_MS_MAX} ms, and nothing else does")
    at_hit, chance = _parse_when(entry, found["when"])
    return Armed(
        point=BY_NAME[name], action=action, delay_ms=delay_ms, at_hit=at_hit, chance=chance
    )


def _parse_when(entry: str, when: str | None) -> tuple[int | None, float | None]:
    if when is None:
        return None, None
    if re.fullmatch(r"[1-9]\d{0,8}", when, re.ASCII):
        return int(when), None
    if re.fullmatch(r"0?\.\d+", when, re.ASCII) and float(when) > 0:
        return None, float(when)
    raise ValueError(f"{entry!r}: @ takes a count from 1, or a chance such as 0.05")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Faults:
    """The armed faults of one process, and what stands between it and its ports because of them."""

    def __init__(self, plan: Plan, *, die: Callable[[], None] = _die) -> None:
        """Begin with nothing hit."""
        self._armed = plan.armed
        self._dice = random.Random(plan.seed)  # noqa: S311 - which fault strikes is no secret
        self._die = die
        self._points = {one.point for one in plan.armed}
        self._log = structlog.get_logger("flashsale").bind()

    async def reach(self, point: Point) -> None:
        """Pass a point: go on, later, or with Unavailable, or not at all."""
        for one in self._armed:
            if one.point is point and one.is_due(self._dice):
                self._log.warning(
                    "fault strikes", point=point.site.name, action=one.action.value, hit=one.hits
                )
                await self._strike(one)

    async def _strike(self, one: Armed) -> None:
        match one.action:
            case Action.KILL:
                self._die()
            case Action.DELAY:
                await asyncio.sleep(one.delay_ms / 1_000)
            case Action.ERROR:
                site = one.point.site
                raise Unavailable(
                    AWAY.get(site.port, Why.DATABASE_AWAY),
                    f"fault point {site.name}",
                    may_have_happened=site.moment in (Moment.SENT, Moment.AFTER),
                )

    def hook(self, point: Point) -> Callable[[], Awaitable[None]] | None:
        """Make what an adapter calls at a point of its own; None while that is not armed."""
        if point not in self._points:
            return None

        async def reached() -> None:
            await self.reach(point)

        return reached

    def around(self, port: str, inner: Any) -> Any:
        """Put the armed points of a port around it; one without any is answered as it is."""
        passing = {
            method: self._passing(getattr(inner, method), method, points)
            for method, points in self._by_method(port).items()
        }
        return _Around(inner, passing) if passing else inner

    def around_bus(self, bus: Any) -> Any:
        """Put the armed points around a bus and around what is subscribed to it."""
        bus = self.around("bus", bus)
        if not self._by_method("subscription"):
            return bus

        @asynccontextmanager
        async def subscribe(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with bus.subscribe(*args, **kwargs) as subscription:
                yield self.around("subscription", subscription)

        return _Around(bus, {"subscribe": subscribe})

    def around_database(self, database: Any) -> Any:
        """Put the armed points around the ports that a database is."""
        ports = {port: self.around(port, getattr(database, port)) for port in IN_DATABASE}
        changed = {name: one for name, one in ports.items() if one is not getattr(database, name)}
        return _Around(database, changed) if changed else database

    def _by_method(self, port: str) -> dict[str, list[Point]]:
        found: dict[str, list[Point]] = {}
        for point in Point:
            if point in self._points and point.site.port == port:
                if point.site.moment is Moment.WITHIN:
                    continue
                for method in point.site.methods:
                    found.setdefault(method, []).append(point)
        return found

    def _passing(
        self, call: Callable[..., Awaitable[Any]], method: str, points: Sequence[Point]
    ) -> Callable[..., Awaitable[Any]]:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            due = [point for point in points if point.site.when(*args, **kwargs)]
            try:
                await self._pass(due, Moment.BEFORE)
                result = await self._sent(call(*args, **kwargs), due)
            except Unavailable as away:
                if method in _ANSWERS_UNAVAILABLE:
                    return away
                raise
            try:
                await self._pass([one for one in due if one.site.found(result)], Moment.AFTER)
            except BaseException:
                if method == "take":
                    # What was fetched and is never ended would hold its partition up for ever.
                    await call.__self__.give_back(result)  # type: ignore[attr-defined]
                raise
            return result

        return passed

    async def _pass(self, points: Sequence[Point], moment: Moment) -> None:
        for point in points:
            if point.site.moment is moment:
                await self.reach(point)

    async def _sent(self, call: Awaitable[Any], due: Sequence[Point]) -> Any:
        """Let the call leave, pass what lies between that and its reply, and wait for the reply."""
        if not any(point.site.moment is Moment.SENT for point in due):
            return await call
        under_way = asyncio.ensure_future(call)
        await asyncio.wait({under_way}, timeout=SENT_S)
        try:
            await self._pass(due, Moment.SENT)
        except Unavailable:
            # Its reply is lost and it arrives all the same, perhaps late.
            under_way.add_done_callback(_heard)
            raise
        except BaseException:
            under_way.cancel()
            raise
        return await under_way


class _Around:
    """A port, of which some methods pass fault points on their way."""

    def __init__(self, inner: Any, instead: dict[str, Any]) -> None:
        self._inner = inner
        vars(self).update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _heard(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled():
        done.exception()
