"""What answers say, as frozen structs."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from flashsale.http.problems import KINDS, TYPE_PREFIX
from flashsale_core.events import Channel, ParkedStatus
from flashsale_core.letters import Act
from flashsale_core.model import QUANTITY_MAX, UNITS_MAX, SaleState

_Moment = Annotated[
    str,
    Meta(
        description="UTC, RFC 3339, to the millisecond.",
        examples=["2026-11-27T18:00:00.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]


class Accepted(Struct, frozen=True, kw_only=True, rename="camel"):
    """The promise: this purchase ends as an order."""

    purchase_id: Annotated[str, Meta(examples=["0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d"])]
    status: Annotated[
        str,
        Meta(
            pattern="^(ACCEPTED|CONFIRMED)$",
            description="CONFIRMED when the order already stands.",
            examples=["ACCEPTED"],
        ),
    ]
    sale_id: Annotated[str, Meta(description="The item's sale: `item.round`.", examples=["1.1"])]
    product_id: Annotated[str, Meta(examples=["1"])]
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX, examples=[1])]


class Purchase(Struct, frozen=True, kw_only=True, rename="camel"):
    """How a purchase stands, without its user."""

    purchase_id: Annotated[str, Meta(examples=["0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d"])]
    sale_id: Annotated[str, Meta(examples=["1.1"])]
    status: Annotated[
        str,
        Meta(
            pattern="^(RESERVED|ACCEPTED|PENDING_PAYMENT|CONFIRMED|REJECTED|PARKED)$",
            description="RESERVED: a unit is held, the promise is not safe yet. ACCEPTED: it is. "
            "PENDING_PAYMENT: the buyer is being charged. CONFIRMED: an order. REJECTED: ended, "
            "see `reason`. PARKED: waits for an operator "
            "or for its sale.",
            examples=["CONFIRMED"],
        ),
    ]
    quantity: Annotated[
        int, Meta(ge=0, description="0 where only a parked message is known.", examples=[1])
    ]
    reason: Annotated[str | None, Meta(examples=["SOLD_OUT"])] = None
    requested_at: _Moment | None = None
    accepted_at: _Moment | None = None
    recorded_at: _Moment | None = None


class Gate(Struct, frozen=True, kw_only=True, rename="camel"):
    """The gate's live counts in units; initial = available + reserved + outside + queued + sold."""

    state: SaleState
    initial: int
    available: Annotated[int, Meta(description="Units that can be taken now.")]
    reserved: Annotated[int, Meta(description="Held, not yet known to be on the bus.")]
    outside: Annotated[int, Meta(description="Held for messages that promise nothing.")]
    queued: Annotated[int, Meta(description="Promised, not yet an order.")]
    sold: int
    purchases: Annotated[int, Meta(description="Purchases with a record.")]
    users: Annotated[int, Meta(description="Users who hold units; 0 where no user is limited.")]
    journal: Annotated[int, Meta(description="Purchases that are not final.")]
    oldest_due_at: _Moment | None = None


class Sale(Struct, frozen=True, kw_only=True, rename="camel"):
    """A sale as the database has it, and its gate's live counts where the gate answers."""

    sale_id: Annotated[str, Meta(examples=["1.1"])]
    product_id: Annotated[str, Meta(examples=["1"])]
    round: Annotated[int, Meta(ge=1)]
    state: SaleState
    stock: Annotated[int, Meta(ge=1, le=UNITS_MAX, examples=[1000])]
    available: Annotated[int, Meta(description="Units without an order, in the database.")]
    pending: int
    sold: int
    max_per_user: int | None
    opens_at: _Moment | None
    closes_at: _Moment | None
    unit_price_minor: int | None
    currency: str | None
    epoch: Annotated[int, Meta(ge=1, description="Which life of the sale's gate.")]
    gate: Gate | None
    gate_problem: Annotated[str | None, Meta(description="Why the gate did not answer.")] = None


class Sales(Struct, frozen=True, kw_only=True, rename="camel"):
    """The latest sale of every item."""

    sales: list[Sale]


class Letter(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message that was set aside, without its bytes."""

    id: Annotated[int, Meta(ge=1, examples=[7])]
    status: ParkedStatus
    reason: Annotated[str, Meta(description="Why, as a code.", examples=["bad-framing"])]
    detail: str | None
    sale_id: str | None
    purchase_id: str | None
    holds_unit: Annotated[bool, Meta(description="It holds a unit, or may.")]
    attempts: Annotated[int, Meta(ge=0)]
    channel: Channel
    origin: Annotated[str, Meta(examples=["flashsale.purchase.requests:0:7"])]
    content_type: str | None
    written_at: _Moment | None
    parked_at: _Moment | None
    changed_at: _Moment | None


class Letters(Struct, frozen=True, kw_only=True, rename="camel"):
    """Some of the messages that were set aside, the newest first."""

    letters: list[Letter]
    count: Annotated[int, Meta(ge=0, description="How many there are in all.")]


class LetterHeader(Struct, frozen=True, kw_only=True, rename="camel"):
    """A header, its value in base64: it may be any bytes."""

    name: str
    value_base64: str


class LetterTrail(Struct, frozen=True, kw_only=True, rename="camel"):
    """What an operator did with a message."""

    act: Act
    who: Annotated[str, Meta(examples=["admin:ann"])]
    why: str | None
    at: _Moment


class WholeLetter(Letter, frozen=True, kw_only=True, rename="camel"):
    """A message that was set aside, whole, and what operators did with it."""

    headers: list[LetterHeader]
    key_base64: str | None
    body_base64: str | None
    trail: list[LetterTrail]


class LetterAct(Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of one message."""

    id: Annotated[int, Meta(ge=1, examples=[7])]
    status: ParkedStatus
    changed: Annotated[bool, Meta(description="False where there was nothing to do.")]
    detail: str | None


class LetterProblem(Struct, frozen=True, kw_only=True, rename="camel"):
    """One message on which it could not be done."""

    id: Annotated[int, Meta(ge=1, examples=[7])]
    code: Annotated[str, Meta(examples=["letter-replayed"])]
    detail: str


class LetterActs(Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of many."""

    dry_run: bool
    done: list[LetterAct]
    failed: list[LetterProblem]
    next: Annotated[int | None, Meta(description="Go on with this as `before`.")]


class DependencyReport(Struct, frozen=True, kw_only=True, rename="camel"):
    """How one thing that this process needs stands."""

    name: Annotated[str, Meta(examples=["gate"])]
    ok: bool
    last_error: Annotated[str | None, Meta(examples=["connection refused"])] = None


class ReadinessReport(Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether this process may be given work."""

    ready: bool
    dependencies: list[DependencyReport]
    faults: Annotated[str | UnsetType, Meta(examples=["before-ack=kill@3"])] = UNSET
    """What breaks this process on purpose, in a drill."""
    stopping: bool | UnsetType = UNSET
    """True once it was told to end; it answers on for a while, for those who come still."""


class Liveness(Struct, frozen=True, kw_only=True):
    """This process runs."""

    status: Annotated[str, Meta(pattern="^alive$", examples=["alive"])] = "alive"


class FieldProblem(Struct, frozen=True, kw_only=True):
    """One field that breaks one rule."""

    field: Annotated[str, Meta(examples=["quantity"])]
    problem: Annotated[str, Meta(examples=["is required"])]


class Problem(Struct, frozen=True, kw_only=True, rename="camel"):
    """RFC 9457 problem details. `type` is stable; the members after `detail` depend on it."""

    type: Annotated[
        str,
        Meta(
            pattern=f"^{TYPE_PREFIX}[a-z-]+$",
            description="One of those that `GET /problems` lists; more may come.",
            examples=[kind.type for kind in KINDS],
        ),
    ]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    purchase_id: Annotated[
        str | UnsetType, Meta(description="Ask again with this id where the status is 503.")
    ] = UNSET
    violations: list[FieldProblem] | UnsetType = UNSET
    available: Annotated[int | UnsetType, Meta(description="Units that are left.")] = UNSET
    limit: Annotated[int | UnsetType, Meta(description="Units that one user may hold.")] = UNSET
    held: Annotated[int | UnsetType, Meta(description="Units that the user holds.")] = UNSET
    opens_at: Annotated[_Moment | UnsetType, Meta(description="When the sale opens.")] = UNSET
    reason: Annotated[
        str | UnsetType, Meta(description="What is away, or why a purchase ended.")
    ] = UNSET
    code: Annotated[str | UnsetType, Meta(description="The seller's rule that refused.")] = UNSET


class ProblemType(Struct, frozen=True, kw_only=True):
    """One entry of the table of problem types."""

    type: str
    status: int
    title: str
    meaning: str


class ProblemTypes(Struct, frozen=True, kw_only=True):
    """All problem types."""

    problems: list[ProblemType]
