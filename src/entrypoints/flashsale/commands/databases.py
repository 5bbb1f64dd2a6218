"""`flashsale db`: the database's tables."""

import sys

from cyclopts import App

from flashsale.cli import EXIT_FAILED
from flashsale.commands.configured import command_settings, database_operator, nothing_to_do
from flashsale.commands.console import Json, say, write_json
from flashsale_core.operating import DatabaseOperator


def build() -> App:
    """Make the group of commands."""
    app = App(name="db", help="Make, mend and look at the database's tables.")
    for command in (upgrade, current, sql):
        app.command(command)
    return app


def _operator() -> DatabaseOperator:
    settings = command_settings()
    operator = database_operator(settings)
    if operator is None:
        raise nothing_to_do("FLASHSALE_DATABASE_URL", settings.database_url)
    return operator


async def upgrade() -> None:
    """Make the tables, or bring them to what this version needs; harmless when they are current.

    Example: `flashsale db upgrade`
    """
    operator = _operator()
    before = await operator.current()
    await operator.upgrade()
    after = await operator.current()
    said = "nothing to do:" if before == after else f"from {before or 'no tables'}:"
    say(f"{said} the tables are at revision {after}")


async def current(*, json: Json = False) -> int:
    """Tell which revision the tables are at; exit code 1 when this version needs another.

    Example: `flashsale db current`
    """
    operator = _operator()
    found, needed = await operator.current(), operator.needed
    is_current = found == needed
    if json:
        write_json({"current": found, "needed": needed, "isCurrent": is_current})
    elif is_current:
        say(f"the tables are at revision {found}, as this version needs them")
    else:
        at = f"at revision {found}" if found else "missing"
        say(f"the tables are {at}; this version needs {needed}: flashsale db upgrade")
    return 0 if is_current else EXIT_FAILED


def sql() -> None:
    """Write the SQL that makes the tables from nothing, for whoever must read or run it.

    Example: `flashsale db sql | psql`
    """
    sys.stdout.write(_operator().sql())
