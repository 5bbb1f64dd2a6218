"""Where a request came from, and what becomes of those who ask too often."""

from ipaddress import ip_network
from typing import Any

import pytest

from flashsale.http.addresses import Addresses
from flashsale.settings import Entrypoint
from flashsale.settings_loading import SettingsError, load_settings
from flashsale_core.rates import RateLimits
from flashsale_memory.clock import SystemClock
from flashsale_memory.gate import MemoryStockGate
from tests.unit.http_world import Shop, ask, selling

PROXIES = tuple(ip_network(one) for one in ("10.0.0.0/8", "fd00::/8"))


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    """Make what the server says of a request."""
    return {
        "client": (peer, 1234) if peer is not None else None,
        "headers": [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded],
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["198.51.100.1, 192.0.2.7, 10.9.9.9"], "192.0.2.7"),
        ("10.0.0.1", ["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["nonsense, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8:1:2::7]:4711"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2:ffff::7"], "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("fd00::1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7,"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, \xff"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.7, 10.0.0.300"], "10.0.0.1"),
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),
        ("2001:db8::9", ["198.51.100.1"], "2001:db8::/64"),
        (None, ["198.51.100.1"], None),
        ("/run/flashsale.sock", ["198.51.100.1"], None),
    ],
)
def test_the_right_most_hop_that_is_no_proxy_of_ours_counts(
    peer: str | None, forwarded: list[str], address: str | None
) -> None:
    """A stranger's own words, left of it, count for nothing; an unreadable hop is no hop."""
    assert Addresses(PROXIES)(scope(peer, *forwarded)) == address


def test_without_trusted_proxies_nobodys_word_is_taken() -> None:
    """The default."""
    assert Addresses()(scope("10.0.0.1", "192.0.2.7")) == "10.0.0.1"


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "300.0.0.0/8"])
def test_a_network_that_is_none_is_refused_at_the_start(wrong: str) -> None:
    """A typing error must not trust nobody, or everybody, in silence."""
    with pytest.raises(SettingsError, match="FLASHSALE_TRUSTED_PROXIES"):
        load_settings(Entrypoint.RUN, {"trusted_proxies": wrong})


def limited_shop(limits: RateLimits, **parts: Any) -> Shop:
    """Make a shop whose gate counts."""
    shop = Shop(address_of=Addresses(PROXIES), **parts)
    shop.world.gate.rates = limits
    return shop


def body(purchase: str, user: int = 101) -> bytes:
    """Write a purchase."""
    return b'{"userId":%d,"productId":1,"purchaseId":"%s"}' % (user, purchase.encode())


async def test_who_asks_too_often_is_told_when_to_come_back_and_a_retry_still_gets_its_answer() -> (
    None
):
    """429 `rate-limited`, apart from sold out; counted, and told to no log."""
    async with selling(limited_shop(RateLimits(per_user=1))) as shop:
        headers = {"content-type": "application/json"}
        first = await shop.ask("POST", "/purchase/buy", body=body("p1"), headers=headers)
        assert first.status == 200
        refused = await shop.ask("POST", "/purchase/buy", body=body("p2"), headers=headers)
        assert (refused.status, refused.problem) == (429, "rate-limited")
        assert 1 <= int(refused.header("retry-after") or 0) <= 10
        again = await shop.ask("POST", "/purchase/buy", body=body("p1"), headers=headers)
        assert again.status == 200
        other = await shop.ask("POST", "/purchase/buy", body=body("p3", 102), headers=headers)
        assert other.status == 200
        assert ("rate-limited", "p2") in shop.listener.answers


async def test_buyers_behind_a_proxy_are_told_apart() -> None:
    """By what the proxy says, not by the proxy's own address; the peer here is 127.0.0.1."""
    limits = RateLimits(per_address=1)
    shop = Shop(address_of=Addresses((ip_network("127.0.0.0/8"),)))
    shop.world.gate.rates = limits
    async with selling(shop):
        answers = []
        for number, address in enumerate(["192.0.2.1", "192.0.2.1", "192.0.2.2"]):
            headers = {"content-type": "application/json", "x-forwarded-for": address}
            reply = await ask(
                shop.app, "POST", "/purchase/buy", body=body(f"p{number}", number), headers=headers
            )
            assert reply is not None
            answers.append(reply.status)
        assert answers == [200, 429, 200]


def test_a_gate_needs_no_limits() -> None:
    """Off by default, in the settings as in the adapters."""
    settings = load_settings(Entrypoint.RUN)
    assert (settings.rate_per_user, settings.rate_per_address) == (0, 0)
    assert MemoryStockGate(SystemClock(), rates=RateLimits()).rates is None
