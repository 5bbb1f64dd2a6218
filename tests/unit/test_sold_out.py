"""Sold out is remembered for a moment: what that saves, and what it may never change."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, SaleTerms
from flashsale_core.outcomes import Accepted, Refused
from flashsale_core.ports import ClaimBatch, FollowBatch
from flashsale_core.purchase import SOLD_OUT_MS, PurchaseDesk
from tests.unit.http_wire import Wire
from tests.unit.http_world import Reply, Shop
from tests.unit.test_http_server import POST
from tests.unit.world import World, request

NAMELESS = {"userId": 1, "productId": 1}
MINE = {**NAMELESS, "purchaseId": "mine"}


class Asked:
    """Counts what a world's gate is asked for, and takes its time for it."""

    def __init__(self, world: World) -> None:
        """Stand before the gate; the bus confirms at once."""
        self._world = world
        self._reserve = world.gate.reserve
        self.count = 0
        self.before_ms = self.after_ms = 0
        world.gate.reserve = self.reserve  # type: ignore[method-assign]
        world.bus.publish = self.publish  # type: ignore[method-assign,assignment]

    async def reserve(self, batches: Iterable[ClaimBatch]) -> Any:
        """Count, and turn the clock before and after the gate decides."""
        self.count += 1
        self._world.clock.ms += self.before_ms
        reply = await self._reserve(list(batches))
        await self.meanwhile()
        self._world.clock.ms += self.after_ms
        return reply

    async def meanwhile(self) -> None:
        """Let happen what a test wants to happen while the answer is on its way."""

    async def publish(self, _: object) -> None:
        """Confirm."""


async def sold_out(units: int = 1, **parts: Any) -> tuple[Shop, Asked]:
    """Sell a shop out, and let the door hear of it now."""
    shop = Shop(**parts)
    await shop.world.sell(units=units)
    asked = Asked(shop.world)
    assert (await shop.buy({**MINE, "quantity": units})).status == 200
    assert (await shop.buy(NAMELESS)).problem == "sold-out"
    asked.count = 0
    return shop, asked


async def give_back(world: World, *purchases: str) -> None:
    """Release units, as a declined payment does."""
    sale = world.board.seen(ItemId("1"))
    assert sale is not None
    released = tuple((PurchaseId(one), "PAYMENT_DECLINED") for one in purchases)
    await world.gate.follow(
        [FollowBatch(sale_id=sale.sale_id, epoch=sale.epoch, released=released)]
    )


async def test_what_is_remembered_touches_no_gate() -> None:
    """However many ask, by any way, with the very bytes of the gate's own answer."""
    shop, asked = await sold_out()
    shop.world.clock.ms += SOLD_OUT_MS
    from_gate = await shop.buy(NAMELESS)
    assert asked.count == 1
    wire = Wire(shop.app)
    body = b'{"userId":1,"productId":1}'
    wire.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    remembered: list[Reply] = await wire.answers()
    for path in ("/purchase/buy", "/purchase/buy/"):
        json = {"content-type": "application/json"}
        remembered.append(await shop.ask("POST", path, body=body, headers=json))
    assert remembered == [from_gate] * 3
    assert asked.count == 1
    assert [outcome for outcome, _ in shop.listener.answers[1:]] == ["sold-out"] * 5


@pytest.mark.parametrize(("before_ms", "after_ms"), [(0, 0), (0, 60), (60, 0), (30, 30)])
async def test_it_is_forgotten_100_ms_after_the_question(before_ms: int, after_ms: int) -> None:
    """Not after the answer: a slow gate's answer was true at any time since it was asked."""
    shop, asked = await sold_out()
    clock = shop.world.clock
    clock.ms += SOLD_OUT_MS
    asked.before_ms, asked.after_ms = before_ms, after_ms
    begun_ms = clock.ms
    await shop.buy(NAMELESS)
    clock.ms = begun_ms + SOLD_OUT_MS - 1
    await shop.buy(NAMELESS)
    assert asked.count == 1
    clock.ms = begun_ms + SOLD_OUT_MS
    await shop.buy(NAMELESS)
    assert asked.count == 2


async def test_an_answer_that_took_longer_is_not_remembered() -> None:
    """It may have been true only long ago."""
    shop, asked = await sold_out()
    shop.world.clock.ms += SOLD_OUT_MS
    asked.after_ms = SOLD_OUT_MS
    for _ in range(3):
        assert (await shop.buy(NAMELESS)).problem == "sold-out"
    assert asked.count == 3


async def test_who_brings_an_id_is_answered_by_the_gate() -> None:
    """The old promise is heard while all others hear sold out, by body or header."""
    shop, asked = await sold_out()
    again = await shop.buy(MINE)
    assert (again.status, again.json["status"]) == (200, "ACCEPTED")
    by_header = await shop.buy(NAMELESS, {"Idempotency-Key": '"mine"'})
    assert by_header.status == 200
    other = await shop.buy({**NAMELESS, "purchaseId": "other"})
    assert other.problem == "sold-out"
    assert asked.count == 3
    assert (await shop.buy(NAMELESS)).problem == "sold-out"
    assert asked.count == 3


async def test_fewer_left_than_asked_for_is_not_remembered() -> None:
    """Who asks for less may have it."""
    shop = Shop()
    await shop.world.sell(units=3)
    asked = Asked(shop.world)
    for _ in range(2):
        reply = await shop.buy({**NAMELESS, "quantity": 4})
        assert (reply.problem, reply.json["available"]) == ("sold-out", 3)
    assert (await shop.buy({**NAMELESS, "quantity": 3})).status == 200
    assert asked.count == 3


async def test_a_rule_of_the_sellers_comes_before_what_is_remembered() -> None:
    """As at the gate; and a rule that breaks is a mistake here too."""

    def no_bobs(asked_for: PurchaseRequest, _: SaleTerms) -> Refused | None:
        if asked_for.user_id == "broken":
            raise ZeroDivisionError
        return Refused(code="NO_BOBS") if asked_for.user_id == "bob" else None

    shop, asked = await sold_out(rules=[no_bobs])
    refused = await shop.buy({**NAMELESS, "userId": "bob"})
    broken = await shop.buy({**NAMELESS, "userId": "broken"})
    assert asked.count == 0
    assert (refused.problem, refused.json.get("code")) == ("refused", "NO_BOBS")
    shop.world.clock.ms += SOLD_OUT_MS
    assert await shop.buy({**NAMELESS, "userId": "bob"}) == refused
    assert await shop.buy({**NAMELESS, "userId": "broken"}) == broken
    assert broken.problem == "internal"


async def test_units_that_come_back_are_sold_after_100_ms_at_most() -> None:
    """A declined payment's unit, to who brings no id; at once to who brings one."""
    shop, asked = await sold_out(units=2)
    await give_back(shop.world, "mine")
    assert (await shop.buy(NAMELESS)).problem == "sold-out"
    assert asked.count == 0
    assert (await shop.buy({**NAMELESS, "purchaseId": "named"})).status == 200
    shop.world.clock.ms += SOLD_OUT_MS
    assert (await shop.buy(NAMELESS)).status == 200


async def test_another_sale_is_not_sold_out() -> None:
    """Neither another item's nor the next one of the same item."""
    shop, _ = await sold_out()
    await shop.world.sell("2")
    assert (await shop.buy({**NAMELESS, "productId": 2})).status == 200
    await give_back(shop.world, "mine")
    sale = shop.world.board.seen(ItemId("1"))
    assert sale is not None
    await shop.world.selling.close(sale.sale_id)
    await shop.world.selling.settle(sale.sale_id)
    await shop.world.sell("1")
    assert (await shop.buy(NAMELESS)).json["saleId"] == "1.2"


# ── any order of events ─────────────────────────────────────────────────────────────────────

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["buy", "buy", "buy", "named", "two", "give back", "wait"]),
        st.sampled_from([0, 0, 1, 30, SOLD_OUT_MS - 1, SOLD_OUT_MS, SOLD_OUT_MS + 1]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=40,
)


class Tale:
    """Two processes at one gate, and what was truly left at every moment."""

    def __init__(self) -> None:
        """Begin before the sale."""
        self.world = World()
        self.asked = Asked(self.world)
        world = self.world
        self.desks = [
            PurchaseDesk(board=world.board, gate=world.gate, bus=world.bus, clock=world.clock)
            for _ in range(2)
        ]
        self.sold: list[str] = []
        self.units_ever: list[tuple[int, int]] = []
        """When how many were left: each lasts until the next."""

    async def note(self) -> None:
        """Note what is left now."""
        self.units_ever.append((self.world.clock.ms, (await self.world.books()).available))

    def were_none_left(self) -> bool:
        """Say whether at some moment of the last 100 ms nothing was left."""
        now_ms = self.world.clock.ms
        ends = [at_ms for at_ms, _ in self.units_ever[1:]] + [now_ms]
        return any(
            units <= 0 and end_ms >= now_ms - SOLD_OUT_MS
            for (_, units), end_ms in zip(self.units_ever, ends, strict=True)
        )

    async def give_back(self) -> None:
        """Release the purchase that was sold first."""
        await self.note()
        await give_back(self.world, *self.sold[:1])
        del self.sold[:1]
        await self.note()

    async def buy(self, what: str, number: int, desk: PurchaseDesk, slow_ms: int) -> None:
        """Buy as the door does: who brings no id is answered from memory first."""
        self.asked.after_ms = slow_ms
        wanted = request(f"p{number}", user=f"u{number}", quantity=2 if what == "two" else 1)
        remembered = None if what == "named" else desk.remembered(wanted)
        answer = remembered or await desk.buy(wanted)
        if remembered is not None:
            await self.note()
            assert self.were_none_left(), (what, self.units_ever)
        elif isinstance(answer, Accepted):
            self.sold.append(f"p{number}")
        await self.note()


@settings(derandomize=True, deadline=None)
@given(_STEPS)
def test_sold_out_was_true_within_the_last_100_ms(steps: list[tuple[str, int, int, bool]]) -> None:
    """Whoever buys and gives back in between, at whichever process, however slow the gate."""

    async def told() -> None:
        tale = Tale()
        await tale.world.sell(units=2)
        await tale.note()
        for number, (what, milliseconds, process, meanwhile) in enumerate(steps):
            tale.asked.meanwhile = tale.give_back if meanwhile else tale.note  # type: ignore[method-assign]
            if what == "wait":
                tale.world.clock.ms += milliseconds
            elif what == "give back":
                await tale.give_back()
            else:
                await tale.buy(what, number, tale.desks[process], milliseconds)
            await tale.note()

    asyncio.run(told())
