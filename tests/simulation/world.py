"""Two APIs and two workers in a simulated world, and the short words for what they do."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs

from flashsale_core.board import SaleBoard
from flashsale_core.errors import Conflict, StaleEpoch, Unavailable, Why
from flashsale_core.events import Channel, Message, OrderEvent
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.handling import Handling
from flashsale_core.model import ItemId, PurchaseRequest, PurchaseState, Sale, SaleId, SaleTerms
from flashsale_core.opening import Database
from flashsale_core.outcomes import Accepted, OutcomeUnknown
from flashsale_core.parking import Parking
from flashsale_core.payment import Cashier, PaymentWaits
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.rebuild import Rebuild
from flashsale_core.selling import SaleDesk
from flashsale_core.sweeper import Sweeper
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_core.validation import needs_token
from flashsale_memory.gate import MemoryStockGate
from flashsale_memory.payment_gateway import MemoryPaymentGateway
from tests.faults.history import Answer, Asked, History, Told
from tests.simulation.bus import Partition, SimulatedBus
from tests.simulation.chance import Chancy, ChancyRebuilds, Crash, Dice, Runner, WrittenClock, turn

ITEM = ItemId("1")
SALE_ID = SaleId("1.1")
PROCESSES = 2
WAITS = PaymentWaits(deadline_ms=1_000, lease_ms=3_000, retry_initial_ms=100, retry_max_ms=1_000)
QUEUED_DUE_MS = 20_000
"""Ten minutes as a rule; short here, as quiet is waited for in steps of two seconds."""
PATIENCE_TURNS = 12
"""So many turns of others go by while somebody waits; then the time is over."""
DELIVERY_MAX = 3
"""Small deliveries: more of them, so more that can go wrong between two."""


class Silent:
    """An Observer that hears nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        """Answer what does nothing."""
        return _nothing


def _nothing(*_: Any, **__: Any) -> None:
    return


@attrs.frozen
class Server:
    """What one server of the gate has: its keys, and what its functions remember."""

    keys: tuple[dict[Any, Any], ...]
    memory: tuple[dict[Any, Any], ...]


@attrs.frozen
class Actor:
    """Something under way: one request, one delivery, one round of a loop."""

    name: str
    work: Coroutine[Any, Any, None]


@attrs.define(eq=False)
class Process:
    """What one process of the engine is made of; it has a list of sales of its own."""

    board: SaleBoard
    desk: PurchaseDesk
    parking: Parking
    sweeper: Sweeper
    selling: SaleDesk
    rebuild: Rebuild
    cashier: Cashier


class World:
    """Everything, with one gate, one broker and one database that all processes share."""

    def __init__(
        self,
        dice: Dice,
        clock: WrittenClock,
        database: Database,
        run: Runner,
        trace: Callable[[str], None],
        *,
        is_paid_for: bool = False,
    ) -> None:
        """Wire it as the containers do, with every port held at arm's length."""
        self.is_paid_for = is_paid_for
        self.rebuilds = 0
        self.dice, self.clock, self.database, self.run, self.trace = (
            *(dice, clock, database),
            *(run, trace),
        )
        self.history = History()
        self.codec = PlainCodec()
        self.gate = MemoryStockGate(clock, queued_due_ms=QUEUED_DUE_MS)
        self.bus = SimulatedBus(dice, self.codec)
        self.actors: list[Actor] = []
        self.slices = 0
        at_hand = Runner()
        self._gate = Chancy(self.gate, Why.GATE_AWAY, dice, at_hand, trace)
        self.provider = MemoryPaymentGateway()
        self._provider = Chancy(self.provider, Why.PAYMENT_AWAY, dice, at_hand, trace)
        self._rebuilds = ChancyRebuilds(database.rebuilds, Why.DATABASE_AWAY, dice, run, trace)
        self._seen: list[tuple[dict[Any, Any], ...]] = []
        self._old_primary: Server | None = None
        self._ports = {
            name: Chancy(getattr(database, name), Why.DATABASE_AWAY, dice, run, trace)
            for name in ("orders", "catalogue", "outbox", "parked", "payments", "notes")
        }
        self.processes = [self._process() for _ in range(PROCESSES)]

    def _process(self) -> Process:
        bus: Any = self.bus
        gate, observer = self._gate, Silent()
        orders, parked = self._ports["orders"], self._ports["parked"]
        rules = (needs_token,) if self.is_paid_for else ()
        board = SaleBoard(self._ports["catalogue"])
        fulfilment = Fulfilment(
            board=board,
            gate=gate,
            orders=orders,
            codec=self.codec,
            observer=observer,
            rules=rules,
            has_gateway=self.is_paid_for,
        )
        return Process(
            board=board,
            desk=PurchaseDesk(board=board, gate=gate, bus=bus, clock=self.clock, rules=rules),
            parking=Parking(
                fulfilment=fulfilment,
                parked=parked,
                rebuilds=self._rebuilds,
                bus=bus,
                observer=observer,
                handling=Handling(self._ports["notes"], "this life", alone=asyncio.Lock()),
            ),
            sweeper=Sweeper(
                board=board,
                gate=gate,
                orders=orders,
                parked=parked,
                bus=bus,
                observer=observer,
                clock=self.clock,
            ),
            selling=SaleDesk(
                board=board,
                catalogue=self._ports["catalogue"],
                gate=gate,
                parked=parked,
                clock=self.clock,
                wait=self._wait,
            ),
            rebuild=Rebuild(
                board=board,
                catalogue=self._ports["catalogue"],
                gate=gate,
                bus=bus,
                rebuilds=self._rebuilds,
                observer=observer,
                clock=self.clock,
                wait=self._wait,
                new_id=self._new_rebuild,
            ),
            cashier=Cashier(
                payments=self._ports["payments"],
                gateway=self._provider,
                gate=gate,
                observer=observer,
                clock=self.clock,
                waits=WAITS,
                chance=self.dice.random.random,
            ),
        )

    def _new_rebuild(self) -> str:
        self.rebuilds += 1
        return f"rebuild-{self.rebuilds}"

    async def _wait(self, milliseconds: int) -> None:
        """Let others go on for a while, or until the time is over."""
        until_ms = self.clock.ms + milliseconds
        for _ in range(PATIENCE_TURNS):
            await turn()
            if self.clock.ms >= until_ms:
                return
        self.clock.ms = max(self.clock.ms, until_ms)

    def open(self, terms: SaleTerms) -> None:
        """Open the sale before anything breaks, and let every process see it."""
        selling = SaleDesk(
            board=SaleBoard(self.database.catalogue),
            catalogue=self.database.catalogue,
            gate=self.gate,
            parked=self.database.parked,
            clock=self.clock,
            wait=self._wait,
            has_gateway=self.is_paid_for,
        )
        self.run(selling.init(ITEM, terms))
        self.see_sales()

    # ── the gate's server ───────────────────────────────────────────────────────────────────────

    def _server(self) -> Server:
        gate = self.gate
        return Server((gate._ledgers, gate._ended), (gate._armed, gate._loading))

    def _become(self, server: Server) -> None:
        gate = self.gate
        gate._ledgers, gate._ended = server.keys
        gate._armed, gate._loading = server.memory

    def save(self) -> None:
        """Let what the keys hold now be what a disk, or a replica, has of them later."""
        self._seen = [*self._seen[-2:], copy.deepcopy(self._server().keys)]

    def lose_the_gate(self, how: str) -> None:
        """Let the gate's server be emptied, restarted, cut back, failed over, or come back."""
        for ledger in self.gate._ledgers.values():
            units = ledger.units
            self.history.freed += units[PurchaseState.RESERVED] + units[PurchaseState.OUTSIDE]
        # Whoever is under way may have been told nothing yet of the unit that it holds.
        self.history.freed += len(self.actors)
        now = self._server()
        old = copy.deepcopy(self.dice.random.choice(self._seen)) if self._seen else now.keys
        match how:
            case "flushall":
                self._become(Server(({}, {}), now.memory))
            case "restart":
                self._become(Server(now.keys, ({}, {})))
            case "lost tail":
                self._become(Server(old, ({}, {})))
            case "failover":
                self._old_primary = now
                self._become(Server(old, ({}, {})))
            case "old primary":
                if self._old_primary is not None:
                    self._become(self._old_primary)
            case _:
                raise AssertionError(how)

    async def heal(self, process: Process) -> None:
        """Look after lost gates, as a worker's loop does."""
        await process.rebuild.heal()

    def see_sales(self) -> None:
        """Let every process see the list of sales."""
        for process in self.processes:
            process.board.replace(self.run(self.database.catalogue.current()))

    def sale(self) -> Sale:
        """Read the sale as the database has it."""
        sale = self.run(self.database.catalogue.get(SALE_ID))
        assert sale is not None
        return sale

    # ── actors ──────────────────────────────────────────────────────────────────────────────────

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Put something under way; it does nothing yet."""
        self.trace(f"begin {name}")
        self.actors.append(Actor(name, work))

    def go_on(self) -> None:
        """Let one of those under way go on to its next call of a port."""
        if not self.actors:
            return
        at = self.dice.random.randrange(len(self.actors))
        actor = self.actors[at]
        self.slices += 1
        self.trace(f"  {actor.name}")
        try:
            actor.work.send(None)
        except StopIteration:
            self.actors.pop(at)
        except Crash:
            self.trace(f"  {actor.name} is gone")
            self.actors.pop(at)
        except (Unavailable, StaleEpoch, Conflict) as away:
            # Its loop would begin again; here whatever is due is begun by the world.
            self.trace(f"  {actor.name}: {away}")
            self.actors.pop(at)

    def close(self) -> None:
        """Let all that is under way die where it stands."""
        for actor in self.actors:
            actor.work.close()
        self.actors.clear()

    def finish(self) -> None:
        """Let all that is under way come to its end."""
        while self.actors:
            if all(actor.name == "heal" for actor in self.actors):
                # A rebuild waits until the workers have taken what waits.
                for partition in self.bus.partitions:
                    if partition.channel is Channel.ACCEPTED and partition.waiting:
                        self.begin("drain", self.deliver(self.processes[0], partition))
            self.go_on()

    async def pay(self, process: Process) -> None:
        """Work payments off."""
        for held in await process.cashier.claim(2):
            await process.cashier.handle(held)

    async def buy(self, process: Process, asked: Asked, request: PurchaseRequest) -> None:
        """Ask over HTTP once, and note what was told; a crash tells nothing."""
        nothing, was_promised = Answer(Told.UNKNOWN, "none", self.clock.ms), asked.was_accepted
        asked.answers.append(nothing)
        answer = await self.ask(process, request)
        answer = attrs.evolve(answer, at_ms=self.clock.ms)
        place(asked.answers, nothing, answer, was_promised=was_promised)

    async def ask(self, process: Process, request: PurchaseRequest) -> Answer:
        """Ask over HTTP once."""
        try:
            answer = await process.desk.buy(request)
        except Unavailable as away:
            return Answer(Told.UNKNOWN, away.why.value, 0)
        if isinstance(answer, Accepted):
            return Answer(Told.OK, "accepted", 0)
        if isinstance(answer, OutcomeUnknown):
            return Answer(Told.UNKNOWN, "outcome-unknown", 0)
        return Answer(Told.REFUSED, _CODES.get(type(answer).__name__, type(answer).__name__), 0)

    async def deliver(self, process: Process, partition: Partition) -> None:
        """Take what is next in a partition, as a worker that owns it, or believes so."""
        first = partition.done
        taken = partition.messages[first : first + DELIVERY_MAX]
        if taken:
            await process.parking.deliver(taken)
            partition.done = max(partition.done, first + len(taken))

    async def relay(self, limit: int) -> None:
        """Tell what waits in the outbox."""

        async def publish(facts: Sequence[OrderEvent]) -> None:
            self.bus.publish_now(facts)

        await self._ports["outbox"].relay(publish, limit)

    async def sweep(self, process: Process) -> None:
        """Go round as the sweeper does."""
        await process.sweeper.sweep()
        await process.sweeper.align()

    async def feed(self, process: Process) -> None:
        """Take up parked messages."""
        await process.parking.feed()

    async def move(self, process: Process, verb: str) -> None:
        """Pause, resume or close the sale."""
        await getattr(process.selling, verb)(SALE_ID)

    async def refresh(self, process: Process) -> None:
        """Read the list of sales again."""
        await process.board.refresh()

    def put(self, message: Message) -> None:
        """Let another service write to the outside door."""
        self.bus.requests.put(message)


def place(answers: list[Answer], nothing: Answer, answer: Answer, *, was_promised: bool) -> None:
    """Put an answer where nothing was told yet; attempts stand in the order of their asking.

    A no takes a promise back only if it was asked for after the promise was told. Attempts overlap
    here, so a no that was asked for before stands before the promise.
    """
    at = next(at for at, one in enumerate(answers) if one is nothing)
    del answers[at]
    if answer.told is Told.OK:
        noes = [index for index, one in enumerate(answers) if one.told is Told.REFUSED]
        at = max([at, *(index + 1 for index in noes)])
    elif answer.told is Told.REFUSED and not was_promised:
        at = min([at, *(index for index, one in enumerate(answers) if one.told is Told.OK)])
    answers.insert(at, answer)


_CODES = {"SoldOut": "sold-out", "LimitReached": "limit-reached", "Closed": "closed"}
