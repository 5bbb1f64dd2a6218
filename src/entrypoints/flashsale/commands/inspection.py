"""`flashsale settings` and `flashsale doctor`: what is configured, and whether it works."""

from typing import Annotated

from cyclopts import Parameter

from flashsale.cli import EXIT_FAILED
from flashsale.commands.console import STYLES, Json, say, write_json, write_table
from flashsale.doctor import examine
from flashsale.settings import Entrypoint
from flashsale.settings_loading import read_settings
from flashsale_core.operating import Finding, Verdict

WIDTH = 9
"""Of the longest verdict, and two spaces."""


def settings(
    *,
    explain: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Say what each setting is, and its default."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Show every setting, secrets masked, and where its value comes from.

    Example: `flashsale settings --explain`
    """
    rows = read_settings(Entrypoint.COMMAND).rows()
    if json:
        known = [
            {"setting": row.variable, "value": row.value, "source": row.source} for row in rows
        ]
        write_json(known)
    elif explain:
        for row in rows:
            say(f"{row.variable}={row.value}  ({row.source})")
            say(f"    {row.help}" + (f" Default: {row.default}" if row.default else ""))
    else:
        write_table(
            ("setting", "value", "source"), [(row.variable, row.value, row.source) for row in rows]
        )


async def doctor(*, json: Json = False) -> int:
    """Look at settings, gate, bus, database and registry; say what is wrong and what mends it.

    Changes nothing. Exit code 1 when anything is wrong; a warning is not.

    Example: `flashsale doctor`
    """
    findings = await examine()
    if json:
        write_json([_json(one) for one in findings])
    else:
        for one in findings:
            say(_line(one), style=STYLES[one.verdict] if one.verdict is not Verdict.OK else "")
    return EXIT_FAILED if any(one.verdict is Verdict.WRONG for one in findings) else 0


def _line(one: Finding) -> str:
    line = one.verdict.ljust(WIDTH) + one.name + (f": {one.said}" if one.said else "")
    line = " ".join(line.splitlines())
    return f"{line}  → {one.fix}" if one.fix else line


def _json(one: Finding) -> dict[str, str]:
    return {"name": one.name, "verdict": one.verdict.value, "said": one.said, "fix": one.fix}


COMMANDS = (settings, doctor)
