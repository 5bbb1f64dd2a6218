"""The page of commands, from the tree that the command line is made of."""

import re
import sys
from unittest.mock import patch

from flashsale.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from flashsale.commands.app import build_app

HEAD = f"""\
# Command line

`flashsale COMMAND`, or `python -m flashsale COMMAND`. Every command reads the same
[settings](settings.md), from the environment and from the file that `FLASHSALE_CONFIG` names.

| exit code | means |
|---|---|
| 0 | done |
| {EXIT_FAILED} | it cannot be done; standard error says why in one line |
| {EXIT_USAGE} | the command was typed wrong |
| {EXIT_INTERRUPTED} | interrupted |

A traceback is a mistake of Flashsale itself. `flashsale --install-completion` teaches your
shell the commands.
"""
END = "\nThis page is written by `python -m docs.written` from `flashsale/commands/`.\n"
FIRST = "## flashsale run"


def page() -> str:
    """Write the page: one section a command, without the library's own head and contents."""
    # The library shows how it was called, and it was not called as `flashsale`.
    with patch.object(sys, "argv", ["flashsale"]):
        whole = build_app().generate_docs(output_format="markdown")
    sections = whole[whole.index(FIRST) :]
    own = re.split(r"^## flashsale --install-completion$", sections, flags=re.MULTILINE)[0]
    tidy = re.sub(r"\n{3,}", "\n\n", own.replace("```console", "```text"))
    return f"{HEAD}\n{tidy.rstrip()}\n{END}"
