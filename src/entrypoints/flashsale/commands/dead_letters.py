"""`flashsale dead-letters`: messages that were set aside: look at them, replay or discard them."""

import asyncio
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import attrs
from cyclopts import App, Parameter, validators
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flashsale.cli import EXIT_FAILED
from flashsale.commands.console import (
    CommandFailed,
    Json,
    complain,
    errors_console,
    say,
    write_facts,
    write_json,
    write_table,
)
from flashsale.commands.desk import Shown
from flashsale.commands.ids import Identifier, SaleIdText
from flashsale.commands.letters import DISCARD, REPLAY, Letters, Refused, opened_letters
from flashsale.commands.moments import Moment
from flashsale.commands.sales import Url
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.letters import Wanted
from flashsale_core.model import PurchaseId, SaleId

LIST_MAX = 500
"""In one go: a table that nobody reads to its end, and a second of the database's time at most."""
PAGE = 100
RATE_DEFAULT = 50
"""Letters a second: a worker replays some hundreds beside its own work, and buyers come first."""
RATE_MAX = 1_000
TEXT_MAX = 200
COLUMNS = ("id", "status", "reason", "detail", "sale", "purchase", "unit", "origin", "parked")


class Status(StrEnum):
    """A status, or any."""

    WAITING = "WAITING"
    RETRYING = "RETRYING"
    DEAD = "DEAD"
    REPLAYED = "REPLAYED"
    DISCARDED = "DISCARDED"
    ANY = "ANY"


class Way(StrEnum):
    """Where a message came from."""

    REQUESTS = "requests"
    ACCEPTED = "accepted"


def _short(_: object, text: str | None) -> None:
    if text is not None and not 0 < len(text) <= TEXT_MAX:
        raise ValueError(f"must be 1 to {TEXT_MAX} characters")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Filter:
    """Which messages are meant."""

    status: Annotated[Status | None, Parameter(help="Only of this status; DEAD by itself.")] = None
    reason: Annotated[
        str | None, Parameter(help="Only set aside for this reason.", validator=_short)
    ] = None
    sale: Annotated[SaleIdText | None, Parameter(help="Only this sale's.")] = None
    purchase: Annotated[Identifier | None, Parameter(help="Only this purchase's.")] = None
    channel: Annotated[Way | None, Parameter(help="Only those that came by this way.")] = None
    holding: Annotated[
        bool, Parameter(negative="", show_default=False, help="Only those that hold a unit.")
    ] = False
    since: Annotated[Moment | None, Parameter(help="Only set aside then or later.")] = None
    until: Annotated[Moment | None, Parameter(help="Only set aside before then.")] = None

    @property
    def is_given(self) -> bool:
        """Say whether anything was asked for."""
        return self != Filter()

    def wanted(self) -> Wanted:
        """Write it as the core reads it."""
        status = self.status or Status.DEAD
        return Wanted(
            statuses=() if status is Status.ANY else (ParkedStatus(status.value),),
            reason=self.reason,
            sale_id=None if self.sale is None else SaleId(self.sale),
            purchase_id=None if self.purchase is None else PurchaseId(self.purchase),
            channel=None if self.channel is None else Channel(self.channel.value),
            holds_unit=True if self.holding else None,
            since_ms=self.since,
            until_ms=self.until,
        )


_ALL = Filter()
_Count = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=LIST_MAX))]
_Id = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=2**63 - 1))]
_Ids = Annotated[_Id, Parameter(name="ID", help="Their ids, as `list` shows them.")]
_All = Annotated[
    bool, Parameter(name="--all", negative="", show_default=False, help="Every one that is DEAD.")
]
_Why = Annotated[str | None, Parameter(help="Why, for the trail.", validator=_short)]
_Dry = Annotated[
    bool,
    Parameter(
        name="--dry-run", negative="", show_default=False, help="Say what would be; change nothing."
    ),
]
_Rate = Annotated[
    float,
    Parameter(validator=validators.Number(gt=0, lte=RATE_MAX), help="How many a second at most."),
]


def build() -> App:
    """Make the group of commands."""
    app = App(name="dead-letters", help="Look at messages that were set aside; replay or end them.")
    app.command(list_, name="list")
    app.command(show)
    app.command(replay)
    app.command(discard)
    return app


async def list_(
    *,
    wanted: Filter = _ALL,
    limit: Annotated[_Count, Parameter(help="How many at most.")] = 50,
    before: Annotated[
        _Id | None, Parameter(help="Only those with a smaller id: the next page.")
    ] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """List what was set aside, the newest first: what is DEAD, unless --status says otherwise.

    Example: `flashsale dead-letters list --reason bad-framing --since 2026-11-27T18:00:00Z`
    """
    async with opened_letters(url) as letters:
        found = await letters.matching(wanted.wanted(), limit, before)
        count = await letters.count(wanted.wanted()) if found else 0
    if json:
        write_json(found)
    elif found:
        write_table(COLUMNS, [_cells(one) for one in found])
        if count > len(found):
            say(f"{len(found)} of {count}; go on with --before {found[-1]['id']}")
    else:
        say("no dead letters" if not wanted.is_given else "nothing matches")


async def show(
    letter: Annotated[_Id, Parameter(name="ID", help="Its id, as `list` shows it.")],
    /,
    *,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show one message: what became of it, by whom, its headers, and its bytes.

    Example: `flashsale dead-letters show 7`
    """
    async with opened_letters(url) as letters:
        found = await letters.show(letter)
    if json:
        write_json(found)
        return
    parts = ("headers", "keyBase64", "bodyBase64", "trail")
    write_facts({name: value for name, value in found.items() if name not in parts})
    for entry in found["trail"]:
        why = f": {entry['why']}" if entry["why"] else ""
        say(f"{entry['act']} by {_printable(entry['who'])} at {entry['at']}{_printable(why)}")
    for header in found["headers"]:
        say(f"header {header['name']}: {_readable(header['valueBase64'])}")
    say(f"key: {_readable(found['keyBase64'])}")
    say(f"body: {_readable(found['bodyBase64'])}")


async def replay(
    *ids: _Ids,
    wanted: Filter = _ALL,
    all_: _All = False,
    why: _Why = None,
    dry_run: _Dry = False,
    rate: _Rate = RATE_DEFAULT,
    json: Json = False,
    url: Url = None,
) -> int:
    """Send dead letters through the normal gate again; the workers do so within seconds.

    Each ends REPLAYED, or DEAD again with its new reason. Safe to repeat.

    Example: `flashsale dead-letters replay --reason unknown-schema --why "schema 7 is registered"`
    """
    asked = _Asked(REPLAY, ids, wanted, all_, why or "", dry_run, rate, json)
    return await _act(asked, url)


async def discard(
    *ids: _Ids,
    wanted: Filter = _ALL,
    all_: _All = False,
    why: _Why = None,
    dry_run: _Dry = False,
    rate: _Rate = RATE_DEFAULT,
    json: Json = False,
    url: Url = None,
) -> int:
    """End dead letters, and their purchases as REJECTED (DISCARDED); then their units are free.

    An order that stands already is not touched. Safe to repeat.

    Example: `flashsale dead-letters discard 7 --why "refunded by hand"`
    """
    asked = _Asked(DISCARD, ids, wanted, all_, why or "", dry_run, rate, json)
    return await _act(asked, url)


@attrs.frozen
class _Asked:
    """What is done with which letters, and how."""

    verb: str
    ids: tuple[int, ...]
    wanted: Filter
    is_all: bool
    why: str
    is_dry: bool
    rate: float
    as_json: bool


async def _act(asked: _Asked, url: str | None) -> int:
    ways = [bool(asked.ids), asked.wanted.is_given, asked.is_all]
    if sum(ways) != 1:
        raise CommandFailed("name ids, or a filter, or --all; and only one of these")
    done: list[Shown] = []
    failed: list[Shown] = []
    try:
        async with opened_letters(url, may_discard=asked.verb == DISCARD) as letters:
            await _each(letters, asked, done, failed)
    finally:
        # Also where something went away in the middle: what was done is done.
        _tell(asked, done, failed)
    return EXIT_FAILED if failed else 0


async def _each(letters: Letters, asked: _Asked, done: list[Shown], failed: list[Shown]) -> None:
    """Act on one after the other, no faster than was asked."""
    count = len(set(asked.ids)) or await letters.count(asked.wanted.wanted())
    began_s, number = time.monotonic(), 0
    with _progress(asked, count) as advance:
        async for letter_id in _ids(letters, asked):
            await asyncio.sleep(max(0.0, began_s + number / asked.rate - time.monotonic()))
            number += 1
            try:
                done.append(
                    await letters.act(asked.verb, letter_id, asked.why, is_dry=asked.is_dry)
                )
            except Refused as refused:
                failed.append({"id": letter_id, "problem": str(refused)})
            advance()


async def _ids(letters: Letters, asked: _Asked) -> AsyncIterator[int]:
    """Name them; a filter's page by page, so that what is parked meanwhile is left alone."""
    if asked.ids:
        for one in dict.fromkeys(asked.ids):
            yield one
        return
    before: int | None = None
    while found := await letters.matching(asked.wanted.wanted(), PAGE, before):
        for letter in found:
            yield letter["id"]
        before = found[-1]["id"]


@contextmanager
def _progress(asked: _Asked, count: int) -> Iterator[Callable[[], None]]:
    """Show how far it is, on standard error, to a person alone."""
    console = errors_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=asked.as_json or not console.is_terminal,
    ) as bar:
        task = bar.add_task(asked.verb, total=count)
        yield lambda: bar.advance(task)


def _tell(asked: _Asked, done: list[Shown], failed: list[Shown]) -> None:
    if asked.as_json:
        write_json({"dryRun": asked.is_dry, "done": done, "failed": failed})
        return
    for one in done:
        if one["detail"]:
            say(f"{one['id']}: {_printable(one['detail'])}")
    for one in failed:
        complain(f"{one['id']}: {_printable(one['problem'])}")
    changed = sum(one["changed"] for one in done)
    if not done and not failed:
        say("nothing matches")
        return
    verb = {REPLAY: "sent on again", DISCARD: "discarded"}[asked.verb]
    verb = f"would be {verb}" if asked.is_dry else verb
    parts = [f"{changed} {verb}"]
    parts += [f"{len(done) - changed} left as they are"] if len(done) > changed else []
    parts += [f"{len(failed)} refused"] if failed else []
    say(", ".join(parts))


def _cells(one: Shown) -> tuple[object, ...]:
    names = ("id", "status", "reason", "detail", "saleId", "purchaseId")
    unit = "holds" if one["holdsUnit"] else None
    return (*(one[name] for name in names), unit, one["origin"], one["parkedAt"])


def _readable(value: str | None) -> str:
    """Write bytes as Python does: text stays text, and nothing in it can command a terminal."""
    return "none" if value is None else repr(b64decode(value))[1:]


def _printable(text: str) -> str:
    """Write a text of somebody's; nothing in it can command a terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
