"""The metrics of several processes that answer as one, by the client's own multiprocess mode.

Each process writes its counters and histograms into mapped files of a folder that all share, and
whoever is asked reads them all. A file belongs to a place, not to a process: whoever takes the
place of one that died counts on from where that one stopped, so no sum ever falls.
"""

import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from flashsale_prometheus.catalogue import Across

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where the client looks for the folder whenever it opens a file."""
ROOM_BYTES = 2**19
"""What a file gets at its begin: thousands of counters, where the engine has some hundred."""
_KINDS = ("counter", "histogram", "gauge_livemax", "gauge_livemin")
_READ = ("counter_*.db", "histogram_*.db", "gauge_live*.db")
_Mode = Literal["all", "livemax", "livemin"]


def gauge_mode(across: Across) -> _Mode:
    """Say it in the client's words; without a shared registry it means nothing."""
    match across:
        case Across.HIGHEST:
            return "livemax"
        case Across.LOWEST:
            return "livemin"
        case _:
            return "all"


class SharedRegistry(CollectorRegistry):
    """A registry whose page is that of all processes which share its folder.

    It changes what every metric of this process is made of, so make it before any metric and once.
    An increment costs 0.6 instead of 0.3 µs. The place must be free: two processes that live in one
    at the same time would spoil each other's counts.
    """

    def __init__(self, folder: Path, place: int) -> None:
        """Take this place; its last owner's counts stay, what it last saw is forgotten.

        Raises OSError where the folder has no room.
        """
        super().__init__()
        self._folder = folder
        mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]
        for kind in _KINDS:
            _give_room(folder / f"{kind}_{place}.db")
        os.environ[FOLDER_VARIABLE] = str(folder)
        shared = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
        values.ValueClass = partial(_value, shared)
        # Only what is in no file is ever removed, and there removing works.
        warnings.filterwarnings("ignore", "(Removal of|Clearing) labels", UserWarning)

    def collect(self) -> Iterable[Metric]:
        """Read what all have written; what is `own` comes from this process alone."""
        files = [str(file) for kind in _READ for file in self._folder.glob(kind)]
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        of_all = {metric.name: metric.samples for metric in merged}
        for metric in super().collect():
            metric.samples = of_all.get(metric.name, metric.samples)
            yield metric


def _give_room(file: Path) -> None:
    """Take the disk's blocks now: a mapped file that finds none later ends its process."""
    with file.open("ab") as opened:
        os.posix_fallocate(opened.fileno(), 0, ROOM_BYTES)


def leave(folder: Path, place: int) -> None:
    """Take this place's files away, and the folder after the last; where nobody else will."""
    for file in folder.glob(f"*_{place}.db"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _value(shared: Any, kind: str, *about: Any, multiprocess_mode: str = "", **more: Any) -> Any:
    """Keep a number in a file, or in this process where nobody else is to see it."""
    made_of = values.MutexValue if multiprocess_mode == gauge_mode(Across.OWN) else shared
    return made_of(kind, *about, multiprocess_mode=multiprocess_mode, **more)
