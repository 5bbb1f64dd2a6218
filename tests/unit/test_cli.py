"""The command line: its help, its exit codes, and one line for whatever cannot be done."""

import asyncio
import json
import os
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from cyclopts import App
from typed_settings import Secret

from flashsale.cli import EXIT_FAILED, EXIT_USAGE
from flashsale.commands.app import build_app, run_command
from flashsale.commands.desk import gate_json, purchase_json, sale_json
from flashsale.commands.moments import moment_ms, written
from flashsale.http import answers
from flashsale.http.problems import BY_CODE
from flashsale.observing import QUIET_OUTCOMES, UNAVAILABLE_OUTCOMES
from flashsale.setting_kinds import Url
from flashsale.settings import Settings, secrets_of
from flashsale_core.events import Channel, Message, ParkedMessage, ParkedStatus
from flashsale_core.inquiry import PurchaseStatus, PurchaseView
from flashsale_core.model import Epoch, ItemId, PurchaseId, Sale, SaleId, SaleState, SaleTerms
from flashsale_core.opening import DatabaseOptions
from flashsale_core.ports import GateBooks
from flashsale_core.selling import SaleView
from flashsale_sql.opening import open_file_database

GROUPS = ("sale", "purchase", "gate", "topics", "db", "schema", "dead-letters", "payments")
PROMISED = {
    *("run", "serve", "worker", "settings", "doctor", "buy"),
    *(f"sale {verb}" for verb in ("create", "list", "show", "pause", "resume", "close", "settle")),
    *("topics ensure", "db upgrade", "db current", "db sql"),
    *("gate install", "gate rebuild", "gate show", "gate verify"),
    *(f"dead-letters {verb}" for verb in ("list", "show", "replay", "discard")),
    *("payments list", "payments resume"),
    *(f"schema {verb}" for verb in ("register", "show", "check", "asyncapi")),
    *("purchase show", "purchase end"),
}
DEAD_PORT = 1
"""Nobody listens on the first port of loopback."""

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder, without anybody's settings."""
    for variable in list(os.environ):
        if variable.startswith("FLASHSALE_") and not variable.startswith("FLASHSALE_TEST_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Go through the commands by what is typed."""
    for name in app:
        if name.startswith("-"):
            continue
        below = app[name]
        if list(below.resolved_commands()) and name in GROUPS:
            yield from commands(below, (*path, name))
        else:
            yield " ".join((*path, name)), below


def test_every_command_that_was_promised_is_there() -> None:
    """Whoever follows the documentation finds what it names."""
    assert {name for name, _ in commands(build_app())} == PROMISED


@pytest.mark.parametrize("typed", sorted(PROMISED))
def test_every_command_explains_itself_with_an_example(typed: str, capsys: Captured) -> None:
    """`--help` is written for a person, and its example can be typed as it stands."""
    assert run_command([*typed.split(), "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"Usage: flashsale {typed}" in told
    assert f"Example: flashsale {typed}" in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_every_command(shell: str, tmp_path: Path) -> None:
    """Written where it is wanted; nobody types `--yes-processes-are-stopped` by heart."""
    script = tmp_path / "completion"
    typed = ["--install-completion", "--shell", shell, "--output", str(script)]
    assert run_command(typed) == 0
    completes = script.read_text()
    for name, _ in commands(build_app()):
        assert name.split()[-1] in completes
    assert "yes-processes-are-stopped" in completes


def test_a_bare_call_shows_what_there_is(capsys: Captured) -> None:
    """Nobody needs to know `--help`."""
    assert run_command([]) == 0
    assert "sale" in capsys.readouterr().out


@pytest.mark.parametrize(
    "typed",
    [
        "sale crate",
        "sale create --item 1",
        "sale create --item 1 --stock many",
        "sale create --item a/b --stock 1",
        "sale create --item 1 --stock 1 --opens-at tomorrow",
        "sale show 1",
        "run --prt 1",
        "purchase show a{b}",
    ],
)
def test_a_command_typed_wrong_ends_with_2_and_one_line(typed: str, capsys: Captured) -> None:
    """A script can tell its own mistake from the engine's state."""
    assert run_command(typed.split()) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("flashsale: ")
    assert len(err.splitlines()) == 1


def test_terms_that_cannot_be_say_which_field(capsys: Captured) -> None:
    """The core's own rule is the message."""
    assert run_command(["sale", "create", "--item", "1", "--stock", "0"]) == EXIT_FAILED
    assert "stock: must be an integer from 1" in capsys.readouterr().err


def test_all_wrong_settings_come_in_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """One run, one list, whichever command it is."""
    monkeypatch.setenv("FLASHSALE_HTTP_PORT", "0")
    monkeypatch.setenv("FLASHSALE_GATEURL", "redis://h")
    assert run_command(["sale", "list"]) == EXIT_FAILED
    err = capsys.readouterr().err
    assert "FLASHSALE_HTTP_PORT" in err
    assert "FLASHSALE_GATE_URL" in err


def test_several_processes_are_begun_as_the_command_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each reads the same settings; the parent itself opens nothing, and judges none of them."""
    begun: list[tuple[int, list[str]]] = []

    def serve_several(settings: Settings, command: list[str]) -> int:
        begun.append((settings.http_processes, command))
        return 0

    monkeypatch.setattr("flashsale.several.serve_several", serve_several)
    assert run_command(["serve", "--port", "8099", "--processes", "3", "--logs", "json"]) == 0
    monkeypatch.setenv("FLASHSALE_HTTP_PROCESSES", "2")
    assert run_command(["serve"]) == 0
    [(three, typed), (two, bare)] = begun
    serve = [sys.executable, "-m", "flashsale", "serve"]
    assert (three, two) == (3, 2)
    assert typed == [*serve, "--port=8099", "--processes=3", "--logs=json"]
    assert bare == [*serve, "--logs=auto"]


@pytest.mark.parametrize("wrong", ["0", "65", "-1"])
def test_a_number_of_processes_that_cannot_be_is_refused(wrong: str, capsys: Captured) -> None:
    """With its bounds, and with everything else that is wrong."""
    assert run_command(["serve", f"--processes={wrong}"]) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "FLASHSALE_HTTP_PROCESSES: must be a whole number from 1 to 64" in told
    assert "FLASHSALE_GATE_URL: memory://" in told


def test_what_is_away_is_one_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """An operator reads what is away and what to start."""
    monkeypatch.setenv("FLASHSALE_HTTP_PORT", str(DEAD_PORT))
    assert run_command(["sale", "list"]) == EXIT_FAILED
    err = capsys.readouterr().err
    assert "nothing answers at http://127.0.0.1:1" in err
    assert len(err.splitlines()) == 1


def test_a_gate_in_memory_sends_sale_commands_over_http(capsys: Captured) -> None:
    """Its books live in another process; a second gate here would sell the stock twice."""
    assert run_command(["gate", "rebuild", "--yes-processes-are-stopped"]) == EXIT_FAILED
    assert "inside `flashsale run`" in capsys.readouterr().err


def test_a_url_without_http_is_refused(capsys: Captured) -> None:
    """A file:// URL must not be read."""
    assert run_command(["sale", "list", "--url", "file:///etc/passwd"]) == EXIT_FAILED
    assert "http://" in capsys.readouterr().err


def test_settings_are_shown_masked_with_their_source(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """What is in force, from where, and no secret."""
    monkeypatch.setenv("FLASHSALE_ADMIN_TOKEN", "swordfish")
    monkeypatch.setenv("FLASHSALE_DATABASE_URL", "sqlite+aiosqlite:///x.db")
    assert run_command(["settings"]) == 0
    table = capsys.readouterr().out
    assert run_command(["settings", "--json"]) == 0
    rows = {row["setting"]: row for row in json.loads(capsys.readouterr().out)}
    assert run_command(["settings", "--explain"]) == 0
    assert "Port that the HTTP API listens on" in capsys.readouterr().out
    assert "swordfish" not in table + str(rows)
    assert rows["FLASHSALE_DATABASE_URL"]["source"] == "environment"
    assert rows["FLASHSALE_HTTP_PORT"] == {
        "setting": "FLASHSALE_HTTP_PORT",
        "value": "8080",
        "source": "default",
    }
    assert "sqlite+aiosqlite:///x.db" in table


def test_db_current_tells_a_script_whether_to_upgrade(capsys: Captured, tmp_path: Path) -> None:
    """Exit code 1 until the tables are what this version needs; looking makes no file."""
    assert run_command(["db", "current"]) == EXIT_FAILED
    assert "flashsale db upgrade" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()
    assert run_command(["db", "upgrade"]) == 0
    assert run_command(["db", "upgrade"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run_command(["db", "current", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["isCurrent"]
    assert told["current"] == told["needed"]


def test_db_sql_writes_the_tables_and_touches_nothing(capsys: Captured, tmp_path: Path) -> None:
    """Whoever may not let us change the database reads it first."""
    assert run_command(["db", "sql"]) == 0
    assert "CREATE TABLE" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


async def park(database_url: str, *messages: ParkedMessage) -> None:
    """Have messages set aside in a file."""
    async with open_file_database(database_url, DatabaseOptions(pool_size=2)) as database:
        await database.parked.park(messages)


def test_dead_letters_are_listed_and_shown_with_their_bytes(capsys: Captured) -> None:
    """An operator sees what came, from where, and why it never can succeed; no broker is asked."""
    assert run_command(["dead-letters", "list"]) == 0
    assert capsys.readouterr().out == "no dead letters\n"
    message = Message(
        channel=Channel.REQUESTS,
        body=b"\x1b[2Jnonsense",
        key=b"k",
        headers=(("source", b"shop"),),
        origin="requests:0:7",
        written_at_ms=1_700_000_000_000,
    )
    dead = ParkedMessage(
        message=message, status=ParkedStatus.DEAD, reason="bad-framing", detail="no magic byte"
    )
    waiting = ParkedMessage(
        message=attrs.evolve(message, origin="requests:0:8"),
        status=ParkedStatus.WAITING,
        reason="not-armed",
    )
    asyncio.run(park(Settings().database_url.text, dead, waiting))
    assert run_command(["dead-letters", "list"]) == 0
    [_, row] = capsys.readouterr().out.splitlines()
    for word in ("DEAD", "bad-framing", "no magic byte", "requests:0:7"):
        assert word in row
    assert run_command(["dead-letters", "list", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    shown = ["dead-letters", "show", str(listed["id"])]
    assert run_command(shown) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "nonsense" in told
    assert "header source: 'shop'" in told
    assert run_command([*shown, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert b64decode(whole["bodyBase64"]) == message.body
    assert whole["headers"] == [{"name": "source", "valueBase64": "c2hvcA=="}]
    assert whole["writtenAt"] == "2023-11-14T22:13:20.000Z"
    assert listed.items() <= whole.items()
    assert run_command(["dead-letters", "list", "--before", str(listed["id"])]) == 0
    assert capsys.readouterr().out == "no dead letters\n"
    assert run_command(["dead-letters", "show", "999"]) == EXIT_FAILED
    assert "no message was ever parked under 999" in capsys.readouterr().err


def test_schemas_are_listed_and_shown(capsys: Captured) -> None:
    """A team of another language takes the schema from here."""
    assert run_command(["schema", "show"]) == 0
    assert "ch.luimode.flashsale.PurchaseRequest" in capsys.readouterr().out.splitlines()
    assert run_command(["schema", "show", "PurchaseRequest"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "PurchaseRequest"
    assert run_command(["schema", "show", "Nothing"]) == EXIT_FAILED
    assert run_command(["schema", "register"]) == EXIT_FAILED
    assert "FLASHSALE_SCHEMA_REGISTRY_URL is not set" in capsys.readouterr().err


def test_both_desks_print_what_the_http_api_answers() -> None:
    """A script reads the same JSON whether the command went over HTTP or not."""
    books = GateBooks(
        state=SaleState.OPEN,
        initial=1,
        available=1,
        reserved=0,
        outside=0,
        queued=0,
        sold=0,
        records=0,
        users=0,
        journal=0,
    )
    sale = Sale(
        item_id=ItemId("1"),
        round=1,
        terms=SaleTerms(units=1),
        state=SaleState.OPEN,
        epoch=Epoch(1),
        armed_epoch=Epoch(1),
        available=1,
        pending=0,
        sold=0,
    )
    view = PurchaseView(
        purchase_id=PurchaseId("p"),
        sale_id=SaleId("1.1"),
        quantity=1,
        status=PurchaseStatus.ACCEPTED,
    )
    shown = {
        answers.Sale: sale_json(SaleView(sale=sale, gate=books)),
        answers.Gate: gate_json(books),
        answers.Purchase: purchase_json(view),
    }
    for kind, written_out in shown.items():
        assert list(written_out) == list(kind.__struct_encode_fields__)


def test_outcomes_that_log_no_line_are_outcomes_that_exist() -> None:
    """A renamed outcome must not make the crowd's answers write a line each."""
    assert set(BY_CODE) | {"accepted"} >= QUIET_OUTCOMES | UNAVAILABLE_OUTCOMES


@pytest.mark.parametrize(
    "text", ["2026-11-27T18:00:00Z", "2026-11-27T19:00:00+01:00", "1795802400000"]
)
def test_times_are_read_with_their_offset(text: str) -> None:
    """An opening time means one moment, whoever types it."""
    assert written(moment_ms(text)) == "2026-11-27T18:00:00.000Z"


@pytest.mark.parametrize("text", ["2026-11-27T18:00:00", "tomorrow", "", "-5"])
def test_a_time_without_an_offset_is_none(text: str) -> None:
    """A local time would open the sale at another moment on another machine."""
    with pytest.raises(ValueError, match="offset"):
        moment_ms(text)


def test_every_secret_of_the_settings_is_kept_from_the_log() -> None:
    """Passwords inside URLs count, as they stand there and decoded."""
    settings = Settings(gate_url=Url("redis://u:p%40ss@h"), admin_token=Secret("swordfish"))
    assert set(secrets_of(settings)) == {"swordfish", "p%40ss", "p@ss"}
