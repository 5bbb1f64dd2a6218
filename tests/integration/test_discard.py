"""An operator ends a promise on real servers: whatever comes late follows the row that stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashsale_avro import AvroCodec
from flashsale_core.events import (
    Channel,
    Message,
    ParkedMessage,
    ParkedStatus,
    PurchaseAccepted,
    PurchasesAccepted,
)
from flashsale_core.model import Epoch, PurchaseId, SaleId, Source, UserId
from flashsale_sql import open_database
from tests.integration.crowds import connected, orders, quiet_gate, settled_orders
from tests.integration.engine import Engine, ask, buy_by_socket, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis


@pytest.fixture(params=["kafka", pytest.param("rabbitmq", marks=pytest.mark.long)])
def stack(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: Redis, postgres_server: Postgres
) -> Iterator[Engine]:
    """One API, and no worker yet."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        ours.start("serve").wait_until_ready()
        yield ours


def parked_promise() -> ParkedMessage:
    """Set a buyer's promise aside, as a worker does when it fails for good."""
    purchase = PurchaseAccepted(
        purchase_id=PurchaseId("p1"),
        user_id=UserId("ann"),
        quantity=1,
        accepted_at_ms=1_700_000_000_001,
        requested_at_ms=1_700_000_000_000,
        source=Source.API,
    )
    fact = PurchasesAccepted(sale_id=SaleId("1.1"), epoch=Epoch(1), purchases=(purchase,))
    encoded = AvroCodec().encode(fact)
    message = Message(
        channel=Channel.ACCEPTED,
        body=encoded.body,
        content_type=encoded.content_type,
        origin="elsewhere:0:1",
    )
    return ParkedMessage(
        message=message,
        status=ParkedStatus.DEAD,
        reason="RuntimeError",
        sale_id=fact.sale_id,
        purchase_id=purchase.purchase_id,
        holds_unit=True,
        user_id=purchase.user_id,
        quantity=1,
    )


@pytest.mark.timeout(120)
async def test_a_promise_that_an_operator_ended_stays_ended_and_its_unit_is_sold_to_another(
    stack: Engine,
) -> None:
    """Its message is still on the bus and comes late; the row and the burned id stand."""
    [url] = stack.doors
    assert ask("POST", f"{url}/purchase/init?productId=1&stock=1").status == 200
    ann = {"userId": "ann", "productId": 1, "purchaseId": "p1"}
    assert (await buy_by_socket(url, ann)).status == 200
    assert (await buy_by_socket(url, {"userId": "bob", "productId": 1})).status == 429
    async with open_database(stack.settings["FLASHSALE_DATABASE_URL"]) as database:
        await database.parked.park([parked_promise()])
    [held] = json.loads(stack.must("dead-letters", "list", "--holding", "--json"))
    for _ in range(2):
        stack.must("dead-letters", "discard", str(held["id"]), "--why", "refunded by hand")
    assert await orders(stack) == {"REJECTED": 1}
    again = await buy_by_socket(url, ann)
    assert (again.status, again.body["reason"]) == (409, "DISCARDED")
    bob = {"userId": "bob", "productId": 1, "purchaseId": "p2"}
    assert (await buy_by_socket(url, bob)).status == 200
    stack.start("worker").wait_until_ready()
    assert await settled_orders(stack, 2) == {"REJECTED": 1, "CONFIRMED": 1}
    gate = await quiet_gate(url)
    assert (gate["available"], gate["sold"]) == (0, 1)
    async with connected(stack) as database:
        [row] = await database.fetch("SELECT reason FROM orders WHERE purchase_id = 'p1'")
        assert row["reason"] == "DISCARDED"
        [entry] = await database.fetch("SELECT act, who, why FROM parked_trail")
        assert (entry["act"], entry["why"]) == ("discard", "refunded by hand")
    shown = json.loads(stack.must("dead-letters", "show", str(held["id"]), "--json"))
    assert shown["status"] == "DISCARDED"
