"""Which failure is whose, and what is done about it: one pure table that everybody asks.

| fault | example | what is done |
|---|---|---|
| FATAL | undecodable bytes, an invalid field | DEAD at once, and copied |
| DEPENDENCY | database, broker, registry or gate away | pause, probe with jitter, count nothing |
| SALE | one sale unarmed, paused or halted | its messages WAIT, other sales go on |
| TRANSIENT | deadlock, serialization failure, lock timeout | 3 quick tries, halves, WAITING |
| EPOCH | a gate began another life meanwhile | begin the batch again |
| UNKNOWN | anything else | halves, then RETRYING off the path, then DEAD |
"""

from collections.abc import Mapping
from enum import Enum, auto

import attrs

from flashsale_core.errors import Corrupt, StaleEpoch, Transient, Unavailable, Why
from flashsale_core.events import ParkedStatus


class Fault(Enum):
    """Whose fault a failure is."""

    FATAL = auto()
    """The message's own: it never will work."""
    DEPENDENCY = auto()
    """A dependency's: nothing is wrong with any message."""
    SALE = auto()
    """One sale's, which is not sellable now: other sales go on."""
    TRANSIENT = auto()
    """Another transaction's, which was in the way."""
    EPOCH = auto()
    """The sale's gate began another life: begin the batch again with the list as it is now."""
    UNKNOWN = auto()
    """Nobody knows."""


@attrs.frozen(kw_only=True)
class Treatment:
    """What is done about a fault."""

    parks: ParkedStatus | None
    """How the one message that it concerns is set aside; None: never, it comes again as it is."""
    is_narrowed: bool
    """Whether a batch that failed as a whole is halved, down to that one message."""
    counts: bool
    """Whether it counts as an attempt of that message."""

    @property
    def is_waited_for(self) -> bool:
        """Say whether everything stays as it is until the trouble is over."""
        return not self.is_narrowed


TREATMENTS: Mapping[Fault, Treatment] = {
    Fault.FATAL: Treatment(parks=ParkedStatus.DEAD, is_narrowed=True, counts=False),
    Fault.DEPENDENCY: Treatment(parks=None, is_narrowed=False, counts=False),
    Fault.SALE: Treatment(parks=ParkedStatus.WAITING, is_narrowed=False, counts=False),
    Fault.TRANSIENT: Treatment(parks=ParkedStatus.WAITING, is_narrowed=True, counts=False),
    Fault.EPOCH: Treatment(parks=None, is_narrowed=False, counts=False),
    Fault.UNKNOWN: Treatment(parks=ParkedStatus.RETRYING, is_narrowed=True, counts=True),
}

TRANSIENT_TRIES_MAX = 3
"""A deadlock's victim succeeds at its second try; three failures in a row are a busy database."""
UNKNOWN_ATTEMPTS_MAX = 5
"""After so many tries in all, a message that fails for an unknown reason is DEAD."""
UNKNOWN_DELAYS_MS = (1_000, 3_000, 8_000, 18_000)
"""Between those tries: 30 s together."""
WAITING_RETRY_MS = 1_000
"""A message that waits is looked at again after this; no attempt counts."""
DEATHS_MAX = 3
"""So many workers may die with a message in hand before nobody takes it in hand any more."""

_OF_ONE_SALE = frozenset({Why.NOT_ARMED, Why.PAUSED, Why.HALTED})


def fault_of(error: Exception) -> Fault:
    """Name the fault behind an error, raised or returned as a value."""
    match error:
        case Transient():
            return Fault.TRANSIENT
        case Unavailable(why=why):
            return Fault.SALE if why in _OF_ONE_SALE else Fault.DEPENDENCY
        case StaleEpoch():
            return Fault.EPOCH
        case Corrupt():
            return Fault.FATAL
        case _:
            return Fault.UNKNOWN


def treatment_of(error: Exception) -> Treatment:
    """Say what is done about an error."""
    return TREATMENTS[fault_of(error)]


def is_waited_for(error: Exception) -> bool:
    """Say whether whoever met the error waits, and counts no failure.

    A transaction that is in everybody's way is waited for too, once quick tries did not help.
    """
    return fault_of(error) is Fault.TRANSIENT or treatment_of(error).is_waited_for


@attrs.frozen(kw_only=True)
class Verdict:
    """What becomes of a parked message that was tried and is not done."""

    status: ParkedStatus
    retry_in_ms: int = 0


def after_attempt(status: ParkedStatus, attempts: int) -> Verdict:
    """Judge a parked message after its `attempts`-th try, which left it at `status`."""
    if status is ParkedStatus.RETRYING:
        if attempts >= UNKNOWN_ATTEMPTS_MAX:
            return Verdict(status=ParkedStatus.DEAD)
        delay_ms = UNKNOWN_DELAYS_MS[min(max(attempts, 1), len(UNKNOWN_DELAYS_MS)) - 1]
        return Verdict(status=status, retry_in_ms=delay_ms)
    if status is ParkedStatus.WAITING:
        return Verdict(status=status, retry_in_ms=WAITING_RETRY_MS)
    return Verdict(status=status)
