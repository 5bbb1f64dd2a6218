"""Every kind of fault: what is broken, for how long, and what mends it.

`KINDS` is what drills draw from. A new kind is one function with its decorator.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from mirakuru.exceptions import ProcessFinishedWithError
from redis.asyncio import Redis as Client

from flashsale.fault_points import Point
from tests.faults.stack import STRIKES, Stack, ended, frozen, killed
from tests.faults.wire import Wire
from tests.integration.crowds import connected
from tests.integration.engine import Program
from tests.servers import Redis, Server

Kind = Callable[[Stack], Awaitable[None]]
KINDS: dict[str, Kind] = {}
AT_THE_DOOR = (
    Point.AFTER_RESERVE,
    Point.AFTER_PUBLISH_SENT,
    Point.AFTER_CONFIRM,
    Point.BEFORE_MARK,
)
"""Points that an API passes for each buyer; a worker passes the others."""
ACTIONS = ("kill", "delay", "error")


IN_A_REBUILD = list(Point)[list(Point).index(Point.AFTER_RAISE_EPOCH) :]
"""Points that a worker passes when a gate is lost, and not before."""
REPLICATED_S_MAX = 30.0
LOST_AGAIN_S = 5.0
"""A rebuild takes two seconds; one that another worker was quicker with is brought about again."""
ZOMBIE_S = {"kafka": 12.0, "rabbitmq": 26.0}
"""Longer than a member of a group, or a connection without heartbeats, is believed to be alive."""
FAKE_TIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def kind(function: Kind) -> Kind:
    """Note a kind under its function's name."""
    KINDS[function.__name__.replace("_", "-")] = function
    return function


async def break_at(stack: Stack, plan: Mapping[Point, str]) -> None:
    """Let one process break at several points, each in its way; a death comes last.

    Waits until all have struck, and the process has ended as it must.
    """
    at_the_door = next(iter(plan)) in AT_THE_DOOR
    program = await stack.start("serve" if at_the_door else "worker", **armed(stack, plan))
    await _ready_or_struck(stack, program)
    if not at_the_door:
        # A queue of RabbitMQ has one active consumer, and one worker rebuilds: the armed one.
        await asyncio.gather(
            *(ended(one) for one in stack.running(workers=True) if one is not program)
        )
    await struck(stack, program, plan)
    if "kill" in plan.values():
        assert await asyncio.to_thread(program.process.wait, 20) == -9
        return
    fresh = [] if at_the_door else [await stack.start("worker") for _ in range(2)]
    await stack.ready(*fresh)
    assert await ended(program) == 0


async def die_at(stack: Stack, *points: Point) -> None:
    """Arm a process with each of these points, side by side, and wait until all have died there.

    Points of a rebuild go together, and others: the first to be lost would end the rebuild.
    """
    programs = [
        await stack.start(
            "serve" if one in AT_THE_DOOR else "worker", **armed(stack, {one: "kill"})
        )
        for one in points
    ]
    await asyncio.gather(*(_ready_or_struck(stack, one) for one in programs))
    if points[0] in IN_A_REBUILD:
        others = [one for one in stack.running(workers=True) if one not in programs]
        await asyncio.gather(*(ended(one) for one in others))
    both = zip(programs, points, strict=True)
    await asyncio.gather(*(struck(stack, program, {point: "kill"}) for program, point in both))
    for program in programs:
        assert await asyncio.to_thread(program.process.wait, 20) == -9


async def _ready_or_struck(stack: Stack, program: Program) -> None:
    """Wait until it is ready; one that is sent something first may be dead before that."""
    try:
        await stack.ready(program)
    except AssertionError:
        if STRIKES not in program.log.read_text():
            raise


def armed(stack: Stack, plan: Mapping[Point, str]) -> dict[str, str]:
    """Say what a process must be told to break at these points."""
    entries = []
    for point, action in plan.items():
        is_first = point in IN_A_REBUILD or action != "kill" or len(plan) == 1
        # A death leaves the others a second to come first.
        first = 1 if is_first else stack.dice.randint(5, 10)
        how = "delay:700" if action == "delay" else action
        entries.append(f"{point.site.name}={how}@{first}")
    return {"FLASHSALE_FAULTS": ";".join(entries), "FLASHSALE_FAULTS_ALLOWED": "yes"}


async def struck(stack: Stack, program: Program, plan: Mapping[Point, str]) -> None:
    """Wait until every point has struck; lose the gate if that is what it takes."""
    is_rebuilt = next(iter(plan)) in IN_A_REBUILD
    losing = asyncio.create_task(_lose_again(stack)) if is_rebuilt else None
    try:
        await stack.strikes(program, [point.site.name for point in plan])
    finally:
        if losing is not None:
            losing.cancel()


async def _lose_again(stack: Stack) -> None:
    while True:
        await gate_emptied(stack)
        await asyncio.sleep(LOST_AGAIN_S)


async def _replaced(stack: Stack, *, workers: bool, by_kill: bool) -> None:
    program = stack.dice.choice(stack.running(workers=workers))
    if by_kill:
        await killed(program)
    else:
        assert await ended(program) == 0
    await stack.ready(await stack.start("worker" if workers else "serve"))


async def dies(server: Server, seconds: float) -> None:
    """Kill a server, and start it again after so long."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)


async def hangs(server: Server, seconds: float) -> None:
    """Stop a server's clock for so long."""
    await asyncio.to_thread(server.freeze)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.thaw)


async def mended(wire: Wire, seconds: float) -> None:
    """Leave a wire as it is for so long."""
    await asyncio.sleep(seconds)
    wire.mend()


@attrs.frozen
class Fault:
    """What is drawn: its names, one for each point, and how it is brought about."""

    names: list[str]
    strike: Kind


@kind
async def api_killed(stack: Stack) -> None:
    """An API dies, and another is started."""
    await _replaced(stack, workers=False, by_kill=True)


@kind
async def worker_killed(stack: Stack) -> None:
    """A worker dies, and another is started."""
    await _replaced(stack, workers=True, by_kill=True)


@kind
async def api_restarted(stack: Stack) -> None:
    """An API is stopped in good order, as at a deployment."""
    await _replaced(stack, workers=False, by_kill=False)


@kind
async def worker_restarted(stack: Stack) -> None:
    """A worker leaves its group, and another joins: two rebalances."""
    await _replaced(stack, workers=True, by_kill=False)


@kind
async def worker_joins_and_leaves(stack: Stack) -> None:
    """A third worker comes for a moment: partitions change hands, and change back."""
    program = await stack.start("worker")
    await stack.ready(program)
    await asyncio.sleep(1)
    assert await ended(program) == 0


@kind
async def all_workers_killed(stack: Stack) -> None:
    """Nobody works for a while, and what was promised waits."""
    await asyncio.gather(*(killed(one) for one in stack.running(workers=True)))
    await stack.whole()


async def clock_ahead(stack: Stack) -> None:
    """An API and a worker join whose clocks are an hour ahead."""
    await _out_of_time(stack, "+1h")


async def clock_behind(stack: Stack) -> None:
    """An API and a worker join whose clocks are an hour behind."""
    await _out_of_time(stack, "-1h")


async def _out_of_time(stack: Stack, how_far: str) -> None:
    wrong = {
        "LD_PRELOAD": str(FAKE_TIME[0]),
        "FAKETIME": how_far,
        # A clock that was set wrong is wrong by the wall alone.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    programs = [await stack.start(one, **wrong) for one in ("serve", "worker")]
    await stack.ready(*programs)
    # All others leave, so that everything is done by the wrong clock.
    others = [one for one in stack.engine.programs if one not in programs]
    await asyncio.gather(*(ended(one) for one in others if one.process.poll() is None))
    await asyncio.sleep(3)
    fresh = [await stack.start(one) for one in ("serve", "worker")]
    await stack.ready(*fresh)
    assert [await ended(one) for one in programs] == [0, 0]
    await stack.whole()


@kind
async def api_frozen(stack: Stack) -> None:
    """An API stands still, and goes on as if nothing had been."""
    async with frozen(stack.dice.choice(stack.running(workers=False))):
        await asyncio.sleep(2)


@kind
async def worker_is_a_zombie(stack: Stack) -> None:
    """A worker stands still until others have its partitions, and wakes up in the middle."""
    async with frozen(stack.dice.choice(stack.running(workers=True))):
        await asyncio.sleep(ZOMBIE_S[stack.bus])


@kind
async def broker_killed(stack: Stack) -> None:
    """The broker dies and comes back with what it has on disk."""
    await dies(stack.broker, 0.5)


@kind
async def broker_frozen(stack: Stack) -> None:
    """The broker hangs: messages it has read may be there afterwards."""
    await hangs(stack.broker, 2)


@kind
async def database_killed(stack: Stack) -> None:
    """PostgreSQL dies and recovers."""
    await dies(stack.postgres, 0.5)


@kind
async def database_frozen(stack: Stack) -> None:
    """PostgreSQL hangs."""
    await hangs(stack.postgres, 3)


@kind
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


@kind
async def gate_frozen(stack: Stack) -> None:
    """Redis hangs: scripts that it has read run when it goes on."""
    await hangs(stack.redis, 1.5)


@kind
async def gate_wire_cut(stack: Stack) -> None:
    """Redis cannot be reached."""
    stack.gate_wire.cut()
    await mended(stack.gate_wire, 1.5)


@kind
async def gate_wire_slow(stack: Stack) -> None:
    """Redis answers at the edge of its deadline."""
    stack.gate_wire.delay(0.2)
    await mended(stack.gate_wire, 2)


@kind
async def gate_wire_swallows(stack: Stack) -> None:
    """Redis does what it is told, and nobody hears of it."""
    stack.gate_wire.swallow()
    await mended(stack.gate_wire, 1.5)


@kind
async def gate_wire_is_a_black_hole(stack: Stack) -> None:
    """What is sent to Redis is never seen again."""
    stack.gate_wire.black_hole()
    await mended(stack.gate_wire, 1.5)


@kind
async def database_wire_slow(stack: Stack) -> None:
    """PostgreSQL is far away."""
    stack.database_wire.delay(0.15)
    await mended(stack.database_wire, 3)


@kind
async def database_wire_cut(stack: Stack) -> None:
    """PostgreSQL cannot be reached."""
    stack.database_wire.cut()
    await mended(stack.database_wire, 2)


@kind
async def database_wire_swallows(stack: Stack) -> None:
    """PostgreSQL commits, and nobody hears of it."""
    stack.database_wire.swallow()
    await mended(stack.database_wire, 2)


@kind
async def bus_wire_cut(stack: Stack) -> None:
    """The broker cannot be reached."""
    stack.bus_wire.cut()
    await mended(stack.bus_wire, 1.5)


@kind
async def bus_wire_slow(stack: Stack) -> None:
    """Confirms come at the edge of what a buyer is made to wait."""
    stack.bus_wire.delay(0.5)
    await mended(stack.bus_wire, 3)


@kind
async def bus_wire_swallows(stack: Stack) -> None:
    """The broker takes messages, and its confirms are lost."""
    stack.bus_wire.swallow()
    await mended(stack.bus_wire, 2)


@kind
async def bus_wire_is_a_black_hole(stack: Stack) -> None:
    """What is sent to the broker is never seen again."""
    stack.bus_wire.black_hole()
    await mended(stack.bus_wire, 2)


@kind
async def provider_killed(stack: Stack) -> None:
    """The payment provider dies, and comes back with its ledger."""
    await dies(stack.provider, 1)


@kind
async def provider_frozen(stack: Stack) -> None:
    """The payment provider hangs: what it has read is charged when it goes on."""
    await hangs(stack.provider, 2.5)


async def database_disk_full(stack: Stack) -> None:
    """PostgreSQL's disk is full; it may even die of that."""
    stack.disks["postgres"].fill()
    await asyncio.sleep(4)
    stack.disks["postgres"].relieve()
    await asyncio.to_thread(_started_again, stack.postgres)


async def gate_disk_full(stack: Stack) -> None:
    """Redis cannot write what it is told, and says so."""
    stack.disks["redis"].fill()
    await asyncio.sleep(4)
    stack.disks["redis"].relieve()


def _started_again(server: Server) -> None:
    """Start what died by itself."""
    time.sleep(0.5)
    with contextlib.suppress(ProcessFinishedWithError):
        server.start()
    server.start()


WITH_FAKE_TIME: dict[str, Kind] = {"clock-ahead": clock_ahead, "clock-behind": clock_behind}
"""Drawn where libfaketime is, which scripts/install-servers installs."""
ON_A_SMALL_DISK: dict[str, Kind] = {
    "database-disk-full": database_disk_full,
    "gate-disk-full": gate_disk_full,
}
"""Drawn where this machine lets us mount small disks."""


# ── the gate is lost ────────────────────────────────────────────────────────────────────────────


@kind
async def gate_killed(stack: Stack) -> None:
    """Redis dies, and comes back with what it has on disk and nothing armed."""
    await _count_what_is_freed(stack)
    await dies(stack.redis, 0)


@kind
async def gate_emptied(stack: Stack) -> None:
    """Somebody says FLUSHALL."""
    await _count_what_is_freed(stack)
    await _tell_redis(stack.redis, "FLUSHALL")


@kind
async def gate_loses_its_tail(stack: Stack) -> None:
    """Redis dies, and the last second of its file is cut off."""
    [_, folder] = await _tell_redis(stack.redis, "CONFIG", "GET", "dir")
    newest = _newest_log(folder.decode())
    length = newest.stat().st_size
    await asyncio.sleep(1)
    await _count_what_is_freed(stack)
    await asyncio.to_thread(stack.redis.kill)
    with newest.open("r+b") as file:
        file.truncate(min(length, newest.stat().st_size))
    await asyncio.to_thread(stack.redis.start)


def _newest_log(folder: str) -> Path:
    logs = Path(folder).glob("appendonlydir/*.incr.aof")
    return max(logs, key=lambda one: one.stat().st_mtime)


@kind
async def gate_fails_over_and_back(stack: Stack) -> None:
    """A replica that lags a second behind is promoted; then the old primary comes back, armed."""
    where = urlsplit(stack.redis.url)
    await _tell_redis(stack.replica, "REPLICAOF", str(where.hostname), str(where.port))
    until = time.monotonic() + REPLICATED_S_MAX
    while b"master_link_status:up" not in await _tell_redis(stack.replica, "INFO", "replication"):
        assert time.monotonic() < until, "the replica does not follow"
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    await _tell_redis(stack.replica, "REPLICAOF", "NO", "ONE")
    await asyncio.sleep(1)
    await _count_what_is_freed(stack)
    stack.gate_wire.turn_to(stack.replica.url)
    # Long enough that the next life begins there, and sometimes sells.
    await asyncio.sleep(stack.dice.uniform(1, 6))
    await _count_what_is_freed(stack)
    stack.gate_wire.turn_to(stack.redis.url)


async def _count_what_is_freed(stack: Stack) -> None:
    """Note how many units may come back after others were told that there were none.

    What the gate holds for nobody who was promised it, and whoever is at a door just now.
    """
    names = stack.engine.settings["FLASHSALE_NAMESPACE"]
    held = 0
    for item in stack.load.items:
        key = f"{names}:{{{item.sale_id}}}:sale"
        found = await _tell_redis(stack.redis, "HMGET", key, "R", "O")
        held += sum(int(one or 0) for one in found)
    stack.history.freed += held + len(stack.load.tasks)


async def _tell_redis(server: Redis, *words: str) -> Any:
    redis: Any = Client.from_url(server.url, protocol=2)
    async with redis.client() as connection:
        connection.response_callbacks.clear()
        reply = await connection.execute_command(*words)
    await redis.aclose()
    return reply


def kinds_for(stack: Stack) -> dict[str, Kind]:
    """List what can be drawn on this machine."""
    disks = {
        name: one
        for name, one in ON_A_SMALL_DISK.items()
        if ("postgres" if name.startswith("database") else "redis") in stack.disks
    }
    return KINDS | disks | (WITH_FAKE_TIME if FAKE_TIME else {})


def missing_here(stack: Stack) -> list[str]:
    """Name the kinds that this machine does not allow."""
    return sorted({*ON_A_SMALL_DISK, *WITH_FAKE_TIME} - set(kinds_for(stack)))


def drawn(stack: Stack) -> list[Fault]:
    """Put every point, in each way, and every kind in an order by chance: first each point once."""
    dice = stack.dice

    def at(plan: Mapping[Point, str]) -> Fault:
        async def strike(stack: Stack) -> None:
            await break_at(stack, plan)

        return Fault([f"{action} {point.site.name}" for point, action in plan.items()], strike)

    kinds = [Fault([name], one) for name, one in kinds_for(stack).items()]
    dice.shuffle(kinds)
    turns = [
        [at(plan) for several in _natures() for plan in _plans(several, turn, dice)]
        for turn in dice.sample(range(len(ACTIONS)), len(ACTIONS))
    ]
    for one_turn in turns:
        dice.shuffle(one_turn)
    points = [plan for one_turn in turns for plan in one_turn]
    # Two of one sort, two of the other, as long as there are both.
    queue: list[Fault] = []
    while points or kinds:
        queue += [*points[:2], *kinds[:2]]
        points, kinds = points[2:], kinds[2:]
    return queue


def _natures() -> list[list[Point]]:
    """Group the points by who passes them, and when: one process can break at several."""
    at_work = [one for one in Point if one not in (*AT_THE_DOOR, *IN_A_REBUILD)]
    return [list(AT_THE_DOOR), at_work, list(IN_A_REBUILD)]


def _plans(points: list[Point], turn: int, dice: random.Random) -> list[dict[Point, str]]:
    """Deal points out to processes, each with its action of this turn, deaths last.

    After three turns every point has had every action.
    """
    acts = {point: ACTIONS[(n + turn) % len(ACTIONS)] for n, point in enumerate(points)}
    deaths = [point for point in points if acts[point] == "kill"]
    others = [point for point in points if acts[point] != "kill"]
    dice.shuffle(deaths)
    plans: list[dict[Point, str]] = [{} for _ in deaths]
    for point in sorted(others, key=list(Point).index):
        # What comes after a death on the way is never reached: it goes to a later death.
        later = [n for n, death in enumerate(deaths) if _is_before(point, death)]
        at = min(later, key=lambda n: len(plans[n])) if later else None
        if at is None:
            plans.append({point: acts[point]})
        else:
            plans[at][point] = acts[point]
    for plan, death in zip(plans, deaths, strict=False):
        plan[death] = "kill"
    return _joined(plans)


def _is_before(point: Point, death: Point) -> bool:
    return list(Point).index(point) < list(Point).index(death)


def _joined(plans: list[dict[Point, str]]) -> list[dict[Point, str]]:
    """Let the points that nobody dies after share one process."""
    alive = {
        point: act for plan in plans if "kill" not in plan.values() for point, act in plan.items()
    }
    dead = [plan for plan in plans if "kill" in plan.values()]
    return [*dead, alive] if alive else dead


def kind_of(name: str) -> str:
    """Name the kind of a fault: a point's action, or what else was broken."""
    action, _, point = name.partition(" ")
    return f"{action}-at-a-point" if point else name
