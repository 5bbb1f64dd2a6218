"""`flashsale dead-letters`: messages that were set aside: look at them, replay or discard them."""

import asyncio
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import attrs
from cyclopts import App, Parameter
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
from flashsale.commands.letter_words import (
    ANYTHING,
    RATE_DEFAULT,
    Count,
    DryRun,
    Everything,
    Filter,
    LetterId,
    LetterIds,
    Rate,
    Reasoned,
)
from flashsale.commands.letters import DISCARD, REPLAY, Letters, Refused, opened_letters
from flashsale.commands.sales import Url

PAGE = 100
"""Letters of a filter that are looked up in one go."""
COLUMNS = ("id", "status", "reason", "detail", "sale", "purchase", "unit", "origin", "parked")


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
    wanted: Filter = ANYTHING,
    limit: Annotated[Count, Parameter(help="How many at most.")] = 50,
    before: Annotated[
        LetterId | None, Parameter(help="Only those with a smaller id: the next page.")
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
    letter: Annotated[LetterId, Parameter(name="ID", help="Its id, as `list` shows it.")],
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
    *ids: LetterIds,
    wanted: Filter = ANYTHING,
    all_: Everything = False,
    why: Reasoned = None,
    dry_run: DryRun = False,
    rate: Rate = RATE_DEFAULT,
    json: Json = False,
    url: Url = None,
) -> int:
    """Send dead letters through the normal gate again; the workers do so within seconds.

    Each ends REPLAYED, or DEAD again with its new reason. Safe to repeat.

    Example: `flashsale dead-letters replay --reason unknown-schema-id --why "registered now"`
    """
    asked = _Asked(REPLAY, ids, wanted, all_, why or "", dry_run, rate, json)
    return await _act(asked, url)


async def discard(
    *ids: LetterIds,
    wanted: Filter = ANYTHING,
    all_: Everything = False,
    why: Reasoned = None,
    dry_run: DryRun = False,
    rate: Rate = RATE_DEFAULT,
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
