"""The payments' loop: a bounded number in hand, one slow call holds up no other."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from flashsale.paying import Paying
from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import ItemId, OrderStatus, SaleTerms
from flashsale_core.payment import Cashier, PaymentWaits
from flashsale_memory.payment_gateway import MemoryPaymentGateway
from tests.unit.world import World, request

AT_ONCE = 3


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Till:
    """A world, its gateway whose answers a test may hold back, and the loop."""

    def __init__(self) -> None:
        """Wire it."""
        till = self

        class Gateway(MemoryPaymentGateway):
            async def charge(self, charge):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
                till.in_hand += 1
                till.most = max(till.most, till.in_hand)
                try:
                    if charge.purchase_id in till.slow:
                        await till.may_go_on.wait()
                    if charge.purchase_id in till.wrong:
                        raise RuntimeError("nobody foresaw this")
                    return await super().charge(charge)
                finally:
                    till.in_hand -= 1

        self.in_hand = self.most = 0
        self.slow: set[str] = set()
        self.wrong: set[str] = set()
        self.may_go_on, self.stopping = asyncio.Event(), asyncio.Event()
        self.gateway = Gateway()
        self.world = World(gateway=self.gateway)
        world = self.world
        cashier = Cashier(
            payments=world.database.payments,
            gateway=self.gateway,
            gate=world.gate,
            observer=world.witness,
            clock=world.clock,
            waits=PaymentWaits(
                deadline_ms=100, lease_ms=10_000, retry_initial_ms=10, retry_max_ms=10
            ),
            chance=lambda: 1.0,
        )
        self.paying = Paying(cashier, stopping=self.stopping, interval_ms=1, at_once=AT_ONCE)

    async def sell(self, count: int) -> None:
        """Accept purchases p0, p1, …."""
        terms = SaleTerms(units=count, unit_price_minor=1, currency="CHF")
        await self.world.selling.init(ItemId("1"), terms)
        async with self.world.worker():
            for n in range(count):
                await self.world.desk.buy(request(f"p{n}", user=f"u{n}", token="tok"))

    async def confirmed(self) -> set[str]:
        """Name those that are orders."""
        rows = self.world.database.orders._tables.orders.values()
        return {row.purchase_id for row in rows if row.status is OrderStatus.CONFIRMED}

    @asynccontextmanager
    async def working(self) -> AsyncIterator["asyncio.Task[float]"]:
        """Work meanwhile, and stop as SIGTERM does."""
        life = asyncio.create_task(self.paying.step())
        try:
            yield life
        finally:
            self.stopping.set()
            self.may_go_on.set()
            await asyncio.wait_for(asyncio.gather(life, return_exceptions=True), 5)

    async def until(self, count: int) -> None:
        """Wait for so many orders."""
        async with asyncio.timeout(5):
            while len(await self.confirmed()) < count:  # noqa: ASYNC110 - a table tells nobody
                await asyncio.sleep(0.001)

    async def until_in_hand(self, count: int) -> None:
        """Wait until so many calls are under way."""
        async with asyncio.timeout(5):
            while self.in_hand < count:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)


async def test_a_slow_call_holds_up_no_other() -> None:
    """Its place is taken; the other places go on."""
    till = Till()
    await till.sell(10)
    till.slow = {"p0", "p1"}
    async with till.working():
        await till.until(8)
        assert await till.confirmed() == {f"p{n}" for n in range(2, 10)}
        till.may_go_on.set()
        await till.until(10)
    assert till.most <= AT_ONCE


async def test_no_more_are_in_hand_than_allowed() -> None:
    """A provider and its limits are not ours to storm."""
    till = Till()
    await till.sell(10)
    till.slow = {f"p{n}" for n in range(10)}
    async with till.working():
        await till.until_in_hand(AT_ONCE)
        assert till.most == AT_ONCE
        till.may_go_on.set()
        await till.until(10)
    assert till.most == AT_ONCE


async def test_a_failure_that_nobody_foresaw_is_one_payment_s_trouble() -> None:
    """It is logged with its purchase; its lease ends, and it is looked up again."""
    till = Till()
    await till.sell(5)
    till.wrong = {"p2"}
    with capture_logs() as lines:
        async with till.working():
            await till.until(4)
            till.wrong = set()
            till.world.clock.ms += 10_000
            await till.until(5)
    [line] = [line for line in lines if line["event"] == "payment failed"]
    assert line["purchase_id"] == "p2"
    assert len(till.gateway.charges) == 5


async def test_a_stop_waits_for_what_is_in_hand() -> None:
    """A charge that was asked for is stored, not left to a lease."""
    till = Till()
    await till.sell(2)
    till.slow = {"p0", "p1"}
    async with till.working() as life:
        await till.until_in_hand(2)
        till.stopping.set()
        await asyncio.sleep(0.01)
        assert not life.done()
        till.may_go_on.set()
        await asyncio.wait_for(life, 5)
    assert await till.confirmed() == {"p0", "p1"}


async def test_a_database_that_is_away_ends_the_step_after_what_is_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever keeps the loop waits and begins it again; no call is cut off."""
    till = Till()
    await till.sell(1)
    till.slow = {"p0"}
    claim = till.world.database.payments.claim_due

    async def once(limit: int, lease_ms: int) -> object:
        if till.gateway.calls or till.in_hand:
            raise Unavailable(Why.DATABASE_AWAY)
        return await claim(limit, lease_ms)

    monkeypatch.setattr(till.world.database.payments, "claim_due", once)
    async with till.working() as life:
        await till.until_in_hand(1)
        await asyncio.sleep(0.01)
        assert not life.done()
        till.may_go_on.set()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(life, 5)
    assert await till.confirmed() == {"p0"}
