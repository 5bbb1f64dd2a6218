"""How calls of any size are cut into what one FCALL and one round trip may hold, and put together.

An FCALL is atomic, so a piece is; what pieces have done stays, and is a replay when asked again.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from flashsale_core.errors import Unavailable, Why
from flashsale_core.ports import ClaimBatch, FollowBatch, GateReply
from flashsale_redis.wire import Command

CLAIMS_MAX = 2_000
"""Purchases of one FCALL: Lua unpacks at most some 8,000 values, and nobody else runs meanwhile."""
ROUND_MAX = 2 * CLAIMS_MAX
"""Purchases of one round trip: some 60 ms, so that what is longer does not miss the deadline, the
same each time it is tried again."""


def as_unsure(away: Unavailable) -> Unavailable:
    """Say the same, where a part of what was asked has been done."""
    return Unavailable(
        away.why,
        away.detail,
        retry_after_ms=away.retry_after_ms,
        may_have_happened=True,
        was_refused=away.was_refused,
    )


def first_away(answers: Sequence[object]) -> Unavailable | None:
    """Return what a server and not a sale has refused; what may have happened before all else."""
    away = [one for one in answers if isinstance(one, Unavailable) and one.why is Why.GATE_AWAY]
    return next((one for one in away if one.may_have_happened), away[0] if away else None)


def if_all_away(answers: Sequence[object]) -> Unavailable | None:
    """Return what concerns the server: it refused every batch, for no reason of the sales."""
    is_any_there = any(
        not (isinstance(one, Unavailable) and one.why is Why.GATE_AWAY) for one in answers
    )
    return None if is_any_there else first_away(answers)


def in_rounds(sized: Sequence[tuple[Command, int]]) -> list[list[Command]]:
    """Share commands of so many purchases each out over round trips."""
    rounds: list[list[Command]] = []
    room = 0
    for command, size in sized:
        if not rounds or size > room:
            rounds.append([])
            room = ROUND_MAX
        rounds[-1].append(command)
        room -= size
    return rounds


def size_of(batch: FollowBatch) -> int:
    """Count the purchases that are followed."""
    return len(batch.sold) + len(batch.released)


def follow_pieces(batch: FollowBatch) -> list[FollowBatch]:
    """Cut what one FCALL could not hold."""
    if size_of(batch) <= CLAIMS_MAX:
        return [batch]
    sold = [batch.sold[i : i + CLAIMS_MAX] for i in range(0, len(batch.sold), CLAIMS_MAX)]
    ended = [batch.released[i : i + CLAIMS_MAX] for i in range(0, len(batch.released), CLAIMS_MAX)]
    return [
        *(attrs.evolve(batch, sold=ids, released=()) for ids in sold),
        *(attrs.evolve(batch, sold=(), released=pairs) for pairs in ended),
    ]


def pieces_of(batch: ClaimBatch) -> list[ClaimBatch]:
    """Cut what one FCALL should not hold; marks first."""
    if len(batch.claims) + len(batch.queued) <= CLAIMS_MAX:
        return [batch]
    claims = [batch.claims[i : i + CLAIMS_MAX] for i in range(0, len(batch.claims), CLAIMS_MAX)]
    marks = [batch.queued[i : i + CLAIMS_MAX] for i in range(0, len(batch.queued), CLAIMS_MAX)]
    return [_piece(batch, (), mark) for mark in marks] + [_piece(batch, c, ()) for c in claims]


def _piece(batch: ClaimBatch, claims: Any, queued: Any) -> ClaimBatch:
    return ClaimBatch(
        sale_id=batch.sale_id, epoch=batch.epoch, door=batch.door, claims=claims, queued=queued
    )


def rejoined(
    batches: Sequence[ClaimBatch], answers: list[GateReply | Unavailable]
) -> list[GateReply | Unavailable]:
    """Put the answers to all pieces together, an answer a batch."""
    rest = iter(answers)
    joined: list[GateReply | Unavailable] = []
    for batch in batches:
        parts = [next(rest) for _ in pieces_of(batch)]
        refused = next((part for part in parts if isinstance(part, Unavailable)), None)
        if refused is not None:
            # What another piece took stays journaled, and is a replay when asked again.
            was_begun = not all(isinstance(part, Unavailable) for part in parts)
            joined.append(as_unsure(refused) if was_begun else refused)
        else:
            joined.append([a for part in parts if not isinstance(part, Unavailable) for a in part])
    return joined
