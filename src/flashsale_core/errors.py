"""Broken machinery, as exceptions. A business answer is never one: see `outcomes`.

FlashsaleError
├── Unavailable       try later; says whether the attempt may have taken effect
│   └── Transient     another transaction was in the way; nothing was written
├── Corrupt           never will work: the bytes or the content are wrong
│   └── Invalid       a well-formed message whose content breaks a rule, field by field
├── StaleEpoch        the sale's gate began another life meanwhile; begin the batch again
└── Conflict          an operator's command does not fit the sale's present state
"""

from collections.abc import Sequence
from enum import StrEnum

import attrs


class FlashsaleError(Exception):
    """Anything that this engine raises on purpose."""


class Why(StrEnum):
    """Why something is unavailable; stable codes, seen in logs, metrics and HTTP answers."""

    NOT_ARMED = "not-armed"
    PAUSED = "paused"
    HALTED = "halted"
    GATE_AWAY = "gate-away"
    BUS_AWAY = "bus-away"
    DATABASE_AWAY = "database-away"
    REGISTRY_AWAY = "registry-away"
    PAYMENT_AWAY = "payment-away"
    OVERLOADED = "overloaded"


class Unavailable(FlashsaleError):
    """Something needed is away for now; nothing is wrong with the request.

    Raised where it concerns a whole call; returned as a value where it concerns one sale or one
    claim of a call that serves several, so that one sale's trouble is not another's.

    `may_have_happened` is True when the attempt left this process and its reply was lost: the
    caller must then assume neither outcome.

    `was_refused` is True when the server itself said no, or was never asked: it may be well, and
    whoever counts how often it kept silent leaves this one out.
    """

    def __init__(
        self,
        why: Why,
        detail: str = "",
        *,
        retry_after_ms: int = 1_000,
        may_have_happened: bool = False,
        was_refused: bool = False,
    ) -> None:
        """Name what is away; `detail` is for the log and carries no secret."""
        super().__init__(f"{why.value}: {detail}" if detail else why.value)
        self.why = why
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.may_have_happened = may_have_happened
        self.was_refused = was_refused


class Transient(Unavailable):
    """A deadlock, a serialization failure or a lock that took too long; nothing was written."""


class Corrupt(FlashsaleError):
    """This will never work, however often it is tried."""

    def __init__(self, code: str, detail: str) -> None:
        """`code` is stable (`bad-framing`); `detail` says what was found."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@attrs.frozen(kw_only=True)
class Violation:
    """One field that breaks one rule; `field` is the name on the wire."""

    field: str
    problem: str


class Invalid(Corrupt):
    """The content breaks a rule; every violated field is listed, not only the first."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Keep the violations in the order of the fields."""
        super().__init__("invalid", "; ".join(f"{v.field}: {v.problem}" for v in violations))
        self.violations = tuple(violations)


class StaleEpoch(FlashsaleError):
    """A batch met a sale whose gate began another life between gate and database."""


class Conflict(FlashsaleError):
    """An operator's command does not fit the present state; the text says what to do."""

    def __init__(self, code: str, detail: str) -> None:
        """`code` is stable (`other-terms`); `detail` is for a person."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
