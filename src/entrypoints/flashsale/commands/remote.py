"""The operator's desk over HTTP, by the standard library alone: the web stack is an extra."""

import asyncio
import http
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import attrs

from flashsale.commands.console import CommandFailed
from flashsale_core.model import ItemId, PurchaseId, SaleId, SaleTerms

ANSWER_S_MAX = 10.0
"""`init` waits up to 5 s for the gate; everything else answers at once."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""Some thousand sales; more is not one of our answers."""


ONE_OF_MANY = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT)
"""Refusals that concern the thing that was named, and none of its neighbours."""


class _NoRedirect(HTTPRedirectHandler):
    """Follow nothing: the admin token is for the named host alone."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


@attrs.frozen
class RemoteDesk:
    """A running process's HTTP API."""

    url: str
    token: str | None = attrs.field(default=None, repr=False)

    async def init(self, item_id: ItemId, terms: SaleTerms) -> dict[str, Any]:
        """See `Desk.init`."""
        query = {
            "productId": item_id,
            "stock": terms.units,
            "maxPerUser": terms.per_user_limit,
            "opensAt": terms.opens_at_ms,
            "closesAt": terms.closes_at_ms,
            "unitPriceMinor": terms.unit_price_minor,
            "currency": terms.currency,
        }
        return await self.ask("POST", "/purchase/init", query)

    async def all(self) -> list[dict[str, Any]]:
        """See `Desk.all`."""
        answer = await self.ask("GET", "/sales")
        sales: list[dict[str, Any]] = answer["sales"]
        return sales

    async def show(self, sale_id: SaleId) -> dict[str, Any]:
        """See `Desk.show`."""
        return await self.ask("GET", f"/sales/{quote(sale_id, safe='')}")

    async def move(self, sale_id: SaleId, verb: str) -> dict[str, Any]:
        """See `Desk.move`."""
        return await self.ask("POST", f"/sales/{quote(sale_id, safe='')}/{verb}")

    async def purchase(
        self, purchase_id: PurchaseId, item_id: ItemId | None, sale_id: SaleId | None
    ) -> dict[str, Any]:
        """See `Desk.purchase`."""
        query = {"productId": item_id, "saleId": sale_id}
        return await self.ask("GET", f"/purchase/{quote(purchase_id, safe='')}", query)

    async def buy(self, body: Mapping[str, object]) -> dict[str, Any]:
        """Buy, as a buyer does."""
        return await self.ask("POST", "/purchase/buy", body=body)

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: Mapping[str, object] | None = None,
        refused: type[Exception] | None = None,
    ) -> dict[str, Any]:
        """Ask a route. Raises CommandFailed; `refused` instead where one thing of many is meant."""
        known = {name: value for name, value in (query or {}).items() if value is not None}
        request = Request(  # noqa: S310 - the scheme was checked where the URL came in
            f"{self.url}{path}" + (f"?{urlencode(known)}" if known else ""), method=method
        )
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        return await asyncio.to_thread(self._answer, request, refused)

    def _answer(self, request: Request, refused: type[Exception] | None) -> dict[str, Any]:
        try:
            with build_opener(_NoRedirect).open(request, timeout=ANSWER_S_MAX) as answer:
                return self._read(answer.read(ANSWER_BYTES_MAX))
        except HTTPError as problem:
            with problem:
                failure = self._refusal(problem.code, problem.read(ANSWER_BYTES_MAX))
                if refused is not None and problem.code in ONE_OF_MANY:
                    raise refused(str(failure)) from problem
                raise failure from problem
        except (URLError, OSError, http.client.HTTPException) as away:
            reason = getattr(away, "reason", away)
            raise CommandFailed(
                f"nothing answers at {self.url} ({reason}): start `flashsale run` or "
                "`flashsale serve`, or name another with --url"
            ) from away

    def _refusal(self, status: int, body: bytes) -> CommandFailed:
        problem = self._read(body)
        said = [str(problem[part]) for part in ("title", "detail") if problem.get(part)]
        detail = ": ".join(said) or f"status {status}"
        if status == http.HTTPStatus.UNAUTHORIZED:
            return CommandFailed(f"{detail} (set FLASHSALE_ADMIN_TOKEN, as the server has it)")
        return CommandFailed(f"{detail} ({status})")

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise CommandFailed(f"{self.url} does not answer as Flashsale does")
        return answer
