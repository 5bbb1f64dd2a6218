"""Which failure is whose, as a pure policy: what a worker does with a batch that failed."""

from enum import Enum, auto

from flashsale_core.errors import Corrupt, StaleEpoch, Unavailable


class Fault(Enum):
    """Whose fault a failure is."""

    FATAL = auto()
    """The message's own: it never will work. Parked DEAD at once; its neighbours go on."""
    DEPENDENCY = auto()
    """A dependency's: pause, probe, count no attempt, dead-letter nothing."""
    EPOCH = auto()
    """The sale's gate began another life: begin the batch again with the list as it is now."""
    UNKNOWN = auto()
    """Nobody knows: halve the batch down to one message, then try that one off the path."""


UNKNOWN_ATTEMPTS_MAX = 5
"""After so many tries in all, a message that fails for an unknown reason is DEAD."""
UNKNOWN_DELAYS_MS = (1_000, 3_000, 8_000, 18_000)
"""Between those tries: 30 s together."""


def fault_of(error: Exception) -> Fault:
    """Name the fault behind an error."""
    if isinstance(error, Unavailable):
        return Fault.DEPENDENCY
    if isinstance(error, StaleEpoch):
        return Fault.EPOCH
    if isinstance(error, Corrupt):
        return Fault.FATAL
    return Fault.UNKNOWN
