"""One episode: a sale, random commands, random crashes, then quiet, and the judge."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from flashsale_core.errors import Unavailable
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.model import (
    Order,
    PurchaseId,
    PurchaseRequest,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.opening import Database
from flashsale_core.ports import GateBooks
from tests.faults.checker import Violation, check
from tests.faults.history import Asked, Books, Charge, Event, Gate, Held, Letter, Put, Row
from tests.faults.history import Sale as SaleRow
from tests.simulation.chance import Dice, Runner, WrittenClock
from tests.simulation.world import ITEM, SALE_ID, World

START_MS = 1_800_000_000_000
COMMANDS = 80
"""Of one episode: a dozen purchases with all that can happen to them."""
ROUNDS_MAX = 120
ROUND_MS = 2_000
"""Quiet is waited for as a worker's loops do, two seconds a round."""
PAID_SHARE = 0.4
PRICE = 4_990
TOKENS = {1: "declined", 3: "slow", 4: "declined", 6: "lost"}
"""What becomes of a buyer's money."""
LOSSES = ("flushall", "restart", "lost tail", "failover", "old primary")
USERS = ("ann", "bob", "eve")
PURCHASES = 14


class NotQuietError(AssertionError):
    """Something never comes to its end."""


@attrs.define
class Episode:
    """Drives a world by its dice."""

    seed: str
    commands: int
    world: World
    trace: list[str]

    def live(self) -> list[Violation]:
        """Run the commands, come to rest, and judge. Raises AssertionError for what never ends."""
        try:
            return self._live()
        finally:
            self.world.close()

    def _live(self) -> list[Violation]:
        dice = self.world.dice
        dice.crash, dice.away, dice.lost = (dice.random.choice((0.0, 0.02, 0.1)) for _ in range(3))
        limit = dice.random.choice((None, None, 1, 2))
        terms = SaleTerms(units=dice.random.randint(1, 8), per_user_limit=limit)
        if self.world.is_paid_for:
            terms = attrs.evolve(terms, unit_price_minor=PRICE, currency="CHF")
        self.world.open(terms)
        weights = list(WEIGHTS.values())
        for _ in range(self.commands):
            [command] = dice.random.choices(list(WEIGHTS), weights)
            self.trace.append(command.__name__)
            command(self)
            for _ in range(dice.random.choice((0, 1, 3, 8))):
                self.world.go_on()
            self._hold_invariants()
        self._come_to_rest()
        return check(self.world.history, self._books())

    # ── commands ────────────────────────────────────────────────────────────────────────────────

    def buy(self) -> None:
        """Ask over HTTP: for the first time, again, or twice at once."""
        roll = self.world.dice.random
        number = roll.randrange(PURCHASES)
        request = _request(number, has_token=True)
        asked = self.world.history.ask(Asked(request.purchase_id, request.user_id, SALE_ID))
        for _ in range(roll.choice((1, 1, 1, 2))):
            process = roll.choice(self.world.processes)
            self.world.begin(f"buy {number}", self.world.buy(process, asked, request))

    def buy_as_somebody_else(self) -> None:
        """Ask under the id of a purchase that was accepted, with other content."""
        kept = [one for one in self.world.history.asked.values() if one.was_accepted]
        if not kept:
            return
        one = self.world.dice.random.choice(kept)
        number = int(one.purchase_id.removeprefix("p"))
        wrong = attrs.evolve(_request(number, has_token=True), user_id=UserId("mallory"))
        process = self.world.dice.random.choice(self.world.processes)

        async def ask() -> None:
            answer = await self.world.ask(process, wrong)
            assert answer.code not in ("accepted", "sold-out", "limit-reached"), answer

        self.world.begin(f"buy {number} as mallory", ask())

    def ask_from_outside(self) -> None:
        """Put a request on the topic: of its own, or under an id that a buyer uses too."""
        roll = self.world.dice.random
        number = roll.choice((roll.randrange(PURCHASES), 100 + roll.randrange(6)))
        request = _request(number)
        body = self.world.codec.encode(request).body
        for _ in range(roll.choice((1, 1, 2))):
            self.world.history.put.append(
                Put(body, b"k", request.purchase_id, SALE_ID, request.user_id)
            )
            self.world.put(_message(body))

    def send_noise(self) -> None:
        """Put bytes on the topic that mean nothing, each once."""
        body = f"noise {len(self.world.history.put)}".encode()
        self.world.history.put.append(Put(body, b"k"))
        self.world.put(_message(body))

    def deliver(self) -> None:
        """Let a worker take from a partition; two may believe that it is theirs."""
        roll = self.world.dice.random
        partition = roll.choice(self.world.bus.partitions)
        process = roll.choice(self.world.processes)
        name = f"deliver {partition.channel.value} {partition.number}"
        if roll.random() < 0.8 and any(actor.name == name for actor in self.world.actors):
            return
        self.world.begin(name, self.world.deliver(process, partition))

    def relay(self) -> None:
        """Tell what waits in the outbox."""
        self.world.begin("relay", self.world.relay(self.world.dice.random.choice((1, 5))))

    def sweep(self) -> None:
        """Send the sweeper round."""
        process = self.world.dice.random.choice(self.world.processes)
        self.world.begin("sweep", self.world.sweep(process))

    def feed(self) -> None:
        """Take up parked messages."""
        process = self.world.dice.random.choice(self.world.processes)
        self.world.begin("feed", self.world.feed(process))

    def move(self) -> None:
        """Pause, resume, and seldom close."""
        roll = self.world.dice.random
        verb = roll.choice(("pause", "resume", "pause", "resume", "resume", "close"))
        if verb == "close" and roll.random() < 0.8:
            verb = "resume"
        self.world.begin(verb, self.world.move(roll.choice(self.world.processes), verb))

    def refresh(self) -> None:
        """Let a process read the list of sales."""
        process = self.world.dice.random.choice(self.world.processes)
        self.world.begin("refresh", self.world.refresh(process))

    def wait(self) -> None:
        """Let time pass: a moment, or longer than what was reserved may wait."""
        self.world.clock.ms += self.world.dice.random.choice((1, 100, 900, 5_000, 11_000))

    def land(self) -> None:
        """Let a message arrive that its sender had given up."""
        self.world.bus.land_late()

    def save(self) -> None:
        """Let the gate's disk and replica have what there is now."""
        self.world.save()

    def lose_the_gate(self) -> None:
        """Break the gate's server."""
        how = self.world.dice.random.choice(LOSSES)
        self.trace.append(f"  {how}")
        self.world.lose_the_gate(how)

    def heal(self) -> None:
        """Let a worker look after lost gates."""
        process = self.world.dice.random.choice(self.world.processes)
        self.world.begin("heal", self.world.heal(process))

    def pay(self) -> None:
        """Let a worker work payments off."""
        process = self.world.dice.random.choice(self.world.processes)
        self.world.begin("pay", self.world.pay(process))

    # ── rest ────────────────────────────────────────────────────────────────────────────────────

    def _hold_invariants(self) -> None:
        """See at every step that no more is sold than there is; the gate asserts the rest."""
        sale = self.world.sale()
        assert sale.terms.units == sale.available + sale.pending + sale.sold, sale
        assert 0 <= sale.sold <= sale.terms.units, sale

    def _come_to_rest(self) -> None:
        """End the faults, and let every loop go on until nothing waits."""
        world = self.world
        world.dice.calm()
        world.finish()
        world.history.faults.append((START_MS, world.clock.ms))
        for process in world.processes:
            world.begin("refresh", world.refresh(process))
        world.begin("heal", world.heal(world.processes[0]))
        world.finish()
        if world.sale().state is SaleState.PAUSED:
            world.begin("resume", world.move(world.processes[0], "resume"))
            world.finish()
        for number in range(ROUNDS_MAX):
            self._round(is_first=number == 0)
            if self._is_quiet():
                return
            world.clock.ms += ROUND_MS
        raise NotQuietError(f"not quiet after {ROUNDS_MAX} rounds: {self._gate_books()}")

    def _round(self, *, is_first: bool) -> None:
        world = self.world
        while world.bus.late:
            world.bus.land_late()
        for process in world.processes:
            world.begin("refresh", world.refresh(process))
        world.finish()
        if is_first:
            self._ask_again()
        for partition in world.bus.partitions:
            while partition.waiting:
                world.begin("deliver", world.deliver(world.processes[0], partition))
                world.finish()
        world.begin("heal", world.heal(world.processes[0]))
        world.finish()
        world.begin("sweep", world.sweep(world.processes[0]))
        world.begin("pay", world.pay(world.processes[1]))
        world.begin("feed", world.feed(world.processes[1]))
        world.begin("relay", world.relay(1_000))
        world.finish()

    def _ask_again(self) -> None:
        """Let half of those who know nothing ask once more; the others have gone home."""
        for asked in self.world.history.asked.values():
            told = [answer.told.value for answer in asked.answers]
            if set(told) == {"unknown"} and self.world.dice.random.random() < 0.5:
                request = _request(int(asked.purchase_id.removeprefix("p")), has_token=True)
                process = self.world.dice.random.choice(self.world.processes)
                self.world.begin("buy again", self.world.buy(process, asked, request))
        self.world.finish()

    def _is_quiet(self) -> bool:
        world = self.world
        counts = world.run(world.database.parked.counts())
        return (
            not world.bus.late
            and all(partition.waiting == 0 for partition in world.bus.partitions)
            and world.run(world.database.outbox.backlog()) == 0
            and counts[ParkedStatus.WAITING] == counts[ParkedStatus.RETRYING] == 0
            and world.run(world.database.payments.counts()).pending == 0
            and not isinstance(books := self._look(), Unavailable)
            and books.journal == 0
        )

    def _look(self) -> GateBooks | Unavailable:
        [books] = Runner()(self.world.gate.books([(SALE_ID, self.world.sale().epoch)]))
        return books

    def _gate_books(self) -> GateBooks:
        books = self._look()
        assert not isinstance(books, Unavailable), books
        return books

    def _books(self) -> Books:
        world, gate = self.world, self._gate_books()
        ledger = world.gate._ledgers[SALE_ID]
        sale = world.sale()
        return Books(
            sales=[
                SaleRow(
                    SALE_ID,
                    sale.terms.units,
                    sale.available,
                    sale.sold,
                    sale.pending,
                    sale.terms.per_user_limit,
                    sale.state.value,
                    sale.terms.unit_price_minor,
                )
            ],
            rows=[_row(order) for order in self._orders()],
            gates=[
                Gate(
                    SALE_ID,
                    gate.initial,
                    gate.available,
                    gate.reserved,
                    gate.outside,
                    gate.queued,
                    gate.sold,
                    users=tuple(ledger.users.items()),
                    records=tuple(
                        Held(one.purchase_id, one.state.value, one.user_id, one.quantity)
                        for one in ledger.records.values()
                    ),
                    journal=tuple(ledger.journal),
                )
            ],
            events=[
                Event(event.occurrence_id, event.type.value, event.sale_id, event.purchase_id)
                for event in world.bus.orders
            ],
            letters=[_letter(one) for one in self._parked()],
            copies=[(copy.message.key, copy.message.body) for copy in world.bus.copies],
            charges=[
                Charge(key, one.sale_id, one.purchase_id, one.amount_minor)
                for key, one in world.provider.charges.items()
            ]
            if world.is_paid_for
            else None,
            outbox=world.run(world.database.outbox.backlog()),
            waiting=sum(partition.waiting for partition in world.bus.partitions),
        )

    def _orders(self) -> list[Order]:
        ids = {PurchaseId(one.purchase_id) for one in self.world.history.asked.values()}
        ids |= {PurchaseId(put.purchase_id) for put in self.world.history.put if put.purchase_id}
        find = self.world.database.orders.find
        return [order for one in sorted(ids) for order in self.world.run(find(one))]

    def _parked(self) -> list[ParkedMessage]:
        """Read all parked messages; their ids count from one."""
        found: list[ParkedMessage] = []
        find, number = self.world.database.parked.find, 0
        counts = self.world.run(self.world.database.parked.counts())
        while len(found) < sum(counts.values()):
            number += 1
            one = self.world.run(find(number))
            if one is not None:
                found.append(one)
        return found


WEIGHTS: dict[Callable[[Episode], None], int] = {
    Episode.buy: 26,
    Episode.deliver: 26,
    Episode.ask_from_outside: 8,
    Episode.wait: 7,
    Episode.relay: 6,
    Episode.sweep: 6,
    Episode.feed: 6,
    Episode.land: 5,
    Episode.move: 4,
    Episode.buy_as_somebody_else: 3,
    Episode.refresh: 3,
    Episode.send_noise: 2,
    Episode.pay: 6,
    Episode.heal: 4,
    Episode.save: 2,
    Episode.lose_the_gate: 1,
}


def begin(
    seed: str,
    make_database: Callable[[WrittenClock], Database],
    run: Runner,
    commands: int = COMMANDS,
) -> Episode:
    """Make an episode of a seed: the same seed brings the same."""
    trace: list[str] = []
    dice, clock = Dice(random.Random(seed)), WrittenClock(START_MS)
    is_paid_for = dice.random.random() < PAID_SHARE
    database = make_database(clock)
    world = World(dice, clock, database, run, trace.append, is_paid_for=is_paid_for)
    return Episode(seed, commands, world, trace)


def _request(number: int, *, has_token: bool = False) -> PurchaseRequest:
    """Make the request of a number: one user and one content under one id, always.

    At the outside door there is no field for a token.
    """
    token = f"{TOKENS.get(number % 7, 'tok')}-{number}" if has_token else None
    return PurchaseRequest(
        purchase_id=PurchaseId(f"p{number}"),
        user_id=UserId(USERS[number % len(USERS)]),
        item_id=ITEM,
        quantity=1,
        requested_at_ms=START_MS,
        source=Source.WEB,
        payment_token=token,
    )


def _message(body: bytes) -> Message:
    return Message(channel=Channel.REQUESTS, body=body, key=b"k", origin="")


def _row(order: Order) -> Row:
    return Row(
        order.sale_id,
        order.purchase_id,
        order.user_id,
        order.quantity,
        order.status.value,
        order.reason,
        order.recorded_at_ms,
    )


def _letter(parked: ParkedMessage) -> Letter:
    return Letter(
        parked.status.value,
        parked.reason,
        parked.message.body,
        parked.message.key,
        parked.sale_id,
        parked.purchase_id,
        parked.holds_unit,
        parked.quantity or 1,
        is_from_outside=parked.message.channel.value == "requests",
    )
