"""The gate's state machine as a Hypothesis machine: random commands, a dict as the model.

`gate_machine(open_gates)` makes a machine class for `hypothesis.stateful`. With several gates it is
a differential test: the same commands on all, the same answers from all.
"""

import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    SaleId,
    SaleState,
    SaleTerms,
    UserId,
)
from flashsale_core.outcomes import (
    Closed,
    KeyReused,
    LimitReached,
    NotOpen,
    RateLimited,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
)
from flashsale_core.ports import Claim, GateBooks, StockGate
from flashsale_core.testing.stock_gate import YEAR_2100_MS, OpenSale, books_for, claim

T = TypeVar("T")
_names = itertools.count(1)

PURCHASES = st.sampled_from([f"p{n}" for n in range(8)])
USERS = st.sampled_from(["ann", "bob", "eve"])
QUANTITIES = st.integers(1, 3)
DOORS = st.sampled_from(list(Door))
CLAIMS = st.lists(st.tuples(PURCHASES, USERS, QUANTITIES, st.booleans()), min_size=1, max_size=6)
SOME = st.lists(PURCHASES, max_size=4, unique=True)
TERMS = st.builds(
    SaleTerms,
    units=st.integers(1, 9),
    per_user_limit=st.none() | st.integers(1, 4),
    opens_at_ms=st.sampled_from([None, None, None, 1, YEAR_2100_MS]),
    closes_at_ms=st.sampled_from([None, None, None, YEAR_2100_MS + 1]),
)
NO = Refused(code="NO_BOTS")
HOLDING = ("R", "O", "Q", "S")
AT_DOOR = {Door.HTTP: "R", Door.OUTSIDE: "O", Door.ACCEPTED: "Q"}


@attrs.define
class Model:
    """What a gate must know, as a dict: purchase → (state, user, quantity, reason)."""

    terms: SaleTerms
    state: SaleState = SaleState.OPEN
    known: dict[str, tuple[str, str, int, str | None]] = attrs.field(factory=dict)
    per_user: int = 0
    asked: dict[str, int] = attrs.field(factory=dict)

    def units(self, *states: str) -> int:
        """Sum the units in these states."""
        return sum(quantity for state, _, quantity, _ in self.known.values() if state in states)

    @property
    def available(self) -> int:
        """Count what nobody holds."""
        return self.terms.units - self.units(*HOLDING)

    def held(self, user: str) -> int:
        """Count what a user holds or bought."""
        return sum(q for s, u, q, _ in self.known.values() if u == user and s in HOLDING)

    def reserve(self, door: Door, asked: tuple[str, str, int, bool]) -> object:
        """Judge one claim as the contract orders it; the answer in the short form of `told`."""
        purchase, user, quantity, refused = asked
        if purchase in self.known:
            state, of_user, of_quantity, reason = self.known[purchase]
            if of_user and (of_user, of_quantity) != (user, quantity):
                return KeyReused()
            if door is Door.ACCEPTED and state in "RO":
                self.known[purchase] = ("Q", of_user, of_quantity, None)
            return ("replayed", self.known[purchase][0], reason)
        if self.state in (SaleState.PAUSED, SaleState.HALTED):
            return Why.PAUSED if self.state is SaleState.PAUSED else Why.HALTED
        if door is Door.HTTP and self.per_user:
            if self.asked.get(user, 0) >= self.per_user:
                return "rate limited"
            self.asked[user] = self.asked.get(user, 0) + 1
        answer, reason = self._refusal(user, quantity, refused=refused)
        if answer is None:
            self.known[purchase] = (AT_DOOR[door], user, quantity, None)
            return ("reserved", AT_DOOR[door])
        if door is not Door.HTTP:
            self.known[purchase] = ("X", user, quantity, reason)
        return answer

    def _refusal(self, user: str, quantity: int, *, refused: bool) -> tuple[object, str | None]:
        limit = self.terms.per_user_limit
        if self.state in (SaleState.CLOSED, SaleState.SETTLED):
            return Closed(), "CLOSED"
        if self.terms.opens_at_ms == YEAR_2100_MS:
            return NotOpen(opens_at_ms=YEAR_2100_MS), "NOT_OPEN"
        if refused:
            return NO, NO.code
        if quantity > self.available:
            return SoldOut(available=self.available), "SOLD_OUT"
        if limit is not None and self.held(user) + quantity > limit:
            return LimitReached(limit=limit, held=self.held(user)), "LIMIT_REACHED"
        return None, None

    def lift(self, purchases: Sequence[str]) -> None:
        """Mark as queued."""
        for purchase in purchases:
            state, user, quantity, _ = self.known.get(purchase, ("", "", 0, None))
            if state and state in "RO":
                self.known[purchase] = ("Q", user, quantity, None)

    def follow(self, sold: Sequence[str], released: Sequence[str]) -> int:
        """Follow rows; count what does not fit."""
        misfits = 0
        for purchase in sold:
            state, user, quantity, _ = self.known.get(purchase, ("X", "", 0, None))
            misfits += state == "X"
            if state in HOLDING:
                self.known[purchase] = ("S", user, quantity, None)
        for purchase in released:
            state, user, quantity, _ = self.known.get(purchase, ("", "", 0, None))
            misfits += state == "S"
            if not state or state in "ROQ":
                self.known[purchase] = ("X", user, quantity, "DECLINED")
        return misfits


def told(answer: object) -> object:
    """Shorten a gate's answer to what the model can say: no times."""
    match answer:
        case Reserved(record=record):
            return ("reserved", record.state.value)
        case Replayed(record=record):
            return ("replayed", record.state.value, record.reason)
        case Unavailable(why=why):
            return why
        case RateLimited():
            return "rate limited"
        case _:
            return answer


OpenGates = Callable[[], Sequence[StockGate]]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class CountedMachine(RuleBasedStateMachine):
    """A machine that says how much it tried."""

    steps: ClassVar[int] = 0
    """Commands that were given, each with all books compared after it."""


def gate_machine(  # noqa: C901 - a machine closes over its gates
    open_gates: OpenGates, run: Run, *, per_user: int = 0
) -> type[CountedMachine]:
    """Make the machine. `open_gates` is called once per example; `run` runs a coroutine.

    `per_user` is the gates' limit, in a window that is longer than the run; 0: they have none.
    """

    class GateMachine(CountedMachine):
        """The same commands to every gate, the same answers from every gate and the model."""

        @initialize(terms=TERMS)
        def open(self, terms: SaleTerms) -> None:
            self.sale_id = SaleId(f"m{next(_names)}.1")
            self.epoch = Epoch(1)
            self.model = Model(terms, per_user=per_user)
            self.gates = open_gates()
            self._load(SaleState.OPEN)

        def _load(self, state: SaleState) -> None:
            records = [_record(p, *known) for p, known in self.model.known.items()]
            terms = self.model.terms
            expected = books_for(self.sale_id, terms, records, state, self.epoch)
            for gate in self.gates:
                token = run(gate.begin_load(self.sale_id, self.epoch, terms, state))
                run(gate.load(self.sale_id, token, records))
                run(gate.arm(self.sale_id, token, expected))

        def _all(self, ask: Callable[[OpenSale], Coroutine[Any, Any, T]]) -> list[T]:
            return [run(ask(OpenSale(gate, self.sale_id, self.epoch))) for gate in self.gates]

        @rule(door=DOORS, asked=CLAIMS, marks=SOME)
        def reserve(
            self, door: Door, asked: list[tuple[str, str, int, bool]], marks: list[str]
        ) -> None:
            self.model.lift(marks)
            expected = [self.model.reserve(door, one) for one in asked]
            claims: list[Claim] = [
                claim(purchase, user, quantity, NO if refused else None)
                for purchase, user, quantity, refused in asked
            ]
            for answers in self._all(lambda s: s.reserve(*claims, door=door, queued=marks)):
                assert [told(answer) for answer in answers] == expected

        @rule(marks=SOME)
        def mark(self, marks: list[str]) -> None:
            self.model.lift(marks)
            ids = [PurchaseId(one) for one in marks]
            for gate in self.gates:
                run(gate.mark_queued(self.sale_id, self.epoch, ids))

        @rule(sold=SOME, released=SOME)
        def follow(self, sold: list[str], released: list[str]) -> None:
            expected = self.model.follow(sold, released)
            pairs = [(purchase, "DECLINED") for purchase in released]
            for misfits in self._all(lambda s: s.follow(sold=sold, released=pairs)):
                assert misfits == expected

        @rule(state=st.sampled_from([*SaleState, SaleState.OPEN, SaleState.OPEN]))
        def set_state(self, state: SaleState) -> None:
            self.model.state = state
            for gate in self.gates:
                assert run(gate.set_state(self.sale_id, self.epoch, state)) is None

        @rule()
        def rebuild(self) -> None:
            """Begin another life: what was R or O comes back as rows, or not at all."""
            self.epoch = Epoch(self.epoch + 1)
            self.model.known = {
                purchase: known
                for purchase, known in self.model.known.items()
                if known[0] in "QSX" and known[1]
            }
            self._load(self.model.state)

        @rule(wrong=st.sampled_from([-1, 1]), asked=CLAIMS)
        def stale(self, wrong: int, asked: list[tuple[str, str, int, bool]]) -> None:
            """Change nothing as a caller of another life."""
            claims = [claim(purchase, user, quantity) for purchase, user, quantity, _ in asked]
            epoch = Epoch(self.epoch + wrong)
            for gate in self.gates:
                sale = OpenSale(gate, self.sale_id, epoch)
                [reply] = run(gate.reserve([sale.batch(*claims)]))
                assert told(reply) is Why.NOT_ARMED

        @invariant()
        def books_agree(self) -> None:
            if not hasattr(self, "model"):
                return
            GateMachine.steps += 1
            known = self.model.known.values()
            held_by = {user for state, user, _, _ in known if state in HOLDING}
            for books in self._all(lambda s: s.books()):
                assert attrs.evolve(
                    books, oldest_due_ms=None, oldest_accepted_ms=None
                ) == GateBooks(
                    state=self.model.state,
                    initial=self.model.terms.units,
                    available=self.model.available,
                    reserved=self.model.units("R"),
                    outside=self.model.units("O"),
                    queued=self.model.units("Q"),
                    sold=self.model.units("S"),
                    records=len(known),
                    users=0 if self.model.terms.per_user_limit is None else len(held_by),
                    journal=sum(state in "ROQ" for state, *_ in known),
                )

    return GateMachine


def _record(purchase: str, state: str, user: str, quantity: int, reason: str | None) -> GateRecord:
    return GateRecord(
        purchase_id=PurchaseId(purchase),
        state=PurchaseState(state),
        user_id=UserId(user),
        quantity=quantity,
        reason=reason,
    )
