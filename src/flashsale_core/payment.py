"""Payment: what the gate accepted is charged, and becomes an order or goes back on sale.

Driven from rows, not from the bus. The row stands PENDING_PAYMENT before the gateway is asked, the
call is outside any transaction, and its result is stored only while the row is pending and the
lease is ours. Whatever is unknown is looked up and asked again under the SAME key: never charged
twice, and never released while unknown.
"""

from collections.abc import Callable
from typing import assert_never

import attrs

from flashsale_core.charges import (
    Charged,
    Declined,
    DuePayment,
    InProgress,
    LookUpAnswer,
    NeverHeard,
)
from flashsale_core.errors import Corrupt, Unavailable
from flashsale_core.fulfilment import follow_batch
from flashsale_core.ports import (
    Alarm,
    Clock,
    Observer,
    PaymentGateway,
    Payments,
    StockGate,
)
from flashsale_core.validation import TOKEN_MISSING

CHARGE_WINDOW_MS = 20 * 3_600_000
"""No charge is asked later than this after the first time. Payment providers keep an idempotency
key for 24 hours, some no longer; a key that was forgotten would charge again."""


@attrs.frozen(kw_only=True)
class PaymentWaits:
    """How long a payment is held, and when it is asked again; in milliseconds."""

    deadline_ms: int
    """What one call of the gateway may take."""
    lease_ms: int
    """How long a claim holds; a claim makes at most two calls, so more than two deadlines."""
    retry_initial_ms: int
    retry_max_ms: int

    def __attrs_post_init__(self) -> None:
        """Refuse a lease that may end during a call: two workers would then call at once."""
        if self.lease_ms <= 2 * self.deadline_ms:
            raise ValueError("a lease must be longer than two deadlines")


@attrs.frozen(kw_only=True)
class Held:
    """A payment in hand, and when (before the claim was sent) its lease can have begun."""

    due: DuePayment
    since_ms: float
    """Of the monotonic clock."""
    since_wall_ms: int
    """Of the wall clock, which goes on while a machine sleeps."""


class Cashier:
    """Charges what is due. Any number of cashiers may work side by side."""

    def __init__(
        self,
        *,
        payments: Payments,
        gateway: PaymentGateway,
        gate: StockGate,
        observer: Observer,
        clock: Clock,
        waits: PaymentWaits,
        chance: Callable[[], float],
    ) -> None:
        """Take the ports; `chance` (0 to 1) spreads what failed together."""
        self._payments = payments
        self._gateway = gateway
        self._gate = gate
        self._observer = observer
        self._clock = clock
        self._waits = waits
        self._chance = chance

    async def claim(self, limit: int) -> list[Held]:
        """Take due payments into hand. Raises Unavailable while the database is away."""
        since_ms, since_wall_ms = self._clock.monotonic_ms(), self._clock.now_ms()
        claimed = await self._payments.claim_due(limit, self._waits.lease_ms)
        return [Held(due=due, since_ms=since_ms, since_wall_ms=since_wall_ms) for due in claimed]

    async def handle(self, held: Held) -> None:
        """Ask the gateway about one payment and store what it says.

        Raises Unavailable when it could not be stored: its lease ends, and the gateway is asked
        again. A worker that lost its lease stores nothing.
        """
        try:
            answer = await self._ask(held)
        except Unavailable as away:
            await self._later(held, "unknown" if away.may_have_happened else "away", str(away))
            return
        except Corrupt as wrong:
            await self._flag(held, str(wrong))
            return
        match answer:
            case None:
                self._observer.paid(held.due.charge.purchase_id, "abandoned")
            case Charged() | Declined():
                await self._end(held, answer)
            case InProgress():
                await self._later(held, "in-progress", "the gateway has it in hand")
            case NeverHeard():
                hours = CHARGE_WINDOW_MS // 3_600_000
                await self._flag(held, f"not charged, and first asked over {hours} hours ago")
            case _:
                assert_never(answer)

    async def _ask(self, held: Held) -> LookUpAnswer | None:
        """Ask once; None when too little of the lease is left for a call that charges."""
        due, charge = held.due, held.due.charge
        if due.attempt > 1:
            known = await self._gateway.look_up(charge.key)
            if not isinstance(known, NeverHeard):
                return known
        if due.asked_for_ms + self._held_for_ms(held) >= CHARGE_WINDOW_MS:
            return NeverHeard()
        if charge.payment_token is None:
            raise Corrupt(TOKEN_MISSING, "it was promised before the sale took payment")
        if self._held_for_ms(held) + self._waits.deadline_ms >= self._waits.lease_ms:
            return None
        return await self._gateway.charge(charge)

    def _held_for_ms(self, held: Held) -> float:
        by_wall_ms = self._clock.now_ms() - held.since_wall_ms
        return max(self._clock.monotonic_ms() - held.since_ms, by_wall_ms)

    async def _end(self, held: Held, end: Charged | Declined) -> None:
        """Store the end; then, and only then, let the gate follow the row."""
        settled = await self._payments.settle(held.due, end)
        if settled is None:
            self._observer.paid(held.due.charge.purchase_id, "lease-lost")
            return
        standing = attrs.evolve(settled.standing, traceparent=held.due.traceparent)
        self._observer.paid(
            standing.purchase_id, "charged" if isinstance(end, Charged) else "declined"
        )
        self._observer.recorded([standing])
        batch = follow_batch(standing.sale_id, settled.epoch, [standing])
        try:
            [misfits] = await self._gate.follow([batch])
        except Unavailable:
            return  # The row stands; the sweeper lets the gate follow it when it is overdue.
        if isinstance(misfits, Unavailable):
            return  # Unarmed: a rebuild reads the row.
        if misfits:
            self._observer.alarm(
                Alarm.GATE_MISFIT, sale_id=standing.sale_id, purchase_id=standing.purchase_id
            )

    async def _later(self, held: Held, came_to: str, detail: str) -> None:
        retries = min(held.due.attempt - 1, 32)
        bound_ms = min(self._waits.retry_max_ms, self._waits.retry_initial_ms << retries)
        # Half of it at least: what failed together must spread, and not come back at once.
        retry_in_ms = int(bound_ms * (1 + self._chance()) / 2)
        is_stored = await self._payments.postpone(held.due, retry_in_ms, detail)
        self._observer.paid(held.due.charge.purchase_id, came_to if is_stored else "lease-lost")

    async def _flag(self, held: Held, detail: str) -> None:
        charge = held.due.charge
        if not await self._payments.flag(held.due, detail):
            self._observer.paid(charge.purchase_id, "lease-lost")
            return
        self._observer.paid(charge.purchase_id, "flagged")
        self._observer.alarm(
            Alarm.PAYMENT_FLAGGED,
            sale_id=charge.sale_id,
            purchase_id=charge.purchase_id,
            detail=detail,
        )
