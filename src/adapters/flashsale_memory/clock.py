"""The machine's clock, as the core asks for it."""

import time

from flashsale_core.ports import Clock


class SystemClock:
    """Wall clock and monotonic clock of this machine."""

    def now_ms(self) -> int:
        """Tell UTC in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Tell milliseconds of a clock that never steps."""
        return time.monotonic() * 1_000


_: type[Clock] = SystemClock
