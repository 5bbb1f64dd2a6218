"""Reads what no event tells: books, lags, counts, backlogs. A loop calls it every few seconds."""

from collections.abc import Mapping
from math import nan

from flashsale_core.board import SaleBoard
from flashsale_core.errors import Unavailable
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.letters import DeadLetters, Wanted
from flashsale_core.model import Sale, SaleState
from flashsale_core.ports import (
    Clock,
    GateBooks,
    Outbox,
    ParkedMessages,
    Payments,
    StockGate,
    Subscription,
)
from flashsale_prometheus.metrics import Metrics

SALES_SAMPLED_MAX = 100
"""Sales whose books are shown. Each costs a dozen series, and `flashsale_sales` shows them all."""
_FIRST = (SaleState.HALTED, SaleState.OPEN, SaleState.PAUSED, SaleState.CLOSED, SaleState.SETTLED)
"""Whose books are shown where there are too many: sales in trouble, then those that sell."""
_UNITS = ("available", "reserved", "outside", "queued", "sold")


_HOLDING = Wanted(statuses=(ParkedStatus.DEAD,), holds_unit=True)
"""What a person must end or send on: a buyer waits, and nobody else gets the unit."""


class Sampler:
    """Turns what the ports can be asked into gauges; one source away leaves the others fresh."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        board: SaleBoard,
        gate: StockGate,
        clock: Clock,
        parked: ParkedMessages | None = None,
        letters: DeadLetters | None = None,
        outbox: Outbox | None = None,
        payments: Payments | None = None,
        subscriptions: Mapping[Channel, Subscription] | None = None,
    ) -> None:
        """Take what this process has; `subscriptions` may be filled and emptied while it runs."""
        self._metrics = metrics
        self._board = board
        self._gate = gate
        self._clock = clock
        self._parked = parked
        self._letters = letters
        self._outbox = outbox
        self._payments = payments
        self._subscriptions = {} if subscriptions is None else subscriptions
        self._shown: set[str] = set()

    async def sample(self) -> None:
        """Read everything once; never raises for a dependency that is away."""
        await self._sample_gate()
        await self._sample_database()
        await self._sample_bus()

    async def _sample_gate(self) -> None:
        sales = self._board.unsettled()
        self._metrics.sales.set(len(sales))
        sales = sorted(sales, key=lambda sale: _FIRST.index(sale.state))[:SALES_SAMPLED_MAX]
        self._forget(self._shown - {sale.sale_id for sale in sales})
        self._shown = {sale.sale_id for sale in sales}
        for sale in sales:
            self._metrics.sale_epoch.labels(sale.sale_id).set(sale.epoch)
        try:
            wanted = [(sale.sale_id, sale.epoch) for sale in sales]
            books = await self._gate.books(wanted, ages=True)
        except Unavailable as away:
            books = [away] * len(sales)
            self._metrics.dependency("gate", is_up=False)
        else:
            self._seen("gate")
        for sale, one in zip(sales, books, strict=True):
            self._show(sale, None if isinstance(one, Unavailable) else one)

    def _show(self, sale: Sale, books: GateBooks | None) -> None:
        """Show a sale; where the gate does not answer for it, its counts vanish and do not lie."""
        metrics, of = self._metrics, sale.sale_id
        metrics.sale_armed.labels(of).set(books is not None)
        current = sale.state if books is None else books.state
        for state in SaleState:
            metrics.sale_state.labels(of, state.value).set(state is current)
        if books is None:
            self._forget_counts(of)
            return
        for standing in _UNITS:
            metrics.stock.labels(of, standing).set(getattr(books, standing))
        metrics.journal.labels(of).set(books.journal)
        metrics.journal_overdue.labels(of).set(self._seconds_since(books.oldest_due_ms))
        metrics.journal_age.labels(of).set(self._seconds_since(books.oldest_accepted_ms))

    def _seconds_since(self, moment_ms: int | None) -> float:
        return 0.0 if moment_ms is None else max(0, self._clock.now_ms() - moment_ms) / 1_000

    def _forget(self, gone: set[str]) -> None:
        for of in gone:
            self._forget_counts(of)
            self._metrics.sale_armed.remove(of)
            self._metrics.sale_epoch.remove(of)
            self._metrics.sale_state.remove_by_labels({"sale": of})

    def _forget_counts(self, of: str) -> None:
        metrics = self._metrics
        counts = (metrics.stock, metrics.journal, metrics.journal_overdue, metrics.journal_age)
        for gauge in counts:
            gauge.remove_by_labels({"sale": of})

    async def _sample_database(self) -> None:
        if self._parked is None and self._outbox is None and self._payments is None:
            return
        try:
            if self._parked is not None:
                counts = await self._parked.counts()
                for status in ParkedStatus:
                    self._metrics.parked.labels(status.value).set(counts.get(status, 0))
            if self._letters is not None:
                self._metrics.letters_holding.set(await self._letters.count(_HOLDING))
            if self._outbox is not None:
                self._metrics.outbox.set(await self._outbox.backlog())
                self._metrics.outbox_age.set(await self._outbox.age_ms() / 1_000)
            if self._payments is not None:
                payments = await self._payments.counts()
                self._metrics.payments_open.labels("pending").set(payments.pending)
                self._metrics.payments_open.labels("flagged").set(payments.flagged)
                self._metrics.payments_age.set(payments.oldest_ms / 1_000)
        except Unavailable:
            self._metrics.dependency("database", is_up=False)
            self._metrics.parked.clear()
            self._metrics.outbox.set(nan)
            self._metrics.outbox_age.set(nan)
            self._metrics.letters_holding.set(nan)
            self._metrics.payments_open.clear()
            self._metrics.payments_age.set(nan)
        else:
            self._seen("database")

    async def _sample_bus(self) -> None:
        lags: dict[Channel, int | None] = dict.fromkeys(Channel)
        expired: dict[Channel, int | None] = dict.fromkeys(Channel)
        try:
            # A copy: a subscription may open or end while one is asked.
            for channel, subscription in list(self._subscriptions.items()):
                expired[channel] = await subscription.expired()
                lags[channel] = await subscription.lag()
        except Unavailable:
            self._metrics.dependency("bus", is_up=False)
        else:
            if self._subscriptions:
                self._seen("bus")
        for gauge, counts in ((self._metrics.lag, lags), (self._metrics.expired, expired)):
            for channel, count in counts.items():
                if count is None:
                    gauge.remove_by_labels({"channel": channel.value})
                else:
                    gauge.labels(channel.value).set(count)

    def _seen(self, source: str) -> None:
        self._metrics.dependency(source, is_up=True)
        self._metrics.sampled.labels(source).set(self._clock.now_ms() / 1_000)
