"""The gate's functions, as `lua/stock_gate.lua` has them, one call one step."""

from collections.abc import Iterator

from .scene import Scene
from .world import HELD, NONE, Gate, World, put

INSTANCES = ("gate", "old")


def instances(world: World) -> Iterator[tuple[str, Gate]]:
    """List who can be asked: the primary, and one who does not know that it was replaced."""
    yield "gate", world.gate
    if world.old is not None:
        yield "old", world.old


def change(world: World, name: str, gate: Gate) -> World:
    """Put one of the two in place; what an old primary still writes costs its memory later on.

    Such writes are not the new primary's, so a full copy replaces them, and the memory with them.
    """
    if name == "gate":
        return world._replace(gate=gate)
    is_same = world.old is not None and world.old[:2] == gate[:2]
    return world._replace(old=gate, demoted=world.demoted if is_same else 0)


def is_armed(gate: Gate, epoch: int) -> bool:
    """Answer unless NotArmed: the caller's epoch = the key's = the one in the function's memory."""
    return gate.epoch == epoch == gate.armed and gate.fence <= epoch


def available(gate: Gate, scene: Scene) -> int:
    """Conservation: initial = available + R + O + Q + S."""
    return scene.units - sum(letter in HELD for letter in gate.records)


def reserve(gate: Gate, purchase: int, door: str, scene: Scene) -> tuple[Gate, str]:
    """Judge one claim by the door R, O or Q; answer the gate after it and the record's state.

    The state is "-" where a new claim was refused and nothing burned.
    """
    known = gate.records[purchase]
    if known != NONE:
        if door == "Q" and known in "RO":
            known = "Q"
            gate = gate._replace(records=put(gate.records, purchase, known))
        return gate, known
    if available(gate, scene) > 0:
        state = door
    elif door == "R" or not scene.rules.refusal_burned:
        return gate, NONE
    else:
        state = "X"
    return gate._replace(records=put(gate.records, purchase, state)), state


def mark_queued(world: World, purchase: int, epoch: int) -> World:
    """Lift R and O to Q where that epoch is armed; elsewhere and otherwise nothing."""
    for name, gate in instances(world):
        if is_armed(gate, epoch) and gate.records[purchase] in "RO":
            return change(world, name, gate._replace(records=put(gate.records, purchase, "Q")))
    return world


def follow(world: World, purchase: int, epoch: int) -> World:
    """Let the gate follow the row that stands: sell, release, or neither while payment is due."""
    row = world.rows[purchase]
    for name, gate in instances(world):
        known = gate.records[purchase]
        if not is_armed(gate, epoch) or known in "SX":
            continue
        if row == "C" and known in "ROQ":
            state = "S"
        elif row in "SN":
            state = "X"
        else:
            continue
        return change(world, name, gate._replace(records=put(gate.records, purchase, state)))
    return world
