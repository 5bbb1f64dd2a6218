"""`flashsale payments`: charges that a person must look at."""

from typing import Annotated

from cyclopts import App, Parameter, validators

from flashsale.commands.configured import command_settings
from flashsale.commands.console import CommandFailed, Json, say, write_json, write_table
from flashsale.commands.desk import Shown
from flashsale.commands.ids import Identifier, SaleIdText
from flashsale.opening import opened_database
from flashsale_core.charges import FlaggedPayment
from flashsale_core.model import PurchaseId, SaleId

LIST_MAX = 1_000
"""In one go; somebody looks at each of them with the provider."""
COLUMNS = ("sale", "purchase", "key", "amount", "currency", "attempts", "detail")

_Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=LIST_MAX))]


def build() -> App:
    """Make the group of commands."""
    app = App(name="payments", help="Look at payments that wait for a person, and resume them.")
    app.command(list_, name="list")
    app.command(resume)
    return app


async def list_(
    *,
    limit: Annotated[_Count, Parameter(help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List what is flagged, the oldest first. The units stay held until each is resolved.

    Example: `flashsale payments list`
    """
    async with opened_database(command_settings()) as database:
        await database.check()
        found = await database.payments.flagged(limit)
    if json:
        write_json({"payments": [_shown(one) for one in found]})
    elif found:
        write_table(COLUMNS, [tuple(_shown(one).values()) for one in found])
    else:
        say("no payment waits for a person")


async def resume(
    sale: SaleIdText,
    purchase: Annotated[Identifier, Parameter(help="The purchase's id.")],
    /,
) -> None:
    """Let workers take up a flagged payment again: they look it up under its key first.

    Example: `flashsale payments resume 1.1 mine`
    """
    async with opened_database(command_settings()) as database:
        await database.check()
        is_resumed = await database.payments.resume(SaleId(sale), PurchaseId(purchase))
    if not is_resumed:
        raise CommandFailed(f"no flagged payment of {purchase} in {sale}")
    say(f"{purchase} is looked up again")


def _shown(one: FlaggedPayment) -> Shown:
    return {
        "saleId": one.sale_id,
        "purchaseId": one.purchase_id,
        "key": one.key,
        "amountMinor": one.amount_minor,
        "currency": one.currency,
        "attempts": one.attempt,
        "detail": one.detail,
    }
