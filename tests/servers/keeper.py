"""End what a test run started, even if the run itself was killed.

A small process reads from a pipe. When the pipe closes, its parent is gone, however that came
about; then it kills the processes that carry one of the marks it was told (mirakuru puts a mark
into the environment of each process that it starts) and removes their folders. After an orderly
end there is nothing left for it to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_pipe: int | None = None
_one_at_a_time = threading.Lock()


def watch(mark: str, folder: Path) -> None:
    """Have the processes with this mark ended, and the folder removed, when we are gone."""
    global _pipe  # noqa: PLW0603  (one keeper per process)
    with _one_at_a_time:
        if _pipe is None:
            _pipe = _start()
        os.write(_pipe, f"{mark}\t{folder}\n".encode())


def _start() -> int:
    """Start the keeper and return our end of its pipe, which is never closed before we end."""
    theirs, ours = os.pipe()
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=theirs,
        # Ctrl-C reaches the whole group of the terminal; the keeper must outlive it.
        start_new_session=True,
    )
    os.close(theirs)
    # It ends after us, so nobody waits for it.
    keeper.returncode = 0
    return ours


def processes_marked(marks: set[str]) -> list[int]:
    """Return the ids of the processes that carry one of the marks."""
    wanted = {f"mirakuru_uuid={mark}".encode() for mark in marks}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted & set((entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
    return found


def _keep() -> None:
    told = [line.rstrip("\n").split("\t") for line in sys.stdin]
    marks = {mark for mark, _ in told}
    while processes := processes_marked(marks):
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        # A folder is removed only when nobody writes into it any more.
        time.sleep(0.05)
    for _, folder in told:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep()
