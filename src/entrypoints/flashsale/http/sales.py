"""The admin's routes: make a sale, look at it, move it through its states."""

import asyncio
import re
from typing import Any

from litestar import Request, get, post
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Struct, UnsetType

from flashsale.http import problems
from flashsale.http.answers import Gate, Sale, Sales
from flashsale.http.guards import admin_only, no_body, parts_of
from flashsale.http.openapi import ADMIN_PROBLEMS, SALE_IN_PATH, described, query_of
from flashsale.http.problems import ProblemRaised, invalid, problem
from flashsale.http.reading import read_query
from flashsale.http.times import RULE, moment, read
from flashsale.http.wire import SALE_ID_PATTERN, InitQuery
from flashsale_core.errors import Unavailable, Violation, Why
from flashsale_core.model import ItemId, SaleId, SaleTerms
from flashsale_core.ports import GateBooks
from flashsale_core.selling import SaleDesk, SaleView

INIT_WAIT_S = 5.0
"""Arming a new sale takes milliseconds; one that is not armed by now waits for a dependency."""

Req = Request[Any, Any, Any]


class _Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """A query without fields."""


def _sale_answer(description: str) -> ResponseSpec:
    return ResponseSpec(data_container=Sale, generate_examples=False, description=description)


def _command(name: str, description: str, *fails: problems.Kind) -> dict[str, Any]:
    return described(
        operation_id=f"{name}Sale",
        summary=f"{name.capitalize()} a sale",
        description=f"{description} The same again is a no-op.",
        tag="sales",
        parameters=[SALE_IN_PATH],
        answer=_sale_answer("The sale as it stands now."),
        fails=[*ADMIN_PROBLEMS, problems.UNKNOWN_SALE, problems.WRONG_STATE, *fails],
    )


_INIT = described(
    operation_id="init",
    summary="Put an item on sale",
    description="Makes the item's next sale and arms its gate. The same again is a no-op; other "
    "terms while the item has an unsettled sale are refused.",
    tag="sales",
    parameters=query_of(InitQuery),
    answer=_sale_answer("The sale, armed: it sells."),
    fails=[*ADMIN_PROBLEMS, problems.OTHER_TERMS],
)
_LIST = described(
    operation_id="listSales",
    summary="List the sales",
    description="Shows the latest sale of every item.",
    tag="sales",
    answer=ResponseSpec(data_container=Sales, generate_examples=False, description="The sales."),
    fails=ADMIN_PROBLEMS,
)
_SHOW = described(
    operation_id="showSale",
    summary="Show a sale",
    description="Shows the row in the database and the gate's live counts.",
    tag="sales",
    parameters=[SALE_IN_PATH],
    answer=_sale_answer("The sale."),
    fails=[*ADMIN_PROBLEMS, problems.UNKNOWN_SALE],
)


@post("/purchase/init", status_code=200, guards=[admin_only, no_body], **_INIT)
async def init(request: Req) -> Sale:
    """Put an item on sale."""
    query = read_query(InitQuery, request.scope["query_string"])
    terms = _terms(query)
    try:
        async with asyncio.timeout(INIT_WAIT_S):
            return _seen(await _desk(request).init(ItemId(query.product_id), terms))
    except TimeoutError:
        raise Unavailable(Why.NOT_ARMED, "the sale is made and not armed yet") from None


@get("/sales", guards=[admin_only], **_LIST)
async def list_sales(request: Req) -> Sales:
    """List the latest sale of every item."""
    read_query(_Nothing, request.scope["query_string"])
    return Sales(sales=[_seen(view) for view in await _desk(request).all()])


@get("/sales/{saleId:str}", guards=[admin_only], **_SHOW)
async def show_sale(request: Req) -> Sale:
    """Show a sale."""
    return _seen(await _desk(request).show(_sale_id(request)))


@post(
    "/sales/{saleId:str}/pause",
    status_code=200,
    guards=[admin_only, no_body],
    **_command("pause", "Takes no new purchases; what was promised goes on."),
)
async def pause_sale(request: Req) -> Sale:
    """Take no new purchases."""
    return _seen(await _desk(request).pause(_sale_id(request)))


@post(
    "/sales/{saleId:str}/resume",
    status_code=200,
    guards=[admin_only, no_body],
    **_command("resume", "Sells again after a pause."),
)
async def resume_sale(request: Req) -> Sale:
    """Sell again."""
    return _seen(await _desk(request).resume(_sale_id(request)))


@post(
    "/sales/{saleId:str}/close",
    status_code=200,
    guards=[admin_only, no_body],
    **_command("close", "Ends the selling; what was promised goes on."),
)
async def close_sale(request: Req) -> Sale:
    """End the selling."""
    return _seen(await _desk(request).close(_sale_id(request)))


@post(
    "/sales/{saleId:str}/settle",
    status_code=200,
    guards=[admin_only, no_body],
    **_command(
        "settle",
        "Ends a closed sale for good, so that the item may have another.",
        problems.NOT_SETTLED_YET,
    ),
)
async def settle_sale(request: Req) -> Sale:
    """End a closed sale for good."""
    return _seen(await _desk(request).settle(_sale_id(request)))


def _desk(request: Req) -> SaleDesk:
    return parts_of(request).sale_desk


def _sale_id(request: Req) -> SaleId:
    read_query(_Nothing, request.scope["query_string"])
    sale_id = request.path_params["saleId"]
    if not re.fullmatch(SALE_ID_PATTERN, sale_id):
        raise ProblemRaised(problem(problems.UNKNOWN_SALE))
    return SaleId(sale_id)


def _terms(query: InitQuery) -> SaleTerms:
    return SaleTerms(
        units=query.stock,
        per_user_limit=_given(query.max_per_user),
        opens_at_ms=_time("opensAt", query.opens_at),
        closes_at_ms=_time("closesAt", query.closes_at),
        unit_price_minor=_given(query.unit_price_minor),
        currency=None if query.currency is UNSET else query.currency,
    )


def _given(value: int | UnsetType) -> int | None:
    return None if value is UNSET else value


def _time(field: str, text: str | UnsetType) -> int | None:
    if text is UNSET:
        return None
    milliseconds = read(text)
    if milliseconds is None:
        raise ProblemRaised(invalid(Violation(field=field, problem=RULE)))
    return milliseconds


def _seen(view: SaleView) -> Sale:
    sale, terms = view.sale, view.sale.terms
    return Sale(
        sale_id=sale.sale_id,
        product_id=sale.item_id,
        round=sale.round,
        state=sale.state,
        stock=terms.units,
        available=sale.available,
        pending=sale.pending,
        sold=sale.sold,
        max_per_user=terms.per_user_limit,
        opens_at=moment(terms.opens_at_ms),
        closes_at=moment(terms.closes_at_ms),
        unit_price_minor=terms.unit_price_minor,
        currency=terms.currency,
        epoch=sale.epoch,
        gate=None if view.gate is None else _gate(view.gate),
        gate_problem=view.gate_problem,
    )


def _gate(books: GateBooks) -> Gate:
    return Gate(
        state=books.state,
        initial=books.initial,
        available=books.available,
        reserved=books.reserved,
        outside=books.outside,
        queued=books.queued,
        sold=books.sold,
        purchases=books.records,
        users=books.users,
        journal=books.journal,
        oldest_due_at=moment(books.oldest_due_ms),
    )


SALE_ROUTES = (
    init,
    list_sales,
    show_sale,
    pause_sale,
    resume_sale,
    close_sale,
    settle_sale,
)
