"""The cold path: workers, the feeder of parked messages, zombies, and the payment behind a row.

A batch is one message here. What a batch decides is held between gate and transaction, where a
worker may stall for ever while another owner does the same message again and goes on.
"""

from collections.abc import Iterator

from .gate import change, follow, instances, is_armed, reserve
from .scene import Scene
from .world import (
    BARRIER,
    CONFIRMED,
    DECLINED,
    DRIFT,
    NONE,
    OUTSIDE_EPOCH,
    PENDING,
    REJECTED,
    Hold,
    Message,
    Parked,
    Steps,
    World,
    having,
    place,
    put,
)


def slot_of_outside(scene: Scene) -> int:
    """Find the worker of the outside door, after those of the partitions."""
    return scene.partitions


def slot_of_feeder(scene: Scene) -> int:
    """Find the feeder, who comes then."""
    return scene.partitions + 1


def slot_of_zombie(scene: Scene) -> int:
    """Find the one who lost its partition and does not know."""
    return scene.partitions + 2


def reads_barrier(world: World) -> tuple[str, World] | None:
    """Take a barrier that is next on a partition whose worker has nothing in hand.

    This commutes with every other step and shows nobody anything, so it is done at once.
    """
    for at, partition in enumerate(world.partitions):
        if partition and partition[0].purchase == BARRIER and world.holds[at] is None:
            rest = place(world.partitions, at, partition[1:])
            read = _barrier_row(world, partition[0].epoch, at)
            return f"barrier row of {partition[0].epoch}", read._replace(partitions=rest)
    return None


def _barrier_row(world: World, rebuild: int, partition: int) -> World:
    """Write the row, which only a rebuild that is still going on will look for."""
    if not any(one and one.epoch == rebuild for one in world.builders):
        return world
    return world._replace(cleared=having(world.cleared, (rebuild, partition)))


def fulfil(world: World, scene: Scene) -> Steps:
    """Take every worker one step on."""
    for at, partition in enumerate(world.partitions):
        held = world.holds[at]
        if held is not None:
            yield from _go_on(world, scene, at, held)
        elif partition:
            purchase, epoch = partition[0]
            asked = Hold(purchase, epoch, "", 0, is_confirmed=False, is_recorded=False)
            yield from _judge(world, scene, at, asked)
    at = slot_of_outside(scene)
    if (held := world.holds[at]) is not None:
        yield from _go_on(world, scene, at, held)
    elif world.outside:
        asked = Hold(world.outside[0], OUTSIDE_EPOCH, "", 0, is_confirmed=False, is_recorded=False)
        yield from _judge(world, scene, at, asked)
    yield from _feed(world, scene)
    at = slot_of_zombie(scene)
    if (held := world.holds[at]) is not None:
        yield f"zombie with {held.purchase} dies", _drop(world, at)
        for step, after in _go_on(world, scene, at, held):
            yield f"zombie: {step}", after


def _feed(world: World, scene: Scene) -> Steps:
    at = slot_of_feeder(scene)
    if (held := world.holds[at]) is not None:
        yield from _go_on(world, scene, at, held)
        return
    for parked in dict.fromkeys(world.parked):
        asked = Hold(parked.purchase, parked.epoch, "", 0, is_confirmed=False, is_recorded=False)
        for step, after in _judge(world, scene, at, asked):
            yield f"feed: {step}", after


def _judge(world: World, scene: Scene, at: int, asked: Hold) -> Steps:
    """Put one message before the gate, by whatever instance and epoch the worker believes in."""
    for step, after, decided in _decisions(world, scene, at, asked):
        if decided is None:
            if at != slot_of_feeder(scene):
                yield f"park {asked.purchase} WAITING", _park(after, scene, at, asked, holds=False)
        else:
            yield step, after._replace(holds=place(after.holds, at, decided))


def _decisions(
    world: World, scene: Scene, at: int, asked: Hold
) -> Iterator[tuple[str, World, Hold | None]]:
    purchase, message_epoch = asked.purchase, asked.epoch
    is_promise = message_epoch != OUTSIDE_EPOCH
    is_first_time = at < slot_of_outside(scene)
    for name, gate in instances(world):
        for epoch in range(world.listed, world.epoch + 1):
            if is_armed(gate, epoch):
                is_queued = is_promise and is_first_time
                if scene.rules.epoch_in_message:
                    is_queued = is_queued and message_epoch == epoch
                door = "Q" if is_queued or not scene.rules.outside_apart else "O"
                after, state = reserve(gate, purchase, door, scene)
                step = f"reserve_many {purchase} (message {message_epoch}) at {name} → {state}"
                decided = asked._replace(decided="gate", under=epoch, is_confirmed=state in "ROQS")
                yield step, change(world, name, after), decided
        if not is_armed(gate, world.epoch):
            by_database = is_promise and (
                message_epoch == world.armed_epoch or not scene.rules.epoch_in_message
            )
            if not by_database:
                yield "", world, None
                continue
            decided = asked._replace(decided="database", under=world.epoch, is_confirmed=True)
            yield f"{purchase} (message {message_epoch}) by the database alone", world, decided


def _go_on(world: World, scene: Scene, at: int, held: Hold) -> Steps:
    if held.decided == "aside":
        yield f"park {held.purchase} RETRYING", _park(world, scene, at, held, holds=True)
    elif held.is_recorded:
        yield f"follow {held.purchase}", _done(follow(world, held.purchase, held.under), scene, at)
    else:
        yield from record(world, scene, at, held)


def record(world: World, scene: Scene, at: int, held: Hold) -> Steps:
    """Commit one purchase's row, or begin again where the epochs no longer are what they were."""
    purchase = held.purchase
    if _is_stale(world, scene, held):
        yield f"record {purchase}: StaleEpoch", _drop(world, at)
        return
    after, row = world, world.rows[purchase]
    if row == NONE:
        taken = sum(one in (CONFIRMED, PENDING) for one in world.rows)
        if not held.is_confirmed:
            row = REJECTED
        elif taken >= scene.units:
            row = DRIFT
        else:
            row = PENDING if scene.has_payment else CONFIRMED
        after = world._replace(rows=put(world.rows, purchase, row))
    step = f"record {purchase}: {row}"
    if held.decided == "database":
        yield step, _done(after, scene, at)
    else:
        recorded = held._replace(is_recorded=True)
        yield step, after._replace(holds=place(after.holds, at, recorded))


def _is_stale(world: World, scene: Scene, held: Hold) -> bool:
    rules = scene.rules
    if held.decided == "gate":
        return rules.record_gate_epoch and held.under != world.epoch
    if not rules.record_message_epoch:
        return False
    is_armed_epoch = held.epoch == world.armed_epoch
    if not rules.epoch_in_message:
        is_armed_epoch = held.under == world.epoch
    is_unarmed = world.armed_epoch < world.epoch
    return (rules.record_message_is_armed and not is_armed_epoch) or (
        rules.record_is_unarmed and not is_unarmed
    )


def _drop(world: World, at: int) -> World:
    return world._replace(holds=place(world.holds, at, None))


def _done(world: World, scene: Scene, at: int) -> World:
    """Acknowledge: the message is gone, unless somebody else owns it by now."""
    held = world.holds[at]
    world = _drop(world, at)
    if at < slot_of_outside(scene):
        rest = place(world.partitions, at, world.partitions[at][1:])
        return world._replace(partitions=rest)
    if at == slot_of_outside(scene):
        return world._replace(outside=world.outside[1:])
    if at == slot_of_feeder(scene) and held is not None:
        kept = tuple(
            one for one in world.parked if (one.purchase, one.epoch) != (held.purchase, held.epoch)
        )
        return world._replace(parked=kept)
    return world


def _park(world: World, scene: Scene, at: int, held: Hold, *, holds: bool) -> World:
    """Put a message into the table, once, and acknowledge it."""
    if holds:
        holds = bool(held.under)
        if scene.rules.parked_by_epoch:
            holds = held.epoch >= world.armed_epoch
    if all((one.purchase, one.epoch) != (held.purchase, held.epoch) for one in world.parked):
        parked = having(world.parked, Parked(held.purchase, held.epoch, holds))
        world = world._replace(parked=parked)
    return _done(world, scene, at)


def settle_payment(world: World, scene: Scene) -> Steps:
    """Hear from the payment gateway; the sweeper lets the gate follow."""
    del scene
    for purchase, row in enumerate(world.rows):
        if row == PENDING:
            for outcome in (CONFIRMED, DECLINED):
                rows = put(world.rows, purchase, outcome)
                yield f"payment of {purchase}: {outcome}", world._replace(rows=rows)


def befall_workers(world: World, scene: Scene) -> Steps:
    """Give a partition a second owner, or let a message fail for an unknown reason."""
    zombie = slot_of_zombie(scene)
    if world.rebalances and world.holds[zombie] is None:
        for at in range(zombie):
            if (held := world.holds[at]) is not None:
                holds = place(place(world.holds, at, None), zombie, held)
                after = world._replace(holds=holds, rebalances=world.rebalances - 1)
                yield f"rebalance: another takes {held.purchase} again", after
    if not world.failures:
        return
    for at, partition in enumerate(world.partitions):
        if world.holds[at] is None and partition and partition[0].purchase != BARRIER:
            yield _fail(world, scene, at, partition)


def _fail(world: World, scene: Scene, at: int, partition: tuple[Message, ...]) -> tuple[str, World]:
    purchase, epoch = partition[0]
    holds_unit = int(epoch >= world.armed_epoch)
    held = Hold(purchase, epoch, "aside", holds_unit, is_confirmed=False, is_recorded=False)
    after = world._replace(holds=place(world.holds, at, held), failures=world.failures - 1)
    behind = partition[1:2]
    if behind and behind[0].purchase == BARRIER and not scene.rules.barrier_after_parking:
        after = _barrier_row(after, behind[0].epoch, at)
        rest = (partition[0], *partition[2:])
        after = after._replace(partitions=place(after.partitions, at, rest))
    return f"{purchase} fails for an unknown reason", after
