"""`flashsale sale`: make, look at, and lead a sale through its life."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from flashsale.commands.console import Json, say, write_facts, write_json, write_table
from flashsale.commands.desk import Shown, opened_desk
from flashsale.commands.ids import Identifier, SaleIdText
from flashsale.commands.moments import Moment
from flashsale_core.model import ItemId, SaleId, SaleTerms

Url = Annotated[
    str | None,
    Parameter(
        name="--url",
        help="Ask the HTTP API there instead of the configured gate and database; "
        "by itself where the gate is memory://.",
    ),
]
COLUMNS = ("sale", "state", "stock", "available", "sold", "promised", "epoch", "gate")


def build() -> App:
    """Make the group of commands."""
    app = App(name="sale", help="Make, look at and lead sales.")
    for command in (create, list_, show, pause, resume, close, settle):
        app.command(command, name=command.__name__.rstrip("_"))
    return app


async def create(
    *,
    item: Annotated[Identifier, Parameter(help="What is sold: 1 to 64 of A-Z a-z 0-9 _ . -")],
    stock: Annotated[int, Parameter(help="Units for sale.")],
    max_per_user: Annotated[
        int | None, Parameter(help="Units that one user may hold over the whole sale.")
    ] = None,
    opens_at: Annotated[
        Moment | None, Parameter(help="When it opens, as in 2026-11-27T18:00:00Z.")
    ] = None,
    closes_at: Annotated[Moment | None, Parameter(help="When it closes by itself.")] = None,
    unit_price_minor: Annotated[
        int | None, Parameter(help="Price of one unit in cents; goes with --currency.")
    ] = None,
    currency: Annotated[str | None, Parameter(help="ISO 4217, as in CHF.")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Make an item's next sale and open it; the same again changes nothing.

    Example: `flashsale sale create --item 1 --stock 1000 --max-per-user 2`
    """
    terms = SaleTerms(
        units=stock,
        per_user_limit=max_per_user,
        opens_at_ms=opens_at,
        closes_at_ms=closes_at,
        unit_price_minor=unit_price_minor,
        currency=currency,
    )
    async with opened_desk(url) as desk:
        _print(await desk.init(ItemId(item), terms), as_json=json)


async def list_(*, json: Json = False, url: Url = None) -> None:
    """List the latest sale of every item.

    Example: `flashsale sale list`
    """
    async with opened_desk(url) as desk:
        sales = await desk.all()
    if json:
        write_json({"sales": sales})
    elif sales:
        write_table(COLUMNS, [_row(sale) for sale in sales])
    else:
        say("no sale yet: flashsale sale create --item 1 --stock 1000")


async def show(sale: SaleIdText, /, *, json: Json = False, url: Url = None) -> None:
    """Show one sale: its terms, the database's counts, and the gate's.

    Example: `flashsale sale show 1.1`
    """
    async with opened_desk(url) as desk:
        _print(await desk.show(SaleId(sale)), as_json=json)


async def pause(sale: SaleIdText, /, *, json: Json = False, url: Url = None) -> None:
    """Take no new purchases for now; what was promised goes on.

    Example: `flashsale sale pause 1.1`
    """
    await _move(sale, "pause", json, url)


async def resume(sale: SaleIdText, /, *, json: Json = False, url: Url = None) -> None:
    """Sell again after a pause.

    Example: `flashsale sale resume 1.1`
    """
    await _move(sale, "resume", json, url)


async def close(sale: SaleIdText, /, *, json: Json = False, url: Url = None) -> None:
    """End the selling; what was promised goes on.

    Example: `flashsale sale close 1.1`
    """
    await _move(sale, "close", json, url)


async def settle(sale: SaleIdText, /, *, json: Json = False, url: Url = None) -> None:
    """End a closed sale for good, so that its item may have another; says what it waits for.

    Example: `flashsale sale settle 1.1`
    """
    await _move(sale, "settle", json, url)


async def _move(sale: str, verb: str, as_json: bool, url: str | None) -> None:
    async with opened_desk(url) as desk:
        _print(await desk.move(SaleId(sale), verb), as_json=as_json)


def _row(sale: Shown) -> tuple[Any, ...]:
    gate = sale["gate"]
    if gate is None:
        counts = (sale["available"], sale["sold"], None)
    else:
        promised = gate["reserved"] + gate["outside"] + gate["queued"]
        counts = (gate["available"], gate["sold"], promised)
    state = "answers" if gate is not None else sale["gateProblem"]
    return (sale["saleId"], sale["state"], sale["stock"], *counts, sale["epoch"], state)


def _print(sale: Shown, *, as_json: bool) -> None:
    if as_json:
        write_json(sale)
        return
    gate = sale["gate"]
    write_facts(
        {name: value for name, value in sale.items() if name not in ("gate", "gateProblem")}
    )
    if gate is None:
        say(f"the gate does not answer for it: {sale['gateProblem']}", style="yellow")
    else:
        say("in the gate:")
        write_facts({f"  {name}": value for name, value in gate.items()})
