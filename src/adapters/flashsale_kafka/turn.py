"""Whose turn it is: the partitions of one topic, one after the other, the silent ones skipped."""

import time
from collections.abc import Callable, Collection

SUSPECT_S = 5.0
"""How long a partition whose confirm did not come is passed over. An election takes a few seconds,
and until it is known, aiokafka still believes in the leader that is gone.
"""


class Turn:
    """Deals partitions out in turn."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin with the first partition."""
        self._monotonic = monotonic
        self._last = -1
        self._suspect_until: dict[int, float] = {}

    def next(self, partitions: Collection[int], with_leader: Collection[int]) -> int:
        """Name the next partition that has a leader and is not suspect.

        Where there is none, the next that has a leader; and else the next: then it is the
        deadline that answers.
        """
        now = self._monotonic()
        trusted = {p for p in with_leader if self._suspect_until.get(p, 0.0) <= now}
        candidates = sorted(trusted or with_leader or partitions)
        later = [partition for partition in candidates if partition > self._last]
        self._last = later[0] if later else candidates[0]
        return self._last

    def suspect(self, partition: int) -> None:
        """Pass a partition over for a while: its confirm did not come in time."""
        self._suspect_until[partition] = self._monotonic() + SUSPECT_S

    def trust(self, partition: int) -> None:
        """Take a partition again: it confirmed."""
        self._suspect_until.pop(partition, None)
