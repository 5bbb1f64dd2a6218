"""Good histories: sales as they go when nothing is wrong, whatever was asked and in what order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from hypothesis import strategies as st

from tests.faults.history import (
    Answer,
    Asked,
    Books,
    Charge,
    Event,
    Gate,
    Held,
    History,
    Letter,
    Put,
    Row,
    Sale,
    Told,
)

SALE = "1.1"
PRICE_MINOR = 500
DOORS = st.sampled_from(["http", "http", "http", "outside", "noise"])
WANTS = st.lists(
    st.tuples(DOORS, st.sampled_from(["ann", "bob", "eve", "joe"]), st.integers(0, 2)),
    min_size=1,
    max_size=24,
)


@attrs.define
class Making:
    """A sale that goes well."""

    units: int
    limit: int | None
    has_payment: bool
    history: History = attrs.field(factory=History)
    rows: list[Row] = attrs.field(factory=list)
    letters: list[Letter] = attrs.field(factory=list)
    held: Counter[str] = attrs.field(factory=Counter)

    @property
    def sold(self) -> int:
        """Count what is sold."""
        return sum(row.quantity for row in self.rows if row.status == "CONFIRMED")

    def want(self, number: int, door: str, user: str, unknowns: int) -> None:
        """Let one purchase or message come."""
        at_ms = number * 10
        if door == "noise":
            body = f"noise {number}".encode()
            self.history.put.append(Put(body=body, key=b"k"))
            self.letters.append(Letter(status="DEAD", reason="bad-framing", body=body, key=b"k"))
            return
        purchase_id = f"p{number}"
        refusal = self._refusal(user)
        if door == "http":
            asked = self.history.ask(Asked(purchase_id, user, SALE))
            asked.answers += [Answer(Told.UNKNOWN, "outcome-unknown", at_ms)] * unknowns
            told, code = (Told.REFUSED, refusal) if refusal else (Told.OK, "accepted")
            asked.answers.append(Answer(told, code, at_ms + 5))
            if refusal:
                return
        else:
            body = purchase_id.encode()
            put = Put(body=body, key=b"k", purchase_id=purchase_id, sale_id=SALE, user_id=user)
            self.history.put += [put] * (1 + unknowns)
        reason = refusal.upper().replace("-", "_") if refusal else None
        if reason is None and self.has_payment and number % 5 == 4:
            reason = "PAYMENT_DECLINED"
        status = "CONFIRMED" if reason is None else "REJECTED"
        self.rows.append(Row(SALE, purchase_id, user, 1, status, reason, at_ms + 9))
        self.held[user] += status == "CONFIRMED"

    def _refusal(self, user: str) -> str:
        if self.sold >= self.units:
            return "sold-out"
        return "limit-reached" if self.limit is not None and self.held[user] >= self.limit else ""

    def books(self) -> Books:
        """Write every book."""
        left = self.units - self.sold
        state = {"CONFIRMED": "S", "REJECTED": "X"}
        records = tuple(Held(r.purchase_id, state[r.status], r.user_id, 1) for r in self.rows)
        type_ = {"CONFIRMED": "OrderCreated", "REJECTED": "PurchaseRejected"}
        return Books(
            sales=[
                Sale(
                    SALE,
                    self.units,
                    left,
                    self.sold,
                    per_user_limit=self.limit,
                    unit_price_minor=PRICE_MINOR if self.has_payment else None,
                )
            ],
            rows=self.rows,
            gates=[
                Gate(
                    SALE,
                    initial=self.units,
                    available=left,
                    reserved=0,
                    outside=0,
                    queued=0,
                    sold=self.sold,
                    users=tuple((+self.held).items()) if self.limit is not None else (),
                    records=records,
                )
            ],
            events=[
                Event(f"e-{r.purchase_id}", type_[r.status], SALE, r.purchase_id) for r in self.rows
            ],
            letters=self.letters,
            copies=[(letter.key, letter.body) for letter in self.letters],
            charges=[
                Charge(f"{SALE}/{r.purchase_id}", SALE, r.purchase_id, PRICE_MINOR)
                for r in self.rows
                if r.status == "CONFIRMED"
            ]
            if self.has_payment
            else None,
        )


@st.composite
def good_stories(draw: Any) -> tuple[History, Books]:
    """Draw a history in which nothing is wrong, and its books."""
    making = Making(
        units=draw(st.integers(1, 12)),
        limit=draw(st.none() | st.integers(1, 4)),
        has_payment=draw(st.booleans()),
    )
    for number, (door, user, unknowns) in enumerate(draw(WANTS)):
        making.want(number, door, user, unknowns)
    return making.history, making.books()


def full_story(units: int) -> tuple[History, Books]:
    """Make one that has everything: every door, refusals of both kinds, charges and a letter."""
    making = Making(units=units, limit=3, has_payment=True)
    wanted = [
        *[("http", user, 1) for user in ("ann", "bob", "ann", "eve", "ann", "ann")],
        *[("noise", "", 0), ("outside", "joe", 1), ("noise", "", 0), ("outside", "eve", 0)],
        *[("http", "zoe", 0), ("http", "max", 2), ("outside", "kim", 0)],
    ]
    for number, (door, user, unknowns) in enumerate(wanted):
        making.want(number, door, user, unknowns)
    return making.history, making.books()
