"""The ASGI application: a thin front, the raw hot path, and the framework for all else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from litestar import Litestar
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from flashsale.http.asking import BODY_BYTES_MAX
from flashsale.http.buy import BuyHandler
from flashsale.http.dead_letters import LETTER_ROUTES
from flashsale.http.docs import docs_routes
from flashsale.http.ending import ENDING_ROUTES
from flashsale.http.faults import EXCEPTION_HANDLERS
from flashsale.http.front import Front
from flashsale.http.openapi import openapi_config
from flashsale.http.operation import OPERATION_ROUTES
from flashsale.http.parts import ASGIApp, HttpParts
from flashsale.http.purchases import PURCHASE_ROUTES
from flashsale.http.sales import SALE_ROUTES
from flashsale.http.timely import Timely
from flashsale.http.traced_buy import TracedBuyHandler

ROUTES: Final[tuple[HTTPRouteHandler, ...]] = (
    *PURCHASE_ROUTES,
    *SALE_ROUTES,
    *LETTER_ROUTES,
    *ENDING_ROUTES,
    *OPERATION_ROUTES,
)
"""All that the OpenAPI document tells of."""


def http_app(parts: HttpParts) -> ASGIApp:
    """Build the application. It owns nothing: whoever opened the parts closes them."""
    # Another class where it is traced: the hot path has not even a question for it.
    buy = BuyHandler(parts) if parts.traces is None else TracedBuyHandler(parts, parts.traces)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        if parts.lifespan is None:
            yield
            return
        async with parts.lifespan():
            yield

    framework = Litestar(
        route_handlers=[*ROUTES, *docs_routes()],
        state=State({"parts": parts, "buy": buy}),
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        lifespan=[lifespan],
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
        debug=False,
    )
    # The framework's own types of ASGI are narrower than ASGI's.
    inner = cast("ASGIApp", framework)
    timely = Timely(inner, parts.lookup_deadline_ms)
    return Front(buy=buy, framework=timely, cors_origins=parts.cors_origins)
