"""Domain values to MessagePack and back, as `lua/stock_gate.lua` documents them.

Redis 7.0's cmsgpack does not read MessagePack's binary type, so everything is a string; absent
texts are empty, which no id and no token can be.
"""

from typing import Any

import msgspec

from flashsale_core.errors import Corrupt, Unavailable, Why
from flashsale_core.model import (
    Door,
    Epoch,
    GateRecord,
    PurchaseId,
    PurchaseState,
    SaleState,
    Source,
)
from flashsale_core.outcomes import (
    Closed,
    GateAnswer,
    KeyReused,
    LimitReached,
    NotOpen,
    RateLimited,
    Replayed,
    Reserved,
    SoldOut,
)
from flashsale_core.ports import Claim, GateBooks
from flashsale_core.rates import RateLimits

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode

STATE_AT = {Door.HTTP: "R", Door.OUTSIDE: "O", Door.ACCEPTED: "Q"}
RECORD_VERSION = 1
_STATE = {state.value: state for state in PurchaseState}
_TAKEN_AT = {door: _STATE[letter] for door, letter in STATE_AT.items()}
_FINAL = frozenset(state.value for state in PurchaseState if state.is_final)
_SOURCE = {source.value: source for source in Source}


def claim_row(claim: Claim) -> tuple[Any, ...]:
    """Write a claim as `reserve` reads it."""
    request = claim.request
    return (
        request.purchase_id,
        request.user_id,
        request.quantity,
        request.requested_at_ms,
        request.source.value,
        request.event_id or "",
        request.payment_token or "",
        request.traceparent or "",
        claim.refused.code if claim.refused is not None else "",
    )


def counted_row(claim: Claim) -> tuple[Any, ...]:
    """Write a claim as `reserve` reads it where it counts who asks."""
    return (*claim_row(claim), claim.address or "")


def counting(rates: RateLimits) -> tuple[int, ...]:
    """Write the limits as `reserve` reads them."""
    return rates.per_user, rates.per_address, rates.window_ms, rates.fields_max


def record_row(record: GateRecord) -> tuple[Any, ...]:
    """Write a record as `load` reads it."""
    return (
        record.purchase_id,
        record.state.value,
        record.quantity,
        record.user_id,
        record.requested_at_ms,
        record.accepted_at_ms,
        record.source.value,
        record.event_id or "",
        record.payment_token or "",
        record.traceparent or "",
        record.reason or "",
    )


def record_of(purchase_id: PurchaseId, row: list[Any]) -> GateRecord:
    """Read a stored record. Raises Corrupt on another version's."""
    version, state, quantity, user, *rest = row
    if version != RECORD_VERSION:
        raise Corrupt("record-version", f"{purchase_id}: version {version}")
    if state in _FINAL:
        return GateRecord(
            purchase_id=purchase_id,
            state=_STATE[state],
            user_id=user,
            quantity=quantity,
            reason=rest[0] or None,
        )
    epoch, requested, accepted, source, event_id, token, traceparent = rest
    return GateRecord(
        purchase_id=purchase_id,
        state=_STATE[state],
        user_id=user,
        quantity=quantity,
        epoch=epoch,
        requested_at_ms=requested,
        accepted_at_ms=accepted,
        source=_SOURCE.get(source) or Source(source),
        event_id=event_id or None,
        payment_token=token or None,
        traceparent=traceparent or None,
    )


def answer_of(  # noqa: C901, PLR0911 - one return an answer
    claim: Claim, door: Door, epoch: Epoch, row: list[Any]
) -> GateAnswer | Unavailable:
    """Read one answer of `reserve`. What was just taken is what was asked: it is not sent back."""
    request = claim.request
    if row[0] == "T":
        # The crowd's answer, before the patterns, which cost as much as the rest.
        return Reserved(
            record=GateRecord(
                purchase_id=request.purchase_id,
                state=_TAKEN_AT[door],
                user_id=request.user_id,
                quantity=request.quantity,
                epoch=epoch,
                accepted_at_ms=row[1],
                requested_at_ms=request.requested_at_ms,
                source=request.source,
                event_id=request.event_id,
                payment_token=request.payment_token,
                traceparent=request.traceparent,
            )
        )
    match row:
        case ["S", available]:
            return SoldOut(available=available)
        case ["P", record]:
            return Replayed(record=record_of(request.purchase_id, record))
        case ["K"]:
            return KeyReused()
        case ["M", retry_after_ms]:
            return RateLimited(retry_after_ms=retry_after_ms)
        case ["L", limit, held]:
            return LimitReached(limit=limit, held=held)
        case ["N", opens_at_ms]:
            return NotOpen(opens_at_ms=opens_at_ms)
        case ["C"]:
            return Closed()
        case ["F"] if claim.refused is not None:
            return claim.refused
        case ["U", state]:
            return Unavailable(Why.PAUSED if state == SaleState.PAUSED else Why.HALTED)
        case _:
            raise Corrupt("gate-answer", f"the gate answered {row!r}")


def books_of(row: list[Any]) -> GateBooks:
    """Read the counts; conservation, asserted in the script, is asserted here again."""
    state, initial, available, reserved, outside, queued, sold, *counts = row
    records, users, journal, due, accepted = counts
    if initial != available + reserved + outside + queued + sold:
        raise Corrupt("not-conserved", f"the gate's counts do not add up: {row!r}")
    return GateBooks(
        state=SaleState(state),
        initial=initial,
        available=available,
        reserved=reserved,
        outside=outside,
        queued=queued,
        sold=sold,
        records=records,
        users=users,
        journal=journal,
        oldest_due_ms=due if due >= 0 else None,
        oldest_accepted_ms=accepted if accepted >= 0 else None,
    )


def books_or_why(row: list[Any]) -> GateBooks | Unavailable:
    """Read the counts; those of one sale that do not add up are that sale's trouble alone."""
    try:
        return books_of(row)
    except Corrupt as wrong:
        return Unavailable(Why.HALTED, str(wrong))


def books_row(books: GateBooks) -> tuple[Any, ...]:
    """Write expected counts as `arm` compares them."""
    return (
        books.state.value,
        books.initial,
        books.available,
        books.reserved,
        books.outside,
        books.queued,
        books.sold,
        books.records,
        books.users,
        books.journal,
    )
