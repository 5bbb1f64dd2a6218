"""How an adapter is opened by the scheme of a URL.

A package of anybody's offers an opener as an entry point of the group `flashsale.gates`,
`flashsale.buses`, `flashsale.databases` or `flashsale.payments`; the entry point's name is the
scheme. An opener takes the URL and one value with all that the application knows, uses what it
needs, and answers an async context manager: entering opens, leaving closes. Opening must not wait
for a server that is away; `check` tells.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import attrs

from flashsale_core.handling import HandlingNotes
from flashsale_core.letters import DeadLetters
from flashsale_core.ports import (
    Clock,
    Codec,
    EventBus,
    OrderRepository,
    Outbox,
    ParkedMessages,
    PaymentGateway,
    Payments,
    Rebuilds,
    SaleCatalogue,
    StockGate,
)
from flashsale_core.rates import RateLimits


@attrs.frozen(kw_only=True)
class GateOptions:
    """What a gate may want to know."""

    clock: Clock
    namespace: str
    """What its keys begin with, where several installations share a server."""
    reserved_due_ms: int
    """After this a journal entry in R falls due."""
    queued_due_ms: int
    """After this one in O or Q falls due, doubling."""
    may_install: bool
    """Whether this process may load the gate's functions into its server; the API may not."""
    rates: RateLimits | None = None
    """How often buyers may ask over HTTP; None counts nothing."""


class CheckedGate(StockGate, Protocol):
    """A gate that can say whether it answers."""

    async def check(self) -> None:
        """Raise Unavailable unless the gate answers and can do its work."""


class OpenGate(Protocol):
    """An entry point of `flashsale.gates`."""

    def __call__(self, url: str, options: GateOptions) -> AbstractAsyncContextManager[CheckedGate]:
        """Open the gate that the URL names."""


@attrs.frozen(kw_only=True)
class BusNames:
    """What the channels are called at the broker; an adapter takes those that it has."""

    requests: str
    accepted: str
    orders: str
    dead_letters: str | None
    """None: as the broker's other tools expect it, beside `requests`."""
    exchange: str
    requests_group: str
    accepted_group: str


@attrs.frozen(kw_only=True)
class BusSecurity:
    """How the broker is talked to, where its URL does not say it all."""

    protocol: str
    mechanism: str | None = None
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None
    """A file in PEM."""


@attrs.frozen(kw_only=True)
class BusOptions:
    """What a bus may want to know."""

    codec: Codec
    names: BusNames
    partitions: int
    session_ms: int
    """How long a reader that says nothing is believed to be alive, where a bus keeps sessions."""
    security: BusSecurity


class OpenBus(Protocol):
    """An entry point of `flashsale.buses`."""

    def __call__(self, url: str, options: BusOptions) -> AbstractAsyncContextManager[EventBus]:
        """Open the bus that the URL names."""


class Database(Protocol):
    """The ports that one database is."""

    @property
    def orders(self) -> OrderRepository:
        """Orders and stock."""

    @property
    def catalogue(self) -> SaleCatalogue:
        """The sales."""

    @property
    def outbox(self) -> Outbox:
        """Facts that wait to be told."""

    @property
    def parked(self) -> ParkedMessages:
        """Messages that are not done."""

    @property
    def rebuilds(self) -> Rebuilds:
        """What rebuilds agree on."""

    @property
    def letters(self) -> DeadLetters:
        """The parked messages, as an operator works with them."""

    @property
    def notes(self) -> HandlingNotes:
        """Which messages somebody has in hand."""

    @property
    def payments(self) -> Payments:
        """Charges that are not final."""

    async def check(self) -> None:
        """Raise Unavailable unless the database answers and its tables are current."""


@attrs.frozen(kw_only=True)
class DatabaseOptions:
    """What a database may want to know."""

    pool_size: int
    """Connections that this process may hold."""
    before_commit: Callable[[], Awaitable[None]] | None = None
    """Awaited before each commit of a batch of orders, where given: drills break off there."""


class OpenDatabase(Protocol):
    """An entry point of `flashsale.databases`."""

    def __call__(self, url: str, options: DatabaseOptions) -> AbstractAsyncContextManager[Database]:
        """Open the database that the URL names; a file of our own is made and migrated here."""


@attrs.frozen(kw_only=True)
class PaymentOptions:
    """What a payment gateway may want to know."""

    deadline_ms: int
    """What one call may take, everything included."""
    auth: str | None = attrs.field(default=None, repr=False)
    """The credential that the provider gave us."""
    carried: Callable[[], Mapping[str, str]] | None = None
    """Asked at each call for further headers: the trace that it belongs to."""


class OpenPayment(Protocol):
    """An entry point of `flashsale.payments`."""

    def __call__(
        self, url: str, options: PaymentOptions
    ) -> AbstractAsyncContextManager[PaymentGateway]:
        """Open the gateway that the URL names; nothing is sent before the first charge."""
