"""The buyer's routes; the first is a second way to what the front serves by its short cut."""

from typing import Any

from litestar import Request, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ASGIApp as LitestarApp
from msgspec import UNSET

from flashsale.http import problems
from flashsale.http.answers import Accepted, Purchase
from flashsale.http.guards import parts_of
from flashsale.http.openapi import PURCHASE_IN_PATH, described, header, query_of
from flashsale.http.problems import ProblemRaised, invalid, problem
from flashsale.http.reading import read_query
from flashsale.http.times import moment
from flashsale.http.wire import ID_RULE, BuyBody, FindQuery
from flashsale_core.errors import Violation
from flashsale_core.inquiry import PurchaseView
from flashsale_core.model import IDENTIFIER, ItemId, PurchaseId, SaleId

_BUY = described(
    operation_id="buy",
    summary="Buy",
    description="Takes units and promises an order, or says why not. Safe to repeat with the same "
    "purchase id and the same content: that never buys twice, and gets the old answer, also "
    "after the sale is sold out or closed.",
    tag="purchases",
    parameters=[
        header(
            "Idempotency-Key",
            "The purchase's id, quoted or bare, instead of `purchaseId`; both must not differ.",
            maxLength=66,
            examples=['"0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d"'],
        ),
        header(
            "traceparent",
            "W3C Trace Context; travels with the purchase. An invalid one is ignored.",
            examples=["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
        ),
    ],
    body=BuyBody,
    answer=ResponseSpec(
        data_container=Accepted,
        generate_examples=False,
        description="The promise: this purchase ends as an order.",
    ),
    headers=["location"],
    fails=[
        problems.MALFORMED,
        problems.UNKNOWN_ITEM,
        problems.REQUEST_TIMEOUT,
        problems.LIMIT_REACHED,
        problems.PURCHASE_ENDED,
        problems.CLOSED,
        problems.TOO_LARGE,
        problems.UNSUPPORTED_MEDIA_TYPE,
        problems.INVALID,
        problems.KEY_REUSED,
        problems.REFUSED,
        problems.NOT_OPEN,
        problems.SOLD_OUT,
        problems.RATE_LIMITED,
        problems.UNAVAILABLE,
        problems.OUTCOME_UNKNOWN,
    ],
)
_FIND = described(
    operation_id="findPurchase",
    summary="Look a purchase up",
    description="Whoever knows the id may ask. What was answered 200 is never 404: while a place "
    "that could know it is silent, the answer is 503.",
    tag="purchases",
    parameters=[PURCHASE_IN_PATH, *query_of(FindQuery)],
    answer=ResponseSpec(
        data_container=Purchase, generate_examples=False, description="How it stands."
    ),
    fails=[
        problems.UNKNOWN_PURCHASE,
        problems.AMBIGUOUS,
        problems.INVALID,
        problems.UNAVAILABLE,
    ],
)


@post("/purchase/buy", status_code=200, **_BUY)
async def buy(request: Request[Any, Any, Any]) -> LitestarApp:
    """Answer as the short cut does, by the very same code."""
    handler: LitestarApp = request.app.state.buy
    return handler


@get("/purchase/{purchaseId:str}", **_FIND)
async def find(request: Request[Any, Any, Any]) -> Purchase:
    """Say how a purchase stands."""
    purchase_id = request.path_params["purchaseId"]
    if not IDENTIFIER.fullmatch(purchase_id):
        raise ProblemRaised(invalid(Violation(field="purchaseId", problem=ID_RULE)))
    query = read_query(FindQuery, request.scope["query_string"])
    view = await parts_of(request).inquiry.find(
        PurchaseId(purchase_id),
        item_id=None if query.product_id is UNSET else ItemId(query.product_id),
        sale_id=None if query.sale_id is UNSET else SaleId(query.sale_id),
    )
    if view is None:
        raise ProblemRaised(problem(problems.UNKNOWN_PURCHASE))
    return _seen(view)


def _seen(view: PurchaseView) -> Purchase:
    return Purchase(
        purchase_id=view.purchase_id,
        sale_id=view.sale_id,
        status=view.status.value,
        quantity=view.quantity,
        reason=view.reason,
        requested_at=moment(view.requested_at_ms),
        accepted_at=moment(view.accepted_at_ms),
        recorded_at=moment(view.recorded_at_ms),
    )


PURCHASE_ROUTES = (buy, find)
