"""What the model remembers: the database, the gates, the bus, the actors, and who was promised.

Purchases are numbered 0, 1, …; each wants one unit. A value per purchase is one letter of a string.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")
S = TypeVar("S", bound=tuple[int, ...])

NONE = "-"
"""No record, no row, no promise."""
HELD = "ROQS"
"""The gate's states that hold a unit; the fifth is X."""
CONFIRMED, PENDING, REJECTED, DECLINED, DRIFT = "CPSND"
"""A row: CONFIRMED, PENDING_PAYMENT, REJECTED by the gate's word, by the payment, GATE_DRIFT."""
PROMISED = "A"
"""Somebody was answered 200 ACCEPTED."""
OUTSIDE_EPOCH = 0
"""Of a message that names no epoch: the outside door's."""


class Gate(NamedTuple):
    """One Redis: the sale's keys, and the function's memory."""

    epoch: int
    """In the sale's key; 0 without keys."""
    records: str
    armed: int
    """The epoch in the function's memory; 0 for none."""
    load: tuple[int, int] | None = None
    """The open load in the function's memory: who loads, for which epoch."""
    fence: int = 0
    """In the sale's key: callers of an older epoch are refused. Only `disarm` in keys raises it."""


class Message(NamedTuple):
    """What the engine put on `accepted`; a barrier has no purchase."""

    purchase: int
    epoch: int


BARRIER = -1


class Flight(NamedTuple):
    """A publish under way. It lands at any time, or never."""

    purchase: int
    epoch: int
    may_promise: bool
    """Less than 0.8 s have passed since before the gate was asked."""


class Parked(NamedTuple):
    """A message that was consumed and is not done."""

    purchase: int
    epoch: int
    holds_unit: bool


class Hold(NamedTuple):
    """What a worker has in hand between the gate, the transaction and the gate again."""

    purchase: int
    epoch: int
    """The message's."""
    decided: str
    """`gate`, `database` (alone), or `aside` (an unknown failure: it will be parked)."""
    under: int
    """The epoch under which the gate answered; with `aside`, 1 where the unit counts as held."""
    is_confirmed: bool
    is_recorded: bool


class Builder(NamedTuple):
    """One rebuild, or one `init`, on its way."""

    stage: str
    epoch: int
    books: str
    """The records that `books` read, to be loaded; empty before."""


class World(NamedTuple):
    """One state of the whole."""

    # The database.
    epoch: int
    armed_epoch: int
    rows: str
    parked: tuple[Parked, ...]
    cleared: tuple[tuple[int, int], ...]
    """The table `barriers`: (rebuild, partition)."""
    # The gate: who answers as the primary, and one who believes that it still is.
    gate: Gate
    old: Gate | None
    saved: Gate | None
    """What a lost tail or a lagging replica would bring back."""
    demoted: int
    """What the memory of a demoted primary has armed."""
    # The bus.
    flights: tuple[Flight, ...]
    partitions: tuple[tuple[Message, ...], ...]
    outside: tuple[int, ...]
    # The processes.
    listed: int
    """The oldest epoch that any process may still have on its list."""
    holds: tuple[Hold | None, ...]
    """One a partition, the outside door's, the feeder's, and a zombie's."""
    builders: tuple[Builder | None, ...]
    promised: str
    # What may still happen.
    requests: tuple[int, ...]
    losses: int
    crashes: int
    rebalances: int
    failures: int


def put(text: str, at: int, letter: str) -> str:
    """Change one letter."""
    return text[:at] + letter + text[at + 1 :]


def place(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    """Change one item."""
    return (*items[:at], item, *items[at + 1 :])


def without(items: tuple[S, ...], item: S) -> tuple[S, ...]:
    """Take one occurrence out."""
    at = items.index(item)
    return items[:at] + items[at + 1 :]


def having(items: tuple[S, ...], item: S) -> tuple[S, ...]:
    """Put one in; the order tells nothing, so it is kept the same for all."""
    return tuple(sorted((*items, item)))


Steps = Iterator[tuple[str, World]]
"""Named successors."""
