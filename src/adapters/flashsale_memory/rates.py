"""How often users and addresses asked, counted in memory."""

from collections.abc import Sequence

import attrs

from flashsale_core.outcomes import RateLimited
from flashsale_core.ports import Claim
from flashsale_core.rates import RateLimits


@attrs.define
class Window:
    """One sale's counts, begun anew when their time is over."""

    limits: RateLimits
    ends_ms: int = 0
    counts: dict[tuple[str, str], int] = attrs.field(factory=dict)

    def refuse(self, claim: Claim, now_ms: int) -> RateLimited | None:
        """Count a new claim, or refuse it: what was refused so does not count."""
        if now_ms >= self.ends_ms:
            self.ends_ms, self.counts = now_ms + self.limits.window_ms, {}
        counted = self._counted(claim)
        if any(self.counts.get(field, 0) >= most for field, most in counted):
            return RateLimited(retry_after_ms=self.ends_ms - now_ms)
        for field, _ in counted:
            if field in self.counts or len(self.counts) < self.limits.fields_max:
                self.counts[field] = self.counts.get(field, 0) + 1
        return None

    def _counted(self, claim: Claim) -> Sequence[tuple[tuple[str, str], int]]:
        counted = []
        if self.limits.per_user:
            counted.append((("user", str(claim.request.user_id)), self.limits.per_user))
        if self.limits.per_address and claim.address is not None:
            counted.append((("address", claim.address), self.limits.per_address))
        return counted
