"""The command line's door: imports the commands only when they are called, and ends with a code.

Exit codes: 0 done · 1 it cannot be done, and standard error says why in one line · 2 the command
was typed wrong · 130 interrupted. A traceback means a mistake in Flashsale itself.
"""

import sys
from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells write it."""


def main(tokens: Sequence[str] | None = None) -> None:
    """Run one command and exit; without `tokens`, the one that was typed."""
    try:
        from flashsale.commands.app import run_command  # noqa: PLC0415 - the extra may be missing
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("flashsale"):
            raise
        needs = f"needs {missing.name}, which is not installed: pip install 'flashsale[cli]'"
        sys.exit(f"flashsale: the command line {needs}")
    sys.exit(run_command(sys.argv[1:] if tokens is None else tokens))
