"""A named operator ends a purchase that comes no further by itself."""

import pytest

from flashsale_core.errors import Conflict, Unavailable, Why
from flashsale_core.events import ParkedStatus
from flashsale_core.letters import Act, Signed
from flashsale_core.model import PurchaseId, SaleId
from flashsale_core.outcomes import Accepted, Ended
from tests.unit.http_world import Shop
from tests.unit.world import World, request

ONE, P1 = SaleId("1.1"), PurchaseId("p1")
ANN = Signed(who="ann@desk", why="asked by phone")


async def stuck() -> World:
    """Have a purchase that was taken and that no worker ever hears of."""
    world = World()
    await world.sell(units=1)
    await world.desk.buy(request())
    world.bus = type(world.bus)(world.codec, partitions=2, publish_deadline_ms=20)
    return world


async def test_an_ended_purchase_is_rejected_first_and_then_its_unit_is_free() -> None:
    """With its event, and with who did it and why."""
    world = await stuck()
    outcome = await world.ender.end(ONE, P1, ANN)
    assert (outcome.status, outcome.is_changed) == (ParkedStatus.DISCARDED, True)
    order = await world.order("p1")
    assert order is not None
    assert (order.status, order.reason) == ("REJECTED", "DISCARDED")
    assert [event.reason for event in await world.events()] == ["DISCARDED"]
    books = await world.books()
    assert (books.available, books.journal) == (1, 0)
    _, trail = await world.letters.show(outcome.letter_id)
    assert [(entry.act, entry.signed) for entry in trail] == [(Act.DISCARD, ANN)]
    assert isinstance(await world.desk.buy(request()), Ended)


async def test_the_sweeper_leaves_alone_what_is_being_ended() -> None:
    """Between letter and row nothing is published again; afterwards the row stands."""
    world = await stuck()
    record = world.database.orders.record

    async def away(*_: object) -> list[object]:
        raise Unavailable(Why.DATABASE_AWAY)

    world.database.orders.record = away  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.ender.end(ONE, P1, ANN)
    world.database.orders.record = record  # type: ignore[method-assign]
    world.clock.ms += world.gate.reserved_due_ms
    assert await world.sweeper.sweep() == 0
    assert (await world.books()).reserved == 1
    assert (await world.ender.end(ONE, P1, ANN)).is_changed
    assert (await world.books()).available == 1


async def test_a_sold_purchase_is_not_ended() -> None:
    """Nor one that has ended, nor one that nobody knows, nor one of a sale that never was."""
    world = World()
    await world.sell()
    async with world.worker():
        assert isinstance(await world.desk.buy(request()), Accepted)
    for sale_id, purchase_id, said in (
        (ONE, P1, "is sold already"),
        (ONE, PurchaseId("p9"), "knows no p9"),
        (SaleId("9.1"), P1, "no sale 9.1 was ever made"),
    ):
        with pytest.raises(Conflict, match=said):
            await world.ender.end(sale_id, purchase_id, ANN)
    assert (await world.books()).sold == 1


async def test_a_row_that_stands_is_followed_and_not_changed() -> None:
    """The worker was quicker: the order stays, and the answer says so."""
    world = World()
    await world.sell()
    follow = world.gate.follow

    async def silent(*_: object) -> list[object]:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.follow = silent  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.parking.deliver([world.message(request())])
    world.gate.follow = follow  # type: ignore[method-assign]
    outcome = await world.ender.end(ONE, P1, ANN)
    assert "stands CONFIRMED" in outcome.detail
    assert (await world.books()).sold == 1


async def test_the_admin_ends_a_purchase_over_http() -> None:
    """And only the admin; bad ids are told as such."""
    shop = Shop(confirm_s=0.02)
    world = shop.world
    await world.sell(units=1)
    await world.desk.buy(request())
    path = "/sales/1.1/purchases/p1/end"
    done = await shop.ask("POST", f"{path}?why=a+test&who=ann")
    assert (done.status, done.json["status"]) == (200, "DISCARDED")
    again = await shop.ask("POST", path)
    assert (again.status, again.problem) == (409, "purchase-ended")
    for wrong, status in (
        ("/sales/1.1/purchases/p9/end", 404),
        ("/sales/9.1/purchases/p1/end", 404),
        ("/sales/1.1/purchases/a%7Bb/end", 404),
        (f"{path}?whoever=x", 422),
    ):
        assert (await shop.ask("POST", wrong)).status == status, wrong
    assert (await world.books()).available == 1
    locked = Shop(admin_token="swordfish")
    assert (await locked.ask("POST", path)).status == 401
