"""The bounds of one search, and the protocol's rules, each of which can be taken out."""

from dataclasses import dataclass, field, fields

from .world import NONE, Builder, Gate, World

FLUSHALL, RESTART, TAIL, FAILOVER, FAILBACK, ORDERED = (
    "flushall",
    "restart",
    "restart with a lost tail",
    "failover",
    "failback",
    "gate rebuild",
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol's rules. The protocol is all of them; a search may leave one out."""

    promise_in_time: bool = True
    """Answer 200 only while less than 0.8 s have passed since before the gate was asked."""
    function_memory: bool = True
    """What is armed lives in the function's memory. Out: in the keys."""
    record_gate_epoch: bool = True
    """`record` after the gate commits only while the gate's epoch = the sale's epoch."""
    record_message_epoch: bool = True
    """`record` by the database alone commits only where message epoch = armed_epoch < epoch."""
    record_message_is_armed: bool = True
    """Only the first half of that: message epoch = armed_epoch."""
    record_is_unarmed: bool = True
    """Only the second half: armed_epoch < epoch."""
    epoch_in_message: bool = True
    """A message on `accepted` says under which epoch its units were taken."""
    barrier: bool = True
    """The books are read when every partition's barrier row is there."""
    lock_before_read: bool = True
    """`books` reads in the transaction that locked the sale's row and set armed_epoch."""
    load_token: bool = True
    """`load` and `arm` need the token in the function's memory, and `arm` compares the books."""
    token_alone: bool = True
    """Only the first half: the token."""
    comparison_alone: bool = True
    """Only the second half: the comparison."""
    refusal_burned: bool = True
    """A refusal by a worker burns the id in the gate."""
    outside_apart: bool = True
    """What a message took that promises nothing stands in O, not in Q."""
    disarm: bool = True
    """A rebuild disarms the gate that it will load before it waits."""
    disarm_ends_load: bool = True
    """`disarm` drops an older rebuild's open load too, so that a stalled one cannot arm."""
    drain_gives_up: bool = True
    """A rebuild that waits for its barrier gives up when the sale's epoch is another's."""
    wait: bool = True
    """A rebuild waits refresh interval + 0.8 s (+ max-lag + 1 s) before it puts the barrier."""
    old_refuses: bool = True
    """An old primary without replicas takes no writes after max-lag, which the wait outlasts."""
    books_refuse: bool = True
    """`books(sale, epoch)` refuses unless sale.epoch = epoch and armed_epoch < epoch."""
    barrier_after_parking: bool = True
    """A barrier's row is written after what its batch left over is parked."""
    parked_by_epoch: bool = True
    """Parking says whether a unit is held in the transaction that parks, not before."""
    disarm_writes_key: bool = True
    """`disarm` writes the new epoch into the sale's key, and the wait outlasts the replicas."""
    confirm_first: bool = True
    """200 only after the broker's confirm."""


RULES = tuple(one.name for one in fields(Rules))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One search: who takes part, and how much of everything may happen."""

    name: str
    units: int = 1
    requests: tuple[int, ...] = (1, 1)
    """How often the buyer of each purchase may ask over HTTP."""
    outside: tuple[int, ...] = ()
    """Purchases that also wait at the outside door."""
    partitions: int = 1
    losses: tuple[str, ...] = ()
    """The kinds of loss that may befall the gate."""
    losses_max: int = 0
    crashes_max: int = 0
    """How often a rebuild may crash, or stall and lose its advisory lock."""
    rebalances_max: int = 0
    """How often a partition may get a second owner while the first is at work."""
    failures_max: int = 0
    """How often a message may fail for a reason that nobody foresaw."""
    has_payment: bool = False
    has_stale_lists: bool = False
    """API processes are cut off from the database and keep their list of sales for ever."""
    inits: int = 0
    """So many `init` commands run at once on a sale never armed; 0: it is armed already."""
    rules: Rules = field(default_factory=Rules)


def beginning(scene: Scene) -> World:
    """Make the state from which a search starts."""
    nothing = NONE * len(scene.requests)
    inits = [Builder("begin_load", 1, "")] * scene.inits
    idle: list[Builder | None] = [None] * (2 if scene.crashes_max else 1)
    slots = scene.partitions + 3
    armed = 0 if scene.inits else 1
    return World(
        epoch=1,
        armed_epoch=armed,
        rows=nothing,
        parked=(),
        cleared=(),
        gate=Gate(armed, nothing, armed),
        old=None,
        saved=None,
        demoted=0,
        flights=(),
        partitions=((),) * scene.partitions,
        outside=scene.outside,
        listed=1,
        holds=(None,) * slots,
        builders=(*inits, *idle),
        promised=nothing,
        requests=scene.requests,
        losses=scene.losses_max,
        crashes=scene.crashes_max,
        rebalances=scene.rebalances_max,
        failures=scene.failures_max,
    )
