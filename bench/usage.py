"""CPU time and memory of processes, as the kernel counts them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import attrs
import psutil

MICRO = 1_000_000
REDIS = "redis"
REWRITES = "redis, rewriting its file"
MIB = 1024 * 1024


@attrs.frozen
class Usage:
    """CPU seconds of each process so far, by its name; a server counts with its children."""

    seconds: Mapping[str, float]

    def since(self, before: Usage, count: float) -> dict[str, float]:
        """Say how many microseconds each has used per purchase since then."""
        return {
            name: (now - before.seconds.get(name, 0.0)) / max(count, 1) * MICRO
            for name, now in self.seconds.items()
        }


def usage_of(pids: Mapping[str, int]) -> Usage:
    """Look at processes and all their descendants.

    Redis rewrites its file in a child now and then, all at once: that is counted by itself.
    """
    seconds = {name: _seconds(pid) for name, pid in pids.items()}
    if REDIS in pids:
        alone = _own_seconds(pids[REDIS])
        seconds[REWRITES], seconds[REDIS] = seconds[REDIS] - alone, alone
    return Usage(seconds)


def _own_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user) + float(times.system)


def rss_mib(pid: int) -> float:
    """Say how much memory a process holds, its children included."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return float(sum(one.memory_info().rss for one in family)) / MIB


def _seconds(pid: int) -> float:
    process = psutil.Process(pid)
    total: float = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            # Those who ended meanwhile count with the parent who waited for them.
            # User and system, and both of the children that are gone.
            parts: list[float] = [float(part) for part in times[:4]]
            total += sum(parts)
    return total
