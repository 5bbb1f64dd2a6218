"""`flashsale dead-letters`: messages that will never succeed, as they came and why."""

from base64 import b64encode
from typing import Annotated

from cyclopts import App, Parameter, validators

from flashsale.commands.configured import command_settings
from flashsale.commands.console import (
    CommandFailed,
    Json,
    say,
    write_facts,
    write_json,
    write_table,
)
from flashsale.commands.desk import Shown
from flashsale.commands.moments import written
from flashsale.opening import opened_database
from flashsale_core.events import ParkedMessage

LIST_MAX = 1_000
"""In one go: a table that nobody reads to its end, and a second of the database's time at most."""
COLUMNS = ("id", "reason", "detail", "sale", "purchase", "origin", "written")

_Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=LIST_MAX))]


def build() -> App:
    """Make the group of commands."""
    app = App(name="dead-letters", help="Look at messages that will never succeed, and why.")
    app.command(list_, name="list")
    app.command(show)
    return app


async def list_(
    *,
    limit: Annotated[_Count, Parameter(help="How many at most.")] = 50,
    before: Annotated[
        int | None, Parameter(help="Only those with a smaller id: the next page.")
    ] = None,
    json: Json = False,
) -> None:
    """List what is DEAD, the newest first.

    Example: `flashsale dead-letters list --limit 10`
    """
    async with opened_database(command_settings()) as database:
        await database.check()
        found = await database.parked.dead(limit, before=before)
    if json:
        write_json([_shown(one) for one in found])
    elif found:
        write_table(COLUMNS, [_cells(one) for one in found])
    else:
        say("no dead letters")


async def show(
    parked_id: Annotated[int, Parameter(name="ID", help="Its id, as `list` shows it.")],
    /,
    *,
    json: Json = False,
) -> None:
    """Show one parked message: what became of it, its headers, and its bytes.

    Example: `flashsale dead-letters show 7`
    """
    async with opened_database(command_settings()) as database:
        await database.check()
        found = await database.parked.find(parked_id)
    if found is None:
        raise CommandFailed(f"no message was ever parked under {parked_id}")
    if json:
        write_json(_shown(found))
        return
    message = found.message
    write_facts(_facts(found))
    for name, value in message.headers:
        say(f"header {name}: {_readable(value)}")
    say(f"key: {_readable(message.key)}")
    say(f"body: {_readable(message.body)}")


def _facts(one: ParkedMessage) -> Shown:
    message = one.message
    return {
        "id": one.parked_id,
        "status": one.status.value,
        "reason": one.reason,
        "detail": one.detail or None,
        "saleId": one.sale_id,
        "purchaseId": one.purchase_id,
        "holdsUnit": one.holds_unit,
        "attempts": one.attempts,
        "channel": message.channel.value,
        "origin": message.origin,
        "contentType": message.content_type,
        "writtenAt": written(message.written_at_ms),
    }


def _shown(one: ParkedMessage) -> Shown:
    """Write it whole; bytes in base64, because they may be of any kind."""
    message = one.message
    headers = [{"name": name, "valueBase64": _base64(value)} for name, value in message.headers]
    whole = {"headers": headers, "keyBase64": _base64(message.key)}
    return {**_facts(one), **whole, "bodyBase64": _base64(message.body)}


def _cells(one: ParkedMessage) -> tuple[object, ...]:
    known = _facts(one)
    names = ("id", "reason", "detail", "saleId", "purchaseId", "origin", "writtenAt")
    return tuple(known[name] for name in names)


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode("ascii")


def _readable(value: bytes | None) -> str:
    """Write bytes as Python does: text stays text, and nothing in it can command a terminal."""
    return "none" if value is None else repr(value)[1:]
