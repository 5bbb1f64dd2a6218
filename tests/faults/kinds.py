"""Every kind of fault: what is broken, for how long, and what mends it.

`KINDS` is what drills draw from. A new kind is one function with its decorator.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from flashsale.fault_points import Point
from tests.faults.stack import Stack, ended, frozen, killed
from tests.integration.crowds import connected

Kind = Callable[[Stack], Awaitable[None]]
KINDS: dict[str, Kind] = {}
GATE_LOSS: dict[str, Kind] = {}
"""Kinds after which a gate must be rebuilt while everything runs; drawn once that is there."""
AT_THE_DOOR = (
    Point.AFTER_RESERVE,
    Point.AFTER_PUBLISH_SENT,
    Point.AFTER_CONFIRM,
    Point.BEFORE_MARK,
)
"""Points that an API passes for each buyer; a worker passes the others."""
ACTIONS = ("kill", "delay", "error")


def kind(registry: dict[str, Kind]) -> Callable[[Kind], Kind]:
    """Note a kind under its function's name."""

    def note(function: Kind) -> Kind:
        registry[function.__name__.replace("_", "-")] = function
        return function

    return note


async def break_at(
    stack: Stack, point: Point, action: str, *, hold_s: float = 1.5, is_relieved: bool = True
) -> None:
    """Arm one process with one point, wait until it struck, and have healthy ones again.

    A drill that arms a worker next anyway does without the healthy ones meanwhile.
    """
    how = {
        "kill": f"kill@{stack.dice.randint(1, 4)}",
        "delay": "delay:700@0.5",
        "error": "error@0.5",
    }[action]
    armed = {
        "FLASHSALE_FAULTS": f"{point.site.name}={how};seed={stack.dice.randrange(1_000)}",
        "FLASHSALE_FAULTS_ALLOWED": "yes",
    }
    at_the_door = point in AT_THE_DOOR
    if not at_the_door:
        # A queue of RabbitMQ has one active consumer: the armed worker must be the first.
        await asyncio.gather(*(ended(one) for one in stack.running(workers=True)))
    program = await stack.start("serve" if at_the_door else "worker", **armed)
    await stack.strikes(program)
    stack.points_hit[point.site.name] = stack.points_hit.get(point.site.name, 0) + 1
    if action == "kill":
        assert await asyncio.to_thread(program.process.wait, 20) == -9
    if not at_the_door and is_relieved:
        fresh = [await stack.start("worker") for _ in range(2)]
        await stack.ready(*fresh)
    if action != "kill":
        await asyncio.sleep(hold_s)
        assert await ended(program) == 0


async def _replaced(stack: Stack, *, workers: bool, by_kill: bool) -> None:
    program = stack.dice.choice(stack.running(workers=workers))
    if by_kill:
        await killed(program)
    else:
        assert await ended(program) == 0
    await stack.ready(await stack.start("worker" if workers else "serve"))


@kind(KINDS)
async def api_killed(stack: Stack) -> None:
    """An API dies, and another is started."""
    await _replaced(stack, workers=False, by_kill=True)


@kind(KINDS)
async def worker_killed(stack: Stack) -> None:
    """A worker dies, and another is started."""
    await _replaced(stack, workers=True, by_kill=True)


@kind(KINDS)
async def api_restarted(stack: Stack) -> None:
    """An API is stopped in good order, as at a deployment."""
    await _replaced(stack, workers=False, by_kill=False)


@kind(KINDS)
async def worker_restarted(stack: Stack) -> None:
    """A worker leaves its group, and another joins: two rebalances."""
    await _replaced(stack, workers=True, by_kill=False)


@kind(KINDS)
async def api_frozen(stack: Stack) -> None:
    """An API stands still, and goes on as if nothing had been."""
    async with frozen(stack.dice.choice(stack.running(workers=False))):
        await asyncio.sleep(2)


@kind(KINDS)
async def worker_is_a_zombie(stack: Stack) -> None:
    """A worker stands still until others have its partitions, and wakes up in the middle."""
    async with frozen(stack.dice.choice(stack.running(workers=True))):
        await asyncio.sleep(12)


@kind(KINDS)
async def broker_killed(stack: Stack) -> None:
    """The broker dies and comes back with what it has on disk."""
    await asyncio.to_thread(stack.broker.kill)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(stack.broker.start)


@kind(KINDS)
async def broker_frozen(stack: Stack) -> None:
    """The broker hangs: messages it has read may be there afterwards."""
    await asyncio.to_thread(stack.broker.freeze)
    await asyncio.sleep(2)
    await asyncio.to_thread(stack.broker.thaw)


@kind(KINDS)
async def database_killed(stack: Stack) -> None:
    """PostgreSQL dies and recovers."""
    await asyncio.to_thread(stack.postgres.kill)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(stack.postgres.start)


@kind(KINDS)
async def database_frozen(stack: Stack) -> None:
    """PostgreSQL hangs."""
    await asyncio.to_thread(stack.postgres.freeze)
    await asyncio.sleep(3)
    await asyncio.to_thread(stack.postgres.thaw)


@kind(KINDS)
async def database_backends_terminated(stack: Stack) -> None:
    """Every session is ended by an administrator, thrice."""
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(3):
        async with connected(stack.beside()) as database:
            await database.execute(query)
        await asyncio.sleep(0.3)


@kind(KINDS)
async def gate_frozen(stack: Stack) -> None:
    """Redis hangs: scripts that it has read run when it goes on."""
    await asyncio.to_thread(stack.redis.freeze)
    await asyncio.sleep(1.5)
    await asyncio.to_thread(stack.redis.thaw)


@kind(KINDS)
async def gate_wire_cut(stack: Stack) -> None:
    """Redis cannot be reached."""
    stack.gate_wire.cut()
    await asyncio.sleep(1.5)
    stack.gate_wire.mend()


@kind(KINDS)
async def gate_wire_slow(stack: Stack) -> None:
    """Redis answers at the edge of its deadline."""
    stack.gate_wire.delay(0.2)
    await asyncio.sleep(2)
    stack.gate_wire.mend()


@kind(KINDS)
async def gate_wire_swallows(stack: Stack) -> None:
    """Redis does what it is told, and nobody hears of it."""
    stack.gate_wire.swallow()
    await asyncio.sleep(1.5)
    stack.gate_wire.mend()


@kind(KINDS)
async def database_wire_cut(stack: Stack) -> None:
    """PostgreSQL cannot be reached."""
    stack.database_wire.cut()
    await asyncio.sleep(2)
    stack.database_wire.mend()


@kind(KINDS)
async def database_wire_swallows(stack: Stack) -> None:
    """PostgreSQL commits, and nobody hears of it."""
    stack.database_wire.swallow()
    await asyncio.sleep(2)
    stack.database_wire.mend()


async def bus_wire_cut(stack: Stack) -> None:
    """RabbitMQ cannot be reached."""
    assert stack.bus_wire is not None
    stack.bus_wire.cut()
    await asyncio.sleep(1.5)
    stack.bus_wire.mend()


async def bus_wire_swallows(stack: Stack) -> None:
    """RabbitMQ takes messages, and its confirms are lost."""
    assert stack.bus_wire is not None
    stack.bus_wire.swallow()
    await asyncio.sleep(2)
    stack.bus_wire.mend()


ON_RABBITMQ: dict[str, Kind] = {
    "bus-wire-cut": bus_wire_cut,
    "bus-wire-swallows": bus_wire_swallows,
}
"""A client of Kafka is told the broker's own address, so that no wire can stand before it."""


# ── the gate is lost ────────────────────────────────────────────────────────────────────────────


@kind(GATE_LOSS)
async def gate_killed(stack: Stack) -> None:
    """Redis dies, and comes back with what it has on disk and nothing armed."""
    await _count_what_is_freed(stack)
    await asyncio.to_thread(stack.redis.kill)
    await asyncio.to_thread(stack.redis.start)


@kind(GATE_LOSS)
async def gate_emptied(stack: Stack) -> None:
    """Somebody says FLUSHALL."""
    await _count_what_is_freed(stack)
    await _tell_redis(stack, "FLUSHALL")


@kind(GATE_LOSS)
async def gate_loses_its_tail(stack: Stack) -> None:
    """Redis dies, and the last second of its file is cut off."""
    await _count_what_is_freed(stack)
    await _tell_redis(stack, "CONFIG", "SET", "appendfsync", "no")
    await asyncio.to_thread(stack.redis.kill)
    daemon = stack.redis.runner
    [newest] = sorted(daemon.folder.glob("appendonlydir/*.incr.aof"))[-1:]  # type: ignore[union-attr]
    with newest.open("r+b") as file:
        file.truncate(max(0, newest.stat().st_size - 65_536))
    await asyncio.to_thread(stack.redis.start)


async def _count_what_is_freed(stack: Stack) -> None:
    # Units that nobody was promised may come back after others heard that there were none.
    stack.history.freed += sum(item.units for item in stack.load.items)


async def _tell_redis(stack: Stack, *words: str) -> None:
    redis: Any = Redis.from_url(stack.redis.url)
    async with redis:
        await redis.execute_command(*words)


def kinds_for(bus: str) -> dict[str, Kind]:
    """List what can be drawn on a bus."""
    return KINDS | (ON_RABBITMQ if bus == "rabbitmq" else {})


def drawn(bus: str, dice: random.Random) -> list[tuple[str, Kind]]:
    """Put every point and every kind in an order by chance: first each point once."""

    def at(point: Point, action: str) -> tuple[str, Kind]:
        async def strike(stack: Stack) -> None:
            await break_at(stack, point, action)

        return f"{action} {point.site.name}", strike

    turn = dice.randrange(len(ACTIONS))
    points = [at(point, ACTIONS[(n + turn) % len(ACTIONS)]) for n, point in enumerate(Point)]
    rest = [at(point, action) for point in Point for action in ACTIONS]
    kinds = list(kinds_for(bus).items())
    for several in (points, rest, kinds):
        dice.shuffle(several)
    first = [one for pair in zip(points, kinds, strict=False) for one in pair]
    later = [*kinds[len(points) :], *rest]
    dice.shuffle(later)
    return [*first, *later]


def kind_of(name: str) -> str:
    """Name the kind of a fault: a point's action, or what else was broken."""
    action, _, point = name.partition(" ")
    return f"{action}-at-a-point" if point else name
