"""What only the embedded default does: fill its gate, open a demo sale, greet a newcomer."""

from flashsale.settings import Settings
from flashsale_core.arming import rebuild_stopped
from flashsale_core.model import ItemId, SaleState, SaleTerms
from flashsale_core.ports import SaleCatalogue, StockGate
from flashsale_core.selling import SaleDesk

DEMO_ITEM = ItemId("1")
DEMO_TERMS = SaleTerms(units=1_000)
FREE_DEMO_TERMS = SaleTerms(units=1_000, unit_price_minor=0, currency="CHF")
"""With a payment gateway every sale needs a price; nobody should pay for the demo's."""


async def load_gate(catalogue: SaleCatalogue, gate: StockGate) -> None:
    """Begin another life of every unsettled sale's gate, from the database.

    The gate was this process's memory, and so was the bus: it confirmed only what was committed,
    so every promise that was ever given is a row.
    """
    for sale in await catalogue.current():
        if sale.state is not SaleState.SETTLED:
            await rebuild_stopped(catalogue, gate, sale.sale_id)


async def open_demo_sale(settings: Settings, catalogue: SaleCatalogue, desk: SaleDesk) -> bool:
    """Open a sale to play with, in a file that never had one; answer whether it is the demo's."""
    sales = await catalogue.current()
    if not sales and settings.database_url.scheme.startswith("sqlite"):
        has_gateway = settings.payment_url is not None
        await desk.init(DEMO_ITEM, FREE_DEMO_TERMS if has_gateway else DEMO_TERMS)
        return True
    return any(sale.item_id == DEMO_ITEM for sale in sales)


AS_JSON = "Content-Type: application/json"
FIRST_BUY = '{"userId": 101, "productId": 1, "purchaseId": "first"}'
"""With an id of its own, so that the lines printed after it can be typed as they stand."""


def banner(settings: Settings, *, is_demo: bool) -> str:
    """Write what a newcomer can type now."""
    host = settings.http_host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    base = f"http://[{host}]" if ":" in host else f"http://{host}"
    base = f"{base}:{settings.http_port}"
    lines = [f"Flashsale is open: {base}   API: {base}/docs   Ctrl-C drains and ends", ""]
    if is_demo:
        lines += [
            "Buy a unit of the demo sale, look the purchase up, look at the sale:",
            "",
            f"  curl -X POST -H '{AS_JSON}' -d '{FIRST_BUY}' {base}/purchase/buy",
            f"  curl {base}/purchase/first",
            f"  curl {base}/sales/1.1",
            "",
        ]
    if settings.database_url.scheme.startswith("sqlite"):
        path = settings.database_url.path.removeprefix("/")
        lines += [f"Sales and orders are in {path}; `make clean-data` forgets them.", ""]
    return "\n".join(lines) + "\n"
