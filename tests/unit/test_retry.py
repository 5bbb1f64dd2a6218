"""Which failure is whose, as a table; and what each of them does to a delivery."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from flashsale.supervision import Backoff
from flashsale_core import errors
from flashsale_core.batch import Processed
from flashsale_core.errors import (
    Conflict,
    Corrupt,
    FlashsaleError,
    Invalid,
    StaleEpoch,
    Transient,
    Unavailable,
    Why,
)
from flashsale_core.events import Message, ParkedStatus
from flashsale_core.fulfilment import Fulfilment
from flashsale_core.model import Epoch, SaleId, SaleState
from flashsale_core.ports import Alarm
from flashsale_core.retry import (
    TREATMENTS,
    UNKNOWN_ATTEMPTS_MAX,
    UNKNOWN_DELAYS_MS,
    Fault,
    after_attempt,
    fault_of,
    is_waited_for,
)
from tests.unit.test_fulfilment import promise, sale_of, status
from tests.unit.world import World, request

TABLE = [
    (Corrupt("bad-framing", ""), Fault.FATAL, False),
    (Invalid([]), Fault.FATAL, False),
    (Unavailable(Why.DATABASE_AWAY), Fault.DEPENDENCY, True),
    (Unavailable(Why.BUS_AWAY), Fault.DEPENDENCY, True),
    (Unavailable(Why.REGISTRY_AWAY), Fault.DEPENDENCY, True),
    (Unavailable(Why.GATE_AWAY), Fault.DEPENDENCY, True),
    (Unavailable(Why.OVERLOADED), Fault.DEPENDENCY, True),
    (Unavailable(Why.PAYMENT_AWAY), Fault.DEPENDENCY, True),
    (Unavailable(Why.NOT_ARMED), Fault.SALE, True),
    (Unavailable(Why.PAUSED), Fault.SALE, True),
    (Unavailable(Why.HALTED), Fault.SALE, True),
    (Transient(Why.DATABASE_AWAY), Fault.TRANSIENT, True),
    (StaleEpoch(""), Fault.EPOCH, True),
    (Conflict("other-terms", ""), Fault.UNKNOWN, False),
    (RuntimeError(""), Fault.UNKNOWN, False),
    (KeyError(""), Fault.UNKNOWN, False),
]


@pytest.mark.parametrize(("error", "fault", "waits"), TABLE, ids=repr)
def test_every_error_is_somebodys_fault(error: Exception, fault: Fault, waits: bool) -> None:
    """The one table that parking, worker and supervision ask."""
    assert fault_of(error) is fault
    assert is_waited_for(error) is waits


def test_the_table_names_every_error_of_ours_and_every_reason() -> None:
    """Who adds one decides whose fault it is."""
    kinds = {
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, FlashsaleError) and one is not FlashsaleError
    }
    assert {type(error) for error, _, _ in TABLE} >= kinds
    assert {error.why for error, _, _ in TABLE if isinstance(error, Unavailable)} == set(Why)
    assert set(TREATMENTS) == set(Fault)


def test_nothing_but_a_messages_own_fault_ends_or_counts() -> None:
    """A dependency that is away dead-letters nothing and counts no attempt."""
    parks = {fault: treatment.parks for fault, treatment in TREATMENTS.items()}
    assert [fault for fault, status in parks.items() if status is ParkedStatus.DEAD] == [
        Fault.FATAL
    ]
    assert [fault for fault, treatment in TREATMENTS.items() if treatment.counts] == [Fault.UNKNOWN]


def test_an_unknown_failure_is_tried_five_times_over_thirty_seconds() -> None:
    """The first try is the delivery's own."""
    assert sum(UNKNOWN_DELAYS_MS) == 30_000
    assert all(one < later for one, later in pairwise(UNKNOWN_DELAYS_MS))
    verdicts = [after_attempt(ParkedStatus.RETRYING, n) for n in range(1, UNKNOWN_ATTEMPTS_MAX + 1)]
    assert [one.retry_in_ms for one in verdicts[:-1]] == list(UNKNOWN_DELAYS_MS)
    assert [one.status for one in verdicts] == [ParkedStatus.RETRYING] * 4 + [ParkedStatus.DEAD]


def test_what_waits_waits_without_end() -> None:
    """Its sale may be paused for a week."""
    assert after_attempt(ParkedStatus.WAITING, 10_000).status is ParkedStatus.WAITING


def test_a_probe_comes_at_a_random_moment() -> None:
    """Full jitter: what comes back is not met by everybody at once."""
    waits = {Backoff(initial_ms=1_000, max_ms=1_000).next_wait_s() for _ in range(20)}
    assert len(waits) > 10
    assert all(0 <= wait <= 1 for wait in waits)


# ── what each does to a delivery ────────────────────────────────────────────────────────────────


def failing(world: World, error: Exception, *purchases: str) -> list[int]:
    """Let every batch with one of these fail so; answer how large the batches were."""
    sizes: list[int] = []

    async def picky(messages: Sequence[Message], *, were_parked: bool = False) -> Processed:
        sizes.append(len(messages))
        if any(f'"{one}"'.encode() in (m.body or b"") for one in purchases for m in messages):
            raise error
        return await Fulfilment.process(world.fulfilment, messages, were_parked=were_parked)

    world.fulfilment.process = picky  # type: ignore[method-assign]
    return sizes


async def delivered(world: World, *purchases: str) -> None:
    """Deliver promises, a message each."""
    sale = sale_of(world)
    messages = [world.message(promise(sale, one), at) for at, one in enumerate(purchases)]
    await world.parking.deliver(messages)


async def test_a_content_that_nothing_stores_is_dead_at_once_and_its_neighbours_go_on() -> None:
    """FATAL, found out by the database: no five tries, and the bytes are copied."""
    world = World()
    await world.sell()
    failing(world, Corrupt("unstorable", "a NUL"), "bad")
    await delivered(world, "p1", "bad", "p2", "p3")
    assert [await status(world, one) for one in ("p1", "p2", "p3")] == [("CONFIRMED", None)] * 3
    [aside] = world.witness.set_aside
    assert (aside.status, aside.reason, aside.holds_unit) == (ParkedStatus.DEAD, "unstorable", True)
    assert Alarm.UNIT_PARKED in world.witness.alarms


async def test_a_lock_in_the_way_of_one_message_sets_aside_that_one_uncounted() -> None:
    """TRANSIENT: halved down to one, which waits; it is done when the lock is gone."""
    world = World()
    await world.sell()
    sizes = failing(world, Transient(Why.DATABASE_AWAY, "a lock"), "stuck")
    await delivered(world, "p1", "p2", "stuck", "p3")
    assert sizes == [4, 2, 2, 1, 1]
    assert [await status(world, one) for one in ("p1", "p2", "p3")] == [("CONFIRMED", None)] * 3
    [aside] = world.witness.set_aside
    assert (aside.status, aside.attempts, aside.holds_unit) == (ParkedStatus.WAITING, 0, True)
    for _ in range(UNKNOWN_ATTEMPTS_MAX + 1):
        world.clock.ms += 120_000
        await world.parking.feed()
    assert (await world.database.parked.counts())[ParkedStatus.WAITING] == 1
    del world.fulfilment.process
    world.clock.ms += 120_000
    await world.parking.feed()
    assert await status(world, "stuck") == ("CONFIRMED", None)


async def test_a_lock_in_everybodys_way_is_waited_for_and_sets_nothing_aside() -> None:
    """Nothing is any message's fault: the batch is not cut into a thousand waits."""
    world = World()
    await world.sell()
    sizes = failing(world, Transient(Why.DATABASE_AWAY), *(f"p{n}" for n in range(64)))
    with pytest.raises(Transient):
        await delivered(world, *(f"p{n}" for n in range(64)))
    assert sizes == [64, 32, 32]
    assert world.witness.set_aside == []


async def test_a_lone_message_behind_a_lock_waits_in_hand() -> None:
    """No neighbour shows that it is this one's trouble."""
    world = World()
    await world.sell()
    failing(world, Transient(Why.DATABASE_AWAY), "p1")
    with pytest.raises(Transient):
        await delivered(world, "p1")
    assert world.witness.set_aside == []


@pytest.mark.parametrize("state", [SaleState.PAUSED, SaleState.HALTED])
async def test_one_sale_that_is_not_sellable_holds_up_no_other(state: SaleState) -> None:
    """SALE: its requests wait, the other's become orders."""
    world = World()
    await world.sell("1")
    await world.sell("2")
    await world.gate.set_state(SaleId("1.1"), Epoch(1), state)
    await world.parking.deliver(
        [world.message(request("a", item="1")), world.message(request("b", item="2"), 1)]
    )
    assert await status(world, "b") == ("CONFIRMED", None)
    [aside] = world.witness.set_aside
    assert (aside.status, aside.reason) == (ParkedStatus.WAITING, state.value.lower())
