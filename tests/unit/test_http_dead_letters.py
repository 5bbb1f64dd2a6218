"""The admin's routes to messages that were set aside, and what they answer to nonsense."""

from base64 import b64decode
from typing import Any

import pytest

from flashsale_core.events import ParkedMessage, ParkedStatus
from flashsale_core.model import PurchaseId, SaleId, UserId
from tests.unit.http_world import ADMIN_TOKEN, Shop
from tests.unit.test_dead_letters import DISCARDED, fed, parked_promise
from tests.unit.test_fulfilment import promise, sale_of, status

ROUTES = [
    ("GET", "/dead-letters"),
    ("GET", "/dead-letters/1"),
    ("POST", "/dead-letters/1/replay"),
    ("POST", "/dead-letters/1/discard"),
    ("POST", "/dead-letters/replay"),
    ("POST", "/dead-letters/discard"),
]


async def shop_with(*bodies: bytes, **parts: Any) -> Shop:
    """Open a shop with dead letters that nobody can read."""
    shop = Shop(**parts)
    await shop.world.sell()
    messages = [shop.world.message(body, at) for at, body in enumerate(bodies)]
    await shop.world.parking.deliver(messages)
    return shop


async def test_letters_are_listed_without_and_shown_with_their_bytes() -> None:
    """The newest first; the list says how many there are in all."""
    shop = await shop_with(b"one", b"two", b"\xff")
    listed = (await shop.ask("GET", "/dead-letters?limit=2")).json
    assert [one["id"] for one in listed["letters"]] == [3, 2]
    assert listed["count"] == 3
    rest = (await shop.ask("GET", "/dead-letters?before=2")).json
    assert [one["id"] for one in rest["letters"]] == [1]
    assert "bodyBase64" not in rest["letters"][0]
    shown = (await shop.ask("GET", "/dead-letters/3")).json
    assert b64decode(shown["bodyBase64"]) == b"\xff"
    assert shown["headers"] == [{"name": "h", "valueBase64": "dg=="}]
    assert (shown["status"], shown["reason"], shown["trail"]) == ("DEAD", "bad-json", [])
    assert listed["letters"][0].items() <= shown.items()


async def test_a_filter_leaves_the_others_out() -> None:
    """Each of its fields, also for acts."""
    shop = await shop_with(b"one")
    letter_id = await parked_promise_beside(shop)
    for query, ids in {
        "": [letter_id, 1],
        "?reason=bad-json": [1],
        "?channel=accepted": [letter_id],
        "?holdsUnit=true": [letter_id],
        "?holdsUnit=false": [1],
        "?purchaseId=p1&saleId=1.1": [letter_id],
        "?status=WAITING": [],
        "?status=ANY": [letter_id, 1],
        "?since=2000-01-01T00:00:00Z&until=2100-01-01T00:00:00Z": [letter_id, 1],
        "?until=2000-01-01T00:00:00Z": [],
    }.items():
        listed = (await shop.ask("GET", f"/dead-letters{query}")).json
        assert [one["id"] for one in listed["letters"]] == ids, query
        assert listed["count"] == len(ids)
        dry = f"{query}&dryRun=true" if query else "?dryRun=true"
        if "status" not in query:
            done = (await shop.ask("POST", f"/dead-letters/replay{dry}")).json
            assert [one["id"] for one in done["done"]] == ids, query


async def parked_promise_beside(shop: Shop) -> int:
    """Park a promise in a world that has letters already."""
    await parked_promise_quietly(shop)
    [letter] = (await shop.ask("GET", "/dead-letters?holdsUnit=true")).json["letters"]
    number: int = letter["id"]
    return number


async def parked_promise_quietly(shop: Shop) -> None:
    """As `parked_promise`, whatever else lies there."""
    message = shop.world.message(promise(sale_of(shop.world), "p1"), 99)
    await shop.world.database.parked.park(
        [
            ParkedMessage(
                message=message,
                status=ParkedStatus.DEAD,
                reason="RuntimeError",
                sale_id=SaleId("1.1"),
                purchase_id=PurchaseId("p1"),
                holds_unit=True,
                user_id=UserId("ann"),
                quantity=1,
            )
        ]
    )


async def test_a_replay_is_an_order_and_its_trail_names_who() -> None:
    """Safe to repeat: the second says that there was nothing to do."""
    shop = Shop()
    await shop.world.sell()
    letter_id = await parked_promise(shop.world)
    one = await shop.ask("POST", f"/dead-letters/{letter_id}/replay?who=ann&why=mended%20it")
    assert (one.status, one.json["status"], one.json["changed"]) == (200, "WAITING", True)
    two = await shop.ask("POST", f"/dead-letters/{letter_id}/replay")
    assert (two.status, two.json["changed"], two.json["detail"]) == (
        200,
        False,
        "it is on its way already",
    )
    await fed(shop.world)
    assert await status(shop.world, "p1") == ("CONFIRMED", None)
    shown = (await shop.ask("GET", f"/dead-letters/{letter_id}")).json
    [entry] = shown["trail"]
    assert (entry["act"], entry["who"], entry["why"]) == ("replay", "admin:ann", "mended it")
    late = await shop.ask("POST", f"/dead-letters/{letter_id}/discard")
    assert (late.status, late.problem) == (409, "letter-replayed")


async def test_a_discard_ends_the_purchase_and_cannot_be_replayed() -> None:
    """The buyer's look-up says REJECTED, by whoever holds the token."""
    shop = Shop()
    await shop.world.sell()
    letter_id = await parked_promise(shop.world)
    dry = await shop.ask("POST", f"/dead-letters/{letter_id}/discard?dryRun=true")
    assert (dry.json["status"], dry.json["changed"]) == ("DISCARDED", True)
    assert (await shop.ask("GET", "/purchase/p1")).json["status"] == "PARKED"
    done = await shop.ask("POST", f"/dead-letters/{letter_id}/discard")
    assert (done.status, done.json["changed"]) == (200, True)
    assert await status(shop.world, "p1") == DISCARDED
    seen = (await shop.ask("GET", "/purchase/p1")).json
    assert (seen["status"], seen["reason"]) == ("REJECTED", "DISCARDED")
    again = await shop.ask("POST", f"/dead-letters/{letter_id}/discard")
    assert (again.status, again.json["changed"]) == (200, False)
    late = await shop.ask("POST", f"/dead-letters/{letter_id}/replay")
    assert (late.status, late.problem) == (409, "letter-discarded")
    [entry] = (await shop.ask("GET", f"/dead-letters/{letter_id}")).json["trail"]
    assert entry["who"] == "admin"


async def test_many_are_worked_off_page_by_page() -> None:
    """At most `limit` in one request; `next` goes on; what cannot be is listed by itself."""
    shop = await shop_with(*(b"%d" % n for n in range(5)))
    await shop.world.database.parked.resolve(3, ParkedStatus.REPLAYED)
    first = (await shop.ask("POST", "/dead-letters/discard?limit=2&reason=bad-json")).json
    assert ([one["id"] for one in first["done"]], first["next"]) == ([5, 4], 4)
    query = "?limit=2&reason=bad-json&before=4&status=ANY"
    second = (await shop.ask("POST", f"/dead-letters/discard{query}")).json
    assert [one["id"] for one in second["done"]] == [2]
    assert [(one["id"], one["code"]) for one in second["failed"]] == [(3, "letter-replayed")]
    last = (await shop.ask("POST", "/dead-letters/discard?reason=bad-json")).json
    assert ([one["id"] for one in last["done"]], last["next"]) == ([1], None)
    none = (await shop.ask("POST", "/dead-letters/replay?reason=bad-json")).json
    assert (none["done"], none["failed"], none["next"]) == ([], [], None)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_the_token_nothing_is_shown_or_done(method: str, path: str) -> None:
    """Nor with another."""
    shop = await shop_with(b"one", admin_token=ADMIN_TOKEN)
    for headers in ({}, {"authorization": "Bearer another"}, {"authorization": ADMIN_TOKEN}):
        reply = await shop.ask(method, path, headers=headers)
        assert (reply.status, reply.problem) == (401, "unauthorized")
    right = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await shop.ask("GET", "/dead-letters/1", headers=right)).json["status"] == "DEAD"


@pytest.mark.parametrize("letter_id", ["404", "0", "-1", "x", "1.0", "9" * 30, "%00", "٣", "²"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/replay"), ("POST", "/discard")]
)
async def test_an_id_that_nothing_has_is_404(letter_id: str, method: str, path: str) -> None:
    """Whatever it looks like."""
    shop = await shop_with(b"one")
    reply = await shop.ask(method, f"/dead-letters/{letter_id}{path}")
    assert (reply.status, reply.problem) == (404, "unknown-letter")


BAD = {
    "?status=dead": "status",
    "?status=": "status",
    "?reason=": "reason",
    f"?reason={'x' * 201}": "reason",
    "?saleId=1": "saleId",
    "?purchaseId=a%20b": "purchaseId",
    "?channel=orders": "channel",
    "?holdsUnit=1": "holdsUnit",
    "?since=yesterday": "since",
    "?until=2026-11-27": "until",
    "?limit=0": "limit",
    "?limit=501": "limit",
    "?limit=ten": "limit",
    "?before=0": "before",
    "?colour=red": "colour",
    "?status=DEAD&status=ANY": "status",
}


@pytest.mark.parametrize("query", BAD)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/dead-letters"), ("POST", "/dead-letters/replay"), ("POST", "/dead-letters/discard")],
)
async def test_a_filter_that_is_none_does_nothing(query: str, method: str, path: str) -> None:
    """422 with the field; least of all does it mean everything."""
    shop = await shop_with(b"one")
    reply = await shop.ask(method, f"{path}{query}")
    assert (reply.status, reply.problem) == (422, "invalid")
    assert [one["field"] for one in reply.json["violations"]] == [BAD[query]]
    assert (await shop.ask("GET", "/dead-letters/1")).json["status"] == "DEAD"


@pytest.mark.parametrize("query", ["?dryRun=yes", "?who=", f"?why={'y' * 201}", "?limit=1"])
async def test_an_act_on_one_letter_takes_its_own_fields_alone(query: str) -> None:
    """And no body."""
    shop = await shop_with(b"one")
    for verb in ("replay", "discard"):
        reply = await shop.ask("POST", f"/dead-letters/1/{verb}{query}")
        assert (reply.status, reply.problem) == (422, "invalid")
        body = await shop.ask("POST", f"/dead-letters/1/{verb}", body=b"{}")
        assert (body.status, body.problem) == (422, "invalid")
    assert (await shop.ask("GET", "/dead-letters/1")).json["trail"] == []
