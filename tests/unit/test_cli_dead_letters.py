"""`flashsale dead-letters`: what is typed, what is done, what is told, and where."""

import asyncio
import io
import json
import os
import time
from typing import Any

import msgspec
import pytest
from rich.console import Console

from flashsale.cli import EXIT_FAILED, EXIT_USAGE
from flashsale.commands import dead_letters
from flashsale.commands.app import run_command
from flashsale.commands.letters import letter_json, operator, outcome_json, whole_json
from flashsale.http import dead_letters as routes
from flashsale.settings import Settings
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.letter_desk import Outcome
from flashsale_core.letters import Act, Letter, Signed, TrailEntry
from flashsale_core.opening import Database, DatabaseOptions
from flashsale_sql.opening import open_file_database
from tests.unit.test_cli import DEAD_PORT, Captured, _bare_environment  # noqa: F401

GROUP = "dead-letters"


def dead(at: int, reason: str = "bad-framing") -> ParkedMessage:
    """Make a dead letter."""
    message = Message(channel=Channel.REQUESTS, body=b"%d" % at, origin=f"requests:0:{at}")
    return ParkedMessage(message=message, status=ParkedStatus.DEAD, reason=reason)


def with_letters(*letters: ParkedMessage) -> None:
    """Have letters lie in the file of the default settings."""

    async def park(database: Database) -> None:
        await database.parked.park(letters)

    on_file(park)


def on_file(work: Any) -> Any:
    """Work on the file."""

    async def opened() -> Any:
        url = Settings().database_url.text
        async with open_file_database(url, DatabaseOptions(pool_size=2)) as database:
            return await work(database)

    return asyncio.run(opened())


def run(*words: str) -> int:
    """Type a command."""
    return run_command([GROUP, *words])


def listed(capsys: Captured, *words: str) -> dict[int, str]:
    """List ids and statuses."""
    capsys.readouterr()
    assert run("list", "--json", "--status", "ANY", *words) == 0
    return {one["id"]: one["status"] for one in json.loads(capsys.readouterr().out)}


def test_letters_are_replayed_by_id_once_and_the_trail_names_the_systems_user(
    capsys: Captured,
) -> None:
    """The second time there is nothing to do."""
    with_letters(dead(1), dead(2), dead(3))
    assert run("replay", "1", "3", "1", "--why", "the codec is mended") == 0
    assert capsys.readouterr().out == "2 sent on again\n"
    assert listed(capsys) == {3: "WAITING", 2: "DEAD", 1: "WAITING"}
    assert run("replay", "1", "2") == 0
    assert capsys.readouterr().out == (
        "1: it is on its way already\n1 sent on again, 1 left as they are\n"
    )
    assert run("show", "1") == 0
    told = capsys.readouterr().out
    assert f"replay by {operator()} at " in told
    assert "the codec is mended" in told


def test_letters_are_replayed_by_filter_and_a_dry_run_changes_nothing(capsys: Captured) -> None:
    """Only what the filter names."""
    with_letters(dead(1), dead(2, "unknown-schema-id"), dead(3))
    assert run("replay", "--reason", "bad-framing", "--dry-run") == 0
    assert capsys.readouterr().out == "2 would be sent on again\n"
    assert set(listed(capsys).values()) == {"DEAD"}
    assert run("replay", "--reason", "bad-framing", "--channel", "requests", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in answer["done"]] == [3, 1]
    assert (answer["dryRun"], answer["failed"]) == (False, [])
    assert listed(capsys) == {3: "WAITING", 2: "DEAD", 1: "WAITING"}
    assert run("replay", "--all") == 0
    assert listed(capsys)[2] == "WAITING"


def test_more_than_a_page_is_worked_off(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once."""
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    with_letters(*(dead(at) for at in range(5)))
    assert run("replay", "--all", "--rate", "1000", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in answer["done"]] == [5, 4, 3, 2, 1]


def test_a_rate_is_kept(capsys: Captured) -> None:
    """Buyers come first: no more letters a second than was asked."""
    with_letters(*(dead(at) for at in range(4)))
    began = time.monotonic()
    assert run("replay", "--all", "--rate", "2", "--dry-run") == 0
    assert time.monotonic() - began >= 3 / 2


def test_progress_is_for_a_person_alone(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error; never where a program reads."""
    with_letters(dead(1), dead(2))
    shown = io.StringIO()
    monkeypatch.setattr(
        dead_letters, "errors_console", lambda: Console(file=shown, force_terminal=True, width=80)
    )
    assert run("replay", "1") == 0
    assert "replay" in shown.getvalue()
    assert "1/1" in shown.getvalue()
    assert capsys.readouterr().out == "1 sent on again\n"
    shown.truncate(0)
    shown.seek(0)
    assert run("replay", "2", "--json") == 0
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay"], "name ids, or a filter, or --all"),
        (["discard"], "name ids, or a filter, or --all"),
        (["replay", "1", "--all"], "only one of these"),
        (["replay", "1", "--reason", "x"], "only one of these"),
        (["list", "--url", "ftp://x"], "must begin with http"),
        (["show", "404"], "no message was ever parked under 404"),
        (["replay", "1", "--url", f"http://127.0.0.1:{DEAD_PORT}"], "nothing answers at"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys: Captured, words: list[str], said: str) -> None:
    """Least of all does a command without a filter mean everything."""
    with_letters(dead(1))
    assert run(*words) == EXIT_FAILED
    assert said in capsys.readouterr().err
    assert listed(capsys) == {1: "DEAD"}


@pytest.mark.parametrize(
    "words",
    [
        ["replay", "x"],
        ["replay", "0"],
        ["replay", "-1"],
        ["show"],
        ["list", "--status", "LOST"],
        ["list", "--since", "yesterday"],
        ["list", "--sale", "1"],
        ["list", "--purchase", "a b"],
        ["list", "--channel", "orders"],
        ["list", "--limit", "0"],
        ["list", "--reason", ""],
        ["replay", "--all", "--rate", "0"],
        ["replay", "--all", "--rate", "-1"],
        ["replay", "--all", "--rate", "nan"],
        ["replay", "--all", "--why", "y" * 201],
        ["burn", "1"],
    ],
)
def test_what_was_typed_wrong_is_said_and_nothing_is_done(
    capsys: Captured, words: list[str]
) -> None:
    """Before anything is opened."""
    with_letters(dead(1))
    assert run(*words) == EXIT_USAGE
    assert capsys.readouterr().err.startswith("flashsale: ")
    assert listed(capsys) == {1: "DEAD"}


def test_one_letter_that_is_refused_holds_up_no_other(capsys: Captured) -> None:
    """It is named, and the command's end says that something failed."""

    async def end_one(database: Database) -> None:
        await database.letters.discard(2)

    with_letters(dead(1), dead(2), dead(3))
    on_file(end_one)
    assert run("replay", "1", "2", "3", "404") == EXIT_FAILED
    told = capsys.readouterr()
    assert told.out == "2 sent on again, 2 refused\n"
    assert "2: 2 was discarded" in told.err
    assert "404: no message was ever parked" in told.err


def test_where_nothing_matches_nothing_is_done(capsys: Captured) -> None:
    """And that is no failure."""
    with_letters(dead(1))
    assert run("replay", "--reason", "else") == 0
    assert capsys.readouterr().out == "nothing matches\n"
    assert run("list", "--reason", "else") == 0
    assert capsys.readouterr().out == "nothing matches\n"
    assert run("list", "--reason", "else", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_nothing_in_a_letter_commands_a_terminal(capsys: Captured) -> None:
    """Not even who an operator said to be."""

    async def sign(database: Database) -> None:
        await database.letters.sign(1, Act.REPLAY, Signed(who="\x1b[2J", why="\x1b]0;x\x07"))

    with_letters(dead(1))
    on_file(sign)
    assert run("show", "1") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_command_line_writes_what_the_http_api_answers() -> None:
    """So that --url changes nothing that is printed."""
    letter = Letter(parked=_whole(), parked_at_ms=5, changed_at_ms=6)
    trail = [TrailEntry(act=Act.DISCARD, signed=Signed(who="ann", why="w"), at_ms=7)]
    as_http: list[tuple[Any, Any]] = [
        (whole_json(letter, trail), routes._whole(letter, trail)),
        (letter_json(letter), routes._shown(letter)),
    ]
    outcome = Outcome(letter_id=1, status=ParkedStatus.DISCARDED, is_changed=True, detail="d")
    as_http.append((outcome_json(outcome), routes.done_of(outcome)))
    for ours, theirs in as_http:
        assert ours == json.loads(msgspec.json.encode(theirs))


def _whole() -> ParkedMessage:
    message = Message(
        channel=Channel.ACCEPTED,
        body=b"\xff",
        key=b"k",
        headers=(("h", b"\x00"),),
        content_type="avro/binary",
        origin="o",
        written_at_ms=1,
    )
    return ParkedMessage(
        message=message, status=ParkedStatus.DEAD, reason="r", detail="d", parked_id=1
    )


def test_the_trail_names_the_user_of_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not whom an environment variable names."""
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    assert "somebody-else" not in operator()
    assert os.uname().nodename in operator()
