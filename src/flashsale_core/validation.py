"""What a well-formed request is, what a sale admits, and rules of the user's own."""

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from flashsale_core.errors import Invalid, Violation
from flashsale_core.model import PurchaseRequest, SaleState, SaleTerms
from flashsale_core.outcomes import Closed, LimitReached, NotOpen, Refusal, Refused, SoldOut

PurchaseRule = Callable[[PurchaseRequest, SaleTerms], Refused | None]
"""A rule of the user's own: pure, asked of new purchases at both doors, never of replays."""
TOKEN_MISSING = "PAYMENT_TOKEN_MISSING"  # noqa: S105 - a reason's code
"""Why a purchase of a sale that takes payment is refused when it brings no token."""


def well_formed(**fields: Any) -> PurchaseRequest:
    """Build a request from a message's values, by attribute name.

    Raises Invalid with EVERY violated field, so that a sender sees them all at once.
    """
    try:
        return PurchaseRequest(**fields)
    except Invalid:
        raise Invalid(list(_violations(fields))) from None


def _violations(fields: dict[str, Any]) -> Iterable[Violation]:
    probe = object()
    for attribute in attrs.fields(PurchaseRequest):
        value = fields.get(attribute.name, attribute.default)
        if attribute.validator is None:
            continue
        try:
            attribute.validator(probe, attribute, value)
        except Invalid as wrong:
            yield from wrong.violations


def verdict(
    rules: Iterable[PurchaseRule], request: PurchaseRequest, terms: SaleTerms
) -> Refused | None:
    """Ask the rules in their order; the first that refuses decides."""
    for rule in rules:
        if (refused := rule(request, terms)) is not None:
            return refused
    return None


@attrs.frozen(kw_only=True)
class Admission:
    """What decides about a new purchase besides its own content: the state of sale and user."""

    terms: SaleTerms
    state: SaleState
    now_ms: int
    available: int
    held: int
    """Units that the user holds or bought in this sale."""

    def refuse(  # noqa: PLR0911 - one return a refusal
        self, quantity: int, refused: Refused | None
    ) -> Refusal | None:
        """Judge a NEW purchase in the gate's order: state and time, rules, stock, limit.

        PAUSED and HALTED are no answers to a buyer and are handled before this.
        """
        opens, closes = self.terms.opens_at_ms, self.terms.closes_at_ms
        if self.state in (SaleState.CLOSED, SaleState.SETTLED):
            return Closed()
        if opens is not None and self.now_ms < opens:
            return NotOpen(opens_at_ms=opens)
        if closes is not None and self.now_ms >= closes:
            return Closed()
        if refused is not None:
            return refused
        if quantity > self.available:
            return SoldOut(available=self.available)
        limit = self.terms.per_user_limit
        if limit is not None and self.held + quantity > limit:
            return LimitReached(limit=limit, held=self.held)
        return None


def takes_payment(terms: SaleTerms) -> bool:
    """Say whether a purchase under these terms must be paid: not without a price, nor for 0."""
    return bool(terms.unit_price_minor)


def needs_token(request: PurchaseRequest, terms: SaleTerms) -> Refused | None:
    """Refuse a NEW purchase that nobody could charge; a rule like those of the user's own."""
    if request.payment_token is None and takes_payment(terms):
        return Refused(code=TOKEN_MISSING, detail="paymentToken is required: this sale is paid for")
    return None
