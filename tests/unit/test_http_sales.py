"""The admin's routes, who may ask them, and the buyer's look-up."""

import asyncio
import hmac
from typing import Any

import pytest
from litestar import Litestar

from flashsale.http import sales
from flashsale.http.times import read, written
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.ports import FollowBatch
from tests.unit.http_world import ADMIN_TOKEN, Shop, selling

INIT = "/purchase/init?productId=1&stock=10"


async def test_init_makes_a_sale_under_all_its_terms_and_arms_it() -> None:
    """The answer shows the row and the gate's live counts."""
    shop = Shop()
    reply = await shop.ask(
        "POST",
        f"{INIT}&maxPerUser=2&opensAt=2027-01-15T09:00:00%2B01:00&closesAt=1800003600000"
        "&unitPriceMinor=4990&currency=CHF",
    )
    assert reply.status == 200
    assert reply.json == {
        "saleId": "1.1",
        "productId": "1",
        "round": 1,
        "state": "OPEN",
        "stock": 10,
        "available": 10,
        "pending": 0,
        "sold": 0,
        "maxPerUser": 2,
        "opensAt": "2027-01-15T08:00:00.000Z",
        "closesAt": "2027-01-15T09:00:00.000Z",
        "unitPriceMinor": 4990,
        "currency": "CHF",
        "epoch": 1,
        "gate": {
            "state": "OPEN",
            "initial": 10,
            "available": 10,
            "reserved": 0,
            "outside": 0,
            "queued": 0,
            "sold": 0,
            "purchases": 0,
            "users": 0,
            "journal": 0,
            "oldestDueAt": None,
        },
        "gateProblem": None,
    }


async def test_init_twice_is_a_no_op_and_other_terms_are_409_that_says_what_to_do() -> None:
    """Nobody's stock is reset by accident."""
    async with selling(Shop()) as shop:
        await shop.buy({"userId": 1, "productId": 1})
        again = await shop.ask("POST", INIT)
        assert (again.status, again.json["saleId"], again.json["available"]) == (200, "1.1", 9)
        other = await shop.ask("POST", "/purchase/init?productId=1&stock=11")
        assert (other.status, other.problem) == (409, "other-terms")
        assert "settle" in other.json["detail"]


async def test_init_after_settle_opens_the_next_round() -> None:
    """An item may be sold again, once its sale is settled."""
    async with selling(Shop()) as shop:
        await shop.buy({"userId": 1, "productId": 1, "purchaseId": "p"})
        early = await shop.ask("POST", "/sales/1.1/settle")
        assert (early.status, early.problem) == (409, "not-settled-yet")
        assert "close" in early.json["detail"]
        assert (await shop.ask("POST", "/sales/1.1/close")).json["state"] == "CLOSED"
        assert (await shop.ask("POST", "/sales/1.1/settle")).json["state"] == "SETTLED"
        assert (await shop.buy({"userId": 1, "productId": 1})).problem == "closed"
        assert (await shop.ask("POST", INIT)).json["saleId"] == "1.2"
        # The same purchase id in the next round is another purchase; the look-up must be told.
        assert (await shop.buy({"userId": 1, "productId": 1, "purchaseId": "p"})).status == 200
        both = await shop.ask("GET", "/purchase/p")
        assert (both.status, both.problem) == (409, "ambiguous")
        assert (await shop.ask("GET", "/purchase/p?saleId=1.1")).json["saleId"] == "1.1"


BAD_QUERIES = {
    "nothing": ("", ["productId", "stock"]),
    "stock negative": ("?productId=1&stock=-1", ["stock"]),
    "stock zero": ("?productId=1&stock=0", ["stock"]),
    "stock huge": ("?productId=1&stock=1000000001", ["stock"]),
    "stock 2^200": (f"?productId=1&stock={2**200}", ["stock"]),
    "stock 1.0": ("?productId=1&stock=1.0", ["stock"]),
    "stock 1e3": ("?productId=1&stock=1e3", ["stock"]),
    "stock with underscores": ("?productId=1&stock=1_000", ["stock"]),
    "stock with a plus sign": ("?productId=1&stock=%2B1", ["stock"]),
    "stock with a space": ("?productId=1&stock=%201", ["stock"]),
    "stock in another script": ("?productId=1&stock=%D9%A1", ["stock"]),
    "stock empty": ("?productId=1&stock=", ["stock"]),
    "stock twice": ("?productId=1&stock=1&stock=2", ["stock"]),
    "product with NUL": ("?productId=a%00&stock=1", ["productId"]),
    "product with braces": ("?productId=%7B1%7D&stock=1", ["productId"]),
    "product with a line's end": ("?productId=1%0A&stock=1", ["productId"]),
    "product of 65 characters": (f"?productId={'i' * 65}&stock=1", ["productId"]),
    "product empty": ("?productId=&stock=1", ["productId"]),
    "invalid UTF-8": ("?productId=%FF&stock=1", ["query"]),
    "too many fields": ("?" + "&".join(f"x{i}=1" for i in range(100)), ["query"]),
    "unknown field": ("?productId=1&stock=1&price=5", ["price"]),
    "limit zero": ("?productId=1&stock=1&maxPerUser=0", ["maxPerUser"]),
    "price without currency": ("?productId=1&stock=1&unitPriceMinor=1", ["currency"]),
    "currency without price": ("?productId=1&stock=1&currency=CHF", ["currency"]),
    "currency in small letters": (
        "?productId=1&stock=1&unitPriceMinor=1&currency=chf",
        ["currency"],
    ),
    "price negative": ("?productId=1&stock=1&unitPriceMinor=-1&currency=CHF", ["unitPriceMinor"]),
    "opens at no time": ("?productId=1&stock=1&opensAt=tomorrow", ["opensAt"]),
    "opens at a local time": ("?productId=1&stock=1&opensAt=2027-01-15T08:00:00", ["opensAt"]),
    "opens on the 31st of February": (
        "?productId=1&stock=1&opensAt=2027-02-31T08:00:00Z",
        ["opensAt"],
    ),
    "opens after the year 9999": ("?productId=1&stock=1&opensAt=253402300800000", ["opensAt"]),
    "closes before it opens": ("?productId=1&stock=1&opensAt=2&closesAt=1", ["closesAt"]),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
async def test_bad_terms_are_422_and_name_every_field(case: str) -> None:
    """Nothing is made of them."""
    query, fields = BAD_QUERIES[case]
    shop = _shared_shop()
    reply = await shop.ask("POST", f"/purchase/init{query}")
    assert (reply.status, reply.problem) == (422, "invalid")
    assert [one["field"] for one in reply.json["violations"]] == fields
    assert (await shop.ask("GET", "/sales")).json == {"sales": []}


_shops: list[Shop] = []


def _shared_shop() -> Shop:
    if not _shops:
        _shops.append(Shop())
    return _shops[0]


async def test_a_body_where_the_query_says_everything_is_refused() -> None:
    """Terms in a body would be ignored in silence."""
    shop = Shop()
    for how in ({"body": b'{"stock":5}'}, {"headers": {"transfer-encoding": "chunked"}}):
        reply = await shop.ask("POST", INIT, **how)
        assert (reply.status, reply.problem) == (422, "invalid")
    empty = await shop.ask("POST", INIT, headers={"content-length": "0"})
    assert empty.status == 200


async def test_init_that_cannot_arm_the_gate_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin waits no longer than that; nothing is sold meanwhile."""
    shop = Shop()
    monkeypatch.setattr(sales, "INIT_WAIT_S", 0)
    # A gate that is away swallows what it is sent.
    monkeypatch.setattr(shop.world.gate, "begin_load", lambda *_: asyncio.Event().wait())
    reply = await shop.ask("POST", INIT)
    assert (reply.status, reply.problem, reply.json["reason"]) == (503, "unavailable", "not-armed")
    assert reply.header("retry-after") == "1"
    assert (await shop.buy({"userId": 1, "productId": 1})).status == 503


async def test_a_sale_moves_through_its_states() -> None:
    """Pause takes nothing new, resume sells again, and what does not fit is 409."""
    async with selling(Shop()) as shop:
        assert (await shop.ask("POST", "/sales/1.1/pause")).json["gate"]["state"] == "PAUSED"
        assert (await shop.buy({"userId": 1, "productId": 1})).status == 503
        assert (await shop.ask("POST", "/sales/1.1/resume")).json["state"] == "OPEN"
        assert (await shop.buy({"userId": 1, "productId": 1})).status == 200
        assert (await shop.ask("POST", "/sales/1.1/close")).status == 200
        reply = await shop.ask("POST", "/sales/1.1/resume")
        assert (reply.status, reply.problem) == (409, "wrong-state")


async def test_sales_are_listed_and_shown_with_live_counts() -> None:
    """The row first, then the gate."""
    async with selling(Shop(), per_user_limit=5) as shop:
        await shop.buy({"userId": 1, "productId": 1})
        [listed] = (await shop.ask("GET", "/sales")).json["sales"]
        shown = (await shop.ask("GET", "/sales/1.1")).json
        assert listed == shown
        assert (shown["sold"], shown["gate"]["available"], shown["gate"]["users"]) == (1, 9, 1)


async def test_a_sale_whose_gate_is_silent_is_still_shown() -> None:
    """With the row alone, and why the gate is missing."""
    async with selling(Shop()) as shop:
        await shop.world.gate.drop(SaleId("1.1"))
        shown = (await shop.ask("GET", "/sales/1.1")).json
        assert (shown["gate"], shown["stock"]) == (None, 10)
        assert "not-armed" in shown["gateProblem"]


@pytest.mark.parametrize(
    "sale", ["9.1", "1", "x", "%00.1", "1.1%0A", "a" * 65 + ".1", "1.99999999999"]
)
async def test_a_sale_that_does_not_exist_is_404(sale: str) -> None:
    """Whatever stands in its place."""
    shop = _shared_shop()
    for method, target in (("GET", f"/sales/{sale}"), ("POST", f"/sales/{sale}/close")):
        reply = await shop.ask(method, target)
        assert (reply.status, reply.problem) == (404, "unknown-sale")


@pytest.mark.parametrize("target", ["/sales?x=1", "/sales/1.1?x=1", "/purchase/p?x=1"])
async def test_unknown_fields_in_a_query_are_refused_everywhere(target: str) -> None:
    """A misspelt filter must not look like an answer."""
    async with selling(Shop()) as shop:
        reply = await shop.ask("GET", target)
        assert (reply.status, reply.json["violations"][0]["field"]) == (422, "x")


ADMIN = [
    ("POST", INIT),
    ("GET", "/sales"),
    ("GET", "/sales/1.1"),
    ("POST", "/sales/1.1/pause"),
    ("POST", "/sales/1.1/resume"),
    ("POST", "/sales/1.1/close"),
    ("POST", "/sales/1.1/settle"),
    ("GET", "/dead-letters"),
    ("GET", "/dead-letters/7"),
    ("POST", "/dead-letters/7/replay"),
    ("POST", "/dead-letters/7/discard"),
    ("POST", "/dead-letters/replay"),
    ("POST", "/dead-letters/discard"),
    ("POST", "/sales/1.1/purchases/p1/end"),
]


@pytest.mark.parametrize(("method", "target"), ADMIN)
async def test_admin_routes_need_the_token_where_one_is_configured(
    method: str, target: str
) -> None:
    """Nothing, something else, and text beyond ASCII are 401; the token itself is not."""
    shop = Shop(admin_token=ADMIN_TOKEN)
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        ADMIN_TOKEN,
        f"Basic {ADMIN_TOKEN}",
        f"Bearer {ADMIN_TOKEN}x",
        f"Bearer {ADMIN_TOKEN[:-1]}",
        "Bearer ü",
    ):
        headers = {} if wrong is None else {"authorization": wrong}
        reply = await shop.ask(method, target, headers=headers)
        assert (reply.status, reply.problem) == (401, "unauthorized"), wrong
        assert reply.header("www-authenticate") == "Bearer"
    right = await shop.ask(method, target, headers={"authorization": f"bearer {ADMIN_TOKEN}"})
    assert right.status != 401


async def test_no_admin_route_is_missing_above() -> None:
    """Every route that the document marks as the admin's is tried without the token."""
    document = (await Shop().ask("GET", "/openapi.json")).json
    marked = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if operation.get("security")
    }
    tried = {
        (
            method,
            target.partition("?")[0]
            .replace("1.1", "{saleId}")
            .replace("/7", "/{letterId}")
            .replace("/p1/", "/{purchaseId}/"),
        )
        for method, target in ADMIN
    }
    assert marked == tried


async def test_buyers_and_probes_need_no_token() -> None:
    """The admin's token guards the admin's routes alone."""
    async with selling(Shop(admin_token=ADMIN_TOKEN)) as shop:
        assert (await shop.buy({"userId": 1, "productId": 1, "purchaseId": "p"})).status == 200
        for target in ("/purchase/p", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"):
            assert (await shop.ask("GET", target)).status == 200, target


async def test_a_purchase_is_looked_up_with_its_times_and_without_its_user() -> None:
    """Whoever knows the id may ask, and learns nothing of who bought."""
    async with selling(Shop()) as shop:
        await shop.buy({"userId": "ann", "productId": 1, "purchaseId": "p"})
        reply = await shop.ask("GET", "/purchase/p")
        moment = "2027-01-15T08:00:00.000Z"
        assert reply.json == {
            "purchaseId": "p",
            "saleId": "1.1",
            "status": "CONFIRMED",
            "quantity": 1,
            "reason": None,
            "requestedAt": moment,
            "acceptedAt": moment,
            "recordedAt": moment,
        }
        for wrong in ("?productId=2", "?saleId=2.1"):
            assert (await shop.ask("GET", f"/purchase/p{wrong}")).problem == "unknown-purchase"


async def test_an_unknown_purchase_is_404_and_503_while_its_gate_is_silent() -> None:
    """Who cannot know does not say no."""
    async with selling(Shop()) as shop:
        assert (await shop.ask("GET", "/purchase/none")).problem == "unknown-purchase"
        await shop.world.gate.drop(SaleId("1.1"))
        reply = await shop.ask("GET", "/purchase/none")
        assert (reply.status, reply.problem) == (503, "unavailable")
        assert reply.header("retry-after")


async def test_a_purchase_that_ended_says_why() -> None:
    """REJECTED comes with its reason."""
    async with selling(Shop()) as shop:
        sale = await shop.world.database.catalogue.get(SaleId("1.1"))
        assert sale is not None
        released = ((PurchaseId("p"), "SOLD_OUT"),)
        await shop.world.gate.follow(
            [FollowBatch(sale_id=sale.sale_id, epoch=sale.epoch, released=released)]
        )
        found = (await shop.ask("GET", "/purchase/p")).json
        assert (found["status"], found["reason"]) == ("REJECTED", "SOLD_OUT")


@pytest.mark.parametrize("name", ["%00", "a%20b", "p" * 65, "%7Bp%7D", "p%0A", "%ED%A0%80"])
async def test_what_cannot_be_an_id_is_422(name: str) -> None:
    """It never reaches the database, which refuses NUL."""
    reply = await _shared_shop().ask("GET", f"/purchase/{name}")
    assert (reply.status, reply.json["violations"][0]["field"]) == (422, "purchaseId")


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("253402300799999", 253_402_300_799_999),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.1239z", 123),
        ("2027-01-15T08:00:00+00:00", 1_800_000_000_000),
        ("2027-01-15T09:30:00 01:30", 1_800_000_000_000),
        ("2027-01-15T00:00:00-08:00", 1_800_000_000_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("9999-12-31T23:59:59-00:01", None),
        ("1969-12-31T23:59:59Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("253402300800000", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        ("2027-01-15", None),
        ("2027-01-15T08:00:00", None),
        ("2027-01-15T25:00:00Z", None),
        ("2027-01-15T08:00:60Z", None),
        ("2027-01-15T08:00:00+24:00", None),
        ("2027-01-15T08:00:00Z\n", None),
    ],
)
def test_times_are_read_strictly(text: str, milliseconds: int | None) -> None:
    """RFC 3339 with an offset, or milliseconds; nothing else, and nothing out of range."""
    assert read(text) == milliseconds
    if milliseconds is not None:
        assert read(written(milliseconds)) == milliseconds


async def test_an_unexpected_error_of_the_framework_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug of ours is 500 in the form of every other error, logged, and tells nothing."""

    def broken(_: Litestar) -> Any:
        raise ZeroDivisionError("a secret")

    shop = Shop()
    monkeypatch.setattr(Litestar, "openapi_schema", property(broken))
    reply = await shop.ask("GET", "/openapi.json")
    assert (reply.status, reply.problem) == (500, "internal")
    assert b"secret" not in reply.body
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary comparison ends at the first character that differs, and tells how many fit."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return compare(given, wanted)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    guess = {"authorization": f"Bearer {ADMIN_TOKEN[:-1]}"}
    reply = await Shop(admin_token=ADMIN_TOKEN).ask("GET", "/sales", headers=guess)
    assert reply.status == 401
    assert compared == [(ADMIN_TOKEN[:-1].encode(), ADMIN_TOKEN.encode())]
