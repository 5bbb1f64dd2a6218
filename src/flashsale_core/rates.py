"""How often one buyer, and one address, may ask for something new."""

import attrs

WINDOW_MS = 10_000
"""Long enough to stop a loop, short enough that a person who was in a hurry only waits a moment."""
FIELDS_MAX = 100_000
"""Users and addresses that one window counts, some 10 MB. Who comes new after them is let in
uncounted: a crowd of invented names must not own the gate's memory, nor lock real buyers out."""


@attrs.frozen(kw_only=True)
class RateLimits:
    """New purchases that a gate judges in one window of one sale; 0 leaves that kind unlimited."""

    per_user: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    per_address: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    window_ms: int = attrs.field(default=WINDOW_MS, validator=attrs.validators.ge(1))
    fields_max: int = attrs.field(default=FIELDS_MAX, validator=attrs.validators.ge(0))

    @property
    def are_on(self) -> bool:
        """Say whether anything is counted at all."""
        return self.per_user > 0 or self.per_address > 0
