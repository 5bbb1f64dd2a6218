"""What a process of `flashsale serve --processes N` gets from the parent that began it.

A place among its siblings, a socket of its own on the port that all share, a folder for their
counts, and a line to the parent. The line says two things: one byte from here, that this process
serves; its end from there, that the parent is gone, whatever ended it.
"""

import json
import os
import signal
import socket
import threading
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

import attrs
import structlog

from flashsale.stopping import API_STOP_S, OVERDUE_MARGIN_S, end_within

VARIABLE = "_FLASHSALE_ONE_OF_SEVERAL"
"""Carries it all; no setting, because nobody but the parent can know what it says."""
SERVES = b"s"


@attrs.frozen(kw_only=True)
class OneOfSeveral:
    """A process among several; the sockets are file descriptors that it inherited."""

    place: int
    """From 1 on: in logs, and in the names of its files."""
    listener: int
    """Bound, and listening when this process does."""
    line: int
    folder: Path
    _orphaned: threading.Event = attrs.field(factory=threading.Event, init=False)

    @property
    def is_orphan(self) -> bool:
        """Say whether the parent is gone, so that nobody takes the folder away."""
        return self._orphaned.is_set()

    def variable(self) -> dict[str, str]:
        """Write it as the environment of the process."""
        parts = {"place": self.place, "listener": self.listener, "line": self.line}
        return {VARIABLE: json.dumps({**parts, "folder": str(self.folder)})}

    def own_listener(self) -> socket.socket:
        """Take the socket on the shared port."""
        os.set_inheritable(self.listener, False)  # noqa: FBT003 - the standard library's signature
        return socket.socket(fileno=self.listener)

    def tell_serving(self) -> None:
        """Tell the parent that buyers are served here."""
        with suppress(BrokenPipeError):
            os.write(self.line, SERVES)

    def follow_parent(self) -> None:
        """End in good order when the parent is gone, from a thread that a busy loop cannot stop."""
        os.set_inheritable(self.line, False)  # noqa: FBT003 - the same
        threading.Thread(target=self._follow, name="parent", daemon=True).start()

    def _follow(self) -> None:
        while os.read(self.line, 1):
            """It says nothing; only its end is heard."""
        self._orphaned.set()
        structlog.get_logger("flashsale").warning("the parent is gone", process=self.place)
        end_within(API_STOP_S - OVERDUE_MARGIN_S)
        os.kill(os.getpid(), signal.SIGTERM)


def one_of_several(environment: MutableMapping[str, str] = os.environ) -> OneOfSeveral | None:
    """Tell what the parent handed over, and take it out of the environment; None without one."""
    handed = environment.pop(VARIABLE, None)
    if handed is None:
        return None
    parts = json.loads(handed)
    return OneOfSeveral(**{**parts, "folder": Path(parts["folder"])})
