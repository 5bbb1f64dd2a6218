"""The admin's route that ends a purchase which comes no further by itself."""

from litestar import post

from flashsale.http import problems
from flashsale.http.answers import LetterAct
from flashsale.http.dead_letters import Req, answered, done_of, letters_described, signed_by
from flashsale.http.guards import admin_only, no_body, parts_of
from flashsale.http.letter_queries import EndQuery
from flashsale.http.openapi import ADMIN_PROBLEMS, PURCHASE_IN_PATH, SALE_IN_PATH, query_of
from flashsale.http.problems import ProblemRaised, problem
from flashsale.http.reading import read_query
from flashsale_core.model import IDENTIFIER, PurchaseId, SaleId

_END = letters_described(
    "endPurchase",
    "End a purchase",
    "Ends a purchase that holds a unit and comes no further by itself: it is set aside as a dead "
    "letter and discarded, so it stands REJECTED (DISCARDED) before its unit is free. An order "
    "that stands already is not touched, and `detail` says so. Safe to repeat.",
    parameters=[SALE_IN_PATH, PURCHASE_IN_PATH, *query_of(EndQuery)],
    answer=answered(LetterAct, "What became of the letter that it is now."),
    fails=[
        *ADMIN_PROBLEMS,
        problems.UNKNOWN_SALE,
        problems.UNKNOWN_PURCHASE,
        problems.PURCHASE_ENDED,
    ],
)


@post(
    "/sales/{saleId:str}/purchases/{purchaseId:str}/end",
    status_code=200,
    guards=[admin_only, no_body],
    **_END,
)
async def end_purchase(request: Req) -> LetterAct:
    """End one purchase."""
    query = read_query(EndQuery, request.scope["query_string"])
    sale_id, purchase_id = (request.path_params[name] for name in ("saleId", "purchaseId"))
    if not IDENTIFIER.fullmatch(purchase_id):
        raise ProblemRaised(problem(problems.UNKNOWN_PURCHASE))
    ender = parts_of(request).ender
    return done_of(await ender.end(SaleId(sale_id), PurchaseId(purchase_id), signed_by(query)))


ENDING_ROUTES = (end_purchase,)
