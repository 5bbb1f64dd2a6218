"""An operator's commands, and the values that cannot be wrong."""

import pytest

from flashsale_core.errors import Conflict, Invalid, Unavailable, Why
from flashsale_core.events import PurchaseAccepted
from flashsale_core.model import (
    QUANTITY_MAX,
    UNITS_MAX,
    ItemId,
    PurchaseId,
    SaleId,
    SaleState,
    SaleTerms,
    Source,
    UserId,
    sale_id_of,
)
from flashsale_core.retry import Fault, fault_of
from flashsale_core.validation import well_formed
from tests.unit.world import World, request

ONE = SaleId("1.1")


async def test_init_opens_an_armed_sale_and_the_same_again_is_a_no_op() -> None:
    """And what was bought since is still bought."""
    world = World()
    view = await world.selling.init(ItemId("1"), SaleTerms(units=5))
    assert (view.sale.sale_id, view.sale.state, view.sale.armed_epoch) == (ONE, SaleState.OPEN, 1)
    await world.parking.deliver([world.message(request())])
    again = await world.selling.init(ItemId("1"), SaleTerms(units=5))
    assert again.gate is not None
    assert (again.gate.available, again.gate.sold) == (4, 1)


async def test_other_terms_while_a_sale_is_unsettled_are_a_conflict_that_says_what_to_do() -> None:
    """Stock is not changed by a second init."""
    world = World()
    await world.sell(units=5)
    with pytest.raises(Conflict, match="settle") as refused:
        await world.selling.init(ItemId("1"), SaleTerms(units=6))
    assert refused.value.code == "other-terms"


async def test_a_sale_that_lost_its_gate_is_not_quietly_made_again() -> None:
    """An init after a lost Redis would sell every unit a second time."""
    world = World()
    await world.sell(units=5)
    await world.gate.drop(ONE)
    with pytest.raises(Unavailable):
        await world.selling.init(ItemId("1"), SaleTerms(units=5))


async def test_the_whole_life_of_a_sale() -> None:
    """Pause, resume, close, settle, and the item's next round."""
    world = World()
    await world.sell()
    assert (await world.selling.pause(ONE)).sale.state is SaleState.PAUSED
    assert (await world.selling.pause(ONE)).sale.state is SaleState.PAUSED
    assert (await world.selling.resume(ONE)).sale.state is SaleState.OPEN
    with pytest.raises(Conflict, match="close"):
        await world.selling.settle(ONE)
    closed = await world.selling.close(ONE)
    assert closed.gate is not None
    assert closed.gate.state is SaleState.CLOSED
    with pytest.raises(Conflict):
        await world.selling.resume(ONE)
    assert (await world.selling.settle(ONE)).sale.state is SaleState.SETTLED
    assert (await world.selling.settle(ONE)).sale.state is SaleState.SETTLED
    next_round = await world.selling.init(ItemId("1"), SaleTerms(units=3))
    assert next_round.sale.sale_id == "1.2"


async def test_settling_says_what_it_waits_for() -> None:
    """An open promise, and a parked message."""
    world = World()
    await world.sell()
    await world.desk.buy(request("p1"))
    await world.selling.close(ONE)
    with pytest.raises(Conflict, match="1 purchases in the journal") as waits:
        await world.selling.settle(ONE)
    assert waits.value.code == "not-settled-yet"


async def test_a_sale_nobody_made_is_unknown() -> None:
    """A typing error of an operator."""
    world = World()
    for command in (world.selling.show, world.selling.pause, world.selling.settle):
        with pytest.raises(Conflict) as refused:
            await command(SaleId("ghost.1"))
        assert refused.value.code == "unknown-sale"


async def test_a_sale_is_shown_even_while_its_gate_is_away() -> None:
    """PostgreSQL first, then the gate."""
    world = World()
    await world.sell()
    await world.gate.drop(ONE)
    [view] = await world.selling.all()
    assert view.gate is None
    assert "not-armed" in (view.gate_problem or "")


# ── values ──────────────────────────────────────────────────────────────────────────────────────

GOOD: dict[str, object] = {
    "purchase_id": "p1",
    "user_id": "101",
    "item_id": "1",
    "quantity": 1,
    "requested_at_ms": 0,
    "source": Source.WEB,
}


@pytest.mark.parametrize("value", ["", "a" * 65, "a b", "{x}", "a\x00", "é", "a/b", None, 7, b"a"])
@pytest.mark.parametrize("field", ["purchase_id", "user_id", "item_id"])
def test_an_id_that_breaks_the_rule_cannot_be_built(field: str, value: object) -> None:
    """Ids go into keys, URLs and files."""
    with pytest.raises(Invalid):
        well_formed(**{**GOOD, field: value})


@pytest.mark.parametrize("value", ["a", "a" * 64, "A-Z_0.9", "-5", "."])
def test_an_id_within_the_rule_is_taken(value: str) -> None:
    """Sixty-four characters of the plain alphabet."""
    assert well_formed(**{**GOOD, "user_id": value}).user_id == value


@pytest.mark.parametrize("value", [0, -1, QUANTITY_MAX + 1, 1.5, "1", True, None])
def test_a_quantity_that_breaks_the_rule_cannot_be_built(value: object) -> None:
    """At least one, and an int of the wire."""
    with pytest.raises(Invalid):
        well_formed(**{**GOOD, "quantity": value})


def test_every_violated_field_is_listed() -> None:
    """A sender sees all that is wrong at once, by the names on the wire."""
    with pytest.raises(Invalid) as wrong:
        well_formed(**{**GOOD, "user_id": "", "quantity": 0, "source": "MOON"})
    assert [one.field for one in wrong.value.violations] == ["userId", "quantity", "source"]


@pytest.mark.parametrize(
    "terms",
    [
        {"units": 0},
        {"units": -1},
        {"units": UNITS_MAX + 1},
        {"units": 1, "per_user_limit": 0},
        {"units": 1, "opens_at_ms": 5, "closes_at_ms": 5},
        {"units": 1, "unit_price_minor": 100},
        {"units": 1, "currency": "EUR"},
        {"units": 1, "unit_price_minor": 100, "currency": "eur"},
    ],
)
def test_terms_that_make_no_sale_cannot_be_built(terms: dict[str, object]) -> None:
    """A sale of nothing, one that closes before it opens, half a price."""
    with pytest.raises(Invalid):
        SaleTerms(**terms)  # type: ignore[arg-type]


def test_a_token_is_shown_nowhere() -> None:
    """It is the buyer's and the payment provider's alone."""
    secret = "tok_very_secret"
    asked = well_formed(**{**GOOD, "payment_token": secret})
    accepted = PurchaseAccepted(
        purchase_id=PurchaseId("p"),
        user_id=UserId("u"),
        quantity=1,
        accepted_at_ms=0,
        requested_at_ms=0,
        source=Source.API,
        payment_token=secret,
    )
    assert secret not in repr(asked) + str(asked) + repr(accepted)


def test_items_with_dots_keep_their_sales_apart() -> None:
    """The round is the digits after the last dot."""
    ids = {sale_id_of(ItemId(item), n) for item in ("1", "1.1", "1.1.1") for n in (1, 11)}
    assert len(ids) == 6


@pytest.mark.parametrize(
    ("error", "fault"),
    [(ValueError("?"), Fault.UNKNOWN), (Invalid([]), Fault.FATAL)],
)
def test_a_fault_is_named(error: Exception, fault: Fault) -> None:
    """Which failure is whose."""
    assert fault_of(error) is fault


async def test_an_init_while_the_gate_is_away_can_be_repeated_when_it_is_back() -> None:
    """Nothing was said in the database yet: no rebuild is needed."""
    world = World()
    begin_load = world.gate.begin_load

    async def away(*_: object) -> str | None:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.begin_load = away  # type: ignore[method-assign,assignment]
    with pytest.raises(Unavailable):
        await world.selling.init(ItemId("1"), SaleTerms(units=5))
    world.gate.begin_load = begin_load  # type: ignore[method-assign]
    view = await world.selling.init(ItemId("1"), SaleTerms(units=5))
    assert (view.sale.sale_id, view.sale.armed_epoch) == (ONE, 1)
    assert view.gate is not None


async def test_a_sale_whose_gate_has_not_closed_is_not_settled() -> None:
    """A settled sale's gate is looked at by nobody: one that is still open would sell on."""
    world = World()
    await world.sell()
    set_state = world.gate.set_state

    async def away(*_: object) -> Unavailable | None:
        raise Unavailable(Why.GATE_AWAY)

    world.gate.set_state = away  # type: ignore[method-assign,assignment]
    await world.selling.close(SaleId("1.1"))
    with pytest.raises(Conflict, match="its gate to close"):
        await world.selling.settle(SaleId("1.1"))
    world.gate.set_state = set_state  # type: ignore[method-assign]
    await world.sweeper.align()
    view = await world.selling.settle(SaleId("1.1"))
    assert view.sale.state is SaleState.SETTLED
