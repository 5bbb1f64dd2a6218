"""The steps that look, for metrics and logs, and change nothing."""

from collections.abc import Callable

import attrs

from flashsale_prometheus import Sampler


@attrs.frozen(kw_only=True)
class Summaries:
    """Writes a line a second about the answers that write none of their own."""

    summarise: Callable[[], None]
    every_s: float

    async def step(self) -> float:
        """Write it, where there was anything."""
        self.summarise()
        return self.every_s


@attrs.frozen(kw_only=True)
class Samples:
    """Reads what no event tells into the metrics."""

    sampler: Sampler
    every_ms: int

    async def step(self) -> float:
        """Read everything once."""
        await self.sampler.sample()
        return self.every_ms / 1_000
