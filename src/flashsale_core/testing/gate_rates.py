"""What a StockGate that limits rates must do. Subclass and give it a `make_gate` fixture."""

import asyncio
from collections.abc import Awaitable, Callable

import attrs
import pytest

from flashsale_core.model import Door, Epoch, PurchaseState, SaleState, SaleTerms
from flashsale_core.outcomes import (
    Closed,
    KeyReused,
    RateLimited,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
)
from flashsale_core.ports import Claim, StockGate
from flashsale_core.rates import RateLimits
from flashsale_core.testing.stock_gate import OpenSale, books_for, claim, open_sale, record

MakeRatedGate = Callable[[RateLimits], Awaitable[StockGate]]
"""`await make_gate(limits)`: a gate of its own."""
LONG_MS = 60_000
"""No test takes as long."""
SHORT_MS = 300
PATIENCE_S = 10.0


def came_from(address: str | None, purchase: str, user: str) -> Claim:
    """Make a claim that came from an address."""
    return attrs.evolve(claim(purchase, user=user), address=address)


def per_user(count: int, **more: int) -> RateLimits:
    """Limit users alone."""
    return RateLimits(**{"per_user": count, "window_ms": LONG_MS, **more})


class GateRatesContract:
    """The contract of a gate's rate limits. A subclass provides the fixture `make_gate`."""

    async def test_one_user_is_limited_and_nobody_else(self, make_gate: MakeRatedGate) -> None:
        """Also within one batch; the answer says when the window ends."""
        sale = await open_sale(await make_gate(per_user(2)))
        first, second, third, other = await sale.reserve(
            *(claim(f"p{n}") for n in range(3)), claim("p3", user="bob")
        )
        assert isinstance(first, Reserved)
        assert isinstance(second, Reserved)
        assert isinstance(third, RateLimited)
        assert 0 < third.retry_after_ms <= LONG_MS
        assert isinstance(other, Reserved)
        [later] = await sale.reserve(claim("p4"))
        assert isinstance(later, RateLimited)
        assert (await sale.books()).available == 7

    async def test_a_retry_of_a_known_purchase_is_never_limited(
        self, make_gate: MakeRatedGate
    ) -> None:
        """The duplicate check comes first, and a retry counts for nothing."""
        sale = await open_sale(await make_gate(per_user(1)))
        await sale.reserve(claim("p1"))
        for _ in range(5):
            [again] = await sale.reserve(claim("p1"))
            assert isinstance(again, Replayed)
        [reused] = await sale.reserve(claim("p1", quantity=2))
        assert isinstance(reused, KeyReused)
        [limited] = await sale.reserve(claim("p2"))
        assert isinstance(limited, RateLimited)
        [again] = await sale.reserve(claim("p1"))
        assert isinstance(again, Replayed)

    async def test_a_limited_purchase_leaves_no_trace_and_its_id_is_free(
        self, make_gate: MakeRatedGate
    ) -> None:
        """Nothing is burned, journaled or held."""
        sale = await open_sale(await make_gate(per_user(1, window_ms=SHORT_MS)), units=1_000)
        async with asyncio.timeout(PATIENCE_S):
            asked, before = 0, await sale.books()
            [answer] = await sale.reserve(claim("p0"))
            while not isinstance(answer, RateLimited):
                asked, before = asked + 1, await sale.books()
                [answer] = await sale.reserve(claim(f"p{asked}"))
            assert await sale.books() == before
            assert await sale.state(f"p{asked}") is None
            while isinstance(answer, RateLimited):
                await asyncio.sleep(answer.retry_after_ms / 1000)
                [answer] = await sale.reserve(claim(f"p{asked}"))
        assert isinstance(answer, Reserved)

    async def test_one_address_is_limited_whoever_its_users_are(
        self, make_gate: MakeRatedGate
    ) -> None:
        """Who brings no address is not counted by it."""
        sale = await open_sale(await make_gate(RateLimits(per_address=2, window_ms=LONG_MS)))
        answers = await sale.reserve(
            *(came_from("192.0.2.1", f"p{n}", f"u{n}") for n in range(3)),
            came_from("192.0.2.2", "p3", "u3"),
            *(came_from(None, f"p{n}", f"u{n}") for n in range(4, 7)),
        )
        limited = [isinstance(answer, RateLimited) for answer in answers]
        assert limited == [False, False, True, False, False, False, False]

    async def test_either_limit_is_enough_and_a_refused_one_counts_for_neither(
        self, make_gate: MakeRatedGate
    ) -> None:
        """A neighbour who is refused takes nothing from the address, nor the address from him."""
        limits = RateLimits(per_user=1, per_address=2, window_ms=LONG_MS)
        sale = await open_sale(await make_gate(limits))
        answers = await sale.reserve(
            came_from("192.0.2.1", "p1", "ann"),
            came_from("192.0.2.1", "p2", "ann"),
            came_from("192.0.2.1", "p3", "bob"),
            came_from("192.0.2.1", "p4", "eve"),
            came_from("192.0.2.9", "p5", "eve"),
        )
        limited = [isinstance(answer, RateLimited) for answer in answers]
        assert limited == [False, True, False, True, False]

    async def test_it_is_judged_before_stock_state_and_rules(
        self, make_gate: MakeRatedGate
    ) -> None:
        """Whoever is refused for another reason has asked, too."""
        gate = await make_gate(per_user(1))
        sale = await open_sale(gate, units=1)
        await sale.reserve(claim("p1"))
        [sold_out] = await sale.reserve(claim("p2", user="bob"))
        assert sold_out == SoldOut(available=0)
        [limited] = await sale.reserve(claim("p3", user="bob"))
        assert isinstance(limited, RateLimited)
        [limited] = await sale.reserve(claim("p4", user="bob", refused=Refused(code="NO_BOTS")))
        assert isinstance(limited, RateLimited)
        await gate.set_state(sale.sale_id, sale.epoch, SaleState.CLOSED)
        assert await sale.reserve(claim("p5", user="eve")) == [Closed()]
        [limited] = await sale.reserve(claim("p6", user="eve"))
        assert isinstance(limited, RateLimited)

    @pytest.mark.parametrize("door", [Door.OUTSIDE, Door.ACCEPTED])
    async def test_workers_are_never_limited(self, make_gate: MakeRatedGate, door: Door) -> None:
        """What was promised, or waits in a topic, is judged by its content alone."""
        sale = await open_sale(await make_gate(per_user(1)))
        answers = await sale.reserve(*(claim(f"p{n}") for n in range(5)), door=door)
        assert all(isinstance(answer, Reserved) for answer in answers)

    async def test_a_full_window_lets_in_who_is_new_and_limits_who_is_known(
        self, make_gate: MakeRatedGate
    ) -> None:
        """Invented names neither fill the memory nor lock anybody out."""
        sale = await open_sale(await make_gate(per_user(1, fields_max=2)), units=100)
        await sale.reserve(claim("a1"), claim("b1", user="bob"))
        answers = await sale.reserve(*(claim(f"p{n}", user="eve") for n in range(5)))
        assert all(isinstance(answer, Reserved) for answer in answers)
        for answer in await sale.reserve(claim("a2"), claim("b2", user="bob")):
            assert isinstance(answer, RateLimited)

    async def test_another_life_of_the_sale_goes_on_counting_and_its_books_are_the_rows_alone(
        self, make_gate: MakeRatedGate
    ) -> None:
        """A rebuild compares books, of which the counts are no part."""
        gate = await make_gate(per_user(2))
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"), claim("p2"))
        epoch = Epoch(sale.epoch + 1)
        rows = [record("p1", PurchaseState.SOLD), record("p2", PurchaseState.SOLD)]
        terms = SaleTerms(units=10)
        token = await gate.begin_load(sale.sale_id, epoch, terms, SaleState.OPEN)
        assert token is not None
        await gate.load(sale.sale_id, token, rows)
        expected = books_for(sale.sale_id, terms, rows, SaleState.OPEN, epoch)
        await gate.arm(sale.sale_id, token, expected)
        [limited] = await OpenSale(gate, sale.sale_id, epoch).reserve(claim("p3"))
        assert isinstance(limited, RateLimited)

    async def test_a_dropped_sale_is_forgotten_with_its_counts(
        self, make_gate: MakeRatedGate
    ) -> None:
        """The same sale id counts from nothing."""
        gate = await make_gate(per_user(1))
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        await gate.drop(sale.sale_id)
        again = await open_sale(gate, sale_id=sale.sale_id)
        [answer] = await again.reserve(claim("p2"))
        assert isinstance(answer, Reserved)

    async def test_without_limits_nobody_is_limited(self, make_gate: MakeRatedGate) -> None:
        """They are off unless somebody sets them."""
        sale = await open_sale(await make_gate(RateLimits()), units=100)
        answers = await sale.reserve(*(came_from("192.0.2.1", f"p{n}", "ann") for n in range(50)))
        assert all(isinstance(answer, Reserved) for answer in answers)
