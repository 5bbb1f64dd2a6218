"""What becomes of a purchase whose message, or whose confirm, was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flashsale.container import HttpApi
from flashsale.running import opened
from flashsale.settings import Entrypoint
from flashsale.settings_loading import load_settings
from flashsale_core.errors import Unavailable, Why
from flashsale_core.events import OrderEvent, PurchasesAccepted
from flashsale_core.model import ItemId, PurchaseId, PurchaseRequest, SaleTerms, UserId
from flashsale_core.outcomes import OutcomeUnknown
from flashsale_core.ports import EventBus, GateBooks
from tests.integration.crowds import orders, settled_orders
from tests.integration.engine import Engine, engine, own_names
from tests.servers import Kafka, Postgres, RabbitMQ, Redis

RECOVERED_S_MAX = 30


class LossyBus:
    """A real bus on a bad line: it drops the first message, and the second one's confirm."""

    def __init__(self, bus: EventBus) -> None:
        """Stand in front of the real one."""
        self._bus = bus
        self._publishes = 0

    def __getattr__(self, name: str) -> object:
        """Pass on the rest."""
        return getattr(self._bus, name)

    async def publish(self, facts: Sequence[PurchasesAccepted | OrderEvent]) -> None:
        """Drop the first, swallow the confirm of the second."""
        self._publishes += 1
        if self._publishes > 1:
            await self._bus.publish(facts)
        raise Unavailable(Why.BUS_AWAY, "lost", may_have_happened=True)


@pytest.fixture(params=["kafka", "rabbitmq"])
def stack(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: Redis,
    postgres_server: Postgres,
) -> Iterator[Engine]:
    """One worker, whose sweeper waits as long as it does by default."""
    bus: Kafka | RabbitMQ = request.getfixturevalue(f"{request.param}_server")
    settings = {
        **own_names(),
        "FLASHSALE_GATE_URL": redis_server.url,
        "FLASHSALE_BUS_URL": bus.url,
        "FLASHSALE_DATABASE_URL": postgres_server.create_database(),
    }
    with engine(tmp_path, settings) as ours:
        ours.prepare()
        ours.start("worker").wait_until_ready()
        yield ours


@pytest.mark.timeout(120)
async def test_a_dropped_publish_and_a_swallowed_confirm_end_as_two_orders(
    stack: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both heard «outcome unknown»; within 30 s both are orders, and nothing is left in R."""
    for name, value in stack.settings.items():
        monkeypatch.setenv(name, value)
    async with opened(HttpApi, load_settings(Entrypoint.SERVE), may_install=False) as container:
        container.bus.override(LossyBus(container.bus()))
        await container.sale_desk().init(ItemId("1"), SaleTerms(units=5))
        desk, began = container.purchase_desk(), time.monotonic()
        for number in (1, 2):
            purchase_id = PurchaseId(f"p{number}")
            answer = await desk.buy(
                PurchaseRequest(
                    purchase_id=purchase_id,
                    user_id=UserId(f"u{number}"),
                    item_id=ItemId("1"),
                    requested_at_ms=1,
                )
            )
            assert answer == OutcomeUnknown(purchase_id=purchase_id)
        assert await settled_orders(stack, 2) == {"CONFIRMED": 2}
        sale = container.board().seen(ItemId("1"))
        assert sale is not None
        while True:
            [books] = await container.gate().books([(sale.sale_id, sale.epoch)])
            assert isinstance(books, GateBooks)
            if books.journal == 0:
                break
            assert time.monotonic() - began < RECOVERED_S_MAX, books
            await asyncio.sleep(0.1)
        assert time.monotonic() - began < RECOVERED_S_MAX
        assert (books.reserved, books.sold, books.available) == (0, 2, 3)
        assert await orders(stack) == {"CONFIRMED": 2}
