"""The operator's desk: on the configured gate and database, or over HTTP in a running process.

Both answer the JSON objects of the HTTP API, so that a command prints one thing only.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from flashsale.commands.configured import command_settings, opened_commands
from flashsale.commands.console import CommandFailed
from flashsale.commands.moments import written
from flashsale.commands.remote import RemoteDesk
from flashsale_core.errors import Conflict
from flashsale_core.inquiry import PurchaseView
from flashsale_core.model import ItemId, PurchaseId, SaleId, SaleTerms
from flashsale_core.ports import GateBooks
from flashsale_core.selling import SaleView

if TYPE_CHECKING:
    from flashsale.container import Commands

Shown = dict[str, Any]
"""A JSON object of the HTTP API."""


class Desk(Protocol):
    """What a command may ask. Raises CommandFailed, Conflict and Unavailable."""

    async def init(self, item_id: ItemId, terms: SaleTerms) -> Shown:
        """Make an item's sale."""

    async def all(self) -> list[Shown]:
        """List the latest sale of every item."""

    async def show(self, sale_id: SaleId) -> Shown:
        """Show one sale."""

    async def move(self, sale_id: SaleId, verb: str) -> Shown:
        """Pause, resume, close or settle a sale; `verb` is one of these."""

    async def purchase(
        self, purchase_id: PurchaseId, item_id: ItemId | None, sale_id: SaleId | None
    ) -> Shown:
        """Look a purchase up."""


@attrs.frozen
class LocalDesk:
    """The configured gate and database, without a process between."""

    container: "Commands"

    async def init(self, item_id: ItemId, terms: SaleTerms) -> Shown:
        """See `Desk.init`."""
        return sale_json(await self.container.sale_desk().init(item_id, terms))

    async def all(self) -> list[Shown]:
        """See `Desk.all`."""
        return [sale_json(view) for view in await self.container.sale_desk().all()]

    async def show(self, sale_id: SaleId) -> Shown:
        """See `Desk.show`."""
        return sale_json(await self.container.sale_desk().show(sale_id))

    async def move(self, sale_id: SaleId, verb: str) -> Shown:
        """See `Desk.move`."""
        desk = self.container.sale_desk()
        verbs = {
            "pause": desk.pause,
            "resume": desk.resume,
            "close": desk.close,
            "settle": desk.settle,
        }
        return sale_json(await verbs[verb](sale_id))

    async def purchase(
        self, purchase_id: PurchaseId, item_id: ItemId | None, sale_id: SaleId | None
    ) -> Shown:
        """See `Desk.purchase`."""
        inquiry = self.container.inquiry()
        view = await inquiry.find(purchase_id, item_id=item_id, sale_id=sale_id)
        if view is None:
            raise Conflict("unknown-purchase", f"no purchase {purchase_id} is known")
        return purchase_json(view)


@asynccontextmanager
async def opened_desk(url: str | None, token: str | None = None) -> AsyncIterator[Desk]:
    """Open the desk over HTTP where a URL is given or the gate lives in another process."""
    settings = command_settings()
    if url is None and settings.gate_url.is_memory:
        url = f"http://{settings.http_host}:{settings.http_port}"
    if url is None:
        async with opened_commands(settings) as container:
            yield LocalDesk(container)
        return
    if token is None and settings.admin_token is not None:
        token = settings.admin_token.get_secret_value()
    if not url.startswith(("http://", "https://")):
        raise CommandFailed("--url must begin with http:// or https://")
    yield RemoteDesk(url.rstrip("/"), token)


def sale_json(view: SaleView) -> Shown:
    """Write a sale as the HTTP API does."""
    sale, terms = view.sale, view.sale.terms
    return {
        "saleId": sale.sale_id,
        "productId": sale.item_id,
        "round": sale.round,
        "state": sale.state.value,
        "stock": terms.units,
        "available": sale.available,
        "pending": sale.pending,
        "sold": sale.sold,
        "maxPerUser": terms.per_user_limit,
        "opensAt": written(terms.opens_at_ms),
        "closesAt": written(terms.closes_at_ms),
        "unitPriceMinor": terms.unit_price_minor,
        "currency": terms.currency,
        "epoch": sale.epoch,
        "gate": None if view.gate is None else gate_json(view.gate),
        "gateProblem": view.gate_problem,
    }


def gate_json(books: GateBooks) -> Shown:
    """Write the gate's counts as the HTTP API does."""
    return {
        "state": books.state.value,
        "initial": books.initial,
        "available": books.available,
        "reserved": books.reserved,
        "outside": books.outside,
        "queued": books.queued,
        "sold": books.sold,
        "purchases": books.records,
        "users": books.users,
        "journal": books.journal,
        "oldestDueAt": written(books.oldest_due_ms),
    }


def purchase_json(view: PurchaseView) -> Shown:
    """Write a purchase as the HTTP API does."""
    return {
        "purchaseId": view.purchase_id,
        "saleId": view.sale_id,
        "status": view.status.value,
        "quantity": view.quantity,
        "reason": view.reason,
        "requestedAt": written(view.requested_at_ms),
        "acceptedAt": written(view.accepted_at_ms),
        "recordedAt": written(view.recorded_at_ms),
    }


_local: type[Desk] = LocalDesk
_remote: type[Desk] = RemoteDesk
