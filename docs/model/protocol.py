"""All steps of the protocol and of fate together, and what must hold."""

from . import buying, fulfilling, losing, rebuilding
from .gate import is_armed
from .scene import Scene
from .world import CONFIRMED, DECLINED, DRIFT, PROMISED, REJECTED, Steps, World

DUTIES = (
    buying.publish,
    buying.sweep,
    fulfilling.fulfil,
    fulfilling.settle_payment,
    rebuilding.rebuild,
    losing.retire_old_primary,
)
"""What goes on by itself until everything is quiet."""
CHANCES = (
    buying.buy,
    losing.lose,
    fulfilling.befall_workers,
    rebuilding.befall_builders,
)
"""What may happen, and may as well not."""


def duties(world: World, scene: Scene) -> Steps:
    """Take every step that goes on by itself."""
    for action in DUTIES:
        yield from action(world, scene)


def chances(world: World, scene: Scene) -> Steps:
    """Take every step that somebody, or fate, may take."""
    for action in CHANCES:
        yield from action(world, scene)


def wrong(world: World, scene: Scene) -> str | None:
    """Name what no state may show."""
    if world.rows.count(CONFIRMED) > scene.units:
        return "oversold"
    for purchase, row in enumerate(world.rows):
        if world.promised[purchase] == PROMISED and row in (REJECTED, DRIFT):
            return f"{purchase} was answered ACCEPTED and its row is {row}"
    return None


def unproven(world: World) -> str | None:
    """Name a GATE_DRIFT, also of a purchase that was promised nothing: the gate was wrong."""
    return "GATE_DRIFT" if DRIFT in world.rows else None


def lost(world: World) -> str | None:
    """Name a promise that is not kept when nothing goes on by itself any more."""
    for purchase, promise in enumerate(world.promised):
        if promise == PROMISED and world.rows[purchase] not in (CONFIRMED, DECLINED):
            return f"{purchase} was answered ACCEPTED and is lost"
    return None


def leaked(world: World) -> str | None:
    """Name how the gate differs from the rows when nothing goes on by itself any more."""
    for purchase, (record, row) in enumerate(zip(world.gate.records, world.rows, strict=True)):
        if record in "ROQ":
            return f"{purchase} stays in the journal as {record}"
        if (record == "S") != (row == CONFIRMED):
            return f"the gate has {purchase} as {record}, its row is {row}: a unit leaked"
    if not is_armed(world.gate, world.epoch):
        return "the gate is never armed again"
    return None
