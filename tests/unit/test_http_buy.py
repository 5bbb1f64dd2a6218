"""`POST /purchase/buy`: Flashgrid's calls, every status of the table, and the purchase's name."""

import uuid
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from flashsale.http import asking, buy
from flashsale.observing import WatchingObserver
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, SaleTerms
from flashsale_core.outcomes import Refused
from flashsale_core.ports import FollowBatch
from flashsale_prometheus import Metrics, PrometheusObserver
from tests.unit.http_world import Shop, ask, selling
from tests.unit.world import START_MS

MINE = {"userId": 101, "productId": 1, "purchaseId": "mine"}


async def test_flashgrids_calls_work_verbatim() -> None:
    """Stock is set by the query, bought by user and product alone, and 429 says sold out."""
    shop = Shop()
    async with shop.world.worker():
        made = await shop.ask("POST", "/purchase/init?productId=1&stock=1000")
        assert (made.status, made.json["stock"], made.json["gate"]["available"]) == (
            200,
            1000,
            1000,
        )
        bought = await shop.buy(b'{"userId":101,"productId":1}')
        assert (bought.status, bought.json["status"]) == (200, "ACCEPTED")
        for _ in range(999):
            assert (await shop.buy(b'{"userId":101,"productId":1}')).status == 200
        assert (await shop.buy(b'{"userId":101,"productId":1}')).status == 429
    assert (await shop.world.books()).sold == 1000


async def test_an_accepted_purchase_can_be_looked_up_where_location_says() -> None:
    """200 carries the id, the sale, and a Location that answers."""
    async with selling(Shop()) as shop:
        reply = await shop.buy({"userId": 101, "productId": 1, "quantity": 2})
        assert reply.json == {
            "purchaseId": reply.json["purchaseId"],
            "status": "ACCEPTED",
            "saleId": "1.1",
            "productId": "1",
            "quantity": 2,
        }
        location = reply.header("location")
        assert location == f"/purchase/{reply.json['purchaseId']}?saleId=1.1"
        found = await shop.ask("GET", location)
        assert (found.status, found.json["quantity"]) == (200, 2)
        assert "user" not in found.body.decode().lower()


async def test_the_server_makes_ids_that_sort_by_time() -> None:
    """Without an id of the client's the server makes a UUIDv7."""
    async with selling(Shop()) as shop:
        ids = [(await shop.buy({"userId": 1, "productId": 1})).json["purchaseId"] for _ in "ab"]
        assert [uuid.UUID(one).version for one in ids] == [7, 7]
        assert len(set(ids)) == 2


async def test_sold_out_is_429_without_retry_after() -> None:
    """Coming back does not help, so no header says to."""
    async with selling(Shop(), units=1) as shop:
        await shop.buy({"userId": 1, "productId": 1})
        reply = await shop.buy({"userId": 2, "productId": 1})
        assert (reply.status, reply.problem, reply.json["available"]) == (429, "sold-out", 0)
        assert reply.header("retry-after") is None


async def test_quantity_is_all_or_nothing_and_the_rest_is_told() -> None:
    """Too few units are sold out for this request, not for a smaller one."""
    async with selling(Shop(), units=3) as shop:
        reply = await shop.buy({"userId": 1, "productId": 1, "quantity": 4})
        assert (reply.problem, reply.json["available"]) == ("sold-out", 3)
        assert (await shop.buy({"userId": 1, "productId": 1, "quantity": 3})).status == 200


async def test_a_user_over_the_limit_gets_409_with_both_numbers() -> None:
    """The limit is cumulative, and 101 and "101" are one user."""
    async with selling(Shop(), per_user_limit=2) as shop:
        await shop.buy({"userId": 101, "productId": 1, "quantity": 2})
        reply = await shop.buy({"userId": "101", "productId": "1"})
        assert (reply.status, reply.problem) == (409, "limit-reached")
        assert (reply.json["limit"], reply.json["held"]) == (2, 2)


async def test_a_sale_that_is_not_open_yet_is_425_with_its_time() -> None:
    """The gate's clock decides."""
    async with selling(Shop(), opens_at_ms=START_MS + 60_000) as shop:
        reply = await shop.buy({"userId": 1, "productId": 1})
        assert (reply.status, reply.problem) == (425, "not-open")
        assert reply.json["opensAt"] == "2027-01-15T08:01:00.000Z"


async def test_a_closed_sale_is_410_and_a_retry_still_gets_its_old_answer() -> None:
    """A duplicate comes before the sale's state."""
    async with selling(Shop()) as shop:
        first = await shop.buy(MINE)
        assert (await shop.ask("POST", "/sales/1.1/close")).status == 200
        late = await shop.buy({"userId": 1, "productId": 1})
        assert (late.status, late.problem) == (410, "closed")
        again = await shop.buy(MINE)
        assert (first.status, again.status) == (200, 200)


async def test_an_item_that_was_never_sold_is_404() -> None:
    """Unknown item is an answer of its own."""
    async with selling(Shop()) as shop:
        reply = await shop.buy({"userId": 1, "productId": 2})
        assert (reply.status, reply.problem) == (404, "unknown-item")


async def test_the_same_id_with_other_content_is_422() -> None:
    """An id names one purchase."""
    async with selling(Shop()) as shop:
        await shop.buy(MINE)
        reply = await shop.buy({**MINE, "quantity": 2})
        assert (reply.status, reply.problem) == (422, "key-reused")


async def test_the_same_purchase_twice_takes_one_unit_and_gets_its_present_status() -> None:
    """Once the order stands, the old answer says CONFIRMED."""
    async with selling(Shop()) as shop:
        first = await shop.buy(MINE)
        again = await shop.buy(MINE)
        assert (first.status, again.status) == (200, 200)
        assert again.json == {**first.json, "status": "CONFIRMED"}
        assert (await shop.world.books()).available == 9


async def test_a_purchase_that_ended_is_409_with_its_reason() -> None:
    """The id stays burned."""
    async with selling(Shop()) as shop:
        await shop.buy(MINE)
        sale = shop.world.board.seen(ItemId("1"))
        assert sale is not None
        ended = (PurchaseId("gone"), "SOLD_OUT")
        follow = FollowBatch(sale_id=sale.sale_id, epoch=sale.epoch, released=(ended,))
        await shop.world.gate.follow([follow])
        # A release of an unknown id burns it without a user, so the content is another one's.
        assert (await shop.buy({**MINE, "purchaseId": "gone"})).problem in (
            "purchase-ended",
            "key-reused",
        )


async def test_a_rule_of_the_sellers_own_refuses_with_its_code() -> None:
    """422 `refused` names the rule."""

    def only_ann(request: PurchaseRequest, _: SaleTerms) -> Refused | None:
        return None if request.user_id == "ann" else Refused(code="ONLY_ANN", detail="Not you.")

    async with selling(Shop([only_ann])) as shop:
        assert (await shop.buy({"userId": "ann", "productId": 1})).status == 200
        reply = await shop.buy({"userId": "bob", "productId": 1})
        assert (reply.status, reply.problem) == (422, "refused")
        assert (reply.json["code"], reply.json["detail"]) == ("ONLY_ANN", "Not you.")


async def test_nothing_taken_is_503_unavailable_with_retry_after() -> None:
    """A paused sale takes nothing new, and says when to come back."""
    async with selling(Shop()) as shop:
        assert (await shop.ask("POST", "/sales/1.1/pause")).status == 200
        reply = await shop.buy({"userId": 1, "productId": 1})
        assert (reply.status, reply.problem, reply.json["reason"]) == (503, "unavailable", "paused")
        assert int(reply.header("retry-after") or 0) >= 1
        assert (await shop.world.books()).records == 0


async def test_an_unconfirmed_purchase_is_503_with_an_id_that_resumes_it() -> None:
    """`outcome-unknown` carries the id; the same id asked again buys once."""
    shop = Shop(confirm_s=0.01)
    await shop.world.sell()
    reply = await shop.buy({"userId": 1, "productId": 1})
    assert (reply.status, reply.problem) == (503, "outcome-unknown")
    shop.world.bus._deadline_s = 30.0
    async with shop.world.worker():
        again = await shop.buy(
            {"userId": 1, "productId": 1, "purchaseId": reply.json["purchaseId"]}
        )
    assert again.status == 200
    assert (await shop.world.books()).available == 9


async def test_an_unexpected_error_is_a_problem_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug of ours or of a rule's is 500 in the form of every other error, and is logged."""

    def broken(_: PurchaseRequest, __: SaleTerms) -> Refused | None:
        raise ZeroDivisionError("a secret of the rule")

    async with selling(Shop([broken])) as shop:
        reply = await shop.buy(MINE)
        assert (reply.status, reply.problem) == (500, "internal")
        assert b"secret" not in reply.body
        assert shop.listener.answers == [("internal", "mine")]
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_too_many_at_once_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a purchase is refused before anything is done for it."""
    async with selling(Shop()) as shop:
        monkeypatch.setattr(buy, "IN_FLIGHT_MAX", 1)
        # One after the other is never too many.
        for body in (MINE, b"{", MINE):
            assert (await shop.buy(body)).status != 503
        monkeypatch.setattr(buy, "IN_FLIGHT_MAX", 0)
        reply = await shop.buy(MINE)
        assert (reply.status, reply.problem) == (503, "unavailable")
        assert reply.json["reason"] == "overloaded"


@pytest.mark.parametrize("key", ["mine", '"mine"', ' "mine" '])
async def test_idempotency_key_carries_the_id_quoted_or_bare(key: str) -> None:
    """The header names the purchase as `purchaseId` does."""
    async with selling(Shop()) as shop:
        body = {"userId": 1, "productId": 1}
        reply = await shop.buy(body, {"Idempotency-Key": key})
        assert (reply.status, reply.json["purchaseId"]) == (200, "mine")
        both = await shop.buy({**body, "purchaseId": "mine"}, {"Idempotency-Key": key})
        assert both.status == 200
        assert (await shop.world.books()).available == 9


async def test_a_number_in_the_body_and_its_text_in_the_header_are_one_id() -> None:
    """Ids are compared as the text that they become."""
    async with selling(Shop()) as shop:
        body = {"userId": 1, "productId": 1, "purchaseId": 7}
        assert (await shop.buy(body, {"Idempotency-Key": "7"})).json["purchaseId"] == "7"


@pytest.mark.parametrize(
    "key", ["other", "", '""', '"', "a b", "ä", "{x}", "k" * 65, '"a";p=1', "a,b"]
)
async def test_another_or_no_valid_idempotency_key_is_422(key: str) -> None:
    """Both and different, or no id at all: nothing is taken."""
    async with selling(Shop()) as shop:
        alone = {"userId": 1, "productId": 1}
        for body in (MINE, alone) if key != "other" else (MINE,):
            reply = await shop.buy(body, {"Idempotency-Key": key})
            assert (reply.status, reply.problem) == (422, "invalid")
            assert reply.json["violations"][0]["field"] == "Idempotency-Key"
        assert (await shop.world.books()).records == 0


async def test_two_idempotency_keys_are_one_only_when_they_are_equal() -> None:
    """A header that comes twice must not let the second win in silence."""
    async with selling(Shop()) as shop:
        for second, status in (("k1", 200), ("k2", 422)):
            reply = await ask(
                shop.app,
                "POST",
                "/purchase/buy",
                body=b'{"userId":1,"productId":1}',
                headers=[
                    ("content-type", "application/json"),
                    ("idempotency-key", "k1"),
                    ("idempotency-key", second),
                ],
            )
            assert reply is not None
            assert reply.status == status


_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (_TRACE, _TRACE),
        ("nonsense", None),
        (_TRACE.upper(), None),
        (_TRACE.replace("00-", "ff-", 1), None),
        (_TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None),
        (_TRACE.replace("b7ad6b7169203331", "0" * 16), None),
    ],
)
async def test_traceparent_travels_where_it_is_valid_and_hurts_nobody(
    given: str, kept: str | None
) -> None:
    """An invalid one is as good as none."""
    shop = Shop(confirm_s=0.01)
    await shop.world.sell()
    await shop.buy(MINE, {"traceparent": given})
    sale = shop.world.board.seen(ItemId("1"))
    assert sale is not None
    keys = [(sale.sale_id, sale.epoch)]
    [record] = await shop.world.gate.find(keys, PurchaseId("mine"))
    assert getattr(record, "traceparent", "no record") == kept


async def test_what_the_body_says_reaches_the_gate() -> None:
    """Source and payment token travel; the time is the server's."""
    shop = Shop(confirm_s=0.01)
    await shop.world.sell()
    await shop.buy({**MINE, "source": "MOBILE", "paymentToken": 'a "token"'})
    sale = shop.world.board.seen(ItemId("1"))
    assert sale is not None
    keys = [(sale.sale_id, sale.epoch)]
    [record] = await shop.world.gate.find(keys, PurchaseId("mine"))
    seen: Any = record
    assert (seen.source, seen.payment_token) == ("MOBILE", 'a "token"')
    assert seen.requested_at_ms == START_MS


async def test_every_answer_is_told_to_the_observer_once() -> None:
    """With the stable code, and with the id where there is one."""
    async with selling(Shop(), units=1) as shop:
        await shop.buy(MINE)
        await shop.buy({**MINE, "purchaseId": "other"})
        await shop.buy(b"{")
        await shop.buy({"userId": 1})
    assert shop.listener.answers == [
        ("accepted", "mine"),
        ("sold-out", "other"),
        ("malformed", None),
        ("invalid", None),
    ]


def watched() -> Shop:
    """Have a shop whose door tells the observer that writes the log."""
    metrics = PrometheusObserver(Metrics(CollectorRegistry()))
    return Shop(observer=WatchingObserver(metrics))


async def test_a_refusal_by_fault_is_logged_with_its_trace_and_its_id() -> None:
    """Whoever looks for a failed purchase finds it from either end; the next request is its own."""
    with capture_logs([merge_contextvars]) as lines:
        async with selling(watched(), units=9) as shop:
            key = {"Idempotency-Key": '"mine"', "traceparent": _TRACE}
            await shop.buy(MINE, {"traceparent": _TRACE})
            await shop.buy(b"{", key)
            await shop.buy({**MINE, "userId": 2}, {"traceparent": _TRACE})
            await shop.buy({"userId": 1})
            await shop.buy({**MINE, "productId": "none"}, {"traceparent": "nonsense"})
    told = [
        (line["outcome"], line["purchase_id"], line.get("traceparent"))
        for line in lines
        if line["event"] == "purchase refused"
    ]
    assert told == [
        ("malformed", "mine", _TRACE),
        ("key-reused", "mine", _TRACE),
        ("invalid", None, None),
        ("unknown-item", "mine", None),
    ]


async def test_a_mistake_of_ours_is_logged_with_the_trace_of_its_request() -> None:
    """A person who was told 500 can name the request, by both ways into the door."""
    shop = watched()
    shop.world.board.seen = lambda _: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    shop.world.inquiry.find = lambda *_, **__: 1 / 0  # type: ignore[assignment,method-assign]
    with capture_logs([merge_contextvars]) as lines:
        assert (await shop.buy(MINE, {"traceparent": _TRACE})).status == 500
        looked_up = await shop.ask("GET", "/purchase/mine", headers={"traceparent": _TRACE})
        assert looked_up.status == 500
    by_event = {line["event"]: line for line in lines}
    assert by_event["buy failed"]["purchase_id"] == "mine"
    for event in ("buy failed", "request failed", "purchase refused"):
        assert by_event[event]["traceparent"] == _TRACE


async def test_accepted_and_sold_out_write_no_log_line(capfd: pytest.CaptureFixture[str]) -> None:
    """A crowd must not fill the log."""
    async with selling(Shop(), units=1) as shop:
        await shop.buy(MINE)
        await shop.buy({**MINE, "purchaseId": "other"})
    assert capfd.readouterr() == ("", "")


async def test_who_leaves_before_the_body_is_whole_takes_nothing() -> None:
    """Nobody waits for an answer, and nothing is done."""
    async with selling(Shop()) as shop:
        for path in ("/purchase/buy", "/purchase/buy/"):
            reply = await ask(
                shop.app,
                "POST",
                path,
                chunks=[b'{"userId":1,"productId":1}'],
                headers={"content-type": "application/json"},
                leaves=True,
            )
            assert reply is None
        assert shop.listener.answers == []
        assert (await shop.world.books()).records == 0


async def test_a_body_that_does_not_arrive_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds a place by sending slowly."""
    monkeypatch.setattr(asking, "BODY_WAIT_S", 0)
    async with selling(Shop()) as shop:
        reply = await shop.buy(MINE)
        assert (reply.status, reply.problem) == (408, "request-timeout")
        assert reply.header("connection") == "close"
