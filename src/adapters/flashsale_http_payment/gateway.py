"""Charges over HTTP. What is sent and what may come back stands in `docs/payment.md`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import httpx

from flashsale_core.charges import Charge, ChargeAnswer, LookUpAnswer, NeverHeard
from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.ports import PaymentGateway
from flashsale_http_payment.answers import unknown_outcome, what_is_said

ANSWER_BYTES_MAX = 65_536
"""An answer is a few fields; a page of a proxy's is cut here and is no answer."""
CONNECTIONS_MAX = 1_000
"""As many as may be in hand side by side: a charge never waits for a connection of its own side."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Nothing has left yet, so nobody was charged by this call."""


class HttpPaymentGateway:
    """A provider behind one URL."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        deadline_ms: int,
        carried: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        """Take a client that somebody else closes; `carried` names each call's further headers."""
        self._client = client
        self._url = url.rstrip("/")
        self._deadline_s = deadline_ms / 1_000
        self._carried = carried

    async def charge(self, charge: Charge) -> ChargeAnswer:
        """Charge under the key, or say how that charge stands."""
        body = {
            "amount": charge.amount_minor,
            "currency": charge.currency,
            "paymentToken": charge.payment_token,
            "reference": f"{charge.sale_id}/{charge.purchase_id}",
        }
        request = self._client.build_request(
            "POST", self._url, json=body, headers={"idempotency-key": charge.key}
        )
        answer = what_is_said(*await self._send(request), is_look_up=False)
        if isinstance(answer, NeverHeard):
            raise Corrupt("payment-refused", "the gateway answered 404 to a charge")
        return answer

    async def look_up(self, key: str) -> LookUpAnswer:
        """Say how the charge of a key stands."""
        request = self._client.build_request("GET", f"{self._url}/{key}")
        return what_is_said(*await self._send(request), is_look_up=True)

    async def _send(self, request: httpx.Request) -> tuple[int, bytes]:
        """Send within the deadline. No error repeats a word of the request or of the answer."""
        if self._carried is not None:
            request.headers.update(self._carried())
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._exchange(request)
        except NOT_SENT as error:
            detail = f"nothing was sent: {type(error).__name__}"
            raise Unavailable(Why.PAYMENT_AWAY, detail) from None
        except TimeoutError:
            raise unknown_outcome(f"no answer within {self._deadline_s:g} s") from None
        except httpx.HTTPError as error:
            raise unknown_outcome(type(error).__name__) from None

    async def _exchange(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._client.send(request, stream=True)
        try:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    break
        finally:
            await response.aclose()
        return response.status_code, body[: ANSWER_BYTES_MAX + 1]


@asynccontextmanager
async def open_http_gateway(
    url: str,
    *,
    deadline_ms: int,
    auth: str | None = None,
    carried: Callable[[], Mapping[str, str]] | None = None,
) -> AsyncIterator[HttpPaymentGateway]:
    """Open a client for a URL; leaving closes its connections.

    It follows no redirect, tries nothing again by itself, and reads nothing from the environment.
    """
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if auth is not None:
        headers["authorization"] = f"Bearer {auth}"
    async with httpx.AsyncClient(
        headers=headers,
        timeout=deadline_ms / 1_000,
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=20),
        follow_redirects=False,
        trust_env=False,
    ) as client:
        yield HttpPaymentGateway(client, url, deadline_ms=deadline_ms, carried=carried)


_: type[PaymentGateway] = HttpPaymentGateway
