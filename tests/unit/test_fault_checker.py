"""The judge of the drills is judged: a good story passes, and each lie is called by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.faults.checker import Name, check
from tests.faults.good import PRICE_MINOR, SALE, full_story, good_stories
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
    Told,
)

Doctor = Callable[[History, Books], None]
DOCTORS: list[tuple[Name, Doctor]] = []


def doctored(name: Name) -> Callable[[Doctor], Doctor]:
    """Say what a doctor's lie is called."""

    def note(doctor: Doctor) -> Doctor:
        DOCTORS.append((name, doctor))
        return doctor

    return note


class NoRoomError(Exception):
    """A story has not what a lie is told about."""


def need(condition: object) -> None:
    """Leave a story that has no room for the lie."""
    if not condition:
        raise NoRoomError


def accepted(history: History, books: Books) -> Asked:
    """Find a promise that became an order."""
    confirmed = {row.purchase_id for row in books.rows if row.status == "CONFIRMED"}
    kept = [one for one in history.asked.values() if one.purchase_id in confirmed]
    need(kept != [])
    return kept[0]


def sell(books: Books, units: int) -> None:
    """Move units from available to sold in both books, and in nothing else."""
    [sale], [gate] = books.sales, books.gates
    books.sales = [attrs.evolve(sale, available=sale.available - units, sold=sale.sold + units)]
    books.gates = [attrs.evolve(gate, available=gate.available - units, sold=gate.sold + units)]


def users_with(books: Books, user: str, change: int) -> tuple[tuple[str, int], ...]:
    """Count users' units as the gate does: only where a user is limited."""
    [sale], [gate] = books.sales, books.gates
    if sale.per_user_limit is None:
        return gate.users
    users = Counter(dict(gate.users))
    users[user] += change
    return tuple((+users).items())


def write_order(history: History, books: Books, purchase: str, user: str) -> None:
    """Let one more buyer be told ACCEPTED and have an order, whatever there is to sell."""
    at_ms = 9_000
    history.ask(Asked(purchase, user, SALE, answers=[Answer(Told.OK, "accepted", at_ms)]))
    books.rows.append(Row(SALE, purchase, user, 1, "CONFIRMED", None, at_ms))
    books.events.append(Event(f"e-{purchase}", "OrderCreated", SALE, purchase))
    if books.charges is not None:
        books.charges.append(Charge(purchase, SALE, purchase, PRICE_MINOR))
    sell(books, 1)
    [gate] = books.gates
    users = users_with(books, user, 1)
    records = (*gate.records, Held(purchase, "S", user, 1))
    books.gates = [attrs.evolve(gate, users=users, records=records)]


def lose_row(books: Books, purchase: str) -> Row:
    """Take an order out of every book."""
    [row] = [one for one in books.rows if one.purchase_id == purchase]
    books.rows.remove(row)
    books.events = [one for one in books.events if one.purchase_id != purchase]
    books.charges = books.charges and [x for x in books.charges if x.purchase_id != purchase]
    [gate] = books.gates
    users = users_with(books, row.user_id, -1)
    books.gates = [
        attrs.evolve(
            gate,
            users=users,
            records=tuple(one for one in gate.records if one.purchase_id != purchase),
        )
    ]
    sell(books, -1)
    return row


def change_row(books: Books, purchase: str, **changes: object) -> None:
    """Change an order's row alone."""
    at = [row.purchase_id for row in books.rows].index(purchase)
    books.rows[at] = attrs.evolve(books.rows[at], **changes)  # type: ignore[arg-type]


@doctored(Name.OVERSOLD)
def sell_one_too_many(history: History, books: Books) -> None:
    """Every book agrees that more was sold than there was."""
    [sale] = books.sales
    for number in range(sale.available + 1):
        write_order(history, books, f"extra{number}", f"newcomer{number}")


@doctored(Name.LOST)
def lose_a_promise(history: History, books: Books) -> None:
    """A buyer was told ACCEPTED, and no book knows of it."""
    lose_row(books, accepted(history, books).purchase_id)


@doctored(Name.LOST)
def drift_away_from_a_promise(history: History, books: Books) -> None:
    """A promise ended REJECTED(GATE_DRIFT), neatly booked."""
    asked = accepted(history, books)
    reject(books, asked, "GATE_DRIFT")


@doctored(Name.LOST)
def leave_a_promise_parked(history: History, books: Books) -> None:
    """It lies parked with its unit when all is quiet."""
    asked = accepted(history, books)
    lose_row(books, asked.purchase_id)
    [sale], [gate] = books.sales, books.gates
    books.sales = [sale]
    users = users_with(books, asked.user_id, 1)
    books.gates = [
        attrs.evolve(
            gate,
            available=gate.available - 1,
            queued=1,
            users=users,
            records=(*gate.records, Held(asked.purchase_id, "Q", asked.user_id, 1)),
        )
    ]
    books.letters.append(
        Letter(
            status="RETRYING",
            reason="ValueError",
            body=b"x",
            sale_id=SALE,
            purchase_id=asked.purchase_id,
            holds_unit=True,
            is_from_outside=False,
        )
    )


@doctored(Name.LOST)
def discard_a_promise_without_a_name(history: History, books: Books) -> None:
    """An operator ended it, and no audit says who."""
    reject(books, accepted(history, books), "DISCARDED")


def reject(books: Books, asked: Asked, reason: str) -> None:
    """End an order by a REJECTED row, and give its unit back."""
    row = lose_row(books, asked.purchase_id)
    books.rows.append(attrs.evolve(row, status="REJECTED", reason=reason))
    books.events.append(Event("e-new", "PurchaseRejected", SALE, asked.purchase_id))
    [gate] = books.gates
    records = (*gate.records, Held(asked.purchase_id, "X", asked.user_id, 1))
    books.gates = [attrs.evolve(gate, records=records)]


@doctored(Name.LATE)
def confirm_too_late(history: History, books: Books) -> None:
    """The order came when its buyer had given up."""
    asked = accepted(history, books)
    late_ms = history.due_ms(asked.answers[-1].at_ms) + 1
    change_row(books, asked.purchase_id, recorded_at_ms=late_ms)


@doctored(Name.DUPLICATE_ORDER)
def order_twice(history: History, books: Books) -> None:
    """One purchase has two rows."""
    purchase = accepted(history, books).purchase_id
    [row] = [one for one in books.rows if one.purchase_id == purchase]
    books.rows.append(row)


@doctored(Name.WRONG_ORDER)
def order_for_somebody_else(history: History, books: Books) -> None:
    """The row is not what its buyer asked for."""
    asked = accepted(history, books)
    key = (asked.sale_id, asked.purchase_id)
    history.asked[key] = attrs.evolve(asked, user_id="mallory")


@doctored(Name.ORDER_OF_NOBODY)
def order_unasked(history: History, books: Books) -> None:
    """An order that nobody asked for."""
    [sale] = books.sales
    need(sale.available > 0)
    write_order(history, books, "ghost", "ghost")
    del history.asked[SALE, "ghost"]


@doctored(Name.REFUSED_BUT_ORDERED)
def refuse_and_order(history: History, books: Books) -> None:
    """A buyer was sent away, and has an order."""
    asked = accepted(history, books)
    asked.answers[:] = [Answer(Told.REFUSED, "sold-out", 1)]


@doctored(Name.ACCEPTED_THEN_REFUSED)
def take_back_a_promise(history: History, books: Books) -> None:
    """A buyer who was promised a unit hears sold out when asking again."""
    accepted(history, books).answers.append(Answer(Told.REFUSED, "sold-out", 99))


@doctored(Name.UNFINISHED)
def leave_a_payment_open(history: History, books: Books) -> None:
    """A row is still pending when all is quiet."""
    asked = accepted(history, books)
    row = lose_row(books, asked.purchase_id)
    books.rows.append(attrs.evolve(row, status="PENDING_PAYMENT"))
    [sale], [gate] = books.sales, books.gates
    books.sales = [attrs.evolve(sale, available=sale.available - 1, pending=1)]
    users = users_with(books, row.user_id, 1)
    books.gates = [
        attrs.evolve(
            gate,
            available=gate.available - 1,
            queued=1,
            users=users,
            records=(*gate.records, Held(row.purchase_id, "Q", row.user_id, 1)),
            journal=(row.purchase_id,),
        )
    ]


@doctored(Name.GATE_DRIFT)
def drift(_: History, books: Books) -> None:
    """A request from outside met a gate that was proven wrong."""
    [gate] = books.gates
    _.put.append(Put(body=b"drift", purchase_id="drift", sale_id=SALE, user_id="joe"))
    books.rows.append(Row(SALE, "drift", "joe", 1, "REJECTED", "GATE_DRIFT"))
    books.events.append(Event("e-drift", "PurchaseRejected", SALE, "drift"))
    books.gates = [attrs.evolve(gate, records=(*gate.records, Held("drift", "X", "joe", 1)))]


@doctored(Name.DOUBLE_CHARGE)
def charge_twice(history: History, books: Books) -> None:
    """The provider took the money twice."""
    need(books.charges)
    assert books.charges is not None
    books.charges.append(attrs.evolve(books.charges[0], key="another"))


@doctored(Name.CHARGED_WITHOUT_ORDER)
def charge_a_refused_one(history: History, books: Books) -> None:
    """Somebody paid for nothing."""
    refused = [one for one in history.asked.values() if one.was_refused]
    need(refused and books.charges is not None)
    assert books.charges is not None
    books.charges.append(Charge("k", SALE, refused[0].purchase_id, PRICE_MINOR))


@doctored(Name.ORDER_WITHOUT_CHARGE)
def give_it_away(history: History, books: Books) -> None:
    """An order that was never paid for."""
    need(books.charges)
    assert books.charges is not None
    books.charges.pop()


@doctored(Name.WRONG_CHARGE)
def charge_too_much(_: History, books: Books) -> None:
    """The provider took more than the price."""
    need(books.charges)
    assert books.charges is not None
    books.charges[0] = attrs.evolve(books.charges[0], amount_minor=PRICE_MINOR + 1)


@doctored(Name.UNSOLD)
def send_a_buyer_away_from_a_full_shelf(history: History, books: Books) -> None:
    """Sold out was said, and there was stock."""
    [sale] = books.sales
    need(sale.available > 0)
    for number in range(sale.available):
        answers = [Answer(Told.REFUSED, "sold-out", 7)]
        history.ask(Asked(f"away{number}", f"newcomer{number}", SALE, answers=answers))
    turned = [one for one in history.asked.values() if one.was_refused]
    need(all(one.last is not None and one.last.code == "sold-out" for one in turned))
    # Whoever was declined may have left a unit behind for which nobody asked again.
    declined = [row for row in books.rows if row.reason == "PAYMENT_DECLINED"]
    need(len(declined) < sale.available)


@doctored(Name.LEAK)
def hold_a_unit_for_nobody(history: History, books: Books) -> None:
    """A unit is reserved, and neither journal nor table knows for whom."""
    [gate] = books.gates
    need(gate.available > 0)
    books.gates = [attrs.evolve(gate, available=gate.available - 1, reserved=1)]


@doctored(Name.LEAK)
def sell_a_unit_to_nobody(history: History, books: Books) -> None:
    """The gate counts a sale that the table does not have."""
    [gate] = books.gates
    need(gate.available > 0)
    books.gates = [attrs.evolve(gate, available=gate.available - 1, sold=gate.sold + 1)]


@doctored(Name.JOURNAL_LEFT)
def leave_an_entry_in_the_journal(history: History, books: Books) -> None:
    """A purchase is not final, though all is quiet."""
    [gate] = books.gates
    need(gate.available > 0)
    users = users_with(books, "ann", 1)
    books.gates = [
        attrs.evolve(
            gate,
            available=gate.available - 1,
            reserved=1,
            users=users,
            records=(*gate.records, Held("stuck", "R", "ann", 1)),
            journal=("stuck",),
        )
    ]


@doctored(Name.GATE_DIFFERS)
def forget_a_sale_in_the_gate(history: History, books: Books) -> None:
    """The gate would sell a unit again that the table has sold."""
    [gate] = books.gates
    need(gate.sold > 0)
    books.gates = [attrs.evolve(gate, available=gate.available + 1, sold=gate.sold - 1)]


@doctored(Name.WRONG_TOTAL)
def miscount_in_the_gate(history: History, books: Books) -> None:
    """The gate's counts do not add up."""
    [gate] = books.gates
    books.gates = [attrs.evolve(gate, available=gate.available - 1)]


@doctored(Name.WRONG_TOTAL)
def miscount_in_the_database(history: History, books: Books) -> None:
    """The sale's row does not add up."""
    [sale] = books.sales
    books.sales = [attrs.evolve(sale, available=sale.available - 1)]


@doctored(Name.WRONG_TOTAL)
def miscount_a_user(history: History, books: Books) -> None:
    """A user is said to hold more than the records say."""
    [gate] = books.gates
    need(gate.users)
    (user, units), *others = gate.users
    books.gates = [attrs.evolve(gate, users=((user, units + 1), *others))]


@doctored(Name.LIMIT_BREACH)
def sell_too_many_to_one(history: History, books: Books) -> None:
    """One user has more than anybody may have."""
    [sale] = books.sales
    need(sale.per_user_limit is not None)
    assert sale.per_user_limit is not None
    books.sales = [attrs.evolve(sale, initial=sale.initial + 9, available=sale.available + 9)]
    [gate] = books.gates
    books.gates = [attrs.evolve(gate, initial=gate.initial + 9, available=gate.available + 9)]
    for one in [one for one in history.asked.values() if one.was_refused]:
        one.answers[:] = [Answer(Told.REFUSED, "limit-reached", 1)]
    for at, row in enumerate(books.rows):
        if row.reason == "SOLD_OUT":
            books.rows[at] = attrs.evolve(row, reason="LIMIT_REACHED")
    for number in range(sale.per_user_limit + 1):
        write_order(history, books, f"greedy{number}", "greedy")


@doctored(Name.ALTERED_DEAD_LETTER)
def alter_a_letter(history: History, books: Books) -> None:
    """What was set aside is not what was sent."""
    need(books.letters)
    letter = books.letters[0]
    changed = attrs.evolve(letter, body=(letter.body or b"") + b"!")
    books.letters[0] = changed


@doctored(Name.ALTERED_DEAD_LETTER)
def alter_a_copy(history: History, books: Books) -> None:
    """The copy for other tools is not what was sent."""
    need(books.copies)
    assert books.copies is not None
    books.copies[0] = (books.copies[0][0], b"?")


@doctored(Name.UNCOPIED_DEAD_LETTER)
def keep_a_copy_back(history: History, books: Books) -> None:
    """A dead letter has no copy."""
    need(books.copies)
    assert books.copies is not None
    books.copies.pop()


@doctored(Name.UNSIGNED_DISCARD)
def discard_without_a_name(_: History, books: Books) -> None:
    """A message was thrown away, and the trail does not say by whom."""
    need(books.letters)
    books.letters[0] = attrs.evolve(books.letters[0], status="DISCARDED")


@doctored(Name.UNACCOUNTED_MESSAGE)
def swallow_a_message(history: History, books: Books) -> None:
    """A message was taken, and nothing became of it."""
    history.put.append(Put(body=b"gone", key=b"k"))


@doctored(Name.UNACCOUNTED_MESSAGE)
def leave_a_message_waiting(history: History, books: Books) -> None:
    """Nobody takes what waits on the bus, though all is quiet."""
    books.waiting = 1


@doctored(Name.UNTOLD_EVENT)
def keep_an_event_back(history: History, books: Books) -> None:
    """An order that nobody was told of."""
    need(books.events)
    books.events.pop()


@doctored(Name.UNTOLD_EVENT)
def leave_a_fact_in_the_outbox(history: History, books: Books) -> None:
    """The relay does not tell."""
    books.outbox = 1


@doctored(Name.WRONG_EVENT)
def tell_the_opposite(history: History, books: Books) -> None:
    """A rejection was told of an order that stands."""
    purchase = accepted(history, books).purchase_id
    books.events.append(Event("e-x", "PurchaseRejected", SALE, purchase))


@doctored(Name.DOUBLE_EVENT)
def tell_it_under_two_ids(history: History, books: Books) -> None:
    """A consumer cannot see that the second is the first again."""
    need(books.events)
    books.events.append(attrs.evolve(books.events[0], occurrence_id="e-again"))


def names(history: History, books: Books) -> set[Name]:
    """Name what is wrong."""
    return {violation.name for violation in check(history, books)}


@given(good_stories())
def test_a_good_history_passes(story: tuple[History, Books]) -> None:
    """Whatever was asked, in whatever order: nothing is found where nothing is wrong."""
    assert check(*story) == []


@given(good_stories())
def test_an_event_told_twice_under_one_id_is_no_violation(story: tuple[History, Books]) -> None:
    """The relay tells at least once; consumers drop repeats."""
    history, books = story
    books.events += books.events
    assert check(history, books) == []


@pytest.mark.parametrize(
    ("name", "doctor"), DOCTORS, ids=[doctor.__name__ for _, doctor in DOCTORS]
)
def test_each_lie_is_called_by_its_name_and_by_no_other(name: Name, doctor: Doctor) -> None:
    """Good stories that have everything, sold out and not, with exactly one thing wrong."""
    told = 0
    for units in (6, 40):
        history, books = full_story(units)
        assert check(history, books) == []
        try:
            doctor(history, books)
        except NoRoomError:
            continue
        told += 1
        assert names(history, books) == {name}
    assert told


@pytest.mark.parametrize(
    ("name", "doctor"), DOCTORS, ids=[doctor.__name__ for _, doctor in DOCTORS]
)
def test_each_lie_is_seen_in_any_story(name: Name, doctor: Doctor) -> None:
    """The same, in whatever good story has room for the lie."""

    @settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much], deadline=None)
    @given(good_stories())
    def lie(story: tuple[History, Books]) -> None:
        try:
            doctor(*story)
        except NoRoomError:
            assume(condition=False)
        assert names(*story) == {name}

    lie()


def test_every_violation_has_a_doctor() -> None:
    """A name that no test ever calls might be one that the checker never calls."""
    assert {name for name, _ in DOCTORS} == set(Name)


def test_a_promise_may_end_by_the_bank_or_by_a_named_operator() -> None:
    """The two ends that are no loss."""
    for reason, operator in (("PAYMENT_DECLINED", None), ("DISCARDED", "ann@example.org")):
        history, books = full_story(6)
        asked = accepted(history, books)
        reject(books, asked, reason)
        if operator is not None:
            history.put.append(Put(body=b"d"))
            books.letters.append(
                Letter(
                    status="DISCARDED",
                    reason="x",
                    body=b"d",
                    sale_id=SALE,
                    purchase_id=asked.purchase_id,
                    was_discarded_by=operator,
                )
            )
        assert check(history, books) == []


def test_each_fault_has_a_minute_of_its_own_and_excuses_nothing_else() -> None:
    """Faults long before a promise, or long after its order was due, give it no more time."""
    history = History(faults=[(0, 5_000), (20_000, 30_000), (500_000, 900_000)])
    assert history.due_ms(1_000) == 90_000
    assert history.due_ms(40_000) == 100_000
    assert history.due_ms(450_000) == 960_000


def test_an_empty_gate_is_no_excuse() -> None:
    """Books without records, as a gate that was only counted, are judged by their counts."""
    history, books = full_story(6)
    [gate] = books.gates
    books.gates = [
        Gate(SALE, gate.initial, gate.available, 0, 0, 0, gate.sold),
    ]
    assert check(history, books) == []
    books.gates = [Gate(SALE, gate.initial, gate.available - 1, 0, 0, 0, gate.sold)]
    assert names(history, books) == {Name.WRONG_TOTAL}
