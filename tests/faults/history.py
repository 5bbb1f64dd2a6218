"""What was asked and what was told, and what stood in every book when it was quiet again.

Plain values, so that a history can be made by drills, by the model test and by hand. Times are
milliseconds of UTC.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

RECOVERY_MS_MAX = 60_000
"""So long after a fault has ended may a promise wait for its order."""


class Told(StrEnum):
    """What an answer means to whoever got it."""

    OK = "ok"
    """ACCEPTED: this purchase ends as an order."""
    REFUSED = "refused"
    """No, and it stands: nothing was taken under this id."""
    UNKNOWN = "unknown"
    """It may still go through; also no answer at all."""


@attrs.frozen
class Answer:
    """One answer to one attempt."""

    told: Told
    code: str
    """The problem's type (`sold-out`), `accepted`, or what broke (`timeout`)."""
    at_ms: int


@attrs.define
class Asked:
    """A purchase as its buyer knows it: one id through all attempts."""

    purchase_id: str
    user_id: str
    sale_id: str
    quantity: int = 1
    answers: list[Answer] = attrs.field(factory=list)
    """Empty: it was asked for by a message, which promises nothing and hears nothing."""

    @property
    def was_accepted(self) -> bool:
        """Say whether any answer was a promise."""
        return any(answer.told is Told.OK for answer in self.answers)

    @property
    def last(self) -> Answer | None:
        """Tell the last answer."""
        return self.answers[-1] if self.answers else None

    @property
    def was_refused(self) -> bool:
        """Say whether the last word was a no."""
        return self.last is not None and self.last.told is Told.REFUSED


@attrs.frozen
class Put:
    """A message that another service put on the outside door; ids are None where it has none."""

    body: bytes | None
    key: bytes | None = None
    purchase_id: str | None = None
    sale_id: str | None = None
    user_id: str | None = None
    quantity: int = 1
    is_sure: bool = True
    """False: its sender never heard whether the broker took it."""


@attrs.define
class History:
    """All that was asked, by whichever door."""

    asked: dict[tuple[str, str], Asked] = attrs.field(factory=dict)
    """By (sale, purchase)."""
    put: list[Put] = attrs.field(factory=list)
    faults: list[tuple[int, int]] = attrs.field(factory=list)
    """When each fault began and when it ended."""
    freed: int = 0
    """Units that a lost gate held for nobody who was promised one; others may have gone home."""

    def ask(self, asked: Asked) -> Asked:
        """Note a purchase before its first attempt."""
        return self.asked.setdefault((asked.sale_id, asked.purchase_id), asked)

    def due_ms(self, told_ms: int) -> int:
        """Say when a promise must be an order: a minute after it was given.

        Or a minute after the end of a fault that was there within that minute.
        """
        until_ms = told_ms + RECOVERY_MS_MAX
        in_the_way = [end for began, end in self.faults if end > told_ms and began < until_ms]
        return max([told_ms, *in_the_way]) + RECOVERY_MS_MAX

    def write(self, path: Path) -> None:
        """Keep it for a person who looks for what went wrong."""
        with path.open("w", encoding="utf-8") as out:
            lines = [attrs.asdict(one) for one in self.asked.values()]
            lines += [attrs.asdict(one) for one in self.put]
            out.writelines(json.dumps(line, default=repr) + "\n" for line in lines)


@attrs.frozen
class Sale:
    """A sale's row in the database."""

    sale_id: str
    initial: int
    available: int
    sold: int
    pending: int = 0
    per_user_limit: int | None = None
    state: str = "OPEN"
    unit_price_minor: int | None = None
    """None or 0: nothing is charged."""


@attrs.frozen
class Row:
    """An order's row."""

    sale_id: str
    purchase_id: str
    user_id: str
    quantity: int
    status: str
    reason: str | None = None
    recorded_at_ms: int = 0


@attrs.frozen
class Held:
    """A record of the gate; `state` is one of R O Q S X."""

    purchase_id: str
    state: str
    user_id: str
    quantity: int


@attrs.frozen
class Gate:
    """A sale's books in the gate."""

    sale_id: str
    initial: int
    available: int
    reserved: int
    outside: int
    queued: int
    sold: int
    users: tuple[tuple[str, int], ...] = ()
    records: tuple[Held, ...] = ()
    journal: tuple[str, ...] = ()


@attrs.frozen
class Event:
    """A follow-up event as a consumer saw it."""

    occurrence_id: str
    type: str
    sale_id: str
    purchase_id: str


@attrs.frozen
class Letter:
    """A parked message; one that is DEAD or was has a copy among the dead letters."""

    status: str
    reason: str
    body: bytes | None
    key: bytes | None = None
    sale_id: str | None = None
    purchase_id: str | None = None
    holds_unit: bool = False
    quantity: int = 1
    is_from_outside: bool = True
    """Messages of the engine's own channel are set aside cut down to one purchase."""
    was_discarded_by: str | None = None
    """The operator whom the audit names."""


@attrs.frozen
class Charge:
    """What the payment provider's own ledger holds."""

    key: str
    sale_id: str
    purchase_id: str
    amount_minor: int = 0


@attrs.define
class Books:
    """Everything that was written down anywhere, once all was quiet."""

    sales: list[Sale]
    rows: list[Row]
    gates: list[Gate]
    events: list[Event] = attrs.field(factory=list)
    were_events_heard: bool = True
    """False where nobody listened."""
    letters: list[Letter] = attrs.field(factory=list)
    copies: list[tuple[bytes | None, bytes | None]] | None = None
    """Key and body of every dead letter's copy; None where nobody read them."""
    charges: list[Charge] | None = None
    """None without a payment provider."""
    outbox: int = 0
    """Facts that wait to be told."""
    waiting: int = 0
    """Messages that wait on the bus."""


def as_json(books: Books) -> dict[str, Any]:
    """Write books for a person."""
    return attrs.asdict(books)
