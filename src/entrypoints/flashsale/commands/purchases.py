"""`flashsale purchase` and `flashsale buy`: one purchase, as its buyer sees it."""

from typing import Annotated

from cyclopts import App, Parameter

from flashsale.commands.configured import command_settings
from flashsale.commands.console import CommandFailed, Json, say, write_facts, write_json
from flashsale.commands.desk import opened_desk
from flashsale.commands.ids import Identifier, SaleIdText
from flashsale.commands.letters import opened_letters
from flashsale.commands.remote import RemoteDesk
from flashsale.commands.sales import Url
from flashsale_core.model import ItemId, PurchaseId, SaleId


def build() -> App:
    """Make the group of commands."""
    app = App(name="purchase", help="Look at purchases; end one that comes no further.")
    app.command(show)
    app.command(end)
    return app


async def show(
    purchase: Annotated[Identifier, Parameter(help="The purchase's id.")],
    /,
    *,
    item: Annotated[Identifier | None, Parameter(help="Only a purchase of this item.")] = None,
    sale: Annotated[SaleIdText | None, Parameter(help="Only this sale's purchase.")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show how a purchase stands: RESERVED, ACCEPTED, CONFIRMED, REJECTED or PARKED.

    Example: `flashsale purchase show 0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d`
    """
    async with opened_desk(url) as desk:
        found = await desk.purchase(
            PurchaseId(purchase),
            ItemId(item) if item is not None else None,
            SaleId(sale) if sale is not None else None,
        )
    if json:
        write_json(found)
    else:
        write_facts(found)


async def end(
    purchase: Annotated[Identifier, Parameter(help="The purchase's id.")],
    /,
    *,
    sale: Annotated[SaleIdText, Parameter(help="Whose purchase it is.")],
    why: Annotated[str, Parameter(help="Why; kept with your name.")],
    json: Json = False,
    url: Url = None,
) -> None:
    """End a purchase that holds a unit and comes no further: REJECTED first, then the unit is free.

    Whoever was promised it gets nothing, so it is kept who ended it, and why. The engine never
    does this by itself: it publishes such a purchase again, for ever. An order that stands is not
    touched.

    Example: `flashsale purchase end p-17 --sale 1.1 --why "test buyer, asked by phone"`
    """
    async with opened_letters(url, may_discard=True) as letters:
        ended = await letters.end(SaleId(sale), PurchaseId(purchase), why)
    if json:
        write_json(ended)
        return
    detail = f": {ended['detail']}" if ended["detail"] else ""
    say(f"{purchase} of {sale} is dead letter {ended['id']}, {ended['status']}{detail}")


async def buy(
    *,
    user: Annotated[Identifier, Parameter(help="Who buys.")],
    item: Annotated[Identifier, Parameter(help="What is bought.")],
    quantity: Annotated[int, Parameter(help="How many units, all or nothing.")] = 1,
    purchase: Annotated[
        Identifier | None,
        Parameter(help="The purchase's id, to ask again without buying twice; made if not given."),
    ] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Buy over the HTTP API, as a buyer does; without --url from the configured host and port.

    Example: `flashsale buy --user 101 --item 1`
    """
    settings = command_settings()
    url = url or f"http://{settings.http_host}:{settings.http_port}"
    if not url.startswith(("http://", "https://")):
        raise CommandFailed("--url must begin with http:// or https://")
    body = {"userId": user, "productId": item, "quantity": quantity, "purchaseId": purchase}
    known = {name: value for name, value in body.items() if value is not None}
    answer = await RemoteDesk(url.rstrip("/")).buy(known)
    if json:
        write_json(answer)
    else:
        write_facts(answer)
