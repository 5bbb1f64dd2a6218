"""The hexagon: what the core asks of the world.

Each docstring is the contract that the suite in `flashsale_core.testing` checks on every adapter.

Common to all: a method may raise `Unavailable` and nothing else on purpose; every effect is
idempotent by (sale, purchase id); every wait has a deadline of the adapter's own; a cancelled call
leaves the adapter usable.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

import attrs

from flashsale_core.charges import (
    Charge,
    ChargeAnswer,
    Charged,
    Declined,
    DuePayment,
    FlaggedPayment,
    LookUpAnswer,
    PaymentCounts,
)
from flashsale_core.decisions import Decision as Decision  # noqa: PLC0414 - part of the port
from flashsale_core.decisions import Settled as Settled  # noqa: PLC0414 - the same
from flashsale_core.decisions import Standing as Standing  # noqa: PLC0414 - the same
from flashsale_core.deliveries import BusFeatures as BusFeatures  # noqa: PLC0414 - part of the port
from flashsale_core.deliveries import Delivery as Delivery  # noqa: PLC0414 - the same
from flashsale_core.deliveries import Encoded as Encoded  # noqa: PLC0414 - the same
from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.events import (
    Barrier,
    Channel,
    Message,
    OrderEvent,
    ParkedMessage,
    ParkedStatus,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    ItemId,
    Order,
    PurchaseId,
    PurchaseRequest,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
)
from flashsale_core.outcomes import GateAnswer, Refused


class Clock(Protocol):
    """Time, handed in so that tests can turn it."""

    def now_ms(self) -> int:
        """Tell UTC in milliseconds since 1970."""

    def monotonic_ms(self) -> float:
        """Tell milliseconds of a clock that never steps; only differences mean anything."""


# ── the gate ────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class Claim:
    """One purchase put before the gate; `refused` is the verdict of the rules on a NEW one.

    `address` is where it came from, for counting alone: no record keeps it.
    """

    request: PurchaseRequest | PurchaseAccepted
    refused: Refused | None = None
    address: str | None = None


@attrs.frozen(kw_only=True)
class ClaimBatch:
    """Claims on one sale by one door, with the epoch that the caller believes in.

    `queued` names purchases whose message the broker has confirmed since: marks that ride along.
    """

    sale_id: SaleId
    epoch: Epoch
    door: Door
    claims: tuple[Claim, ...]
    queued: tuple[PurchaseId, ...] = ()


@attrs.frozen(kw_only=True)
class FollowBatch:
    """The rows that stand, for the gate to follow: ids to sell, and (id, reason) to release."""

    sale_id: SaleId
    epoch: Epoch
    sold: tuple[PurchaseId, ...] = ()
    released: tuple[tuple[PurchaseId, str], ...] = ()


@attrs.frozen(kw_only=True)
class GateBooks:
    """The gate's counts of one sale, in units unless named otherwise.

    Conservation: `initial = available + reserved + outside + queued + sold`.
    """

    state: SaleState
    initial: int
    available: int
    reserved: int
    outside: int
    queued: int
    sold: int
    records: int
    """How many purchases have a record."""
    users: int
    """How many users hold units; 0 where no user is limited, and so none is counted."""
    journal: int
    """How many purchases are not final."""
    oldest_due_ms: int | None = None
    """When the oldest journal entry falls due, by the gate's clock."""
    oldest_accepted_ms: int | None = None
    """When the oldest of the journal was accepted, by the gate's clock; None unless it was asked
    for. Of more than 20 entries an adapter may look at ten due first and ten due last."""


@attrs.frozen(kw_only=True)
class Overdue:
    """A journal entry past its due time; it was pushed back as it was handed out."""

    sale_id: SaleId
    record: GateRecord


@attrs.frozen(kw_only=True)
class GatePage:
    """Some records of a sale; `next_cursor` None: there are no more."""

    records: tuple[GateRecord, ...]
    next_cursor: str | None


GateReply = list[GateAnswer | Unavailable]
"""One answer a claim, in order; Unavailable(PAUSED or HALTED) where only new units are refused."""


class StockGate(Protocol):
    """Checks and takes units, atomically, for everybody at once.

    A purchase is known by (sale, purchase id) from its first reserve until the sale's books are
    dropped. Every call carries an epoch; it is refused with Unavailable(NOT_ARMED) unless that
    epoch is the one armed in the gate's volatile memory. Conservation (`GateBooks`) holds after
    every call; a gate that finds it broken halts the sale.
    """

    async def reserve(self, batches: Sequence[ClaimBatch]) -> list[GateReply | Unavailable]:
        """Judge every claim in order, a batch atomically; answer a batch each, in their order.

        Checks, in this order: armed → duplicate → paused or halted → rate limits (door HTTP, where
        the gate was given any) → sale state and time (the gate's own clock) → the rules' verdict →
        stock → per-user limit. All or nothing per claim. A taken unit stands
        RESERVED (door HTTP), OUTSIDE or QUEUED (door ACCEPTED, which also lifts R and O to Q).
        A refusal at the doors OUTSIDE and ACCEPTED burns the id (state ENDED with its reason, so
        a retry is Replayed); one at HTTP leaves no trace. Same id and other user or quantity:
        KeyReused. The batch's `queued` marks are taken even when it has no claims.

        Raises Unavailable when the gate is away; `may_have_happened` unless nothing was sent.
        """

    async def mark_queued(
        self, sale_id: SaleId, epoch: Epoch, purchase_ids: Sequence[PurchaseId]
    ) -> Unavailable | None:
        """Lift R and O to Q: the broker confirmed a message of this epoch. Others are ignored.

        Never raises; answers Unavailable when the marks may not have been taken. A lost mark
        costs one repeated publish by the sweeper and nothing else, so an adapter may also keep
        marks and send them along with a later call. Works under memory pressure.
        """

    async def follow(self, batches: Sequence[FollowBatch]) -> list[int | Unavailable]:
        """Let the gate follow the rows: sell turns R, O, Q into S; release turns them into X.

        Releasing gives the units back, to the user's limit too; the id stays burned. A release of
        an unknown id burns it. What is final already stays as it is. Answers, per batch, how many
        ids did not fit (sold while unknown or ended; released while sold): 0 when books agree.
        Works while the sale is paused, halted or closed, and under memory pressure.
        """

    async def find(
        self, sales: Sequence[tuple[SaleId, Epoch]], purchase_id: PurchaseId
    ) -> list[GateRecord | Unavailable | None]:
        """Look one purchase up in several sales in one round trip; None where it is not known."""

    async def overdue(
        self, sale_id: SaleId, epoch: Epoch, limit: int
    ) -> list[Overdue] | Unavailable:
        """Hand out at most `limit` journal entries whose due time has come, oldest first.

        Each is pushed back in the same step (R by its own delay, O and Q doubling), so that two
        sweepers do not take the same entry.
        """

    async def books(
        self, sales: Sequence[tuple[SaleId, Epoch]], *, ages: bool = False
    ) -> list[GateBooks | Unavailable]:
        """Read the counts of several sales; with `ages`, `oldest_accepted_ms` too.

        That costs as much as all the rest: who looks every second leaves it out.
        """

    async def records(
        self, sale_id: SaleId, epoch: Epoch, *, cursor: str, limit: int
    ) -> GatePage | Unavailable:
        """Read the records of a sale page by page, from the cursor "" on, about `limit` each.

        A record that is there from the first page to the last is told at least once, whatever
        else happens meanwhile; it is told as it stands when its page is read.
        """

    async def set_state(
        self, sale_id: SaleId, epoch: Epoch, state: SaleState
    ) -> Unavailable | None:
        """Follow the database's sale state. SETTLED admits nothing new, as CLOSED does."""

    async def begin_load(
        self, sale_id: SaleId, epoch: Epoch, terms: SaleTerms, state: SaleState
    ) -> str | None:
        """Drop the sale's books and open a load for `epoch`; answer the load's token.

        The sale is unarmed from here on. A later `begin_load` takes the load over: the older
        token is then refused. None, and nothing dropped, when this very epoch is armed already.
        Raises Unavailable(NOT_ARMED) when a higher epoch is armed or being loaded.
        """

    async def load(self, sale_id: SaleId, token: str, records: Sequence[GateRecord]) -> None:
        """Put a chunk of records into an open load, under the load's epoch, whatever theirs was.

        Raises Unavailable(NOT_ARMED) without the open load.
        """

    async def arm(self, sale_id: SaleId, token: str, expected: GateBooks) -> None:
        """Set `available`, compare the books with `expected`, and only then arm.

        Compares units by state, records, users and journal. Raises Unavailable(NOT_ARMED)
        without the open load, Corrupt("books-differ") on a difference; the sale stays unarmed.
        """

    async def drop(self, sale_id: SaleId) -> None:
        """Forget a settled sale, its records and its arming."""

    async def disarm(self, sales: Sequence[tuple[SaleId, Epoch]]) -> int:
        """End every life of these sales before the named epoch, armed or being loaded, for good.

        A life of that epoch or a later one goes on. Answers how many milliseconds longer than
        this server one that it replaced, or that replaces it, may still answer: what its replicas
        may lag behind; 0 without any.
        """

    async def survivors(self, sale_id: SaleId, *, skip: int, limit: int) -> list[GateRecord] | None:
        """Read on in the journal of an UNARMED sale, whatever its epoch: what stands RESERVED.

        Looks at `limit` entries after the first `skip`; None when there are no more entries.
        """

    async def adopt(self, sales: Sequence[tuple[SaleId, Epoch]]) -> list[bool]:
        """Arm what another version of the gate's functions has armed under the same epoch.

        Loads this version's functions first, where they are missing and this process may. Answers
        per sale whether it is armed now. Where nothing else could have armed a sale, none is.
        """


# ── the bus ─────────────────────────────────────────────────────────────────────────────────────


class Subscription(Protocol):
    """An open subscription of one channel: every partition in order, partitions side by side."""

    async def take(self) -> Delivery:
        """Wait for the next delivery; at most one unended delivery per partition exists at a time.

        Raises Unavailable when the broker is away; taking again later goes on.
        """

    async def acknowledge(self, delivery: Delivery) -> None:
        """End it as done. After a loss of the partition this has no effect, and does not raise."""

    async def give_back(self, delivery: Delivery) -> None:
        """End it as not done: the same messages come again, before any later ones."""

    async def lag(self) -> int | None:
        """Tell how many messages wait, where the broker can say."""

    async def expired(self) -> int | None:
        """Tell how many messages this subscription found deleted before its group had done them.

        Counted since it was opened; None where the broker deletes nothing by itself.
        """


class EventBus(Protocol):
    """Carries facts to whoever must act on them, at least once.

    `publish` returns when the broker has CONFIRMED every fact, durably. Raising Unavailable says
    nothing about any of them: with `may_have_happened` each may be there.
    """

    @property
    def features(self) -> BusFeatures:
        """Declare what differs."""

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Send one message a fact.

        PurchasesAccepted go to ACCEPTED, its partitions in turn, leaderless ones skipped; order
        events to ORDERS, keyed by purchase id.
        """

    async def copy_dead_letter(self, letter: ParkedMessage) -> None:
        """Copy bytes, key and headers untouched, with origin and reason as further headers."""

    def subscribe(
        self, channel: Channel, *, messages_max: int
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join the channel's group of consumers; leaving the context leaves the group."""

    async def barrier(self, marker: Barrier) -> int:
        """Put the marker on EVERY partition of ACCEPTED; return how many there are."""

    async def check(self) -> None:
        """Raise Unavailable unless the broker answers and the topology has the shape it must."""


Decoded = PurchaseRequest | PurchasesAccepted | Barrier | OrderEvent


class Codec(Protocol):
    """Facts to bytes and back. Decoding is total: any bytes give a value or Corrupt, never more."""

    def encode(self, fact: PurchaseRequest | PurchasesAccepted | Barrier | OrderEvent) -> Encoded:
        """Write in the configured form."""

    async def decode(self, messages: Sequence[Message]) -> list[Decoded | Corrupt]:
        """Read each; one's fault is not another's.

        Raises Unavailable(REGISTRY_AWAY) when a schema id never seen before must be asked for
        and the registry is away; known ids never need it.
        """


# ── the database ────────────────────────────────────────────────────────────────────────────────


NOTHING_PROMISED: Mapping[SaleId, Epoch] = MappingProxyType({})


class OrderRepository(Protocol):
    """Orders and stock, with the follow-up events in the same transaction."""

    async def record(
        self,
        decisions: Sequence[Decision],
        epochs: Mapping[SaleId, Epoch],
        promised: Mapping[SaleId, Epoch] = NOTHING_PROMISED,
    ) -> list[Standing]:
        """Record a batch in ONE transaction and return, a decision each, the row that stands.

        `decisions` names a purchase at most once. A purchase that has a row keeps it. A new
        CONFIRMED row takes its units from the sale (`available` → `sold`) and a new final row
        writes its event to the outbox. A new PENDING_PAYMENT row takes its units too
        (`available` → `pending`), and files a payment that is due at once instead of an event.
        Locks: orders in ascending (sale, id), outbox, sales in ascending id last.

        Commits only while every sale of `epochs` still has that epoch: the gate held the units
        under it. `promised` names sales whose gate is lost, recorded by this database alone, and
        the epoch that their messages carry: it commits new rows of such a sale only while that
        epoch = `armed_epoch` < the sale's epoch, which is so from a rebuild's first step until it
        reads the books. Else raises StaleEpoch with nothing written.

        When the database has fewer units than the gate handed out, the gate is proven wrong: what
        no longer fits stands REJECTED(GATE_DRIFT) and the sale is HALTED in the same transaction.
        REJECTED(UNKNOWN_ITEM) commits only while the item has no sale, else StaleEpoch.
        """

    async def find(
        self, purchase_id: PurchaseId, sale_ids: Sequence[SaleId] | None = None
    ) -> list[Order]:
        """Find a purchase's orders, in the named sales or in all."""

    async def standing(
        self, purchases: Sequence[tuple[SaleId, PurchaseId]]
    ) -> list[Standing | None]:
        """Say how each stands, None where there is no row."""


@attrs.frozen(kw_only=True)
class SaleBooks:
    """All that a gate is loaded from, read in one transaction, records in chunks."""

    sale: Sale
    records: tuple[GateRecord, ...]


class SaleCatalogue(Protocol):
    """The sales and their terms. One unsettled sale per item."""

    async def current(self) -> list[Sale]:
        """List the latest sale of every item."""

    async def get(self, sale_id: SaleId) -> Sale | None:
        """Read one sale."""

    async def create(self, item_id: ItemId, terms: SaleTerms) -> Sale:
        """Make the item's next sale, or return its unsettled one when the terms are the same.

        A new one has epoch 1, armed_epoch 0, state OPEN. Raises Conflict("other-terms") when the
        unsettled one has other terms. Takes the advisory lock of the item (`record`).
        """

    async def change_state(
        self, sale_id: SaleId, to: SaleState, *, expected: Sequence[SaleState]
    ) -> Sale:
        """Move a sale to another state, by a conditional update; the same state is a no-op.

        Raises Conflict("wrong-state") from a state that is not expected, Conflict("unknown-sale").
        """

    async def settled(self, *, after_ms: int, until_ms: int) -> list[SaleId]:
        """List the sales that have been SETTLED for at least `after_ms`, and not for `until_ms`."""

    async def raise_epoch(self, sale_id: SaleId) -> Sale:
        """Begin the next life of the sale's gate."""

    async def books(self, sale_id: SaleId, epoch: Epoch) -> SaleBooks:
        """Lock the sale's row, set `armed_epoch = epoch`, read it all in the same transaction.

        CONFIRMED rows come as S, REJECTED as X with their reason; PENDING_PAYMENT and parked
        messages that hold a unit as Q. Raises StaleEpoch unless `epoch` is the sale's and was
        never armed: one caller alone may load a life of the gate, and a life that sold already is
        not loaded again.
        """

    async def read_books(self, sale_id: SaleId) -> SaleBooks:
        """Read the same and change nothing: what a gate that is in step would hold, and less."""


class Rebuilds(Protocol):
    """What rebuilds of gates agree on: one at a time, and how far the barriers have come."""

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """Enter as the only rebuild, or be told False at once.

        A courtesy, not a fence: who loses the database meanwhile may no longer be alone. The
        epochs keep two rebuilds apart.
        """

    async def pass_barrier(self, rebuild_id: str, partition: int) -> None:
        """Note that all that stood before the barrier on this partition is in the database."""

    async def passed(self, rebuild_id: str) -> frozenset[int]:
        """Tell which partitions' barriers were passed."""


class Outbox(Protocol):
    """Facts written in the transaction that made them true, waiting to be told."""

    async def relay(
        self, publish: Callable[[Sequence[OrderEvent]], Awaitable[None]], limit: int
    ) -> int:
        """Claim up to `limit` facts, hand them to `publish`, delete them when it returned.

        Side by side, two relays take different facts. When `publish` raises, all stay, and it
        raises on. Returns how many were told.
        """

    async def backlog(self) -> int:
        """Count the facts that wait."""

    async def age_ms(self) -> int:
        """Tell for how long the oldest fact has waited; 0 while none does."""


class ParkedMessages(Protocol):
    """Messages that were consumed and are not done: a table, so that one can work with them."""

    async def park(self, messages: Sequence[ParkedMessage]) -> list[bool]:
        """Store each, once per origin and purchase id; answer which ones are new.

        One that says under which epoch its unit was promised holds it only while that epoch is
        not below the sale's `armed_epoch`, judged under the lock that `SaleCatalogue.books` takes:
        a life that was loaded without it may have sold the unit.
        """

    async def claim_due(self, limit: int, lease_ms: int) -> list[ParkedMessage]:
        """Take due WAITING and RETRYING messages; nobody else gets them for `lease_ms`."""

    async def resolve(
        self, parked_id: int, status: ParkedStatus, *, reason: str = "", retry_in_ms: int = 0
    ) -> None:
        """Say what became of a claimed one: REPLAYED ends it, WAITING and RETRYING try again later.

        RETRYING counts an attempt; WAITING does not.
        """

    async def counts(self) -> Mapping[ParkedStatus, int]:
        """Count by status."""

    async def of_purchases(self, purchase_ids: Sequence[PurchaseId]) -> list[ParkedMessage]:
        """Find what is parked (WAITING, RETRYING, DEAD) of these purchases."""

    async def holding(self, sale_id: SaleId) -> int:
        """Count the parked messages of a sale that hold a unit or wait for one."""

    async def dead(self, limit: int, *, before: int | None = None) -> list[ParkedMessage]:
        """List DEAD messages, the newest first; `before` goes on below that id."""

    async def find(self, parked_id: int) -> ParkedMessage | None:
        """Find one by its id, whatever became of it."""


# ── money ───────────────────────────────────────────────────────────────────────────────────────


class PaymentGateway(Protocol):
    """Charges a buyer, at most once per key however often it is asked.

    Both raise Unavailable(PAYMENT_AWAY) within the adapter's deadline, with `may_have_happened`
    unless nothing was sent: the outcome is then unknown. Both raise Corrupt when the gateway
    refuses the question itself, which only a person can mend. No error holds the payment token.
    """

    async def charge(self, charge: Charge) -> ChargeAnswer:
        """Charge, or say how the charge of this key stands since it was first asked."""

    async def look_up(self, key: str) -> LookUpAnswer:
        """Say how the charge of a key stands, and charge nothing."""


class Payments(Protocol):
    """The charges of PENDING_PAYMENT rows, worked off by leases and kept until they are final.

    `settle`, `postpone` and `flag` store only while the payment is pending and `due`'s lease is
    the latest and has not ended; else nothing is stored, and they answer None or False.
    """

    async def claim_due(self, limit: int, lease_ms: int) -> list[DuePayment]:
        """Take due payments, the oldest first; nobody else gets them for `lease_ms`.

        The first claim of a payment starts the time in which it may be charged.
        """

    async def settle(self, due: DuePayment, end: Charged | Declined) -> Settled | None:
        """End it in ONE transaction: row, event and units, and the payment token is erased.

        Charged: CONFIRMED, `pending` → `sold`, OrderCreated. Declined: REJECTED
        (PAYMENT_DECLINED), `pending` → `available`, PurchaseRejected.
        """

    async def postpone(self, due: DuePayment, retry_in_ms: int, detail: str) -> bool:
        """Give it back, due again after `retry_in_ms`; `detail` is for a person."""

    async def flag(self, due: DuePayment, detail: str) -> bool:
        """Leave it to a person: it stays pending, holds its units, and is claimed no more."""

    async def flagged(self, limit: int) -> list[FlaggedPayment]:
        """List what waits for a person, the oldest first."""

    async def resume(self, sale_id: SaleId, purchase_id: PurchaseId) -> bool:
        """Make a flagged payment due at once, to be looked up again; False if it is none."""

    async def counts(self) -> PaymentCounts:
        """Count what is not final."""


# ── watching ────────────────────────────────────────────────────────────────────────────────────


class Alarm(StrEnum):
    """What a person must look at."""

    GATE_DRIFT = "gate-drift"
    GATE_MISFIT = "gate-misfit"
    KEY_REUSED_ON_ACCEPTED = "key-reused-on-accepted"
    UNIT_PARKED = "unit-parked"
    OUTSIDE_OVERDUE = "outside-overdue"
    SWEEP_FAILED = "sweep-failed"
    PAYMENT_FLAGGED = "payment-flagged"
    DEPENDENCY_DOWN = "dependency-down"
    REBUILD_WAITS = "rebuild-waits"
    REBUILD_FAILED = "rebuild-failed"
    BOOKS_DRIFT = "books-drift"


class Observer(Protocol):
    """Told what happened, for metrics and logs. Must be cheap and never raise."""

    def answered(self, door: Door, outcome: str, purchase_id: PurchaseId | None) -> None:
        """Hear that one purchase got one answer (`accepted`, `sold-out`, …)."""

    def recorded(self, standings: Sequence[Standing]) -> None:
        """Hear that new rows stand, or that those which were pending are final: a batch at once."""

    def paid(self, purchase_id: PurchaseId, came_to: str) -> None:
        """Hear what one look at a payment came to (`charged`, `unknown`, …)."""

    def parked(self, message: ParkedMessage) -> None:
        """Hear that a message was set aside."""

    def republished(self, count: int) -> None:
        """Hear that the sweeper published overdue purchases again."""

    def batch(self, stage: str, size: int, seconds: float) -> None:
        """Hear that one batch went through a stage (`fulfil`, `relay`, …)."""

    def alarm(self, alarm: Alarm, **facts: str | int) -> None:
        """Hear of something that a person must look at."""
