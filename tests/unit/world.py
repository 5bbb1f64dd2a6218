"""A whole engine on memory adapters, with a clock that tests can turn."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs

from flashsale_core.board import SaleBoard
from flashsale_core.discarding import Discarder
from flashsale_core.ending import Ender
from flashsale_core.errors import StaleEpoch
from flashsale_core.events import Channel, Message, OrderEvent, ParkedMessage, PurchasesAccepted
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.handling import Handling
from flashsale_core.inquiry import Inquiry
from flashsale_core.letter_desk import LetterDesk
from flashsale_core.model import (
    Door,
    ItemId,
    Order,
    PurchaseId,
    PurchaseRequest,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.parking import Parking
from flashsale_core.ports import (
    Alarm,
    Delivery,
    GateBooks,
    PaymentGateway,
    Standing,
    Subscription,
)
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.rebuild import Rebuild
from flashsale_core.selling import SaleDesk
from flashsale_core.sweeper import Sweeper
from flashsale_core.testing.plain_codec import PlainCodec
from flashsale_core.validation import PurchaseRule, needs_token
from flashsale_memory.bus import MemoryBus
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate

START_MS = 1_800_000_000_000


@attrs.define
class TurnableClock:
    """A clock that stands still until it is turned."""

    ms: int = START_MS

    def now_ms(self) -> int:
        """Tell the turned time."""
        return self.ms

    def monotonic_ms(self) -> float:
        """Tell the same: nothing steps here."""
        return float(self.ms)


class Witness:
    """An Observer that remembers."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.alarms: list[Alarm] = []
        self.rows: list[Standing] = []
        self.payments: list[str] = []
        self.set_aside: list[ParkedMessage] = []
        self.republished_count = 0

    def answered(self, door: Door, outcome: str, purchase_id: PurchaseId | None) -> None:
        """Hear an answer."""

    def recorded(self, standings: Sequence[Standing]) -> None:
        """Remember rows."""
        self.rows.extend(standings)

    def paid(self, purchase_id: PurchaseId, came_to: str) -> None:
        """Remember what a look at a payment came to."""
        self.payments.append(came_to)

    def parked(self, message: ParkedMessage) -> None:
        """Remember a parked message."""
        self.set_aside.append(message)

    def republished(self, count: int) -> None:
        """Count."""
        self.republished_count += count

    def batch(self, stage: str, size: int, seconds: float) -> None:
        """Hear of a batch."""

    def alarm(self, alarm: Alarm, **facts: str | int) -> None:
        """Remember an alarm."""
        self.alarms.append(alarm)


class World:
    """Every use case on memory adapters, and short words for tests."""

    def __init__(
        self, rules: Sequence[PurchaseRule] = (), *, gateway: PaymentGateway | None = None
    ) -> None:
        """Wire it as the containers do; with a gateway, what has a price is paid for."""
        has_gateway = gateway is not None
        rules = (*rules, needs_token) if has_gateway else rules
        self.clock = TurnableClock()
        self.witness = Witness()
        self.codec = PlainCodec()
        self.database = MemoryDatabase(self.clock)
        self.gate = MemoryStockGate(self.clock)
        self.bus = MemoryBus(self.codec, partitions=2, publish_deadline_ms=20)
        self.doubts = self.ids = 0
        database, gate, witness = self.database, self.gate, self.witness
        self.board = SaleBoard(database.catalogue, on_doubt=self._doubt)
        self.desk = PurchaseDesk(
            board=self.board, gate=gate, bus=self.bus, clock=self.clock, rules=rules
        )
        self.fulfilment = Fulfilment(
            board=self.board,
            gate=gate,
            orders=database.orders,
            codec=self.codec,
            observer=witness,
            rules=rules,
            has_gateway=has_gateway,
        )
        self.parking = Parking(
            fulfilment=self.fulfilment,
            parked=database.parked,
            rebuilds=database.rebuilds,
            bus=self.bus,
            observer=witness,
            handling=Handling(database.notes, "this life", alone=asyncio.Lock()),
        )
        self.letters = LetterDesk(database.letters)
        self.discarder = Discarder(
            board=self.board,
            gate=gate,
            orders=database.orders,
            letters=database.letters,
            codec=self.codec,
            observer=witness,
        )
        self.ender = Ender(
            board=self.board,
            gate=gate,
            parked=database.parked,
            codec=self.codec,
            discarder=self.discarder,
        )
        self.sweeper = Sweeper(
            board=self.board,
            gate=gate,
            orders=database.orders,
            parked=database.parked,
            bus=self.bus,
            observer=witness,
            clock=self.clock,
        )
        self.selling = SaleDesk(
            board=self.board,
            catalogue=database.catalogue,
            gate=gate,
            parked=database.parked,
            clock=self.clock,
            wait=self.wait,
            has_gateway=has_gateway,
        )
        self.rebuild = Rebuild(
            board=self.board,
            catalogue=database.catalogue,
            gate=gate,
            bus=self.bus,
            rebuilds=database.rebuilds,
            observer=witness,
            clock=self.clock,
            wait=self.wait,
            new_id=self._new_id,
        )
        self.inquiry = Inquiry(
            board=self.board, gate=gate, orders=database.orders, parked=database.parked
        )

    def _doubt(self) -> None:
        self.doubts += 1

    def _new_id(self) -> str:
        self.ids += 1
        return f"rebuild-{self.ids}"

    async def wait(self, milliseconds: int) -> None:
        """Turn the clock on, and let others run."""
        self.clock.ms += milliseconds
        await asyncio.sleep(0)

    async def sell(self, item: str = "1", **terms: int) -> None:
        """Open a sale of ten units, or of other terms."""
        wanted = SaleTerms(**{"units": 10, **terms})  # type: ignore[arg-type]
        await self.selling.init(ItemId(item), wanted)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Consume both channels meanwhile."""
        channels = (Channel.ACCEPTED, Channel.REQUESTS)
        tasks = [asyncio.create_task(self._consume(channel)) for channel in channels]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _consume(self, channel: Channel) -> None:
        async with self.bus.subscribe(channel, messages_max=100) as subscription:
            while True:
                await self._deliver(subscription, await subscription.take())

    async def _deliver(self, subscription: Subscription, delivery: Delivery) -> None:
        while True:
            try:
                await self.parking.deliver(delivery.messages)
            except StaleEpoch:
                await self.board.refresh()
                await asyncio.sleep(0)
            else:
                await subscription.acknowledge(delivery)
                return

    def message(self, fact: PurchaseRequest | PurchasesAccepted | bytes, at: int = 0) -> Message:
        """Put a fact, or any bytes, into a message of the channel that carries such."""
        accepted = isinstance(fact, PurchasesAccepted)
        encoded = fact if isinstance(fact, bytes) else self.codec.encode(fact).body
        return Message(
            channel=Channel.ACCEPTED if accepted else Channel.REQUESTS,
            body=encoded,
            key=b"k",
            headers=(("h", b"v"),),
            origin=f"t:0:{at}",
        )

    async def books(self, item: str = "1") -> GateBooks:
        """Read the gate's counts of the item's sale."""
        sale = self.board.seen(ItemId(item))
        assert sale is not None
        [books] = await self.gate.books([(sale.sale_id, sale.epoch)])
        assert isinstance(books, GateBooks), books
        return books

    async def order(self, purchase: str) -> Order | None:
        """Find the row of a purchase; at most one may stand."""
        rows = await self.database.orders.find(PurchaseId(purchase))
        assert len(rows) <= 1
        return rows[0] if rows else None

    async def events(self) -> list[OrderEvent]:
        """Empty the outbox and return what was told."""
        told: list[OrderEvent] = []

        async def publish(facts: Sequence[OrderEvent]) -> None:
            told.extend(facts)

        await self.database.outbox.relay(publish, 1_000)
        return told


def request(
    purchase: str = "p1",
    user: str = "ann",
    item: str = "1",
    quantity: int = 1,
    token: str | None = None,
) -> PurchaseRequest:
    """Make a buyer's request."""
    return PurchaseRequest(
        purchase_id=PurchaseId(purchase),
        user_id=UserId(user),
        item_id=ItemId(item),
        quantity=quantity,
        requested_at_ms=START_MS,
        source=Source.WEB,
        payment_token=token,
    )
