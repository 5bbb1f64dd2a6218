"""The hot path: what a buyer is told, and what stands behind it."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import attrs
import pytest

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.model import ItemId, PurchaseId, SaleId
from flashsale_core.outcomes import (
    Accepted,
    Closed,
    Ended,
    KeyReused,
    LimitReached,
    NotOpen,
    OutcomeUnknown,
    Refused,
    SoldOut,
    UnknownItem,
)
from flashsale_core.purchase import PROMISE_MS, PROMPT_MS, PurchaseDesk
from flashsale_kafka.config import KafkaConfig
from flashsale_rabbitmq.config import RabbitMQConfig
from tests.unit.world import START_MS, World, request

T = TypeVar("T")


async def test_an_accepted_purchase_ends_as_an_order() -> None:
    """The promise, from the request to the row and the event."""
    world = World()
    await world.sell()
    async with world.worker():
        answer = await world.desk.buy(request())
    assert isinstance(answer, Accepted)
    order = await world.order("p1")
    assert order is not None
    assert (order.status, order.user_id, order.quantity) == ("CONFIRMED", "ann", 1)
    assert (await world.books()).sold == 1
    assert [event.type for event in await world.events()] == ["OrderCreated"]


async def stopped(*_: object) -> Any:
    """Be away, as bus and database are when both are stopped."""
    raise Unavailable(Why.DATABASE_AWAY)


async def test_sold_out_touches_neither_bus_nor_database() -> None:
    """Refused at the gate: no message, no row, no trace."""
    world = World()
    await world.sell(units=1)
    async with world.worker():
        await world.desk.buy(request("p1"))
        rows = len(world.witness.rows)
        world.bus.publish = world.database.catalogue.current = stopped  # type: ignore[method-assign,assignment]
        assert await world.desk.buy(request("p2")) == SoldOut(available=0)
    assert len(world.witness.rows) == rows
    assert await world.order("p2") is None


async def test_every_refusal_is_an_answer() -> None:
    """Values, not errors."""
    world = World()
    await world.sell("limited", per_user_limit=1)
    await world.sell("later", opens_at_ms=START_MS + 1)
    await world.sell("over", closes_at_ms=START_MS)
    async with world.worker():
        await world.desk.buy(request("p1", item="limited"))
        ask = world.desk.buy
        assert await ask(request("p2", item="limited")) == LimitReached(limit=1, held=1)
        assert await ask(request("p3", item="later")) == NotOpen(opens_at_ms=START_MS + 1)
        assert await ask(request("p4", item="over")) == Closed()
        assert await ask(request("p5", item="ghost")) == UnknownItem(item_id=ItemId("ghost"))
        assert await ask(request("p1", user="bob", item="limited")) == KeyReused()


async def test_the_same_purchase_again_gets_the_same_promise_and_no_second_unit() -> None:
    """Also after sold out and after close."""
    world = World()
    await world.sell(units=1)
    async with world.worker():
        first = await world.desk.buy(request())
        again = await world.desk.buy(request())
        await world.selling.close(await _sale(world))
        after_close = await world.desk.buy(request())
    assert isinstance(first, Accepted)
    for answer in (again, after_close):
        assert isinstance(answer, Accepted)
        assert answer.is_sold
    assert (await world.books()).sold == 1


async def _sale(world: World) -> SaleId:
    sale = world.board.seen(ItemId("1"))
    assert sale is not None
    return sale.sale_id


async def test_a_lost_publish_is_an_unknown_outcome_and_the_same_id_resumes() -> None:
    """Nothing is released: the unit stays journaled, and the retry is the same purchase."""
    world = World()
    await world.sell(units=1)
    assert await world.desk.buy(request()) == OutcomeUnknown(purchase_id=PurchaseId("p1"))
    assert (await world.books()).reserved == 1
    async with world.worker():
        resumed = await world.desk.buy(request())
    assert isinstance(resumed, Accepted)
    assert (await world.books()).sold == 1


async def test_a_confirm_after_the_promises_time_is_an_unknown_outcome() -> None:
    """A rebuild waits so long and no longer: whoever answers later may answer wrongly."""
    world = World()
    await world.sell()
    publish = world.bus.publish

    async def slow_publish(facts: object) -> None:
        world.clock.ms += PROMISE_MS
        await publish(facts)  # type: ignore[arg-type]

    world.bus.publish = slow_publish  # type: ignore[method-assign]
    async with world.worker():
        answer = await world.desk.buy(request())
        assert answer == OutcomeUnknown(purchase_id=PurchaseId("p1"))
        assert isinstance(await world.desk.buy(request()), Accepted)


async def test_only_q_and_s_are_promised_without_a_new_confirm() -> None:
    """In R and O nobody knows that the message is on the bus."""
    world = World()
    await world.sell()
    await world.desk.buy(request())  # R, and no worker ever confirms
    assert await world.desk.buy(request()) == OutcomeUnknown(purchase_id=PurchaseId("p1"))
    sale = world.board.seen(ItemId("1"))
    assert sale is not None
    await world.gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")])
    answer = await world.desk.buy(request())
    assert isinstance(answer, Accepted)
    assert not answer.is_sold


async def test_an_ended_purchase_says_why() -> None:
    """A new try takes a new id."""
    world = World()
    await world.sell(units=1)
    async with world.worker():
        await world.desk.buy(request("p1"))
        world.bus.put(world.message(request("p2")))
    await world.parking.deliver([world.message(request("p2"))])
    assert await world.desk.buy(request("p2")) == Ended(
        purchase_id=PurchaseId("p2"), reason="SOLD_OUT"
    )


async def test_an_unarmed_gate_is_unavailable_and_the_list_is_doubted() -> None:
    """Nothing was taken; whoever keeps the list is woken."""
    world = World()
    await world.sell()
    await world.gate.drop(await _sale(world))
    with pytest.raises(Unavailable) as away:
        await world.desk.buy(request())
    assert away.value.why is Why.NOT_ARMED
    assert world.doubts == 1


async def test_a_settled_sale_whose_books_are_gone_is_closed() -> None:
    """410, not 503: it will never come back."""
    world = World()
    await world.sell()
    sale_id = await _sale(world)
    await world.selling.close(sale_id)
    await world.selling.settle(sale_id)
    await world.gate.drop(sale_id)
    assert await world.desk.buy(request()) == Closed()


async def test_a_paused_sale_is_unavailable_for_new_purchases_alone() -> None:
    """A retry hears its old promise."""
    world = World()
    await world.sell()
    async with world.worker():
        await world.desk.buy(request("p1"))
        await world.selling.pause(await _sale(world))
        with pytest.raises(Unavailable) as paused:
            await world.desk.buy(request("p2"))
        assert paused.value.why is Why.PAUSED
        assert isinstance(await world.desk.buy(request("p1")), Accepted)


async def test_a_lost_reply_of_the_gate_is_an_unknown_outcome() -> None:
    """The unit may be taken: saying «nothing was taken» would be a lie."""
    world = World()
    await world.sell()

    async def lost(_: object) -> list[object]:
        raise Unavailable(Why.GATE_AWAY, may_have_happened=True)

    world.gate.reserve = lost  # type: ignore[method-assign,assignment]
    assert await world.desk.buy(request()) == OutcomeUnknown(purchase_id=PurchaseId("p1"))


async def test_rules_hold_for_new_purchases_and_never_for_replays() -> None:
    """A rule that changes its mind takes no promise back."""
    allowed = {"ann"}
    no = Refused(code="NOT_INVITED")
    world = World(rules=[lambda asked, _: None if asked.user_id in allowed else no])
    await world.sell()
    async with world.worker():
        assert isinstance(await world.desk.buy(request("p1")), Accepted)
        assert await world.desk.buy(request("p2", user="bob")) == no
        allowed.clear()
        assert isinstance(await world.desk.buy(request("p1")), Accepted)


async def test_the_message_carries_what_the_first_request_said() -> None:
    """A retry publishes the gate's record, not its own words."""
    world = World()
    await world.sell()
    await world.desk.buy(request())
    retry = attrs.evolve(request(), requested_at_ms=1)
    async with world.worker():
        await world.desk.buy(retry)
    order = await world.order("p1")
    assert order is not None
    assert order.requested_at_ms == START_MS


async def test_a_sale_made_elsewhere_is_found_before_404_is_said() -> None:
    """The list is read once more for an item that is not on it."""
    world = World()
    await world.sell()
    world.board.replace([])
    async with world.worker():
        assert isinstance(await world.desk.buy(request()), Accepted)


async def test_a_publish_that_can_never_work_is_no_plain_error() -> None:
    """The unit is taken: whoever is told of a mere failure would never learn what became of it."""
    world = World()
    await world.sell()

    async def too_large(_: object) -> None:
        raise Corrupt("too-large", "the message is larger than the topic takes")

    world.bus.publish = too_large  # type: ignore[method-assign,assignment]
    assert await world.desk.buy(request()) == OutcomeUnknown(purchase_id=PurchaseId("p1"))
    assert (await world.books()).reserved == 1


async def test_what_a_slow_gate_took_of_the_promises_time_is_not_waited_for_again() -> None:
    """The deadline counts from the buyer's coming: 0.8 s in all, not 0.8 s for the bus alone."""
    world = World()
    await world.sell()
    gate_ms, given = 0, []
    reserve = world.gate.reserve

    async def slow(batches: object) -> object:
        world.clock.ms += gate_ms
        return await reserve(batches)  # type: ignore[arg-type]

    async def within(work: Awaitable[T], milliseconds: float, why: Why) -> T:
        given.append((milliseconds, why))
        return await work

    world.gate.reserve = slow  # type: ignore[method-assign,assignment]
    desk = PurchaseDesk(
        board=world.board, gate=world.gate, bus=world.bus, clock=world.clock, within=within
    )
    async with world.worker():
        assert isinstance(await desk.buy(request("quick", user="u1")), Accepted)
        assert given == []
        gate_ms = 250
        assert isinstance(await desk.buy(request("slow", user="u2")), Accepted)
        assert given == [(PROMISE_MS - 250, Why.BUS_AWAY)]
        gate_ms = 2 * PROMISE_MS
        late = await desk.buy(request("late", user="u3"))
    assert late == OutcomeUnknown(purchase_id=PurchaseId("late"))
    assert given[-1] == (0, Why.BUS_AWAY)


async def test_an_unlisted_item_is_looked_for_within_the_promises_time() -> None:
    """A database that hangs must not hold up who asks for what nobody sells."""
    world = World()

    async def within(work: Awaitable[T], milliseconds: float, why: Why) -> T:
        work.close()  # type: ignore[attr-defined]
        assert milliseconds == PROMISE_MS
        raise Unavailable(why, "no answer in time")

    desk = PurchaseDesk(
        board=world.board, gate=world.gate, bus=world.bus, clock=world.clock, within=within
    )
    with pytest.raises(Unavailable) as away:
        await desk.buy(request())
    assert away.value.why is Why.DATABASE_AWAY


@pytest.mark.parametrize(
    "deadline_ms",
    [
        RabbitMQConfig(url="amqp://localhost").accepted_deadline_ms,
        KafkaConfig(url="kafka://localhost:1").publish_deadline_ms,
    ],
)
def test_gate_and_bus_together_take_no_longer_than_the_promises_time(deadline_ms: int) -> None:
    """A gate that took longer leaves the bus less, by the desk's own bound."""
    assert PROMPT_MS + deadline_ms == PROMISE_MS
