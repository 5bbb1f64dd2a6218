"""What stands before the framework: prefixes, HEAD, CORS, the lifespan, and the plain routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flashsale.http import Dependency, Readiness
from tests.unit.http_world import Shop, ask, selling

ORIGIN = "https://shop.example"
GOOD = b'{"userId":1,"productId":1,"purchaseId":"p"}'


@pytest.mark.parametrize("keeps_prefix", [True, False])
async def test_it_works_below_a_prefix_whichever_way_it_is_mounted(keeps_prefix: bool) -> None:
    """Some cut the prefix off the path, others leave it on; Location has it either way."""
    prefix = "/shop/s\u00fc\u00df"
    below = "/shop/s%C3%BC%C3%9F" if keeps_prefix else ""
    async with selling(Shop()) as shop:
        for path in ("/purchase/buy", "/purchase/buy/"):
            bought = await ask(
                shop.app,
                "POST",
                f"{below}{path}",
                body=GOOD,
                headers={"content-type": "application/json"},
                root_path=prefix,
            )
            assert bought is not None
            location = bought.header("location")
            assert location == "/shop/s%C3%BC%C3%9F/purchase/p?saleId=1.1"
        found = await shop.ask("GET", f"{below}/purchase/p", root_path=prefix)
        assert found.status == 200
        document = await shop.ask("GET", f"{below}/openapi.json", root_path=prefix)
        assert document.json["servers"] == [{"url": prefix}]
        page = await shop.ask("GET", "/docs", root_path="/shop/<s>")
        assert b'src="/shop/&lt;s&gt;/docs/start.js"' in page.body


async def test_a_prefix_is_cut_off_only_where_it_ends() -> None:
    """`/purchases` is not below `/purchase`, and a prefix inside the path stays."""
    async with selling(Shop()) as shop:
        assert (await shop.ask("GET", "/purchase/p", root_path="/p")).problem == "unknown-purchase"
        assert (await shop.ask("GET", "/p", root_path="/p")).problem == "not-found"
        found = await shop.ask("GET", "/sales/sales/1.1", root_path="/sales")
        assert found.status == 200


async def test_head_is_answered_like_get() -> None:
    """Probes may use either; a server leaves the body out."""
    shop = Shop()
    for target in ("/healthz", "/readyz", "/docs", "/purchase/none"):
        head = await shop.ask("HEAD", target)
        get = await shop.ask("GET", target)
        assert head == get


async def test_without_origins_no_cors_header_is_sent() -> None:
    """CORS is off until it is set."""
    async with selling(Shop()) as shop:
        reply = await shop.buy(GOOD, {"origin": ORIGIN})
        assert not [name for name, _ in reply.headers if name.startswith("access-control")]
        preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
        reply = await shop.ask("OPTIONS", "/purchase/buy", headers=preflight)
        assert not [name for name, _ in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("target", ["/purchase/buy", "/purchase/buy/", "/sales", "/none"])
@pytest.mark.parametrize("origins", [(ORIGIN,), ("*",)])
async def test_a_browser_of_a_known_origin_may_ask_and_read(
    target: str, origins: tuple[str, ...]
) -> None:
    """The raw way, the framework's, and its errors."""
    async with selling(Shop(cors_origins=origins)) as shop:
        preflight = await shop.ask(
            "OPTIONS",
            target,
            headers={"origin": ORIGIN, "access-control-request-method": "POST"},
        )
        assert (preflight.status, preflight.body) == (204, b"")
        assert preflight.header("access-control-allow-origin") == ORIGIN
        assert "POST" in (preflight.header("access-control-allow-methods") or "")
        assert "idempotency-key" in (preflight.header("access-control-allow-headers") or "")
        headers = {"origin": ORIGIN, "content-type": "application/json"}
        reply = await shop.ask("POST", target, body=GOOD, headers=headers)
        assert reply.header("access-control-allow-origin") == ORIGIN
        assert "location" in (reply.header("access-control-expose-headers") or "")
        assert reply.header("vary") == "origin"


@pytest.mark.parametrize("target", ["/purchase/buy", "/sales"])
async def test_a_browser_of_another_origin_is_not_let_in(target: str) -> None:
    """No header allows it, and caches are told that it depends on the origin."""
    shop = Shop(cors_origins=(ORIGIN,))
    for method in ("OPTIONS", "POST"):
        headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        reply = await shop.ask(method, target, headers=headers)
        assert reply.header("access-control-allow-origin") is None
        assert reply.header("vary") == "origin"


async def test_routes_that_do_not_exist_are_problems() -> None:
    """Also what the framework would add by itself."""
    shop = Shop()
    for target in ("/", "/none", "/schema", "/schema/openapi.json", "/purchase", "/docs/none"):
        reply = await shop.ask("GET", target)
        assert (reply.status, reply.problem) == (404, "not-found"), target
    reply = await shop.ask("DELETE", "/sales")
    assert (reply.status, reply.problem) == (405, "method-not-allowed")
    assert reply.header("allow")
    bad_host = await shop.ask("GET", "/healthz", headers={"host": "a b"})
    assert (bad_host.status, bad_host.problem) == (400, "bad-request")


async def test_probes_tell_how_it_stands() -> None:
    """Alive always; ready by the report, with each dependency's last error."""
    shop = Shop()
    assert (await shop.ask("GET", "/healthz")).json == {"status": "alive"}
    assert (await shop.ask("GET", "/readyz")).status == 200
    down = Dependency(name="bus", ok=False, last_error="refused")
    shop.readiness.report = Readiness(ready=False, dependencies=(down,))
    reply = await shop.ask("GET", "/readyz")
    assert reply.status == 503
    assert reply.json == {
        "ready": False,
        "dependencies": [{"name": "bus", "ok": False, "lastError": "refused"}],
    }


async def test_metrics_come_as_prometheus_reads_them() -> None:
    """Bytes and media type are the registry's."""
    reply = await Shop().ask("GET", "/metrics")
    assert reply.body == b"flashsale_up 1\n"
    assert reply.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_lifespan_is_entered_and_left_once() -> None:
    """Whoever runs the application says when."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        seen.append("begin")
        yield
        seen.append("end")

    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(told)

    async def send(message: Any) -> None:
        seen.append(message["type"])

    shop = Shop(lifespan=lifespan)
    await shop.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert seen == ["begin", "lifespan.startup.complete", "end", "lifespan.shutdown.complete"]
