"""The HTTP gateway keeps the contract of every payment gateway, against a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from flashsale_core.charges import Charged, NeverHeard
from flashsale_core.errors import Unavailable
from flashsale_core.ports import PaymentGateway
from flashsale_core.testing.payment_gateway import PaymentGatewayContract, charge
from flashsale_http_payment import open_http_gateway
from tests.servers.provider import Provider, running_provider

DEADLINE_MS = 2_000


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Have a provider that knows nobody."""
    with running_provider() as running:
        yield running


@pytest.fixture
async def gateway(provider: Provider) -> AsyncIterator[PaymentGateway]:
    """Talk to it."""
    async with open_http_gateway(provider.url, deadline_ms=DEADLINE_MS, auth="sk_1") as opened:
        yield opened


class TestHttpPaymentGateway(PaymentGatewayContract):
    """The contract, over HTTP."""


async def test_one_key_is_charged_once_however_it_is_asked(
    provider: Provider, gateway: PaymentGateway
) -> None:
    """The provider's own ledger says so."""
    for _ in range(3):
        await gateway.charge(charge("p1"))
    [entry] = provider.ledger()
    assert (entry["charges"], entry["posts"]) == (1, 3)
    assert (entry["amount"], entry["currency"], entry["about"]) == (4_990, "CHF", "shoe.1/p1")
    assert entry["authorization"] == "Bearer sk_1"


async def test_a_provider_that_was_killed_is_away_and_remembers(
    provider: Provider, gateway: PaymentGateway
) -> None:
    """Nothing was sent while it was gone; afterwards the charge is known."""
    made = await gateway.charge(charge("p1"))
    provider.kill()
    with pytest.raises(Unavailable):
        await gateway.charge(charge("p2"))
    provider.start()
    assert await gateway.look_up(charge("p1").key) == made
    assert await gateway.look_up(charge("p2").key) == NeverHeard()
    assert isinstance(await gateway.charge(charge("p2")), Charged)


async def test_a_frozen_provider_is_left_at_the_deadline(provider: Provider) -> None:
    """Its outcome is unknown, and it is looked up when the provider goes on."""
    async with open_http_gateway(provider.url, deadline_ms=300) as gateway:
        await gateway.charge(charge("p0"))
        provider.freeze()
        with pytest.raises(Unavailable) as away:
            await gateway.charge(charge("p1"))
        provider.thaw()
    assert away.value.may_have_happened
