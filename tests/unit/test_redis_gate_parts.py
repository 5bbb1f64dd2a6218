"""What the Redis gate makes of a server's replies, without a server."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from flashsale_core.errors import Unavailable, Why
from flashsale_core.model import Door, Epoch, PurchaseId, SaleId
from flashsale_core.outcomes import Reserved
from flashsale_core.ports import ClaimBatch, FollowBatch, GateBooks
from flashsale_core.testing.stock_gate import claim
from flashsale_redis import RedisStockGate
from flashsale_redis.pieces import CLAIMS_MAX, ROUND_MAX
from flashsale_redis.wire import Command, Then, Wire

TAKEN = msgspec.msgpack.encode([["T", 1_700_000_000_000]])
OOM = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
BOOKS = ["OPEN", 10, 9, 1, 0, 0, 0, 1, 1, 1, -1, -1]


class Scripted(Wire):
    """Answers each round trip with what a test prepared, and remembers the commands."""

    def __init__(self, *rounds: list[Any] | Unavailable) -> None:
        """Take one list of replies, or a fault, for every round trip."""
        self.rounds = list(rounds)
        self.seen: list[int] = []

    async def run(
        self,
        commands: Sequence[Command],
        then: Then | None = None,
        *,
        deadline_s: float | None = None,
        is_waited_for: bool = False,
    ) -> list[Any]:
        """Answer as prepared; without anything left, each command with 0."""
        assert then is None
        self.seen.append(len(commands))
        if not self.rounds:
            return [0] * len(commands)
        replies = self.rounds.pop(0)
        if isinstance(replies, Unavailable):
            raise replies
        return replies


def batch(sale: str, *purchases: str) -> ClaimBatch:
    """Claim a unit each."""
    return ClaimBatch(
        sale_id=SaleId(sale),
        epoch=Epoch(1),
        door=Door.HTTP,
        claims=tuple(claim(one) for one in purchases),
    )


async def test_a_refusal_of_one_sale_is_not_told_to_the_buyers_of_another() -> None:
    """Memory ran out between two sales of one call: what the first took was taken."""
    gate = RedisStockGate(Scripted([TAKEN, OOM]))
    taken, refused = await gate.reserve([batch("a.1", "p1"), batch("b.1", "p2")])
    assert not isinstance(taken, Unavailable)
    assert isinstance(taken[0], Reserved)
    assert isinstance(refused, Unavailable)
    assert (refused.why, refused.may_have_happened) == (Why.GATE_AWAY, False)


@pytest.mark.parametrize(("second", "unsure"), [(OOM, False), (ResponseError("ERR odd"), True)])
async def test_a_server_that_refuses_every_sale_is_away(
    second: ResponseError, *, unsure: bool
) -> None:
    """It is raised, and where one refusal leaves a doubt, all are told of it."""
    gate = RedisStockGate(Scripted([OOM, second]))
    with pytest.raises(Unavailable) as away:
        await gate.reserve([batch("a.1", "p1"), batch("b.1", "p2")])
    assert away.value.may_have_happened is unsure


async def test_a_call_that_failed_half_way_may_have_taken_units() -> None:
    """No buyer hears that nothing was taken while an earlier round trip took something."""
    ids = [f"p{n}" for n in range(ROUND_MAX + 1)]
    row = msgspec.msgpack.encode([["T", 1]] * CLAIMS_MAX)
    wire = Scripted([row, row], Unavailable(Why.GATE_AWAY, "no connection"))
    with pytest.raises(Unavailable) as away:
        await RedisStockGate(wire).reserve([batch("a.1", *ids)])
    assert away.value.may_have_happened


async def test_a_delivery_of_any_size_is_followed_in_pieces() -> None:
    """Lua unpacks some 8,000 values: in one call, a larger delivery would fail for ever."""
    wire = Scripted()
    sold = tuple(PurchaseId(f"p{n}") for n in range(9_000))
    ended = tuple((PurchaseId(f"x{n}"), "CLOSED") for n in range(3_000))
    follow = FollowBatch(sale_id=SaleId("a.1"), epoch=Epoch(1), sold=sold, released=ended)
    assert await RedisStockGate(wire).follow([follow]) == [0]
    assert wire.seen == [2, 2, 3]


async def test_what_does_not_fit_is_counted_over_all_pieces() -> None:
    """A piece of a batch is still that batch's; each batch has one number."""
    sold = tuple(PurchaseId(f"p{n}") for n in range(CLAIMS_MAX + 1))
    big = FollowBatch(sale_id=SaleId("a.1"), epoch=Epoch(1), sold=sold)
    small = FollowBatch(sale_id=SaleId("b.1"), epoch=Epoch(1), sold=sold[:1])
    unarmed = ResponseError("UNARMED fs:{b.1}:sale")
    followed = await RedisStockGate(Scripted([2, 3, unarmed])).follow([big, small])
    assert followed[0] == 5
    assert isinstance(followed[1], Unavailable)


async def test_one_sales_broken_books_hide_no_other_sales() -> None:
    """The counts of one that do not add up must not stop whoever looks at all of them."""
    broken = [*BOOKS[:2], 5, *BOOKS[3:]]
    replies = [msgspec.msgpack.encode(one) for one in (broken, BOOKS)]
    seen = await RedisStockGate(Scripted(replies)).books(
        [(SaleId("a.1"), Epoch(1)), (SaleId("b.1"), Epoch(1))]
    )
    assert isinstance(seen[0], Unavailable)
    assert seen[0].why is Why.HALTED
    assert isinstance(seen[1], GateBooks)
