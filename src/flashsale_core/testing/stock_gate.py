"""What every StockGate must do. Subclass `StockGateContract` and give it a `make_gate` fixture."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest

from flashsale_core.arming import expected_books
from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.model import (
    Door,
    Epoch,
    EventId,
    GateRecord,
    ItemId,
    PurchaseId,
    PurchaseRequest,
    PurchaseState,
    Sale,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
)
from flashsale_core.outcomes import (
    Closed,
    GateAnswer,
    KeyReused,
    LimitReached,
    NotOpen,
    Refused,
    Replayed,
    Reserved,
    SoldOut,
)
from flashsale_core.ports import (
    Claim,
    ClaimBatch,
    FollowBatch,
    GateBooks,
    SaleBooks,
    StockGate,
)

FIRST = Epoch(1)
REQUESTED_MS = 1_700_000_000_000
YEAR_2100_MS = 4_102_444_800_000
_numbers = itertools.count(1)

MakeGate = Callable[..., Awaitable[StockGate]]
"""`await make_gate(reserved_due_ms=…, queued_due_ms=…)`: gates on the same store."""


def claim(
    purchase: str, user: str = "ann", quantity: int = 1, refused: Refused | None = None
) -> Claim:
    """Make a claim of a buyer for one unit or more."""
    return Claim(
        request=PurchaseRequest(
            purchase_id=PurchaseId(purchase),
            user_id=UserId(user),
            item_id=ItemId("1"),
            quantity=quantity,
            requested_at_ms=REQUESTED_MS,
            source=Source.WEB,
            event_id=EventId("black-friday"),
            payment_token="tok",  # noqa: S106 - opaque, and not a secret of anybody's
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        refused=refused,
    )


def record(
    purchase: str, state: PurchaseState, *, user: str = "ann", quantity: int = 1
) -> GateRecord:
    """Make a record as the database's books have it."""
    return GateRecord(
        purchase_id=PurchaseId(purchase),
        state=state,
        user_id=UserId(user),
        quantity=quantity,
        reason="SOLD_OUT" if state is PurchaseState.ENDED else None,
    )


@attrs.define
class OpenSale:
    """A gate with one armed sale, and short words for what the tests do with it."""

    gate: StockGate
    sale_id: SaleId
    epoch: Epoch = FIRST

    async def reserve(
        self, *claims: Claim, door: Door = Door.HTTP, queued: Sequence[str] = ()
    ) -> list[GateAnswer | Unavailable]:
        """Reserve in one batch; fails the test when the whole batch is refused."""
        [reply] = await self.gate.reserve([self.batch(*claims, door=door, queued=queued)])
        assert not isinstance(reply, Unavailable), reply
        return reply

    def batch(
        self, *claims: Claim, door: Door = Door.HTTP, queued: Sequence[str] = ()
    ) -> ClaimBatch:
        """Make a batch for this sale."""
        return ClaimBatch(
            sale_id=self.sale_id,
            epoch=self.epoch,
            door=door,
            claims=claims,
            queued=tuple(PurchaseId(one) for one in queued),
        )

    async def follow(
        self, *, sold: Sequence[str] = (), released: Sequence[tuple[str, str]] = ()
    ) -> int:
        """Follow rows; fails the test when the batch is refused."""
        [misfits] = await self.gate.follow(
            [
                FollowBatch(
                    sale_id=self.sale_id,
                    epoch=self.epoch,
                    sold=tuple(PurchaseId(one) for one in sold),
                    released=tuple((PurchaseId(one), reason) for one, reason in released),
                )
            ]
        )
        assert not isinstance(misfits, Unavailable), misfits
        return misfits

    async def books(self) -> GateBooks:
        """Read the counts; conservation must hold whenever they are read."""
        [books] = await self.gate.books([(self.sale_id, self.epoch)], ages=True)
        assert not isinstance(books, Unavailable), books
        held = books.reserved + books.outside + books.queued + books.sold
        assert books.initial == books.available + held
        return books

    async def state(self, purchase: str) -> PurchaseState | None:
        """Say in what state a purchase stands."""
        [found] = await self.gate.find([(self.sale_id, self.epoch)], PurchaseId(purchase))
        assert not isinstance(found, Unavailable), found
        return found.state if found is not None else None


async def open_sale(
    gate: StockGate,
    terms: SaleTerms | None = None,
    *,
    units: int = 10,
    records: Sequence[GateRecord] = (),
    state: SaleState = SaleState.OPEN,
    sale_id: SaleId | None = None,
    epoch: Epoch = FIRST,
) -> OpenSale:
    """Load and arm a sale of its own name."""
    sale_id = sale_id or SaleId(f"item-{next(_numbers)}.1")
    terms = terms or SaleTerms(units=units)
    token = await gate.begin_load(sale_id, epoch, terms, state)
    assert token is not None
    await gate.load(sale_id, token, records)
    await gate.arm(sale_id, token, books_for(sale_id, terms, records, state, epoch))
    return OpenSale(gate, sale_id, epoch)


def books_for(
    sale_id: SaleId,
    terms: SaleTerms,
    records: Sequence[GateRecord],
    state: SaleState = SaleState.OPEN,
    epoch: Epoch = FIRST,
) -> GateBooks:
    """Work out what a gate must hold after loading `records`."""
    item, _, round_ = sale_id.rpartition(".")
    sale = Sale(
        item_id=ItemId(item),
        round=int(round_),
        terms=terms,
        state=state,
        epoch=epoch,
        armed_epoch=epoch,
        available=terms.units,
        pending=0,
        sold=0,
    )
    return expected_books(SaleBooks(sale=sale, records=tuple(records)))


class StockGateContract:
    """The contract of `ports.StockGate`. A subclass provides the fixture `make_gate`."""

    @pytest.fixture
    async def gate(self, make_gate: MakeGate) -> StockGate:
        """Use the delays of a real sale where a test does not care."""
        return await make_gate(reserved_due_ms=10_000, queued_due_ms=600_000)

    # ── taking units ────────────────────────────────────────────────────────────────────────

    async def test_a_reserved_unit_is_taken_and_journaled(self, gate: StockGate) -> None:
        """Rule 1: unit and journal entry in one step."""
        sale = await open_sale(gate, SaleTerms(units=10, per_user_limit=10))
        [answer] = await sale.reserve(claim("p1", quantity=3))
        assert isinstance(answer, Reserved)
        assert answer.record.state is PurchaseState.RESERVED
        assert answer.record.epoch == FIRST
        assert (at := answer.record.accepted_at_ms) > 1_600_000_000_000
        books = await sale.books()
        assert (books.available, books.reserved, books.journal) == (7, 3, 1)
        assert (books.records, books.users) == (1, 1)
        assert (books.oldest_accepted_ms, books.oldest_due_ms) == (at, at + 10_000)

    async def test_the_record_holds_all_that_a_message_needs(self, gate: StockGate) -> None:
        """Rule 3: a lost publish is repeated from the record alone."""
        sale = await open_sale(gate)
        asked = claim("p1", quantity=2)
        [answer] = await sale.reserve(asked)
        assert isinstance(answer, Reserved)
        [found] = await gate.find([(sale.sale_id, sale.epoch)], PurchaseId("p1"))
        assert found == answer.record
        assert answer.record == GateRecord(
            purchase_id=asked.request.purchase_id,
            state=PurchaseState.RESERVED,
            user_id=asked.request.user_id,
            quantity=2,
            epoch=FIRST,
            accepted_at_ms=answer.record.accepted_at_ms,
            requested_at_ms=asked.request.requested_at_ms,
            source=asked.request.source,
            event_id=asked.request.event_id,
            payment_token=asked.request.payment_token,
            traceparent=asked.request.traceparent,
        )

    @pytest.mark.parametrize(
        ("door", "state"),
        [
            (Door.HTTP, PurchaseState.RESERVED),
            (Door.OUTSIDE, PurchaseState.OUTSIDE),
            (Door.ACCEPTED, PurchaseState.QUEUED),
        ],
    )
    async def test_the_door_decides_what_a_taken_unit_promises(
        self, gate: StockGate, door: Door, state: PurchaseState
    ) -> None:
        """R, O or Q."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"), door=door)
        assert await sale.state("p1") is state

    async def test_same_purchase_twice_takes_stock_once(self, gate: StockGate) -> None:
        """A duplicate click burns nothing, in one batch or in two."""
        sale = await open_sale(gate, units=5)
        first, second = await sale.reserve(claim("p1"), claim("p1"))
        [third] = await sale.reserve(claim("p1"))
        assert isinstance(first, Reserved)
        assert isinstance(second, Replayed)
        assert isinstance(third, Replayed)
        assert third.record == first.record
        assert (await sale.books()).available == 4

    async def test_the_same_id_with_other_content_is_refused(self, gate: StockGate) -> None:
        """The fingerprint is user and quantity."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1", user="ann", quantity=1))
        answers = await sale.reserve(claim("p1", user="bob"), claim("p1", user="ann", quantity=2))
        assert answers == [KeyReused(), KeyReused()]
        assert (await sale.books()).available == 9

    async def test_time_source_and_event_are_no_part_of_the_fingerprint(
        self, gate: StockGate
    ) -> None:
        """A client that tries again may send another requestedAt."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        later = attrs.evolve(
            claim("p1").request, requested_at_ms=1, source=Source.MOBILE, event_id=None
        )
        [answer] = await sale.reserve(Claim(request=later))
        assert isinstance(answer, Replayed)

    async def test_quantity_is_all_or_nothing(self, gate: StockGate) -> None:
        """Four of five asked for is none, and the four are still there for others."""
        sale = await open_sale(gate, units=4)
        too_many, fits = await sale.reserve(claim("p1", quantity=5), claim("p2", quantity=4))
        assert too_many == SoldOut(available=4)
        assert isinstance(fits, Reserved)
        [sold_out] = await sale.reserve(claim("p3"))
        assert sold_out == SoldOut(available=0)

    async def test_the_limit_is_cumulative_over_the_sale(self, gate: StockGate) -> None:
        """What a user holds and what it bought count together; what was released does not."""
        sale = await open_sale(gate, SaleTerms(units=10, per_user_limit=3))
        await sale.reserve(claim("p1", quantity=2))
        [refused] = await sale.reserve(claim("p2", quantity=2))
        assert refused == LimitReached(limit=3, held=2)
        await sale.follow(sold=["p1"])
        [still] = await sale.reserve(claim("p3", quantity=2))
        assert still == LimitReached(limit=3, held=2)
        [other] = await sale.reserve(claim("p4", user="bob", quantity=3))
        assert isinstance(other, Reserved)
        await sale.follow(released=[("p4", "SOLD_OUT")])
        [again] = await sale.reserve(claim("p5", user="bob", quantity=3))
        assert isinstance(again, Reserved)

    async def test_stock_is_judged_before_the_limit(self, gate: StockGate) -> None:
        """Sold out is the same for everybody, and may be remembered for everybody."""
        sale = await open_sale(gate, SaleTerms(units=1, per_user_limit=1))
        await sale.reserve(claim("p1"))
        [answer] = await sale.reserve(claim("p2"))
        assert answer == SoldOut(available=0)

    async def test_opening_and_closing_go_by_the_gates_clock(self, gate: StockGate) -> None:
        """The client's requestedAt decides nothing."""
        later = await open_sale(gate, SaleTerms(units=1, opens_at_ms=YEAR_2100_MS))
        over = await open_sale(
            gate, SaleTerms(units=1, opens_at_ms=1, closes_at_ms=REQUESTED_MS + 1)
        )
        assert await later.reserve(claim("p1")) == [NotOpen(opens_at_ms=YEAR_2100_MS)]
        assert await over.reserve(claim("p1")) == [Closed()]

    async def test_a_rules_verdict_holds_for_new_purchases_and_never_for_replays(
        self, gate: StockGate
    ) -> None:
        """A rule that changed its mind takes no promise back."""
        no = Refused(code="REGION_BLOCKED")
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        replay, fresh = await sale.reserve(claim("p1", refused=no), claim("p2", refused=no))
        assert isinstance(replay, Replayed)
        assert fresh == no
        assert (await sale.books()).available == 9

    # ── refusals and what they leave ────────────────────────────────────────────────────────

    async def test_a_refusal_at_http_leaves_no_trace(self, gate: StockGate) -> None:
        """A crowd must not own the gate's memory, and may try the same id when units return."""
        sale = await open_sale(gate, units=1)
        await sale.reserve(claim("p1"))
        await sale.reserve(claim("p2"))
        assert await sale.state("p2") is None
        await sale.follow(released=[("p1", "SOLD_OUT")])
        [answer] = await sale.reserve(claim("p2"))
        assert isinstance(answer, Reserved)

    @pytest.mark.parametrize("door", [Door.OUTSIDE, Door.ACCEPTED])
    async def test_a_refusal_by_a_worker_burns_the_id(self, gate: StockGate, door: Door) -> None:
        """A REJECTED row will stand: a retry over HTTP must not be promised against it."""
        sale = await open_sale(gate, units=1)
        await sale.reserve(claim("p1"))
        [refused] = await sale.reserve(claim("p2"), door=door)
        assert refused == SoldOut(available=0)
        await sale.follow(released=[("p1", "SOLD_OUT")])
        [answer] = await sale.reserve(claim("p2"))
        assert isinstance(answer, Replayed)
        assert (answer.record.state, answer.record.reason) == (PurchaseState.ENDED, "SOLD_OUT")
        books = await sale.books()
        assert (books.available, books.journal) == (1, 0)

    @pytest.mark.parametrize(
        ("terms", "refused", "reason"),
        [
            (SaleTerms(units=1, opens_at_ms=YEAR_2100_MS), None, "NOT_OPEN"),
            (SaleTerms(units=1, closes_at_ms=1), None, "CLOSED"),
            (SaleTerms(units=9, per_user_limit=1), None, "LIMIT_REACHED"),
            (SaleTerms(units=9), Refused(code="NO_BOTS"), "NO_BOTS"),
        ],
    )
    async def test_a_burned_id_keeps_its_reason(
        self, gate: StockGate, terms: SaleTerms, refused: Refused | None, reason: str
    ) -> None:
        """The row is written with the reason that the gate gave first."""
        sale = await open_sale(gate, terms)
        asked = claim("p1", quantity=2 if reason == "LIMIT_REACHED" else 1, refused=refused)
        await sale.reserve(asked, door=Door.OUTSIDE)
        [answer] = await sale.reserve(asked, door=Door.OUTSIDE)
        assert isinstance(answer, Replayed)
        assert answer.record.reason == reason

    async def test_a_retry_after_close_and_after_sold_out_gets_the_old_answer(
        self, gate: StockGate
    ) -> None:
        """Duplicates are judged before anything else."""
        sale = await open_sale(gate, units=1)
        await sale.reserve(claim("p1"))
        [after_sold_out] = await sale.reserve(claim("p1"))
        await gate.set_state(sale.sale_id, sale.epoch, SaleState.CLOSED)
        [after_close] = await sale.reserve(claim("p1"))
        assert isinstance(after_sold_out, Replayed)
        assert isinstance(after_close, Replayed)
        assert await sale.reserve(claim("p2")) == [Closed()]

    @pytest.mark.parametrize(
        ("state", "why"), [(SaleState.PAUSED, Why.PAUSED), (SaleState.HALTED, Why.HALTED)]
    )
    async def test_paused_or_halted_only_new_units_are_refused(
        self, gate: StockGate, state: SaleState, why: Why
    ) -> None:
        """Duplicates are answered; marks, sells and releases work."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"), claim("p2"), claim("p3"))
        await gate.set_state(sale.sale_id, sale.epoch, state)
        replay, fresh = await sale.reserve(claim("p1"), claim("p4"), queued=["p1"])
        assert isinstance(replay, Replayed)
        assert isinstance(fresh, Unavailable)
        assert fresh.why is why
        assert await sale.follow(sold=["p2"], released=[("p3", "CLOSED")]) == 0
        assert await sale.state("p1") is PurchaseState.QUEUED
        await gate.set_state(sale.sale_id, sale.epoch, SaleState.OPEN)
        [resumed] = await sale.reserve(claim("p4"))
        assert isinstance(resumed, Reserved)

    # ── the state machine ───────────────────────────────────────────────────────────────────

    async def test_the_accepted_worker_lifts_r_and_o_to_q(self, gate: StockGate) -> None:
        """A message on ACCEPTED with the gate's epoch proves that the purchase is queued."""
        sale = await open_sale(gate)
        await sale.reserve(claim("r"))
        await sale.reserve(claim("o"), door=Door.OUTSIDE)
        lifted = await sale.reserve(claim("r"), claim("o"), door=Door.ACCEPTED)
        for answer in lifted:
            assert isinstance(answer, Replayed)
            assert answer.record.state is PurchaseState.QUEUED
        books = await sale.books()
        assert (books.reserved, books.outside, books.queued, books.journal) == (0, 0, 2, 2)

    async def test_the_outside_worker_lifts_nothing(self, gate: StockGate) -> None:
        """Its message promises nothing: a buyer's retry must still be published."""
        sale = await open_sale(gate)
        await sale.reserve(claim("r"))
        [answer] = await sale.reserve(claim("r"), door=Door.OUTSIDE)
        assert isinstance(answer, Replayed)
        assert answer.record.state is PurchaseState.RESERVED

    async def test_marks_ride_along_and_unknown_or_final_ones_are_ignored(
        self, gate: StockGate
    ) -> None:
        """The journal costs no round trip of its own."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"), claim("p2"))
        await sale.follow(sold=["p2"])
        assert await sale.reserve(queued=["p1", "p2", "nobody"]) == []
        assert await sale.state("p1") is PurchaseState.QUEUED
        assert await sale.state("p2") is PurchaseState.SOLD
        assert await sale.state("nobody") is None

    async def test_a_mark_lifts_with_the_next_call_at_the_latest(self, gate: StockGate) -> None:
        """An adapter may keep marks for a later call; one of another epoch lifts nothing."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"), claim("p2"))
        await gate.mark_queued(sale.sale_id, Epoch(9), [PurchaseId("p2")])
        ids = [PurchaseId("p1"), PurchaseId("nobody")]
        assert await gate.mark_queued(sale.sale_id, sale.epoch, ids) is None
        await sale.reserve(claim("p3"))
        assert await sale.state("p1") is PurchaseState.QUEUED
        assert await sale.state("p2") is PurchaseState.RESERVED

    async def test_selling_is_final_and_once(self, gate: StockGate) -> None:
        """S holds the units for ever; the journal forgets them."""
        sale = await open_sale(gate, units=3)
        await sale.reserve(claim("p1", quantity=2))
        assert await sale.follow(sold=["p1"]) == 0
        assert await sale.follow(sold=["p1"]) == 0
        books = await sale.books()
        assert (books.available, books.sold, books.journal) == (1, 2, 0)

    async def test_releasing_gives_the_unit_back_once_and_burns_the_id(
        self, gate: StockGate
    ) -> None:
        """A redelivered rejection must not create stock."""
        sale = await open_sale(gate, units=3)
        await sale.reserve(claim("p1", quantity=2))
        for _ in range(2):
            assert await sale.follow(released=[("p1", "DECLINED")]) == 0
        books = await sale.books()
        assert (books.available, books.journal, books.users) == (3, 0, 0)
        [answer] = await sale.reserve(claim("p1", quantity=2))
        assert isinstance(answer, Replayed)
        assert (answer.record.state, answer.record.reason) == (PurchaseState.ENDED, "DECLINED")

    async def test_a_release_of_an_unknown_id_burns_it_whatever_its_content(
        self, gate: StockGate
    ) -> None:
        """The row stands REJECTED: no retry may be promised against it."""
        sale = await open_sale(gate)
        assert await sale.follow(released=[("p1", "UNKNOWN_ITEM")]) == 0
        [answer] = await sale.reserve(claim("p1", user="zoe", quantity=2))
        assert isinstance(answer, Replayed)
        assert answer.record.reason == "UNKNOWN_ITEM"
        assert (await sale.books()).available == 10

    async def test_what_does_not_fit_is_counted_and_changes_nothing(self, gate: StockGate) -> None:
        """Sold while unknown or ended, released while sold: the books disagree."""
        sale = await open_sale(gate)
        await sale.reserve(claim("sold"), claim("ended"))
        await sale.follow(sold=["sold"], released=[("ended", "DECLINED")])
        before = await sale.books()
        assert await sale.follow(sold=["nobody", "ended"], released=[("sold", "X")]) == 3
        assert await sale.books() == before

    # ── the journal ─────────────────────────────────────────────────────────────────────────

    async def test_overdue_hands_out_what_is_due_and_pushes_it_back(
        self, make_gate: MakeGate
    ) -> None:
        """Two sweepers do not take the same entry."""
        hasty = await make_gate(reserved_due_ms=0, queued_due_ms=600_000)
        sale = await open_sale(hasty)
        await sale.reserve(claim("p1"), claim("p2"))
        await sale.follow(sold=["p2"])
        patient = await make_gate(reserved_due_ms=60_000, queued_due_ms=600_000)
        taken = await patient.overdue(sale.sale_id, sale.epoch, 10)
        assert not isinstance(taken, Unavailable)
        assert [entry.record.purchase_id for entry in taken] == ["p1"]
        assert taken[0].record.user_id == "ann"
        assert taken[0].record.epoch == FIRST
        assert await patient.overdue(sale.sale_id, sale.epoch, 10) == []

    async def test_a_queued_purchase_is_due_by_the_longer_delay(self, make_gate: MakeGate) -> None:
        """A confirmed message may wait its turn for minutes."""
        gate = await make_gate(reserved_due_ms=0, queued_due_ms=600_000)
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        await sale.reserve(queued=["p1"])
        assert await gate.overdue(sale.sale_id, sale.epoch, 10) == []

    async def test_overdue_hands_out_no_more_than_asked(self, make_gate: MakeGate) -> None:
        """A limit on everything."""
        gate = await make_gate(reserved_due_ms=0, queued_due_ms=0)
        sale = await open_sale(gate, units=10)
        await sale.reserve(*(claim(f"p{n}") for n in range(5)))
        taken = await gate.overdue(sale.sale_id, sale.epoch, 2)
        assert not isinstance(taken, Unavailable)
        assert len(taken) == 2

    # ── epochs, loading, arming ─────────────────────────────────────────────────────────────

    async def test_nothing_works_unarmed(self, gate: StockGate) -> None:
        """A gate that was never loaded refuses everything, by name."""
        ghost = OpenSale(gate, SaleId("ghost.1"))
        pairs = [(ghost.sale_id, FIRST)]
        refusals: list[object] = [
            *(await gate.reserve([ghost.batch(claim("p1"))])),
            *(await gate.follow([FollowBatch(sale_id=ghost.sale_id, epoch=FIRST)])),
            *(await gate.find(pairs, PurchaseId("p1"))),
            await gate.overdue(ghost.sale_id, FIRST, 10),
            *(await gate.books(pairs)),
            await gate.set_state(ghost.sale_id, FIRST, SaleState.OPEN),
        ]
        for refusal in refusals:
            assert isinstance(refusal, Unavailable)
            assert refusal.why is Why.NOT_ARMED
            assert not refusal.may_have_happened

    @pytest.mark.parametrize("epoch", [Epoch(1), Epoch(3)])
    async def test_another_epoch_is_refused(self, gate: StockGate, epoch: Epoch) -> None:
        """A caller that stalled across a rebuild, and one that is ahead of the gate."""
        sale = await open_sale(gate, epoch=Epoch(2))
        [reply] = await gate.reserve([attrs.evolve(sale.batch(claim("p1")), epoch=epoch)])
        assert isinstance(reply, Unavailable)
        assert reply.why is Why.NOT_ARMED
        assert (await sale.books()).available == 10

    async def test_one_sales_trouble_is_not_anothers(self, gate: StockGate) -> None:
        """One call serves several sales."""
        good, ghost = await open_sale(gate), OpenSale(gate, SaleId("ghost.1"))
        first, second = await gate.reserve(
            [ghost.batch(claim("p1")), good.batch(claim("p1"), claim("p2"))]
        )
        assert isinstance(first, Unavailable)
        assert not isinstance(second, Unavailable)
        assert [type(answer) for answer in second] == [Reserved, Reserved]

    async def test_a_load_restores_what_the_rows_say(self, gate: StockGate) -> None:
        """CONFIRMED is sold, pending is queued, REJECTED is burned; available is what remains."""
        rows = [
            record("s", PurchaseState.SOLD, quantity=2),
            record("q", PurchaseState.QUEUED, user="bob"),
            record("x", PurchaseState.ENDED, user="eve", quantity=5),
        ]
        sale = await open_sale(gate, SaleTerms(units=10, per_user_limit=2), records=rows)
        books = await sale.books()
        assert (books.available, books.sold, books.queued) == (7, 2, 1)
        assert (books.records, books.users, books.journal) == (3, 2, 1)
        s, q, x, more = await sale.reserve(
            claim("s", quantity=2),
            claim("q", user="bob"),
            claim("x", user="eve", quantity=5),
            claim("new", user="ann"),
        )
        states = [a.record.state for a in (s, q, x) if isinstance(a, Replayed)]
        assert states == [PurchaseState.SOLD, PurchaseState.QUEUED, PurchaseState.ENDED]
        assert more == LimitReached(limit=2, held=2)
        [found] = await gate.find([(sale.sale_id, FIRST)], PurchaseId("q"))
        assert isinstance(found, GateRecord)
        assert found.epoch == FIRST

    async def test_more_sold_than_there_was_is_sold_out_and_still_adds_up(
        self, gate: StockGate
    ) -> None:
        """`available` may be below zero after a rebuild; nobody new gets anything."""
        rows = [record(f"s{n}", PurchaseState.SOLD) for n in range(3)]
        sale = await open_sale(gate, units=2, records=rows)
        assert (await sale.books()).available == -1
        assert await sale.reserve(claim("p1")) == [SoldOut(available=-1)]

    async def test_books_that_differ_are_not_armed(self, gate: StockGate) -> None:
        """Half the books must never sell."""
        sale_id, terms = SaleId(f"item-{next(_numbers)}.1"), SaleTerms(units=5)
        token = await gate.begin_load(sale_id, FIRST, terms, SaleState.OPEN)
        assert token is not None
        await gate.load(sale_id, token, [record("a", PurchaseState.SOLD)])
        both = [record("a", PurchaseState.SOLD), record("b", PurchaseState.SOLD)]
        with pytest.raises(Corrupt, match="expected") as wrong:
            await gate.arm(sale_id, token, books_for(sale_id, terms, both))
        assert wrong.value.code == "books-differ"
        [reply] = await gate.reserve([OpenSale(gate, sale_id).batch(claim("p1"))])
        assert isinstance(reply, Unavailable)

    async def test_without_the_loads_token_nothing_is_loaded_or_armed(
        self, gate: StockGate
    ) -> None:
        """A loader that stalled must not mix its chunk into another's books."""
        sale_id, terms = SaleId(f"item-{next(_numbers)}.1"), SaleTerms(units=5)
        stale = await gate.begin_load(sale_id, FIRST, terms, SaleState.OPEN)
        fresh = await gate.begin_load(sale_id, FIRST, terms, SaleState.OPEN)
        assert stale is not None
        assert fresh is not None
        books = books_for(sale_id, terms, [])
        with pytest.raises(Unavailable):
            await gate.load(sale_id, stale, [record("a", PurchaseState.SOLD)])
        with pytest.raises(Unavailable):
            await gate.arm(sale_id, stale, books)
        await gate.arm(sale_id, fresh, books)
        with pytest.raises(Unavailable):
            await gate.load(sale_id, fresh, [record("a", PurchaseState.SOLD)])

    async def test_an_armed_epoch_is_not_loaded_again(self, gate: StockGate) -> None:
        """Two processes that init the same sale: the second must not drop what was bought since."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        again = await gate.begin_load(sale.sale_id, FIRST, SaleTerms(units=10), SaleState.OPEN)
        assert again is None
        assert (await sale.books()).reserved == 1

    async def test_a_higher_epoch_disarms_and_a_lower_one_is_refused(self, gate: StockGate) -> None:
        """Epochs only rise."""
        sale = await open_sale(gate, epoch=Epoch(2))
        with pytest.raises(Unavailable):
            await gate.begin_load(sale.sale_id, Epoch(1), SaleTerms(units=10), SaleState.OPEN)
        assert (await sale.books()).available == 10
        token = await gate.begin_load(sale.sale_id, Epoch(3), SaleTerms(units=4), SaleState.OPEN)
        assert token is not None
        [unarmed] = await gate.books([(sale.sale_id, Epoch(2))])
        assert isinstance(unarmed, Unavailable)

    async def test_a_dropped_sale_is_forgotten(self, gate: StockGate) -> None:
        """A settled sale's books are given back."""
        sale = await open_sale(gate)
        await sale.reserve(claim("p1"))
        await gate.drop(sale.sale_id)
        [gone] = await gate.books([(sale.sale_id, sale.epoch)])
        assert isinstance(gone, Unavailable)

    async def test_of_many_at_once_exactly_the_stock_is_sold(self, gate: StockGate) -> None:
        """The race that the engine exists for, released by a barrier."""
        sale = await open_sale(gate, units=20)
        barrier = asyncio.Barrier(100)

        async def buyer(number: int) -> bool:
            await barrier.wait()
            [answer] = await sale.reserve(claim(f"p{number}", user=f"u{number}"))
            return isinstance(answer, Reserved)

        won = await asyncio.gather(*(buyer(number) for number in range(100)))
        assert sum(won) == 20
        assert (await sale.books()).available == 0
