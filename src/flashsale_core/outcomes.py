"""Business answers: values of closed unions, matched once at each edge."""

from typing import assert_never

import attrs

from flashsale_core.model import Epoch, GateRecord, ItemId, PurchaseId, Reason, SaleId


@attrs.frozen(kw_only=True)
class Reserved:
    """The units are taken and the purchase is journaled, in one step."""

    record: GateRecord


@attrs.frozen(kw_only=True)
class Replayed:
    """The same id with the same content was here before; `record` says how it stands now."""

    record: GateRecord


@attrs.frozen(kw_only=True)
class SoldOut:
    """Fewer units are left than were asked for; quantity is all or nothing.

    At `available` ≤ 0 nobody can be served, and a process may remember that for a moment.
    """

    available: int


@attrs.frozen(kw_only=True)
class LimitReached:
    """The user would hold more than the sale allows one user; cumulative over the sale."""

    limit: int
    held: int


@attrs.frozen(kw_only=True)
class NotOpen:
    """The sale opens later, by the gate's own clock."""

    opens_at_ms: int


@attrs.frozen(kw_only=True)
class Closed:
    """The sale takes no more purchases."""


@attrs.frozen(kw_only=True)
class UnknownItem:
    """No sale was ever made for the item."""

    item_id: ItemId


@attrs.frozen(kw_only=True)
class KeyReused:
    """The purchase id was used before with another user or quantity."""


@attrs.frozen(kw_only=True)
class RateLimited:
    """This user or address has asked too often just now; at the HTTP door alone, never stored."""

    retry_after_ms: int


@attrs.frozen(kw_only=True)
class Refused:
    """A rule of the user's own says no; `code` is theirs, in capitals (`REGION_BLOCKED`)."""

    code: str = attrs.field(validator=attrs.validators.matches_re(r"[A-Z][A-Z0-9_]{0,63}"))
    detail: str = ""


Refusal = SoldOut | LimitReached | NotOpen | Closed | Refused
"""What a gate may answer instead of taking units."""
GateAnswer = Reserved | Replayed | KeyReused | RateLimited | Refusal


@attrs.frozen(kw_only=True)
class Accepted:
    """The promise: this purchase ends as an order. `is_sold` when the order already stands."""

    purchase_id: PurchaseId
    sale_id: SaleId
    epoch: Epoch
    is_sold: bool = False


@attrs.frozen(kw_only=True)
class Ended:
    """The same purchase ended before without an order; a new try takes a new id."""

    purchase_id: PurchaseId
    reason: str


@attrs.frozen(kw_only=True)
class OutcomeUnknown:
    """It may still go through. The same id asked again resumes, and never buys twice."""

    purchase_id: PurchaseId


BuyAnswer = Accepted | Ended | OutcomeUnknown | UnknownItem | KeyReused | RateLimited | Refusal


def reason_of(refusal: Refusal | UnknownItem) -> str:
    """Name the refusal as the REJECTED row and the event do."""
    match refusal:
        case SoldOut():
            return Reason.SOLD_OUT.value
        case LimitReached():
            return Reason.LIMIT_REACHED.value
        case NotOpen():
            return Reason.NOT_OPEN.value
        case Closed():
            return Reason.CLOSED.value
        case UnknownItem():
            return Reason.UNKNOWN_ITEM.value
        case Refused():
            return refusal.code
    assert_never(refusal)
