"""A payment gateway inside one process: for tests, and for trying things out. It moves no money."""

from collections.abc import Callable

from flashsale_core.charges import (
    Charge,
    ChargeAnswer,
    Charged,
    Declined,
    InProgress,
    LookUpAnswer,
    NeverHeard,
)
from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.ports import PaymentGateway

DECLINED = "declined"
SLOW = "slow"
LOST = "lost"
BROKEN = "broken"


class MemoryPaymentGateway:
    """Keeps a ledger by key. A token that begins with a word of this module gets its treatment.

    `declined…` is declined; `slow…` is in progress, at its first look-up too, and then charged;
    `lost…` is charged and its first reply dropped; `broken…` is refused as a question.
    """

    def __init__(self, before: Callable[[str, str], None] = lambda _call, _key: None) -> None:
        """`before` hears of every call (`charge` or `look_up`, and the key), and may raise."""
        self.ledger: dict[str, Charged | Declined | InProgress] = {}
        self.charges: dict[str, Charge] = {}
        """What was charged, by key: a second charge of a key would be a mistake of ours."""
        self.calls: list[tuple[str, str]] = []
        self.before = before

    async def charge(self, charge: Charge) -> ChargeAnswer:
        """Charge once per key; ask again and hear the same."""
        self._hear("charge", charge.key)
        if charge.key in self.ledger:
            return self.ledger[charge.key]
        token = charge.payment_token or ""
        if token.startswith(BROKEN):
            raise Corrupt("payment-refused", "the gateway refused the question")
        if token.startswith(DECLINED):
            return self.ledger.setdefault(charge.key, Declined(reason="card-declined"))
        self.charges[charge.key] = charge
        if token.startswith(SLOW):
            return self.ledger.setdefault(charge.key, InProgress())
        self.ledger[charge.key] = Charged(reference=f"memory-{len(self.charges)}")
        if token.startswith(LOST):
            raise Unavailable(Why.PAYMENT_AWAY, "the reply was lost", may_have_happened=True)
        return self.ledger[charge.key]

    async def look_up(self, key: str) -> LookUpAnswer:
        """Say how the charge of a key stands."""
        self._hear("look_up", key)
        known = self.ledger.get(key, NeverHeard())
        if isinstance(known, InProgress):
            self.ledger[key] = Charged(reference=f"memory-slow-{key[:8]}")
        return known

    def _hear(self, call: str, key: str) -> None:
        self.calls.append((call, key))
        self.before(call, key)


_: type[PaymentGateway] = MemoryPaymentGateway
