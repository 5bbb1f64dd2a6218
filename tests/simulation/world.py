"""Two APIs and two workers in a simulated world, and the short words for what they do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs

from flashsale_core.arming import rebuild_stopped
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Conflict, StaleEpoch, Unavailable, Why
from flashsale_core.events import Channel, Message, OrderEvent
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.handling import Handling
from flashsale_core.model import ItemId, PurchaseRequest, PurchaseState, Sale, SaleId, SaleTerms
from flashsale_core.opening import Database
from flashsale_core.outcomes import Accepted, OutcomeUnknown
from flashsale_core.parking import Parking
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.selling import SaleDesk
from flashsale_core.sweeper import Sweeper
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_memory.gate import MemoryStockGate
from tests.faults.history import Answer, Asked, History, Told
from tests.simulation.bus import Partition, SimulatedBus
from tests.simulation.chance import Chancy, Crash, Dice, Runner, WrittenClock

ITEM = ItemId("1")
SALE_ID = SaleId("1.1")
PROCESSES = 2
DELIVERY_MAX = 3
"""Small deliveries: more of them, so more that can go wrong between two."""


class Silent:
    """An Observer that hears nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        """Answer what does nothing."""
        return _nothing


def _nothing(*_: Any, **__: Any) -> None:
    return


async def _at_once(_: int) -> None:
    """Wait no time: it is simulated, and turned elsewhere."""


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


class World:
    """Everything, with one gate, one broker and one database that all processes share."""

    def __init__(
        self,
        dice: Dice,
        clock: WrittenClock,
        database: Database,
        run: Runner,
        trace: Callable[[str], None],
    ) -> None:
        """Wire it as the containers do, with every port held at arm's length."""
        self.dice, self.clock, self.database, self.run, self.trace = (
            *(dice, clock, database),
            *(run, trace),
        )
        self.history = History()
        self.codec = PlainCodec()
        self.gate = MemoryStockGate(clock)
        self.bus = SimulatedBus(dice, self.codec)
        self.actors: list[Actor] = []
        self.slices = 0
        at_hand = Runner()
        self._gate = Chancy(self.gate, Why.GATE_AWAY, dice, at_hand, trace)
        self._ports = {
            name: Chancy(getattr(database, name), Why.DATABASE_AWAY, dice, run, trace)
            for name in ("orders", "catalogue", "outbox", "parked")
        }
        self.processes = [self._process() for _ in range(PROCESSES)]

    def _process(self) -> Process:
        bus: Any = self.bus
        gate, observer = self._gate, Silent()
        orders, parked = self._ports["orders"], self._ports["parked"]
        board = SaleBoard(self._ports["catalogue"])
        fulfilment = Fulfilment(
            board=board, gate=gate, orders=orders, codec=self.codec, observer=observer
        )
        return Process(
            board=board,
            desk=PurchaseDesk(board=board, gate=gate, bus=bus, clock=self.clock),
            parking=Parking(
                fulfilment=fulfilment,
                parked=parked,
                rebuilds=self.database.rebuilds,
                bus=bus,
                observer=observer,
                handling=Handling(self.database.notes, "this life"),
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
                wait=_at_once,
            ),
        )

    def open(self, terms: SaleTerms) -> None:
        """Open the sale before anything breaks, and let every process see it."""
        selling = SaleDesk(
            board=SaleBoard(self.database.catalogue),
            catalogue=self.database.catalogue,
            gate=self.gate,
            parked=self.database.parked,
            clock=self.clock,
            wait=_at_once,
        )
        self.run(selling.init(ITEM, terms))
        self.see_sales()

    def lose_the_gate(self) -> None:
        """Empty the gate while every process dies; begin its next life as an operator does.

        Until then the workers record what was promised by the database alone.
        """
        self.close()
        for ledger in self.gate._ledgers.values():
            units = ledger.units
            self.history.freed += units[PurchaseState.RESERVED] + units[PurchaseState.OUTSIDE]
        for forgotten in (self.gate._ledgers, self.gate._armed, self.gate._loading):
            forgotten.clear()
        cruelty = self.dice.crash, self.dice.away, self.dice.lost
        self.dice.calm()
        self.run(self.database.catalogue.raise_epoch(SALE_ID))
        self.see_sales()
        for partition in self.bus.partitions:
            while partition.channel is Channel.ACCEPTED and partition.waiting:
                self.begin("drain", self.deliver(self.processes[0], partition))
                self.finish()
        self.run(rebuild_stopped(self.database.catalogue, self.gate, SALE_ID))
        self.see_sales()
        self.dice.crash, self.dice.away, self.dice.lost = cruelty

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
            self.go_on()

    async def buy(self, process: Process, asked: Asked, request: PurchaseRequest) -> None:
        """Ask over HTTP once, and note what was told; a crash tells nothing."""
        at = len(asked.answers)
        asked.answers.append(Answer(Told.UNKNOWN, "none", self.clock.ms))
        answer = await self.ask(process, request)
        asked.answers[at] = attrs.evolve(answer, at_ms=self.clock.ms)

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


_CODES = {"SoldOut": "sold-out", "LimitReached": "limit-reached", "Closed": "closed"}
