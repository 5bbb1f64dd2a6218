"""The admin's routes to messages that were set aside: look, replay, discard, one or many."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litestar import Request, get, post
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, UnsetType

from flashsale.http import problems
from flashsale.http.answers import Letter as LetterAnswer
from flashsale.http.answers import LetterAct, LetterActs, LetterProblem, Letters, WholeLetter
from flashsale.http.answers import LetterHeader as Header
from flashsale.http.answers import LetterTrail as Trail
from flashsale.http.guards import admin_only, no_body, parts_of
from flashsale.http.letter_queries import (
    ActQuery,
    EndQuery,
    FilterActQuery,
    LettersQuery,
    wanted_of,
)
from flashsale.http.openapi import (
    ADMIN_PROBLEMS,
    LETTER_IN_PATH,
    described,
    query_of,
)
from flashsale.http.problems import ProblemRaised, problem
from flashsale.http.reading import read_query
from flashsale.http.times import moment
from flashsale.http.wire import LETTER_ID_MAX, NoQuery
from flashsale_core.errors import Conflict
from flashsale_core.letter_desk import Outcome
from flashsale_core.letters import Letter, Signed, TrailEntry

LIST_DEFAULT = 50
ACT_DEFAULT = 100
"""Letters of one request: some tenths of a second; whoever wants more asks again."""

Req = Request[Any, Any, Any]


def letters_described(
    operation_id: str, summary: str, description: str, **more: Any
) -> dict[str, Any]:
    """Describe one of these routes for the document."""
    return described(
        operation_id=operation_id,
        summary=summary,
        description=description,
        tag="dead letters",
        **more,
    )


def answered(kind: Any, description: str) -> ResponseSpec:
    """Describe a route's answer."""
    return ResponseSpec(data_container=kind, generate_examples=False, description=description)


_LIST = letters_described(
    "listDeadLetters",
    "List dead letters",
    "Lists messages that were set aside, the newest first; DEAD ones unless `status` says "
    "otherwise. `before` goes on below an id.",
    parameters=query_of(LettersQuery),
    answer=answered(Letters, "Some of them, without their bytes."),
    fails=ADMIN_PROBLEMS,
)
_SHOW = letters_described(
    "showDeadLetter",
    "Show a dead letter",
    "Shows one message whole, whatever became of it, and what operators did with it.",
    parameters=[LETTER_IN_PATH],
    answer=answered(WholeLetter, "The message."),
    fails=[*ADMIN_PROBLEMS, problems.UNKNOWN_LETTER],
)
_REPLAY = letters_described(
    "replayDeadLetter",
    "Replay a dead letter",
    "Sends it through the normal gate again; a worker does so within a second. It ends REPLAYED, "
    "or DEAD again with its new reason. Safe to repeat.",
    parameters=[LETTER_IN_PATH, *query_of(ActQuery)],
    answer=answered(LetterAct, "What became of it."),
    fails=[*ADMIN_PROBLEMS, problems.UNKNOWN_LETTER, problems.LETTER_DISCARDED],
)
_DISCARD = letters_described(
    "discardDeadLetter",
    "Discard a dead letter",
    "Ends the message, and its purchase as REJECTED (DISCARDED) with its event; then its unit is "
    "free. An order that stands already is not touched, and `detail` says so. Safe to repeat.",
    parameters=[LETTER_IN_PATH, *query_of(ActQuery)],
    answer=answered(LetterAct, "What became of it."),
    fails=[*ADMIN_PROBLEMS, problems.UNKNOWN_LETTER, problems.LETTER_REPLAYED],
)


def _by_filter(verb: str) -> dict[str, Any]:
    return letters_described(
        f"{verb}DeadLetters",
        f"{verb.capitalize()} many dead letters",
        f"As for one ({verb}), for those that the filter names, the newest first, at most `limit` "
        "in one request; `next` goes on as `before`. One that cannot be is listed in `failed`.",
        parameters=query_of(FilterActQuery),
        answer=answered(LetterActs, "What became of each."),
        fails=ADMIN_PROBLEMS,
    )


@get("/dead-letters", guards=[admin_only], **_LIST)
async def list_letters(request: Req) -> Letters:
    """List what was set aside."""
    query = read_query(LettersQuery, request.scope["query_string"])
    limit = _or(query.limit, LIST_DEFAULT)
    desk, wanted = parts_of(request).letter_desk, wanted_of(query)
    found = await desk.matching(wanted, limit, before=_or(query.before, None))
    return Letters(letters=[_shown(one) for one in found], count=await desk.count(wanted))


@get("/dead-letters/{letterId:str}", guards=[admin_only], **_SHOW)
async def show_letter(request: Req) -> WholeLetter:
    """Show one."""
    read_query(NoQuery, request.scope["query_string"])
    letter, trail = await parts_of(request).letter_desk.show(_letter_id(request))
    return _whole(letter, trail)


@post(
    "/dead-letters/{letterId:str}/replay",
    status_code=200,
    guards=[admin_only, no_body],
    **_REPLAY,
)
async def replay_letter(request: Req) -> LetterAct:
    """Replay one."""
    return await _act(request, parts_of(request).letter_desk.replay)


@post(
    "/dead-letters/{letterId:str}/discard",
    status_code=200,
    guards=[admin_only, no_body],
    **_DISCARD,
)
async def discard_letter(request: Req) -> LetterAct:
    """Discard one."""
    return await _act(request, parts_of(request).discarder.discard)


@post(
    "/dead-letters/replay",
    status_code=200,
    guards=[admin_only, no_body],
    **_by_filter("replay"),
)
async def replay_letters(request: Req) -> LetterActs:
    """Replay many."""
    return await _act_on_many(request, parts_of(request).letter_desk.replay)


@post(
    "/dead-letters/discard",
    status_code=200,
    guards=[admin_only, no_body],
    **_by_filter("discard"),
)
async def discard_letters(request: Req) -> LetterActs:
    """Discard many."""
    return await _act_on_many(request, parts_of(request).discarder.discard)


_Doing = Callable[..., Awaitable[Outcome]]


async def _act(request: Req, doing: _Doing) -> LetterAct:
    query = read_query(ActQuery, request.scope["query_string"])
    return done_of(await doing(_letter_id(request), signed_by(query), is_dry=query.is_dry))


async def _act_on_many(request: Req, doing: _Doing) -> LetterActs:
    query = read_query(FilterActQuery, request.scope["query_string"])
    limit = _or(query.limit, ACT_DEFAULT)
    letters = await parts_of(request).letter_desk.matching(
        wanted_of(query), limit, before=_or(query.before, None)
    )
    done: list[LetterAct] = []
    failed: list[LetterProblem] = []
    for letter in letters:
        try:
            outcome = await doing(letter.letter_id, signed_by(query), is_dry=query.is_dry)
        except Conflict as refused:
            failed.append(
                LetterProblem(id=letter.letter_id, code=refused.code, detail=refused.detail)
            )
        else:
            done.append(done_of(outcome))
    following = letters[-1].letter_id if len(letters) == limit else None
    return LetterActs(dry_run=query.is_dry, done=done, failed=failed, next=following)


def signed_by(query: ActQuery | FilterActQuery | EndQuery) -> Signed:
    """Name whoever holds the admin's token, as they name themselves."""
    who = "admin" if query.who is UNSET else f"admin:{query.who}"
    return Signed(who=who, why="" if query.why is UNSET else query.why)


def _or(value: int | UnsetType, otherwise: Any) -> Any:
    return otherwise if value is UNSET else value


def _letter_id(request: Req) -> int:
    text = request.path_params["letterId"]
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:20]) <= LETTER_ID_MAX:
        raise ProblemRaised(problem(problems.UNKNOWN_LETTER))
    return int(text)


def done_of(outcome: Outcome) -> LetterAct:
    """Write what became of a message."""
    return LetterAct(
        id=outcome.letter_id,
        status=outcome.status,
        changed=outcome.is_changed,
        detail=outcome.detail or None,
    )


def _facts(letter: Letter) -> dict[str, Any]:
    one = letter.parked
    return {
        "id": letter.letter_id,
        "status": one.status,
        "reason": one.reason,
        "detail": one.detail or None,
        "sale_id": one.sale_id,
        "purchase_id": one.purchase_id,
        "holds_unit": one.holds_unit,
        "attempts": one.attempts,
        "channel": one.message.channel,
        "origin": one.message.origin,
        "content_type": one.message.content_type,
        "written_at": moment(one.message.written_at_ms),
        "parked_at": moment(letter.parked_at_ms),
        "changed_at": moment(letter.changed_at_ms),
    }


def _shown(letter: Letter) -> LetterAnswer:
    return LetterAnswer(**_facts(letter))


def _whole(letter: Letter, trail: Sequence[TrailEntry]) -> WholeLetter:
    message = letter.parked.message
    return WholeLetter(
        **_facts(letter),
        headers=[
            Header(name=name, value_base64=b64encode(value).decode())
            for name, value in message.headers
        ],
        key_base64=_base64(message.key),
        body_base64=_base64(message.body),
        trail=[
            Trail(
                act=entry.act,
                who=entry.signed.who,
                why=entry.signed.why or None,
                at=moment(entry.at_ms) or "",
            )
            for entry in trail
        ],
    )


def _base64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode("ascii")


LETTER_ROUTES = (
    list_letters,
    show_letter,
    replay_letter,
    discard_letter,
    replay_letters,
    discard_letters,
)
