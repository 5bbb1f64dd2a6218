"""What a provider's answers mean, and what never leaves with an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale_core.charges import Charged, Declined, InProgress, NeverHeard
from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.opening import PaymentOptions
from flashsale_core.testing.payment_gateway import charge
from flashsale_http_payment import HttpPaymentGateway
from flashsale_http_payment.answers import what_is_said
from flashsale_http_payment.gateway import ANSWER_BYTES_MAX
from flashsale_http_payment.opening import open_gateway

TOKEN = "tok-4111"
Answering = Callable[[httpx.Request], httpx.Response]


@asynccontextmanager
async def gateway_of(answer: Answering, **options: Any) -> AsyncIterator[HttpPaymentGateway]:
    """Open a gateway whose provider is a function."""
    wanted = PaymentOptions(deadline_ms=200, **options)
    async with open_gateway("http://pay.example/v1/charges/", wanted) as gateway:
        gateway._client._transport = httpx.MockTransport(answer)
        gateway._client._mounts = {}
        yield gateway


def said(status: int, body: object = None, *, is_look_up: bool = False) -> Any:
    """Read one answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return what_is_said(status, raw, is_look_up=is_look_up)


# ── what is sent ────────────────────────────────────────────────────────────────────────────────


async def test_a_charge_is_a_post_under_its_key() -> None:
    """The whole of what a provider is told."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json={"status": "charged", "reference": "ch_1"})

    async with gateway_of(answer, auth="sk_live") as gateway:
        assert await gateway.charge(charge("p1", TOKEN)) == Charged(reference="ch_1")
    [request] = seen
    assert (request.method, str(request.url)) == ("POST", "http://pay.example/v1/charges")
    assert request.headers["idempotency-key"] == charge("p1").key
    assert request.headers["authorization"] == "Bearer sk_live"
    assert json.loads(request.content) == {
        "amount": 4_990,
        "currency": "CHF",
        "paymentToken": TOKEN,
        "reference": "shoe.1/p1",
    }


async def test_a_look_up_is_a_get_by_the_key_and_sends_no_token() -> None:
    """The key alone stands in the URL."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(404)

    async with gateway_of(answer) as gateway:
        assert await gateway.look_up("a-key") == NeverHeard()
    [request] = seen
    assert (request.method, str(request.url)) == ("GET", "http://pay.example/v1/charges/a-key")
    assert request.content == b""
    assert "authorization" not in request.headers


# ── what comes back ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_look_up", [False, True])
def test_the_documented_answers_are_read(is_look_up: bool) -> None:
    """A body with 2xx, 402, 409."""

    def of(status: int, body: object = None) -> Any:
        return said(status, body, is_look_up=is_look_up)

    assert of(200, {"status": "charged", "reference": "ch_1"}) == Charged(reference="ch_1")
    assert of(200, {"status": "declined", "reason": "no-funds"}) == Declined(reason="no-funds")
    assert of(402, {"reason": "no-funds"}) == Declined(reason="no-funds")
    assert of(402) == Declined(reason="declined")
    assert of(409, b"") == InProgress()
    assert of(202, {"status": "in-progress"}) == InProgress()


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599, 408, 425, 429])
def test_a_provider_s_own_fault_is_an_unknown_outcome(status: int) -> None:
    """It may have charged before it failed."""
    for is_look_up in (False, True):
        with pytest.raises(Unavailable) as away:
            said(status, is_look_up=is_look_up)
        assert away.value.why is Why.PAYMENT_AWAY
        assert away.value.may_have_happened


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 405, 413, 415, 422, 451])
def test_any_other_answer_is_for_a_person(status: int) -> None:
    """Neither a decline nor worth trying again."""
    for is_look_up in (False, True):
        with pytest.raises(Corrupt):
            said(status, is_look_up=is_look_up)


async def test_a_charge_that_is_answered_404_is_for_a_person() -> None:
    """The URL is wrong, which no waiting mends."""
    async with gateway_of(lambda _: httpx.Response(404)) as gateway:
        with pytest.raises(Corrupt):
            await gateway.charge(charge("p1"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>maintenance</html>",
        b"[]",
        b"null",
        b'"charged"',
        b"[" * 100_000,
        b'{"status": "charged"}',
        b'{"status": "charged", "reference": 5}',
        b'{"status": "charged", "reference": ""}',
        b'{"status": "charged", "reference": "a\\u0000b"}',
        b'{"status": "paid", "reference": "ch_1"}',
        b'{"status": "unknown"}',
    ],
)
def test_a_2xx_that_says_something_else_is_an_unknown_outcome(body: bytes) -> None:
    """It may well have charged; it is looked up, and never taken for a decline."""
    with pytest.raises(Unavailable) as away:
        said(200, body)
    assert away.value.may_have_happened


@given(st.integers(100, 999), st.binary(max_size=200), st.booleans())
def test_reading_an_answer_is_total(status: int, body: bytes, is_look_up: bool) -> None:
    """Whatever comes back is an answer, an unknown outcome, or for a person."""
    try:
        answer = said(status, body, is_look_up=is_look_up)
    except (Unavailable, Corrupt):
        return
    else:
        assert isinstance(answer, Charged | Declined | InProgress | NeverHeard)


def test_a_reason_that_is_no_plain_code_is_not_kept() -> None:
    """A provider may repeat what it was sent, and that is the buyer's token."""
    assert said(402, {"reason": f"card {TOKEN} declined"}) == Declined(reason="declined")
    assert said(402, {"reason": "x" * 65}) == Declined(reason="declined")
    assert said(402, {"reason": ["no"]}) == Declined(reason="declined")


# ── faults of the way ───────────────────────────────────────────────────────────────────────────


def _errors(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(_errors(one) for one in kind.__subclasses__()))


def _raising(kind: type[BaseException]) -> Answering:
    def answer(request: httpx.Request) -> httpx.Response:
        raise kind(f"with {TOKEN}")

    return answer


@pytest.mark.parametrize(
    "kind",
    # HTTPStatusError is raised on demand alone, which nobody makes.
    sorted(_errors(httpx.HTTPError) - {httpx.HTTPStatusError}, key=str),
    ids=str,
)
async def test_every_error_of_the_client_is_mapped(kind: type[BaseException]) -> None:
    """As Unavailable, without a word of the request; unknown unless nothing was sent."""
    nothing_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    async with gateway_of(_raising(kind)) as gateway:
        for call in (gateway.charge(charge("p1", TOKEN)), gateway.look_up("k")):
            with pytest.raises(Unavailable) as away:
                await call
            assert away.value.why is Why.PAYMENT_AWAY
            assert away.value.may_have_happened == (not issubclass(kind, nothing_sent))
            assert TOKEN not in str(away.value)
            assert away.value.__cause__ is None
            assert away.value.__suppress_context__


async def test_a_provider_that_never_answers_is_left_at_the_deadline() -> None:
    """The outcome is unknown; whoever waits hears so within it."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    async with gateway_of(lambda _: httpx.Response(200)) as gateway:
        gateway._client._transport = Silent()
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=r"no answer within 0\.2 s") as away:
                await gateway.charge(charge("p1"))
    assert away.value.may_have_happened


async def test_an_endless_answer_is_cut() -> None:
    """It is no answer, and does not fill the memory."""
    body = b'{"status": "charged", "reference": "' + b"x" * (2 * ANSWER_BYTES_MAX)
    async with gateway_of(lambda _: httpx.Response(200, content=body)) as gateway:
        with pytest.raises(Unavailable):
            await gateway.charge(charge("p1"))


async def test_a_redirect_is_not_followed() -> None:
    """The token goes where the setting says, and nowhere else."""
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(307, headers={"location": "http://elsewhere.example/"})

    async with gateway_of(answer) as gateway:
        with pytest.raises(Corrupt):
            await gateway.charge(charge("p1", TOKEN))
    assert seen == ["http://pay.example/v1/charges"]


async def test_a_credential_is_shown_by_nothing() -> None:
    """Neither by the options nor by what is opened."""
    options = PaymentOptions(deadline_ms=100, auth="sk_live_1")
    assert "sk_live_1" not in repr(options)
    async with open_gateway("http://pay.example", options) as gateway:
        assert "sk_live_1" not in repr(vars(gateway))
