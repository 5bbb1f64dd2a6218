"""The list of sales that a process keeps, so that no purchase costs a question to the database."""

from collections.abc import Callable, Iterable, Iterator

from flashsale_core.model import ItemId, Sale, SaleId, SaleState
from flashsale_core.ports import SaleCatalogue

REFRESH_MS = 1_000
"""How often every process reads the list again. A constant: a rebuild waits this long, plus the
promise's time, before it may believe that nobody answers under an old epoch."""


class SaleBoard:
    """The latest sale of every item, with its epoch; what it has is kept while nobody answers."""

    def __init__(
        self, catalogue: SaleCatalogue, *, on_doubt: Callable[[], None] = lambda: None
    ) -> None:
        """Start empty; the first `refresh` fills it. `on_doubt` wakes whoever refreshes it."""
        self._catalogue = catalogue
        self.doubt = on_doubt
        """Say that the gate did not know a listed epoch: the list may be old. Never waits."""
        self._by_item: dict[ItemId, Sale] = {}
        self._by_id: dict[SaleId, Sale] = {}
        self._asked = 0
        self._taken = 0

    async def refresh(self) -> None:
        """Read the list again; a failure raises Unavailable and keeps the old one.

        Of several at once, one that was asked for earlier and comes later changes nothing.
        """
        self._asked += 1
        asked = self._asked
        sales = await self._catalogue.current()
        if asked > self._taken:
            self._taken = asked
            self.replace(sales)

    def replace(self, sales: Iterable[Sale]) -> None:
        """Take another list, at once and whole."""
        self._by_item = {sale.item_id: sale for sale in sales}
        self._by_id = {sale.sale_id: sale for sale in self._by_item.values()}

    def __iter__(self) -> Iterator[Sale]:
        """Go through the listed sales."""
        return iter(self._by_item.values())

    def unsettled(self) -> list[Sale]:
        """List the sales whose gate must be alive."""
        return [sale for sale in self._by_item.values() if sale.state is not SaleState.SETTLED]

    def seen(self, item_id: ItemId) -> Sale | None:
        """Look an item up without asking anybody: the hot path."""
        return self._by_item.get(item_id)

    async def of_item(self, item_id: ItemId) -> Sale | None:
        """Look an item up; one that is not listed is looked for once more in the database."""
        if item_id not in self._by_item:
            await self.refresh()
        return self._by_item.get(item_id)

    async def of_id(self, sale_id: SaleId) -> Sale | None:
        """Look a sale up, an item's earlier ones included."""
        listed = self._by_id.get(sale_id)
        return listed if listed is not None else await self._catalogue.get(sale_id)

    async def again(self, sale: Sale) -> Sale:
        """Read the list again, as the gate did not know the epoch; answer the sale as it is now."""
        await self.refresh()
        return self._by_id.get(sale.sale_id, sale)
