"""How the gate is lost, and what survives."""

from .gate import is_armed
from .rebuilding import raise_epoch
from .scene import FAILBACK, FAILOVER, FLUSHALL, ORDERED, RESTART, TAIL, Scene
from .world import NONE, Gate, Steps, World


def lose(world: World, scene: Scene) -> Steps:
    """Let one of the scene's losses befall the gate."""
    if not world.losses:
        return
    gate, nothing = world.gate, NONE * len(world.rows)
    fewer = world._replace(losses=world.losses - 1, saved=None)
    if FLUSHALL in scene.losses:
        kept = gate.armed if scene.rules.function_memory else 0
        yield FLUSHALL, fewer._replace(gate=Gate(0, nothing, kept, gate.load))
    if RESTART in scene.losses:
        yield RESTART, fewer._replace(gate=_without_memory(gate, scene))
    if ORDERED in scene.losses and is_armed(gate, world.epoch) and None in world.builders:
        yield raise_epoch(fewer, scene)
    yield from _go_back(world, scene, fewer)
    if FAILBACK in scene.losses and world.demoted:
        # It has the new primary's keys, early or late, and its own memory.
        for keys in {gate, world.saved or gate}:
            again = keys._replace(armed=world.demoted, load=None)
            yield FAILBACK, fewer._replace(gate=again, old=None, demoted=0)


def _go_back(world: World, scene: Scene, fewer: World) -> Steps:
    """Save the keys for a lost tail or a lagging replica, and bring them back."""
    if world.saved is None:
        if TAIL in scene.losses or FAILOVER in scene.losses:
            # Only the last moment that is saved before a loss matters, so one is enough.
            yield "the keys are saved here", world._replace(saved=world.gate)
        return
    back = _without_memory(world.saved, scene)
    if TAIL in scene.losses:
        yield TAIL, fewer._replace(gate=back)
    if FAILOVER in scene.losses:
        # Where the replica lags, the demoted primary needs a full copy, which clears it.
        kept = world.gate.armed if world.saved[:2] == world.gate[:2] else 0
        yield FAILOVER, fewer._replace(gate=back, old=world.gate, demoted=kept)


def _without_memory(gate: Gate, scene: Scene) -> Gate:
    """Restart: keys come back, the function's memory does not."""
    if scene.rules.function_memory:
        return gate._replace(armed=0, load=None)
    return gate._replace(load=None)


def retire_old_primary(world: World, scene: Scene) -> Steps:
    """Let an old primary that has no replicas refuse from now on."""
    del scene
    if world.old is not None:
        yield "the old primary refuses", world._replace(old=None)
