"""What a buyer is charged, and what a payment gateway may answer: closed unions."""

import attrs

from flashsale_core.model import PurchaseId, SaleId


@attrs.frozen(kw_only=True)
class Charge:
    """One charge. `key` is made from sale and purchase, and the same however often it is asked."""

    key: str
    sale_id: SaleId
    purchase_id: PurchaseId
    amount_minor: int
    """In minor units of the currency: price times quantity, as the order row froze them."""
    currency: str
    payment_token: str | None = attrs.field(default=None, repr=False)
    """The buyer's, opaque; erased when the payment is final."""


@attrs.frozen(kw_only=True)
class Charged:
    """The buyer paid. `reference` is the gateway's own name of the charge."""

    reference: str


@attrs.frozen(kw_only=True)
class Declined:
    """The buyer did not pay, and never will under this key. `reason` is the gateway's code."""

    reason: str


@attrs.frozen(kw_only=True)
class InProgress:
    """The gateway has the charge in hand and will say later."""


@attrs.frozen(kw_only=True)
class NeverHeard:
    """The gateway knows no charge of this key."""


ChargeAnswer = Charged | Declined | InProgress
LookUpAnswer = ChargeAnswer | NeverHeard


@attrs.frozen(kw_only=True)
class DuePayment:
    """A payment that this worker holds by a lease. `attempt` counts the claims, and fences them."""

    charge: Charge
    attempt: int
    asked_for_ms: int
    """How long ago it was first claimed, by the database's clock."""
    traceparent: str | None = None


@attrs.frozen(kw_only=True)
class FlaggedPayment:
    """A payment that a person must look at. It has no token: nobody needs to see that."""

    sale_id: SaleId
    purchase_id: PurchaseId
    key: str
    amount_minor: int
    currency: str
    attempt: int
    detail: str


@attrs.frozen(kw_only=True)
class PaymentCounts:
    """The payments that are not final."""

    pending: int
    flagged: int
    oldest_ms: int
    """The age of the oldest of them; 0 where there is none."""
