"""The HTTP door: `PurchaseDesk.buy`, the publish behind it, and the sweeper."""

from .gate import change, follow, instances, is_armed, mark_queued, reserve
from .scene import Scene
from .world import (
    NONE,
    PROMISED,
    Flight,
    Message,
    Steps,
    World,
    having,
    place,
    put,
    without,
)


def buy(world: World, scene: Scene) -> Steps:
    """Ask the gate for each purchase that may still be asked for, with any epoch on a list."""
    for purchase, left in enumerate(world.requests):
        if not left:
            continue
        fewer = world._replace(requests=place(world.requests, purchase, left - 1))
        for name, gate in instances(world):
            for epoch in range(world.listed, world.epoch + 1):
                if not is_armed(gate, epoch):
                    continue
                after, state = reserve(gate, purchase, "R", scene)
                step = f"buy {purchase}: reserve at {name} under {epoch} → {state}"
                if state in "RO":
                    flight = Flight(purchase, epoch, may_promise=True)
                    flights = having(fewer.flights, flight)
                    asked = change(fewer._replace(flights=flights), name, after)
                    if not scene.rules.confirm_first:
                        asked = promise(asked, purchase)
                    yield step + ", publish", asked
                elif state in "QS" and world.promised[purchase] != PROMISED:
                    yield step + ", answered ACCEPTED", promise(fewer, purchase)


def promise(world: World, purchase: int) -> World:
    """Remember that somebody was answered 200 ACCEPTED."""
    return world._replace(promised=put(world.promised, purchase, PROMISED))


def publish(world: World, scene: Scene) -> Steps:
    """Let a publish land now, or never.

    Whenever a promise may be given it is: that only adds to what must be kept. A mark may be lost.
    """
    for flight in dict.fromkeys(world.flights):
        purchase, epoch, may_promise = flight
        flown = world._replace(flights=without(world.flights, flight))
        what = f"publish of {purchase} under {epoch}"
        yield f"{what} is lost", flown
        message = Message(purchase, epoch)
        for at, partition in enumerate(world.partitions):
            landed = flown._replace(partitions=place(world.partitions, at, (*partition, message)))
            step = f"{what} lands" + (f" on partition {at}" if at else "")
            if may_promise:
                landed = promise(landed, purchase)
                step += ", confirmed, answered ACCEPTED"
            yield step, landed
            marked = mark_queued(landed, purchase, epoch)
            if marked is not landed:
                yield f"{step}, mark_queued", marked


def is_under_way(world: World, message: Message) -> bool:
    """Tell whether a message of this purchase and epoch is still to be worked on."""
    return (
        any(message in partition for partition in world.partitions)
        or any((one.purchase, one.epoch) == message for one in world.flights)
        or any(one and (one.purchase, one.epoch) == message for one in world.holds)
    )


def sweep(world: World, scene: Scene) -> Steps:
    """Take the journal's entries: follow the row, wait for what is parked, else publish again.

    What is under way is left alone here: duplicates come from buyers who ask again.
    """
    epoch = world.epoch
    if not is_armed(world.gate, epoch):
        return
    for purchase, state in enumerate(world.gate.records):
        if state not in "ROQ":
            continue
        row = world.rows[purchase]
        if row in "CSN":
            yield f"sweep {purchase}: follow", follow(world, purchase, epoch)
        elif row == NONE and state != "O":
            if any(one.purchase == purchase for one in world.parked):
                continue
            if not is_under_way(world, Message(purchase, epoch)):
                flights = having(world.flights, Flight(purchase, epoch, may_promise=False))
                yield f"sweep {purchase}: publish again", world._replace(flights=flights)
