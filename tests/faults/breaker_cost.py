"""What the breakers cost a purchase: the hot path with them and without, in turns of one run.

    python -m tests.faults.breaker_cost

From the use case down, on memory: without HTTP, Redis and broker, so the share of a real purchase
is several times smaller.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

from flashsale_coalesce import Breaker, CoalescingBus, CoalescingGate, GuardedBus, GuardedGate
from flashsale_core.board import SaleBoard
from flashsale_core.errors import Why
from flashsale_core.events import OrderEvent, PurchasesAccepted
from flashsale_core.model import ItemId, SaleTerms
from flashsale_core.outcomes import Accepted
from flashsale_core.purchase import PurchaseDesk
from flashsale_core.selling import SaleDesk
from flashsale_memory.clock import SystemClock
from flashsale_memory.database import MemoryDatabase
from flashsale_memory.gate import MemoryStockGate
from tests.unit.world import request

ROUNDS = 60
BUYERS = 640
AT_ONCE = 64


class Confirms:
    """A bus that confirms in the next turn of the loop."""

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Confirm."""
        await asyncio.sleep(0)


async def one_round(*, is_guarded: bool) -> float:
    """Let buyers buy, as many at a time as a busy process has; answer CPU seconds a purchase."""
    clock = SystemClock()
    database, gate, bus = MemoryDatabase(clock), MemoryStockGate(clock), Confirms()
    board = SaleBoard(database.catalogue)
    desk = SaleDesk(
        board=board,
        catalogue=database.catalogue,
        gate=gate,
        parked=database.parked,
        clock=clock,
        wait=lambda ms: asyncio.sleep(ms / 1_000),
        has_gateway=False,
    )
    await desk.init(ItemId("1"), SaleTerms(units=BUYERS))
    front = GuardedGate(gate, Breaker("gate", Why.GATE_AWAY)) if is_guarded else gate
    back = GuardedBus(bus, Breaker("bus", Why.BUS_AWAY)) if is_guarded else bus
    door = CoalescingGate(front)
    buying = PurchaseDesk(
        board=board,
        gate=door,
        bus=CoalescingBus(back),  # type: ignore[arg-type]
        clock=clock,
    )
    wanted = [request(f"p{n}", user=f"u{n}") for n in range(BUYERS)]
    began = time.process_time()
    for at in range(0, BUYERS, AT_ONCE):
        told = await asyncio.gather(*(buying.buy(one) for one in wanted[at : at + AT_ONCE]))
        assert all(isinstance(one, Accepted) for one in told)
    spent = time.process_time() - began
    await door.aclose()
    return spent / BUYERS


def main() -> None:
    """Take turns, and compare the medians."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(ROUNDS):
        for is_guarded in (True, False) if number % 2 else (False, True):
            found[is_guarded].append(asyncio.run(one_round(is_guarded=is_guarded)))
    guarded, bare = (statistics.median(found[one]) * 1e6 for one in (True, False))
    pairs = [g / b for g, b in zip(found[True], found[False], strict=True)]
    print(f"with breakers {guarded:.2f} us a purchase, without {bare:.2f} us")
    print(
        f"ratio of the medians {guarded / bare:.4f}, median of the pairs' ratios "
        f"{statistics.median(pairs):.4f}, {ROUNDS} rounds of {BUYERS} buyers each"
    )


if __name__ == "__main__":
    main()
