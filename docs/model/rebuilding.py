"""The rebuild, the load that it shares with `init`, and who crashes in them."""

from .gate import change, instances, is_armed
from .scene import Scene
from .world import BARRIER, NONE, Builder, Gate, Message, Steps, World, place


def rebuild(world: World, scene: Scene) -> Steps:
    """Begin a rebuild where nobody has one, and take those that are on their way one step on."""
    is_lost = not is_armed(world.gate, world.epoch)
    if is_lost and not any(world.builders):
        yield raise_epoch(world, scene)
    for who, builder in enumerate(world.builders):
        if builder is not None:
            yield from _STEPS[builder.stage](world, scene, who, builder)


def raise_epoch(world: World, scene: Scene) -> tuple[str, World]:
    """Begin another life of the gate in the database."""
    who = world.builders.index(None, scene.inits)
    epoch = world.epoch + 1
    began = world._replace(
        epoch=epoch, builders=place(world.builders, who, Builder("disarm", epoch, ""))
    )
    return f"raise_epoch to {epoch}", began


def _at(world: World, who: int, stage: str, books: str = "") -> World:
    """Move a rebuild to another stage."""
    builder = world.builders[who]
    if builder is None:
        raise AssertionError("it is on its way")
    moved = Builder(stage, builder.epoch, books)
    return world._replace(builders=place(world.builders, who, moved))


def _end(world: World, who: int) -> World:
    """Forget a rebuild, and the barrier rows that only it would look for."""
    builder = world.builders[who]
    builders = place(world.builders, who, None)
    kept = tuple(row for row in world.cleared if builder is None or row[0] != builder.epoch)
    return world._replace(builders=builders, cleared=kept)


def disarm(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Disarm the gate, then wait until nobody can answer ACCEPTED under an older epoch.

    The wait ends every promise that is being given (0.8 s), brings every process the new list
    (refresh interval), and lets an old primary without replicas refuse (max-lag + 1 s).
    """
    gate = world.gate
    if scene.rules.disarm and gate.epoch < builder.epoch:
        gate = gate._replace(armed=0)
        if scene.rules.disarm_ends_load:
            gate = gate._replace(load=None)
        if scene.rules.disarm_writes_key and gate.epoch:
            gate = gate._replace(fence=builder.epoch)
            world = world._replace(saved=None)
        world = world._replace(gate=gate)
    if scene.rules.wait:
        if scene.rules.old_refuses:
            world = world._replace(old=None)
        if scene.rules.promise_in_time:
            flights = (
                one._replace(may_promise=one.may_promise and one.epoch >= builder.epoch)
                for one in world.flights
            )
            world = world._replace(flights=tuple(sorted(flights)))
        if not scene.has_stale_lists:
            world = world._replace(listed=max(world.listed, builder.epoch))
    yield f"{builder.epoch}: disarm, wait", _at(world, who, "survivors")


def survivors(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Publish every R that survived, under the epoch that took it, then put the barrier."""
    gate = world.gate
    found = [Message(p, gate.epoch) for p, state in enumerate(gate.records) if state == "R"]
    if gate.epoch >= builder.epoch:
        found = []
    for at, partition in enumerate(world.partitions):
        after = place(world.partitions, at, (*partition, *found))
        marker = Message(BARRIER, builder.epoch)
        after = tuple((*one, marker) for one in after)
        step = f"{builder.epoch}: survivors {[one.purchase for one in found]}, barrier"
        yield step, _at(world._replace(partitions=after), who, "drain")
        if not found:
            return


def drain(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Open the load when every partition's barrier row is there; give up in another's life."""
    if world.epoch != builder.epoch and scene.rules.drain_gives_up:
        yield f"{builder.epoch}: gives up", _end(world, who)
        return
    rows = sum(row[0] == builder.epoch for row in world.cleared)
    if rows == scene.partitions or not scene.rules.barrier:
        yield from begin_load(world, scene, who, builder)


def begin_load(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Drop the books and put the load's token into the function's memory."""
    for name, gate in instances(world):
        step = f"{builder.epoch}: begin_load at {name}"
        if is_armed(gate, builder.epoch):
            yield f"{step}: armed already", _end(world, who)
        elif gate.epoch > builder.epoch:
            yield f"{step}: refused", _end(world, who)
        else:
            nothing = NONE * len(gate.records)
            opened = Gate(builder.epoch, nothing, 0, (who, builder.epoch))
            yield step, _at(change(world, name, opened), who, "books")


def _books_of(world: World) -> str:
    """Read the rows, and the units of parked messages: the records to be loaded."""
    held = {one.purchase for one in world.parked if one.holds_unit}
    state_of = {"C": "S", "P": "Q", "S": "X", "N": "X", "D": "X"}
    return "".join(
        state_of.get(row, "Q" if purchase in held else NONE)
        for purchase, row in enumerate(world.rows)
    )


def books(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Lock the sale's row, set armed_epoch, read; refuse unless this life may still begin."""
    if not scene.rules.lock_before_read and not builder.books:
        yield f"{builder.epoch}: books read", _at(world, who, "books", _books_of(world))
        return
    is_next = world.epoch == builder.epoch and world.armed_epoch < builder.epoch
    if not is_next and scene.rules.books_refuse:
        yield f"{builder.epoch}: books refused", _end(world, who)
        return
    # Code without the refusal sets armed_epoch to the sale's epoch, and then sees which that is.
    if world.epoch != builder.epoch:
        yield f"{builder.epoch}: StaleEpoch", _end(world._replace(armed_epoch=world.epoch), who)
        return
    read = builder.books or _books_of(world)
    after = world._replace(armed_epoch=world.epoch)
    yield f"{builder.epoch}: books {read}", _at(after, who, "load", read)


def _is_open(gate: Gate, scene: Scene, who: int, builder: Builder) -> bool:
    """Tell whether the gate takes a chunk, or `arm`, of this load."""
    has_token = gate.load == (who, builder.epoch) and gate.epoch == builder.epoch
    return has_token or not (scene.rules.load_token and scene.rules.token_alone)


def load(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Put the records into the open load."""
    for name, gate in instances(world):
        if not _is_open(gate, scene, who, builder):
            yield f"{builder.epoch}: load at {name} refused", _end(world, who)
            continue
        loaded = gate._replace(epoch=builder.epoch, records=_with(gate.records, builder.books))
        step = f"{builder.epoch}: load at {name}"
        yield step, _at(change(world, name, loaded), who, "arm", builder.books)


def _with(records: str, loaded: str) -> str:
    return "".join(old if new == NONE else new for old, new in zip(records, loaded, strict=True))


def arm(world: World, scene: Scene, who: int, builder: Builder) -> Steps:
    """Compare the books with what was read, and only then sell."""
    compares = scene.rules.load_token and scene.rules.comparison_alone
    for name, gate in instances(world):
        step = f"{builder.epoch}: arm at {name}"
        if not _is_open(gate, scene, who, builder):
            yield f"{step} refused", _end(world, who)
        elif compares and gate.records != builder.books:
            yield f"{step}: books differ", _end(world, who)
        else:
            armed = gate._replace(epoch=builder.epoch, armed=builder.epoch, load=None)
            yield step, _end(change(world, name, armed), who)


_STEPS = {
    "disarm": disarm,
    "survivors": survivors,
    "drain": drain,
    "begin_load": begin_load,
    "books": books,
    "load": load,
    "arm": arm,
}


def befall_builders(world: World, scene: Scene) -> Steps:
    """Let a rebuild crash anywhere, or lose its lock while it stalls, so that another begins."""
    if not world.crashes:
        return
    fewer = world._replace(crashes=world.crashes - 1)
    for who, builder in enumerate(world.builders):
        if builder is not None:
            yield f"{builder.epoch}: crash at {builder.stage}", _end(fewer, who)
    going_on = [one for one in world.builders if one is not None]
    is_lost = not is_armed(world.gate, world.epoch)
    if is_lost and len(going_on) == 1 and None in world.builders[scene.inits :]:
        step, began = raise_epoch(fewer, scene)
        yield f"lock lost, {step}", began
