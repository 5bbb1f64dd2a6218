"""What every StockGate must do when a sale's life in it ends, or another one begins.

Subclass the contract and give it the fixture `make_gate`, as `StockGateContract` wants it.
"""

import pytest

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    SaleId,
    SaleState,
    SaleTerms,
)
from flashsale_core.ports import StockGate
from flashsale_core.testing.stock_gate import (
    MakeGate,
    OpenSale,
    books_for,
    claim,
    open_sale,
    record,
)

TERMS = SaleTerms(units=10)
SECOND = Epoch(2)


async def is_armed(gate: StockGate, sale_id: SaleId, epoch: Epoch) -> bool:
    """Say whether the gate would sell under this epoch; it must say why it would not."""
    [books] = await gate.books([(sale_id, epoch)])
    if isinstance(books, Unavailable):
        assert books.why is Why.NOT_ARMED
        return False
    return True


class GateLivesContract:
    """Ending lives for good, reading what a lost one left, and taking over from a neighbour."""

    @pytest.fixture
    async def gate(self, make_gate: MakeGate) -> StockGate:
        """Use the delays of a real sale."""
        return await make_gate(reserved_due_ms=10_000, queued_due_ms=600_000)

    async def test_users_are_counted_only_where_they_are_limited(self, gate: StockGate) -> None:
        """A fifth of what a purchase takes of the gate's memory."""
        sale = await open_sale(gate, TERMS)
        await sale.reserve(claim("p1"), claim("p2", user="bob"))
        books = await sale.books()
        assert (books.records, books.users) == (2, 0)

    async def test_an_ended_life_sells_nothing_and_follows_nothing(self, gate: StockGate) -> None:
        """Whoever still believes in it is refused, at every call."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        await gate.disarm([(sale.sale_id, SECOND)])
        [reply] = await gate.reserve([sale.batch(claim("p2"))])
        assert isinstance(reply, Unavailable)
        assert reply.why is Why.NOT_ARMED
        assert await gate.mark_queued(sale.sale_id, sale.epoch, [PurchaseId("p1")]) is not None
        assert not await is_armed(gate, sale.sale_id, SECOND)

    async def test_a_life_of_the_named_epoch_or_a_later_one_goes_on(self, gate: StockGate) -> None:
        """A rebuild that is late must not end the life that another one began."""
        sale = await open_sale(gate, epoch=Epoch(3))
        for epoch in (SECOND, Epoch(3)):
            await gate.disarm([(sale.sale_id, epoch)])
            assert await is_armed(gate, sale.sale_id, Epoch(3))

    async def test_an_earlier_life_can_never_be_loaded_again(self, gate: StockGate) -> None:
        """Also in a gate that has nothing left of the sale."""
        sale_id = SaleId("ended-early.1")
        await gate.drop(sale_id)
        await gate.disarm([(sale_id, SECOND)])
        with pytest.raises(Unavailable):
            await gate.begin_load(sale_id, Epoch(1), TERMS, SaleState.OPEN)
        assert await gate.begin_load(sale_id, SECOND, TERMS, SaleState.OPEN) is not None

    async def test_a_load_that_was_open_is_ended_too(self, gate: StockGate) -> None:
        """Two rebuilds: what the first one still loads must not come to life behind the second."""
        sale_id = SaleId("two-rebuilds.1")
        await gate.drop(sale_id)
        token = await gate.begin_load(sale_id, Epoch(1), TERMS, SaleState.OPEN)
        assert token is not None
        await gate.disarm([(sale_id, SECOND)])
        with pytest.raises(Unavailable):
            await gate.load(sale_id, token, [record("a", PurchaseState.SOLD)])
        with pytest.raises(Unavailable):
            await gate.arm(sale_id, token, books_for(sale_id, TERMS, []))
        assert not await is_armed(gate, sale_id, Epoch(1))

    async def test_several_lives_end_in_one_call(self, gate: StockGate) -> None:
        """A rebuild takes all lost sales together."""
        sales = [await open_sale(gate) for _ in range(3)]
        assert await gate.disarm([(sale.sale_id, SECOND) for sale in sales]) >= 0
        assert [await is_armed(gate, sale.sale_id, sale.epoch) for sale in sales] == [False] * 3
        assert await gate.disarm([]) == 0

    async def test_what_a_lost_life_had_taken_and_not_confirmed_is_read(
        self, gate: StockGate
    ) -> None:
        """R alone: what is queued is on the bus, and the outside door's come again."""
        sale = await open_sale(gate)
        await sale.reserve(claim("r1"), claim("r2", quantity=2))
        await sale.reserve(claim("o"), door=Door.OUTSIDE)
        await sale.reserve(claim("q"), door=Door.ACCEPTED)
        await sale.reserve(claim("s"), claim("x"))
        await sale.follow(sold=["s"], released=[("x", "DISCARDED")])
        await gate.disarm([(sale.sale_id, SECOND)])
        found = await gate.survivors(sale.sale_id, skip=0, limit=100)
        assert found is not None
        assert sorted(one.purchase_id for one in found) == ["r1", "r2"]
        [two] = [one for one in found if one.purchase_id == "r2"]
        assert (two.state, two.quantity, two.epoch) == (PurchaseState.RESERVED, 2, sale.epoch)
        assert (two.payment_token, two.source.value) == ("tok", "WEB")

    async def test_survivors_are_read_on_piece_by_piece(self, gate: StockGate) -> None:
        """A crowd's journal is longer than one call should be."""
        sale = await open_sale(gate, units=30)
        await sale.reserve(*(claim(f"r{n}", user=f"u{n}") for n in range(7)))
        await sale.reserve(*(claim(f"q{n}", user=f"v{n}") for n in range(6)), door=Door.ACCEPTED)
        await gate.disarm([(sale.sale_id, SECOND)])
        found: list[str] = []
        skip = 0
        while (piece := await gate.survivors(sale.sale_id, skip=skip, limit=3)) is not None:
            found += [one.purchase_id for one in piece]
            skip += 3
        assert sorted(found) == [f"r{n}" for n in range(7)]
        assert skip == 15

    async def test_of_a_sale_that_the_gate_never_had_nothing_survives(
        self, gate: StockGate
    ) -> None:
        """An emptied server."""
        assert await gate.survivors(SaleId("nowhere.1"), skip=0, limit=10) is None

    async def test_nobody_adopts_what_nobody_has_armed(self, gate: StockGate) -> None:
        """An unarmed sale stays so, whatever its keys say."""
        sale = await open_sale(gate)
        await gate.disarm([(sale.sale_id, SECOND)])
        nowhere = OpenSale(gate, SaleId("nowhere.1"))
        wanted = [(sale.sale_id, sale.epoch), (sale.sale_id, SECOND), (nowhere.sale_id, SECOND)]
        assert await gate.adopt(wanted) == [False] * 3
        assert await gate.adopt([]) == []

    async def test_all_records_are_read_page_by_page(self, gate: StockGate) -> None:
        """As they stand, each at least once, also while others are added."""
        sale = await open_sale(gate, units=3_000)
        await sale.reserve(*(claim(f"r{n}", user=f"u{n}") for n in range(900)))
        await sale.reserve(claim("sold"), claim("held", quantity=2))
        await sale.follow(sold=["sold"])
        seen: dict[PurchaseId, GateRecord] = {}
        cursor: str | None = ""
        pages = 0
        while cursor is not None:
            page = await gate.records(sale.sale_id, sale.epoch, cursor=cursor, limit=100)
            assert not isinstance(page, Unavailable)
            seen.update((one.purchase_id, one) for one in page.records)
            cursor = page.next_cursor
            pages += 1
            await sale.reserve(claim(f"later-{pages}"))
        assert {f"r{n}" for n in range(900)} | {"sold", "held"} <= set(seen)
        assert pages > 1
        sold, held = seen[PurchaseId("sold")], seen[PurchaseId("held")]
        assert (sold.state, held.state, held.quantity) == (
            PurchaseState.SOLD,
            PurchaseState.RESERVED,
            2,
        )

    async def test_records_of_an_empty_sale_and_of_an_unarmed_one(self, gate: StockGate) -> None:
        """Nothing is one thing, not knowing another."""
        sale = await open_sale(gate)
        page = await gate.records(sale.sale_id, sale.epoch, cursor="", limit=10)
        assert not isinstance(page, Unavailable)
        assert (page.records, page.next_cursor) == ((), None)
        unarmed = await gate.records(sale.sale_id, SECOND, cursor="", limit=10)
        assert isinstance(unarmed, Unavailable)
        assert unarmed.why is Why.NOT_ARMED
