"""One line for many alike: what fails again and again is said at once, and then now and then."""

from collections.abc import Callable
from typing import Any

import structlog

EVERY_S = 5.0
"""Between two lines of one outage: a person who watches sees that it lasts, and can read on."""


class Seldom:
    """Writes that something waits, and that it goes on, however often it is told so.

    The first line comes at once. A later one tells how many were held back since the last.
    """

    def __init__(
        self,
        log: structlog.typing.FilteringBoundLogger,
        waits: str,
        goes_on: str,
        *,
        now_ms: Callable[[], float],
        every_s: float = EVERY_S,
    ) -> None:
        """Name the two events; `now_ms` is monotonic."""
        self._log = log
        self._waits = waits
        self._goes_on = goes_on
        self._now_ms = now_ms
        self._every_ms = every_s * 1_000
        self._written_ms = float("-inf")
        self._held_back = 0
        self._since_ms: float | None = None
        """When it was first told of what lasts; None while it goes on, or nobody was told."""

    def waits(self, **facts: Any) -> None:
        """Hear that it waits, and why."""
        now_ms = self._now_ms()
        if now_ms - self._written_ms < self._every_ms:
            self._held_back += 1
            return
        if self._held_back:
            facts["held_back"] = self._held_back
        if self._since_ms is None:
            self._since_ms = now_ms
        self._written_ms, self._held_back = now_ms, 0
        self._log.warning(self._waits, **facts)

    def goes_on(self) -> None:
        """Hear that it does not wait, or no longer."""
        if self._since_ms is None:
            return
        waited_s = round((self._now_ms() - self._since_ms) / 1_000, 1)
        held_back = {"held_back": self._held_back} if self._held_back else {}
        self._log.info(self._goes_on, waited_s=waited_s, **held_back)
        self._since_ms, self._held_back = None, 0
