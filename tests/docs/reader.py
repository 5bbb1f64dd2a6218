"""A reader who types what a page says, block by block, and looks whether it answers as shown.

`sh` is typed in the reader's own shell, which lives through the page. `sh terminal 1` is typed in
another terminal and goes on there; a second block for the same terminal means Ctrl-C first. A
`text shown` block is what the `sh` block before it must have printed, `…` standing for anything.
`sh processes stopped` is `sh` for which the page asks that no process of the engine runs: what the
shell has left running is ended before.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from tests.docs.pages import Block, blocks

SHELL = {"sh", "sh processes stopped"}
TERMINAL = re.compile(r"sh terminal (\d)")
SHOWN = "text shown"
BLOCK_S_MAX = 90
STARTED = re.compile("Flashsale is open|export FLASHSALE_SCHEMA_REGISTRY_URL")
"""What a terminal shows when the reader may go on."""
AS_PRINTED = "127.0.0.1:8080"
"""Pages name the default port; here others may use it."""
TICK_S = 0.05


def is_typed(info: str) -> bool:
    """Say whether a block with this info is typed by the reader."""
    return info in SHELL or TERMINAL.fullmatch(info) is not None


@attrs.define
class Reader:
    """Somebody with a shell, other terminals, and a folder of their own."""

    folder: Path
    env: dict[str, str]
    port: int
    shell: subprocess.Popen[bytes]
    terminals: dict[str, subprocess.Popen[bytes]] = attrs.field(factory=dict)
    typed: int = 0

    def read(self, page: Path) -> None:
        """Type a page from its beginning to its end."""
        printed = ""
        for block in blocks(page):
            where = f"{page.name}:{block.line}"
            terminal = TERMINAL.fullmatch(block.info)
            if terminal:
                self.type_there(terminal[1], block.text, where)
            elif block.info in SHELL:
                if block.info != "sh":
                    self.end_processes()
                printed = self._run(block.text, where)
            elif block.info == SHOWN:
                _look(block, printed, where)

    def end_processes(self) -> None:
        """End what the shell has left running, in good order."""
        self._run("jobs -p | xargs --no-run-if-empty kill; wait", "the end of processes")

    def close(self) -> None:
        """End everything."""
        assert self.shell.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.shell.stdin.close()
        for process in [self.shell, *self.terminals.values()]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in [self.shell, *self.terminals.values()]:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def type(self, text: str) -> str:
        """Type what no page says, as what a page takes for granted; answer what was printed."""
        return self._run(text, "before the page")

    def _run(self, text: str, where: str) -> str:
        self.typed += 1
        script, done = self.folder / f"typed-{self.typed}", self.folder / f"done-{self.typed}"
        script.write_text(text.replace(AS_PRINTED, f"127.0.0.1:{self.port}"), "utf-8")
        before = self._log.stat().st_size
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"source {script} </dev/null\ntouch {done}\n".encode())
        self.shell.stdin.flush()
        until = time.monotonic() + BLOCK_S_MAX
        while not done.exists():
            printed = self._log.read_bytes()[before:].decode(errors="replace")
            assert self.shell.poll() is None, f"{where} failed:\n{text}\n{printed[-3000:]}"
            assert time.monotonic() < until, f"{where} does not end:\n{text}\n{printed[-3000:]}"
            time.sleep(TICK_S)
        return self._log.read_bytes()[before:].decode(errors="replace")

    def type_there(self, name: str, text: str, where: str = "before the page") -> None:
        """Type what goes on in another terminal, and wait until it says that it has started."""
        if name in self.terminals:
            os.killpg(self.terminals[name].pid, signal.SIGINT)
            self.terminals[name].wait(BLOCK_S_MAX)
        log = self.folder / f"terminal-{name}.log"
        with log.open("wb") as out:
            self.terminals[name] = process = subprocess.Popen(
                ["bash", "-c", text],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + BLOCK_S_MAX
        while not STARTED.search(log.read_text()):
            assert process.poll() is None, f"{where} ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < until, f"{where} does not start:\n{log.read_text()[-3000:]}"
            time.sleep(TICK_S)

    @property
    def _log(self) -> Path:
        return self.folder / "shell.log"


def _look(block: Block, printed: str, where: str) -> None:
    """Find each line that a page shows, in this order."""
    rest = printed
    for line in block.text.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        found = re.search(pattern, rest)
        assert found, f"{where} shows {line!r}, and this was printed:\n{printed[-3000:]}"
        rest = rest[found.end() :]


@contextlib.contextmanager
def reader(folder: Path, settings: Mapping[str, str], servers: str = "") -> Iterator[Reader]:
    """Have a reader, in whose folder `flashsale` and `make` can be typed.

    `make run` is what it is in the Makefile, without the installation before it; `make servers`
    prints `servers`, which run already, and waits.
    """
    programs = folder / "bin"
    programs.mkdir()
    _program(programs / "flashsale", f'exec {sys.executable} -m flashsale "$@"')
    _program(
        programs / "make",
        'case "$1" in\n'
        "run) exec flashsale run ;;\n"
        f"servers) cat <<'END'\n{servers}\nEND\nexec sleep 1000 ;;\n"
        '*) echo "make $1: not for a reader"; exit 2 ;;\nesac',
    )
    activate = folder / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    # The settings that somebody gave their own curl are not the page's.
    (folder / ".curlrc").touch()
    env = {
        **settings,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "CURL_HOME": str(folder),
    }
    with (folder / "shell.log").open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-euo", "pipefail"],
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ours = Reader(folder, env, int(settings["FLASHSALE_HTTP_PORT"]), shell)
    try:
        yield ours
    finally:
        ours.close()


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n", "utf-8")
    path.chmod(0o755)
