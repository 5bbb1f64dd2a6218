"""The searches that are run: the whole protocol in several scenes, and each rule left out of one.

One scene with everything in it would be too large. Each of these has one subject in full, with
every kind of loss where that is possible, and together they have every pair of subjects that touch.
"""

from dataclasses import replace

from .scene import FAILBACK, FAILOVER, FLUSHALL, ORDERED, RESTART, TAIL, Rules, Scene

LOSSES = (FLUSHALL, RESTART, TAIL, FAILOVER, FAILBACK, ORDERED)
WITHOUT_FAILBACK = (FLUSHALL, RESTART, TAIL, FAILOVER, ORDERED)

FULL = (
    Scene(
        name="one loss, both buyers ask twice, a zombie, a rebuild that crashes or loses its lock",
        requests=(2, 2),
        losses=LOSSES,
        losses_max=1,
        rebalances_max=1,
        crashes_max=1,
    ),
    Scene(
        name="two losses and a zombie",
        losses=LOSSES,
        losses_max=2,
        rebalances_max=1,
    ),
    Scene(
        name="two losses, and a rebuild that crashes or loses its lock",
        losses=LOSSES,
        losses_max=2,
        crashes_max=1,
    ),
    Scene(
        name="a request from outside with an id of its own",
        requests=(1, 1, 0),
        outside=(2,),
        losses=LOSSES,
        losses_max=1,
        rebalances_max=1,
    ),
    Scene(
        name="a request from outside with a buyer's id",
        requests=(2, 1),
        outside=(0,),
        losses=LOSSES,
        losses_max=1,
        rebalances_max=1,
    ),
    Scene(
        name="the same with two losses and no zombie",
        outside=(0,),
        losses=LOSSES,
        losses_max=2,
    ),
    Scene(
        name="payments that may be declined",
        requests=(2, 1),
        outside=(0,),
        losses=(FLUSHALL, FAILOVER),
        losses_max=1,
        has_payment=True,
    ),
    Scene(
        name="two inits at once, and a loss",
        inits=2,
        losses=LOSSES,
        losses_max=1,
        rebalances_max=1,
        crashes_max=1,
    ),
    Scene(
        name="a message that fails for an unknown reason, two losses, a zombie",
        requests=(2, 1),
        losses=(FLUSHALL,),
        losses_max=2,
        rebalances_max=1,
        failures_max=1,
    ),
    Scene(
        name="two partitions",
        losses=LOSSES,
        partitions=2,
        losses_max=1,
        rebalances_max=1,
        crashes_max=1,
    ),
    Scene(
        name="two units, three buyers",
        units=2,
        requests=(1, 1, 1),
        losses=LOSSES,
        losses_max=1,
        rebalances_max=1,
    ),
    Scene(
        name="API processes cut off from the database, a rebuild that loses its lock, a loss",
        losses=WITHOUT_FAILBACK,
        losses_max=1,
        rebalances_max=1,
        crashes_max=1,
        has_stale_lists=True,
    ),
    Scene(
        name="API processes cut off from the database, a failover and a failback",
        losses=(FAILOVER, FAILBACK, ORDERED),
        losses_max=2,
        has_stale_lists=True,
    ),
)

SHORT = (
    Scene(
        name="one loss and a zombie",
        losses=LOSSES,
        losses_max=1,
        rebalances_max=1,
    ),
    Scene(
        name="one loss, and a rebuild that crashes or loses its lock",
        losses=LOSSES,
        losses_max=1,
        crashes_max=1,
    ),
    Scene(
        name="two losses",
        losses=(FLUSHALL, RESTART),
        losses_max=2,
    ),
    Scene(
        name="a request from outside with an id of its own",
        requests=(1, 0),
        outside=(1,),
        losses=(FLUSHALL, RESTART),
        losses_max=1,
        rebalances_max=1,
    ),
    Scene(
        name="a request from outside with a buyer's id",
        outside=(0,),
        losses=(FLUSHALL, FAILOVER),
        losses_max=1,
    ),
    Scene(
        name="payments that may be declined",
        requests=(2, 1),
        outside=(0,),
        has_payment=True,
    ),
    Scene(
        name="two inits at once, and a loss",
        inits=2,
        losses=(FLUSHALL, RESTART),
        losses_max=1,
    ),
    Scene(
        name="a message that fails for an unknown reason",
        losses=(FLUSHALL,),
        losses_max=1,
        rebalances_max=1,
        failures_max=1,
    ),
    Scene(
        name="two partitions",
        losses=(FLUSHALL,),
        partitions=2,
        losses_max=1,
    ),
    Scene(
        name="two units, three buyers",
        units=2,
        requests=(1, 1, 1),
        losses=(FLUSHALL,),
        losses_max=1,
    ),
    Scene(
        name="API processes cut off from the database, a rebuild that loses its lock",
        losses=(FLUSHALL, FAILOVER),
        losses_max=1,
        crashes_max=1,
        has_stale_lists=True,
    ),
)

_FLUSHED = Scene(name="one FLUSHALL", losses=(FLUSHALL,), losses_max=1)
_TWICE = replace(_FLUSHED, name="two FLUSHALLs", losses_max=2)
_ZOMBIE = replace(_FLUSHED, name="one FLUSHALL and a zombie", rebalances_max=1)
_OUTSIDE = replace(_FLUSHED, name="one FLUSHALL and a request from outside", outside=(0,))
_FAILING = replace(_FLUSHED, name="one FLUSHALL and a failing message", failures_max=1)
_CUT_OFF = Scene(name="processes cut off", losses_max=1, has_stale_lists=True)

_FAILBACK = Scene(
    name="API processes cut off from the database, and a failback in the middle of a rebuild",
    losses=(FAILOVER, FAILBACK),
    losses_max=2,
    has_stale_lists=True,
)

WITHOUT: dict[str, Scene] = {
    "promise_in_time": _FLUSHED,
    "function_memory": replace(_FLUSHED, name="a lost tail", losses=(TAIL,)),
    "record_gate_epoch": replace(_OUTSIDE, requests=(0, 1), rebalances_max=1),
    "record_message_epoch": _ZOMBIE,
    "record_message_is_armed": replace(_TWICE, rebalances_max=1),
    "epoch_in_message": _TWICE,
    "barrier": _FLUSHED,
    "lock_before_read": _FLUSHED,
    "load_token": _TWICE,
    "refusal_burned": Scene(name="payments", outside=(0,), has_payment=True),
    "outside_apart": _OUTSIDE,
    "confirm_first": _FLUSHED,
    "wait": _FLUSHED,
    "disarm": replace(_CUT_OFF, losses=(ORDERED,)),
    "token_alone": replace(_CUT_OFF, losses=(FLUSHALL,), crashes_max=1),
    "disarm_writes_key": _FAILBACK,
    "old_refuses": replace(_CUT_OFF, losses=(FAILOVER,)),
    "books_refuse": replace(_FLUSHED, name="two inits and one FLUSHALL", inits=2),
    "barrier_after_parking": _FAILING,
    "parked_by_epoch": replace(_FAILING, name="a failing message", requests=(2, 1), losses_max=2),
}
"""By rule: the smallest scene of ours that shows what happens without it."""

STUCK_WITHOUT: dict[str, Scene] = {
    "drain_gives_up": replace(_TWICE, requests=(1,), crashes_max=1),
}
"""By rule: a scene in which something waits for ever without it."""

BELTS = {
    "record_is_unarmed": "`armed_epoch < epoch`, while `message epoch = armed_epoch` stays",
    "disarm_ends_load": "`disarm` ends an open load, while it writes the key",
    "comparison_alone": "the comparison of the books, while the load's token stays",
}
"""Halves of rules whose other half is enough for all that this model can do."""


def without(rule: str) -> Scene:
    """Leave one rule out of its scene."""
    scene = {**WITHOUT, **STUCK_WITHOUT}[rule]
    return replace(scene, rules=replace(Rules(), **{rule: False}))
