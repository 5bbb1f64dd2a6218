"""One judge of all drills: what clients were told, against what the books say when it is quiet.

Every violation has a name. A name says what went wrong, not where it was seen: one unit that was
sold twice is `oversold` and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property

import attrs

from tests.faults.history import Asked, Books, Gate, History, Row, Sale, Told

HELD = "ROQ"


class Name(StrEnum):
    """What may be found wrong."""

    OVERSOLD = "oversold"
    LOST = "lost"
    LATE = "late"
    DUPLICATE_ORDER = "duplicate-order"
    WRONG_ORDER = "wrong-order"
    ORDER_OF_NOBODY = "order-of-nobody"
    REFUSED_BUT_ORDERED = "refused-but-ordered"
    ACCEPTED_THEN_REFUSED = "accepted-then-refused"
    UNFINISHED = "unfinished"
    GATE_DRIFT = "gate-drift"
    DOUBLE_CHARGE = "double-charge"
    CHARGED_WITHOUT_ORDER = "charged-without-order"
    ORDER_WITHOUT_CHARGE = "order-without-charge"
    WRONG_CHARGE = "wrong-charge"
    UNSOLD = "unsold"
    LEAK = "leak"
    JOURNAL_LEFT = "journal-left"
    GATE_DIFFERS = "gate-differs"
    WRONG_TOTAL = "wrong-total"
    LIMIT_BREACH = "limit-breach"
    ALTERED_DEAD_LETTER = "altered-dead-letter"
    UNCOPIED_DEAD_LETTER = "uncopied-dead-letter"
    UNSIGNED_DISCARD = "unsigned-discard"
    UNACCOUNTED_MESSAGE = "unaccounted-message"
    UNTOLD_EVENT = "untold-event"
    WRONG_EVENT = "wrong-event"
    DOUBLE_EVENT = "double-event"


@attrs.frozen
class Violation:
    """One thing that is wrong."""

    name: Name
    about: str

    def __str__(self) -> str:
        """Write it for a person."""
        return f"{self.name.value}: {self.about}"


ENDED_BY_RIGHT = ("PAYMENT_DECLINED", "DISCARDED")
"""Reasons that may end a promise: the bank said no, or a named operator did."""
EVENT_OF = {"CONFIRMED": "OrderCreated", "REJECTED": "PurchaseRejected"}
Key = tuple[str, str]


def check(history: History, books: Books) -> list[Violation]:
    """List everything that is wrong, in the order of `Name`."""
    return list(_Case(history, books).violations())


@attrs.define(slots=False)
class _Case:
    """A history and books, and what follows from both."""

    history: History
    books: Books

    @cached_property
    def rows(self) -> dict[Key, list[Row]]:
        found: dict[Key, list[Row]] = defaultdict(list)
        for row in self.books.rows:
            found[row.sale_id, row.purchase_id].append(row)
        return dict(found)

    @cached_property
    def confirmed(self) -> Counter[str]:
        """Units of CONFIRMED rows by sale; a row that stands twice counts once."""
        units: Counter[str] = Counter()
        for (sale_id, _), rows in self.rows.items():
            units[sale_id] += rows[0].quantity if rows[0].status == "CONFIRMED" else 0
        return units

    @cached_property
    def put(self) -> set[Key]:
        """Purchases that a message asked for too: what a door refused, that may still get."""
        found = {(one.sale_id or "", one.purchase_id or "") for one in self.history.put}
        return found - {("", "")}

    @cached_property
    def lost(self) -> dict[Key, str]:
        """Promises that did not become orders, and how."""
        found = {}
        for key, asked in self.history.asked.items():
            if asked.was_accepted and (how := self._how_lost(key)) is not None:
                found[key] = how
        return found

    def _how_lost(self, key: Key) -> str | None:
        if key not in self.rows:
            parked = [x.status for x in self.books.letters if (x.sale_id, x.purchase_id) == key]
            return f"no row; parked: {parked}" if parked else "no row"
        row = self.rows[key][0]
        if row.status != "REJECTED":
            return None
        if row.reason == "DISCARDED":
            audited = any(
                (x.sale_id, x.purchase_id) == key and x.was_discarded_by for x in self.books.letters
            )
            return None if audited else "DISCARDED by nobody"
        return None if row.reason in ENDED_BY_RIGHT else f"REJECTED({row.reason})"

    def violations(self) -> Iterator[Violation]:
        checks: tuple[Callable[[], Iterator[Violation]], ...] = (
            self._purchases,
            self._orders,
            self._charges,
            self._sales,
            self._users,
            self._letters,
            self._messages,
            self._events,
        )
        for one in checks:
            yield from one()

    def _purchases(self) -> Iterator[Violation]:
        """Hold every answer against the row that stands."""
        for key, how in self.lost.items():
            yield Violation(Name.LOST, f"{key}: {how}")
        for key, asked in self.history.asked.items():
            told = [answer.told for answer in asked.answers]
            if Told.OK in told and Told.REFUSED in told[told.index(Told.OK) :]:
                ended = key in self.rows and self.rows[key][0].status == "REJECTED"
                if not ended:
                    yield Violation(Name.ACCEPTED_THEN_REFUSED, f"{key}: {asked.answers}")
            for row in self.rows.get(key, ())[:1]:
                yield from self._answer_and_row(key, asked, row)

    def _answer_and_row(self, key: Key, asked: Asked, row: Row) -> Iterator[Violation]:
        if (row.user_id, row.quantity) != (asked.user_id, asked.quantity):
            yield Violation(Name.WRONG_ORDER, f"{key}: {row} for {asked}")
        if row.status != "CONFIRMED":
            return
        if asked.was_refused and not asked.was_accepted and key not in self.put:
            yield Violation(Name.REFUSED_BUT_ORDERED, f"{key}: {asked.last}")
        if asked.was_accepted:
            told_ms = min(a.at_ms for a in asked.answers if a.told is Told.OK)
            due_ms = self.history.due_ms(told_ms)
            if row.recorded_at_ms > due_ms:
                yield Violation(Name.LATE, f"{key}: {row.recorded_at_ms - due_ms} ms too late")

    def _orders(self) -> Iterator[Violation]:
        wanted = {*self.history.asked, *((p.sale_id, p.purchase_id) for p in self.history.put)}
        for key, rows in self.rows.items():
            if len(rows) > 1:
                yield Violation(Name.DUPLICATE_ORDER, f"{key}: {len(rows)} rows")
            if key not in wanted:
                yield Violation(Name.ORDER_OF_NOBODY, f"{key}: {rows[0]}")
            if rows[0].status not in EVENT_OF:
                yield Violation(Name.UNFINISHED, f"{key}: {rows[0].status}")
            if rows[0].reason == "GATE_DRIFT" and key not in self.lost:
                yield Violation(Name.GATE_DRIFT, f"{key}")

    def _charges(self) -> Iterator[Violation]:
        if self.books.charges is None:
            return
        counted = Counter((one.sale_id, one.purchase_id) for one in self.books.charges)
        for key, count in counted.items():
            if count > 1:
                yield Violation(Name.DOUBLE_CHARGE, f"{key}: {count} charges")
            if key in self.lost:
                continue
            if key not in self.rows or self.rows[key][0].status != "CONFIRMED":
                yield Violation(Name.CHARGED_WITHOUT_ORDER, f"{key}")
        prices = {sale.sale_id: sale.unit_price_minor or 0 for sale in self.books.sales}
        for key, rows in self.rows.items():
            if rows[0].status == "CONFIRMED" and prices[key[0]] and key not in counted:
                yield Violation(Name.ORDER_WITHOUT_CHARGE, f"{key}")
        for one in self.books.charges:
            key = one.sale_id, one.purchase_id
            due_minor = prices[one.sale_id] * (
                self.rows[key][0].quantity if key in self.rows else 1
            )
            if one.amount_minor != due_minor and counted[key] == 1:
                yield Violation(Name.WRONG_CHARGE, f"{key}: {one.amount_minor} for {due_minor}")

    def _sales(self) -> Iterator[Violation]:
        gates = {gate.sale_id: gate for gate in self.books.gates}
        for sale in self.books.sales:
            sold = self.confirmed[sale.sale_id]
            if sold > sale.initial:
                yield Violation(Name.OVERSOLD, f"{sale.sale_id}: {sold} of {sale.initial}")
            if (sale.initial, sale.sold) != (sale.available + sale.pending + sale.sold, sold):
                yield Violation(Name.WRONG_TOTAL, f"{sale}; {sold} units of rows")
            yield from self._demand(sale, sold)
            if sale.sale_id in gates:
                yield from self._gate(gates[sale.sale_id], sold)

    def _demand(self, sale: Sale, sold: int) -> Iterator[Violation]:
        """When it is quiet, sold = min(initial, demand), less what was lost or given back."""
        wants: dict[Key, int] = {}
        for key, asked in self.history.asked.items():
            no_stock = (
                asked.was_refused and asked.last is not None and asked.last.code == "sold-out"
            )
            if key[0] == sale.sale_id and (asked.was_accepted or no_stock or key in self.rows):
                wants[key] = asked.quantity
        for put in self.history.put:
            if put.sale_id == sale.sale_id and put.purchase_id is not None and put.is_sure:
                wants.setdefault((put.sale_id, put.purchase_id), put.quantity)
        gone = self.history.freed
        for key in list(wants):
            row = self.rows[key][0] if key in self.rows else None
            ended = row is not None and row.status == "REJECTED"
            if ended and row is not None and row.reason != "SOLD_OUT":
                # Its unit came back, perhaps after others had been told that there was none.
                gone += wants.pop(key) if row.reason in (*ENDED_BY_RIGHT, "GATE_DRIFT") else 0
                wants.pop(key, None)
            elif key in self.lost or self._is_open(key) or (row is None and self._is_parked(key)):
                gone += wants.pop(key)
        # All or nothing: what is left may be too little for whoever still wants some.
        slack = max(wants.values(), default=1) - 1
        if sold < min(sale.initial, sum(wants.values())) - gone - slack:
            wanted = f"{sum(wants.values())} wanted, {gone} lost or given back"
            yield Violation(Name.UNSOLD, f"{sale.sale_id}: {sold} of {sale.initial}, {wanted}")

    def _is_open(self, key: Key) -> bool:
        return key in self.rows and self.rows[key][0].status not in EVENT_OF

    def _is_parked(self, key: Key) -> bool:
        return any((one.sale_id, one.purchase_id) == key for one in self.books.letters)

    def _gate(self, gate: Gate, sold: int) -> Iterator[Violation]:
        where = gate.sale_id
        if gate.initial != gate.available + gate.reserved + gate.outside + gate.queued + gate.sold:
            yield Violation(Name.WRONG_TOTAL, f"the gate's counts do not add up: {_short(gate)}")
            return
        records = {one.purchase_id: one for one in gate.records}
        for purchase_id in gate.journal:
            if self._is_open((where, purchase_id)):
                continue
            yield Violation(Name.JOURNAL_LEFT, f"{where}/{purchase_id}: {records.get(purchase_id)}")
        in_journal = sum(
            records[one].quantity
            for one in gate.journal
            if one in records and records[one].state in HELD
        )
        parked = sum(
            one.quantity
            for one in self.books.letters
            if one.sale_id == where and one.holds_unit and one.purchase_id not in gate.journal
        )
        held = gate.reserved + gate.outside + gate.queued
        if held - in_journal - parked > 0:
            yield Violation(Name.LEAK, f"{where}: {held} units held for nobody: {_short(gate)}")
        if gate.sold > sold:
            yield Violation(Name.LEAK, f"{where}: {gate.sold - sold} units sold to nobody")
        if gate.sold < sold:
            yield Violation(Name.GATE_DIFFERS, f"{where}: {sold} sold, the gate says {gate.sold}")
        yield from self._records(gate)

    def _records(self, gate: Gate) -> Iterator[Violation]:
        """Hold every final record against its row, and the users' sums against the records."""
        if not gate.records:
            return
        units: Counter[str] = Counter()
        for one in gate.records:
            units[one.user_id] += one.quantity if one.state != "X" else 0
            rows = self.rows.get((gate.sale_id, one.purchase_id))
            expected = {"S": "CONFIRMED", "X": "REJECTED"}.get(one.state)
            stands = rows[0].status if rows else None
            drifted = rows is not None and rows[0].reason == "GATE_DRIFT"
            if expected is not None and stands not in (expected, None) and not drifted:
                about = f"{gate.sale_id}/{one.purchase_id}: {one.state} and {stands}"
                yield Violation(Name.GATE_DIFFERS, about)
        limited = any(s.per_user_limit and s.sale_id == gate.sale_id for s in self.books.sales)
        if (+units if limited else Counter()) != Counter(dict(gate.users)):
            yield Violation(Name.WRONG_TOTAL, f"{gate.sale_id}: units by user do not add up")

    def _users(self) -> Iterator[Violation]:
        limits = {sale.sale_id: sale.per_user_limit for sale in self.books.sales}
        units: Counter[Key] = Counter()
        for (sale_id, _), rows in self.rows.items():
            if rows[0].status in ("CONFIRMED", "PENDING_PAYMENT"):
                units[sale_id, rows[0].user_id] += rows[0].quantity
        for (sale_id, user_id), held in units.items():
            limit = limits.get(sale_id)
            if limit is not None and held > limit:
                yield Violation(Name.LIMIT_BREACH, f"{sale_id}: {user_id} has {held} of {limit}")

    def _letters(self) -> Iterator[Violation]:
        """What was set aside is what was sent, byte by byte, in the table and in its copy."""
        sent = {(put.key, put.body) for put in self.history.put}
        altered = set()
        for letter in self.books.letters:
            if letter.is_from_outside and (letter.key, letter.body) not in sent:
                altered.add((letter.key, letter.body))
            is_unsigned = letter.status == "DISCARDED" and not letter.was_discarded_by
            if is_unsigned and (letter.sale_id, letter.purchase_id) not in self.lost:
                yield Violation(Name.UNSIGNED_DISCARD, f"{letter.reason}: {letter.body!r}")
        copies = self.books.copies
        in_table = {(letter.key, letter.body) for letter in self.books.letters}
        for copy in copies or ():
            if copy not in in_table and copy not in sent:
                altered.add(copy)
        for key, body in sorted(altered, key=repr):
            yield Violation(Name.ALTERED_DEAD_LETTER, f"nobody sent {key!r}: {body!r}")
        if copies is None:
            return
        for letter in self.books.letters:
            is_dead = letter.status == "DEAD" and (letter.key, letter.body) not in altered
            if is_dead and (letter.key, letter.body) not in copies and not altered:
                yield Violation(Name.UNCOPIED_DEAD_LETTER, f"{letter.reason}: {letter.body!r}")

    def _messages(self) -> Iterator[Violation]:
        """Messages consumed = done + duplicate + parked + waiting."""
        parked = {(letter.key, letter.body) for letter in self.books.letters}
        parked_ids = {(letter.sale_id, letter.purchase_id) for letter in self.books.letters}
        missing = []
        for put in self.history.put:
            key = (put.sale_id or "", put.purchase_id or "")
            is_done = put.purchase_id is not None and key in self.rows
            if (
                put.is_sure
                and not is_done
                and (put.key, put.body) not in parked
                and key not in parked_ids
            ):
                missing.append(put)
        if self.books.waiting:
            about = f"{self.books.waiting} messages wait on the bus, {len(missing)} not done"
            yield Violation(Name.UNACCOUNTED_MESSAGE, about)
        elif missing and not self._letters_altered():
            about = f"{len(missing)} neither done nor parked nor waiting: {missing[:3]}"
            yield Violation(Name.UNACCOUNTED_MESSAGE, about)

    def _letters_altered(self) -> bool:
        return any(one.name is Name.ALTERED_DEAD_LETTER for one in self._letters())

    def _events(self) -> Iterator[Violation]:
        if not self.books.were_events_heard:
            return
        seen: dict[Key, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for event in self.books.events:
            seen[event.sale_id, event.purchase_id][event.type].add(event.occurrence_id)
        for key, by_type in seen.items():
            expected = EVENT_OF.get(self.rows[key][0].status) if key in self.rows else None
            for type_, ids in by_type.items():
                if type_ != expected and key not in self.lost:
                    yield Violation(Name.WRONG_EVENT, f"{key}: {type_}, the row says {expected}")
                if len(ids) > 1:
                    yield Violation(Name.DOUBLE_EVENT, f"{key}: {type_} under {len(ids)} ids")
        if self.books.outbox:
            yield Violation(Name.UNTOLD_EVENT, f"{self.books.outbox} facts wait in the outbox")
            return
        for key, rows in self.rows.items():
            if rows[0].status in EVENT_OF and key not in seen:
                yield Violation(Name.UNTOLD_EVENT, f"{key}: {rows[0].status}")


def _short(gate: Gate) -> str:
    counts = (gate.initial, gate.available, gate.reserved, gate.outside, gate.queued, gate.sold)
    return "initial {}, available {}, R {}, O {}, Q {}, S {}".format(*counts)
