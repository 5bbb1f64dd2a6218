"""The tree of commands, and what becomes of their failures."""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError

from flashsale.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from flashsale.commands import (
    databases,
    dead_letters,
    gates,
    inspection,
    payments,
    processes,
    purchases,
    sales,
    schemas,
    topics,
)
from flashsale.commands.console import CommandFailed, complain
from flashsale.entry_points import AdapterMissing
from flashsale.settings_loading import SettingsError
from flashsale_core.errors import Conflict, FlashsaleError, Invalid, Unavailable

HELP = """\
Sells a fixed number of units to a crowd that wants far more.

Settings come from `FLASHSALE_…` variables and from the TOML file that `FLASHSALE_CONFIG` names;
`flashsale settings` shows them all. Without any, `flashsale run` needs no server: start it, and
in another terminal type

- `flashsale sale create --item 7 --stock 1000`
- `flashsale buy --user 101 --item 7`
"""
EXPECTED = (FlashsaleError, SettingsError, AdapterMissing, CommandFailed)
"""What a command may fail with by no mistake of ours: one line, no traceback."""


EXTRA_OF = {
    "aio_pika": "rabbitmq",
    "aiokafka": "kafka",
    "aiosqlite": "sqlite",
    "alembic": "postgres",
    "asyncpg": "postgres",
    "avro": "contracts",
    "confluent_kafka": "registry",
    "fastavro": "avro",
    "granian": "http",
    "httpx": "payment",
    "litestar": "http",
    "msgspec": "http",
    "redis": "redis",
    "sqlalchemy": "postgres",
}
"""Which extra of ours brings a library; for any other, all of them do."""


def build_app() -> App:
    """Make the tree of commands; nothing is opened or read yet."""
    app = App(
        name="flashsale",
        help=HELP,
        help_format="markdown",
        version=_version,
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
    )
    for command in (*processes.COMMANDS, *inspection.COMMANDS, purchases.buy):
        app.command(command)
    for group in (sales, purchases, gates, topics, databases, schemas, dead_letters, payments):
        app.command(group.build())
    app.register_install_completion_command()
    return app


def run_command(tokens: Sequence[str]) -> int:
    """Run one command; answer its exit code."""
    if not logging.getLogger().handlers:
        # What a driver logs of a failure would stand beside our own line about it, and on the
        # same stream. A process sets its logs up itself.
        logging.getLogger().addHandler(logging.NullHandler())
    app = build_app()
    try:
        command, bound, _ = app.parse_args(list(tokens), print_error=False, exit_on_error=False)
    except CycloptsError as wrong:
        complain(f"{_usage(wrong)} (flashsale --help)")
        return EXIT_USAGE
    return _guarded(lambda: command(*bound.args, **bound.kwargs))


def _guarded(call: Callable[[], object]) -> int:
    try:
        done = call()
        code = asyncio.run(done) if asyncio.iscoroutine(done) else done
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; nothing is wrong.
        sys.stdout = None
        return EXIT_FAILED
    except EXPECTED as expected:
        complain(_line_of(expected))
        return EXIT_FAILED
    except ImportError as missing:
        if (missing.name or "").startswith("flashsale"):
            raise
        complain(_missing(missing))
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


def _line_of(expected: Exception) -> str:
    match expected:
        case Unavailable():
            return f"{expected.detail or expected.why.value} ({expected.why.value})"
        case Conflict() | Invalid():
            return expected.detail
        case _:
            return str(expected)


def _missing(missing: ImportError) -> str:
    """Name the extra that brings what is missing, unless the error does so itself."""
    if "pip install" in str(missing):
        return str(missing)
    top = (missing.name or "").partition(".")[0]
    extra = EXTRA_OF.get(top, "all")
    return f"this needs {top or missing}, which is not installed: pip install 'flashsale[{extra}]'"


def _usage(wrong: CycloptsError) -> str:
    return " ".join(str(wrong).split())


def _version() -> str:
    try:
        return version("flashsale")
    except PackageNotFoundError:
        return "unknown (not installed)"
