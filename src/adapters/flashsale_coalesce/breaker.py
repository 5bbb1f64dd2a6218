"""Asks a server that keeps silent no more than it must: closed, open, one call that probes.

Nobody waits behind a server that is gone: after the first call that was left without an answer
all others are refused at once, but for one at a time that finds out whether it is back. The
first may do so at once, so that a hiccup costs no more than a round trip.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from flashsale_core.errors import Unavailable, Why

T = TypeVar("T")

PROBE_APART_S = 0.25
"""Between a probe that failed and the next: a server that is back is used again within this."""
PROBE_S_MAX = 1.0
"""After so long without an answer another call may probe too: some calls wait for many seconds."""


class Told(Protocol):
    """Hears how a breaker stands."""

    def __call__(self, name: str, *, is_open: bool, detail: str) -> None:
        """Hear that it opened or closed, and why."""


def _nobody(name: str, *, is_open: bool, detail: str) -> None:
    pass


class Breaker:
    """Stands before all calls of one process to one server, in one event loop."""

    def __init__(
        self,
        name: str,
        why: Why,
        *,
        told: Told = _nobody,
        apart_s: float = PROBE_APART_S,
        probe_s_max: float = PROBE_S_MAX,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed. `why` is what the server's adapter raises when it is away."""
        self._name = name
        self._why = why
        self._told = told
        self._apart_s = apart_s
        self._probe_s_max = probe_s_max
        self._now_s = now_s
        self._is_open = False
        self._detail = ""
        self._heard_at_s = float("-inf")
        self._probe_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """Say whether calls are refused."""
        return self._is_open

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        probe: Callable[[], Awaitable[object]] | None = None,
    ) -> T:
        """Make the call, or raise Unavailable at once without it; nothing has happened then.

        `probe` asks, before the first call, a server that was silent a question that does nothing:
        what a call takes on a server that hangs is taken when it goes on.
        """
        if self._is_open:
            self._take_seat()
            if probe is not None:
                await self._asked(probe)
        began_s = self._now_s()
        try:
            result = await call()
        except Unavailable as away:
            self._judge(away, began_s)
            raise
        if isinstance(result, Unavailable):
            self._judge(result, began_s)
        else:
            self.heard()
        return result

    async def watch(self, look: Callable[[], Awaitable[None]]) -> None:
        """Take a look that is never refused; one that succeeds closes the breaker."""
        await look()
        self.heard()

    def heard(self) -> None:
        """Note that the server answered."""
        self._heard_at_s = self._now_s()
        if self._is_open:
            self._is_open = False
            self._told(self._name, is_open=False, detail=self._detail)

    def _take_seat(self) -> None:
        """Be the one that probes, or be refused."""
        now_s = self._now_s()
        if now_s < self._probe_at_s:
            raise Unavailable(self._why, f"not asked again yet: {self._detail}")
        self._probe_at_s = now_s + self._probe_s_max

    async def _asked(self, probe: Callable[[], Awaitable[object]]) -> None:
        began_s = self._now_s()
        try:
            await probe()
        except Unavailable as away:
            self._judge(away, began_s)
            if self._is_open:
                # The question was lost; the call itself never left.
                raise Unavailable(away.why, away.detail) from away
        else:
            self.heard()

    def _judge(self, away: Unavailable, began_s: float) -> None:
        """Weigh a failure: only silence counts, and none that another answer has overtaken."""
        if away.why is not self._why:
            return
        if away.was_refused:
            self.heard()
        elif self._heard_at_s <= began_s:
            self._open(away.detail)

    def _open(self, detail: str) -> None:
        self._detail = detail
        if self._is_open:
            self._probe_at_s = self._now_s() + self._apart_s
            return
        self._is_open = True
        self._probe_at_s = self._now_s()
        self._told(self._name, is_open=True, detail=detail)
