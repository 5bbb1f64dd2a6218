"""The hot path: `POST /purchase/buy` as a raw ASGI handler, and the one function that answers it.

The framework's route answers through the same function, so both ways are alike byte for byte.
"""

from collections.abc import Coroutine
from typing import Any, assert_never
from urllib.parse import quote

import msgspec
import structlog
import uuid_utils
from msgspec import UNSET

from flashsale.http import problems
from flashsale.http.answers import Accepted
from flashsale.http.asking import BODY_BYTES_MAX, Disconnected, TooSlow, read_body
from flashsale.http.parts import HttpParts, RawHeaders, Receive, Scope, Send
from flashsale.http.problems import (
    Answer,
    ProblemRaised,
    as_http,
    invalid,
    problem,
    retry_after,
)
from flashsale.http.reading import read_buy
from flashsale.http.times import written
from flashsale.http.tracing import traced, traceparent_of
from flashsale.http.wire import ID_RULE, BuyBody
from flashsale_core import outcomes
from flashsale_core.errors import Invalid, Unavailable, Violation, Why
from flashsale_core.model import (
    IDENTIFIER,
    Door,
    ItemId,
    PurchaseId,
    PurchaseRequest,
    Source,
    UserId,
)
from flashsale_core.validation import well_formed

ROOT_PATH = "flashsale.root_path"
"""Under this key of the scope handlers find the prefix that the whole application is mounted at."""
IN_FLIGHT_MAX = 10_000
"""Beyond this many at once nobody would be answered within the promise's 0.8 s."""
RETRY_UNKNOWN_MS = 1_000
"""By then the confirm has come, or the sweeper will have published again soon."""

_log = structlog.get_logger("flashsale.http")
_CROWDS_ANSWERS = frozenset({"accepted", "sold-out", "rate-limited"})
"""They write no line, so nothing is looked up for one."""


class BuyHandler:
    """Answers purchases."""

    def __init__(self, parts: HttpParts) -> None:
        """Take the use case, the clock and the observer."""
        self._buy = parts.purchase_desk.buy
        self._remembered = parts.purchase_desk.remembered
        self._now_ms = parts.clock.now_ms
        self._answered = parts.observer.answered
        self._address_of = parts.address_of
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request by ASGI; the caller has checked path and method."""
        headers: RawHeaders = scope["headers"]
        try:
            body = await read_body(receive)
        except Disconnected:
            return
        except TooSlow:
            await send_answer(self.too_slow(headers), send)
            return
        root_path = scope.get(ROOT_PATH) or scope.get("root_path", "")
        begun = self.begin(body, headers, scope, scope["query_string"], root_path)
        await send_answer(begun if isinstance(begun, Answer) else await begun, send)

    def begin(
        self,
        body: bytes,
        headers: RawHeaders,
        scope: Scope,
        query: bytes = b"",
        root_path: str = "",
    ) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer what needs no gate, else say what to await; neither ever raises.

        `scope` says where the request came from (`client`, `headers`).
        """
        try:
            request, is_named = self._read(body, headers, query)
            remembered = None if is_named else self._remembered(request)
            if remembered is None:
                self._in_flight += 1
                return self._bought(request, headers, scope, root_path)
            answer = _written(remembered, request, root_path)
        except ProblemRaised as raised:
            answer = raised.answer
        except Unavailable as away:
            answer = _unavailable(away, None)
        except Exception:  # noqa: BLE001 - the last line before the server's own
            answer = _internal(headers, None)
        self._tell(answer, headers, None)
        return answer

    async def _bought(
        self, request: PurchaseRequest, headers: RawHeaders, scope: Scope, root_path: str
    ) -> Answer:
        purchase_id = request.purchase_id
        try:
            address = self._address_of(scope) if self._address_of is not None else None
            answer = _written(await self._buy(request, address), request, root_path)
        except Unavailable as away:
            answer = _unavailable(away, purchase_id)
        except Exception:  # noqa: BLE001 - the last line before the server's own
            answer = _internal(headers, purchase_id)
        finally:
            self._in_flight -= 1
        self._tell(answer, headers, purchase_id)
        return answer

    def too_slow(self, headers: RawHeaders) -> Answer:
        """Answer a request whose body did not arrive."""
        answer = problem(problems.REQUEST_TIMEOUT, headers=[(b"connection", b"close")])
        self._tell(answer, headers, None)
        return answer

    def _tell(self, answer: Answer, headers: RawHeaders, purchase_id: PurchaseId | None) -> None:
        """Tell the observer, whose line about a fault shows whose request it was."""
        if answer.code in _CROWDS_ANSWERS:
            self._answered(Door.HTTP, answer.code, purchase_id)
            return
        with traced(headers):
            self._answered(Door.HTTP, answer.code, purchase_id or _named_by(headers))

    def _read(self, body: bytes, headers: RawHeaders, query: bytes) -> tuple[PurchaseRequest, bool]:
        """Read a purchase, and whether it brought its own id."""
        if self._in_flight >= IN_FLIGHT_MAX:
            raise Unavailable(Why.OVERLOADED)
        named = dict(headers)
        if len(body) > BODY_BYTES_MAX:
            raise ProblemRaised(problem(problems.TOO_LARGE))
        _check_media(named)
        if query:
            raise ProblemRaised(
                invalid(Violation(field="query", problem="must be empty; the body has the fields"))
            )
        wire = read_buy(body)
        trace = traceparent_of(headers) if b"traceparent" in named else None
        is_named = wire.purchase_id is not UNSET or b"idempotency-key" in named
        purchase_id = _purchase_id(wire, named, headers)
        return _request(wire, purchase_id, trace, self._now_ms()), is_named


def _check_media(named: dict[bytes, bytes]) -> None:
    media = named.get(b"content-type", b"")
    if media != b"application/json":
        essence, _, parameters = media.lower().partition(b";")
        charset = parameters.strip().removeprefix(b"charset=").strip(b'" ')
        if essence.strip() != b"application/json" or charset not in (b"", b"utf-8"):
            raise ProblemRaised(
                problem(problems.UNSUPPORTED_MEDIA_TYPE, headers=[(b"accept", b"application/json")])
            )
    if named.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise ProblemRaised(
            problem(problems.UNSUPPORTED_MEDIA_TYPE, headers=[(b"accept-encoding", b"identity")])
        )


def _purchase_id(wire: BuyBody, named: dict[bytes, bytes], headers: RawHeaders) -> str:
    """Find the purchase's name in body and header, or make one."""
    in_body = None if wire.purchase_id is UNSET else str(wire.purchase_id)
    if b"idempotency-key" not in named:
        return in_body if in_body is not None else str(uuid_utils.uuid7())
    keys = {_unquoted(value) for name, value in headers if name == b"idempotency-key"}
    [key, *others] = keys
    if others:
        raise _wrong_key("must come once")
    if not IDENTIFIER.fullmatch(key):
        raise _wrong_key(f"{ID_RULE}, quoted or bare")
    if in_body is not None and in_body != key:
        raise _wrong_key("must not differ from purchaseId")
    return key


def _named_by(headers: RawHeaders) -> PurchaseId | None:
    """Find the id that a refused request brought where it can be read without its body."""
    keys = (_unquoted(value) for name, value in headers if name == b"idempotency-key")
    key = next(keys, "")
    return PurchaseId(key) if IDENTIFIER.fullmatch(key) else None


def _wrong_key(what: str) -> ProblemRaised:
    return ProblemRaised(invalid(Violation(field="Idempotency-Key", problem=what)))


def _unquoted(value: bytes) -> str:
    text = value.strip().decode("latin-1")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text


def _request(
    wire: BuyBody, purchase_id: str, traceparent: str | None, now_ms: int
) -> PurchaseRequest:
    try:
        return well_formed(
            purchase_id=PurchaseId(purchase_id),
            user_id=UserId(str(wire.user_id)),
            item_id=ItemId(str(wire.product_id)),
            quantity=1 if wire.quantity is UNSET else wire.quantity,
            requested_at_ms=now_ms,
            source=Source.API if wire.source is UNSET else wire.source,
            payment_token=None if wire.payment_token is UNSET else wire.payment_token,
            traceparent=traceparent,
        )
    except Invalid as wrong:
        raise ProblemRaised(invalid(*as_http(wrong))) from None


def _internal(headers: RawHeaders, purchase_id: PurchaseId | None) -> Answer:
    with traced(headers):
        _log.exception("buy failed", purchase_id=purchase_id)
    return problem(problems.INTERNAL)


_SOLD_OUT = problem(problems.SOLD_OUT, available=0)


def _written(  # noqa: C901, PLR0911 - one arm an outcome
    answer: outcomes.BuyAnswer, request: PurchaseRequest, root_path: str
) -> Answer:
    """Write the answer of the use case: every outcome, once."""
    match answer:
        case outcomes.Accepted():
            return _accepted(answer, request, root_path)
        case outcomes.SoldOut(available=available):
            # The crowd's answer: its bytes are made once.
            return _SOLD_OUT if available == 0 else problem(problems.SOLD_OUT, available=available)
        case outcomes.LimitReached(limit=limit, held=held):
            return problem(problems.LIMIT_REACHED, limit=limit, held=held)
        case outcomes.Ended(purchase_id=purchase_id, reason=reason):
            return problem(problems.PURCHASE_ENDED, purchaseId=purchase_id, reason=reason)
        case outcomes.NotOpen(opens_at_ms=opens_at_ms):
            return problem(problems.NOT_OPEN, opensAt=written(opens_at_ms))
        case outcomes.Closed():
            return problem(problems.CLOSED)
        case outcomes.UnknownItem():
            return problem(problems.UNKNOWN_ITEM)
        case outcomes.KeyReused():
            return problem(problems.KEY_REUSED, purchaseId=request.purchase_id)
        case outcomes.RateLimited(retry_after_ms=wait_ms):
            return problem(problems.RATE_LIMITED, headers=retry_after(wait_ms))
        case outcomes.Refused(code=code, detail=detail):
            return problem(problems.REFUSED, detail or None, code=code)
        case outcomes.OutcomeUnknown(purchase_id=purchase_id):
            wait = retry_after(RETRY_UNKNOWN_MS)
            return problem(problems.OUTCOME_UNKNOWN, headers=wait, purchaseId=purchase_id)
    assert_never(answer)


def _accepted(answer: outcomes.Accepted, request: PurchaseRequest, root_path: str) -> Answer:
    body = msgspec.json.encode(
        Accepted(
            purchase_id=answer.purchase_id,
            status="CONFIRMED" if answer.is_sold else "ACCEPTED",
            sale_id=answer.sale_id,
            product_id=request.item_id,
            quantity=request.quantity,
        )
    )
    prefix = quote(root_path) if root_path else ""
    location = f"{prefix}/purchase/{answer.purchase_id}?saleId={answer.sale_id}"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"location", location.encode()),
    ]
    return Answer(200, headers, body, "accepted")


def _unavailable(away: Unavailable, purchase_id: PurchaseId | None) -> Answer:
    members = {} if purchase_id is None else {"purchaseId": purchase_id}
    if away.may_have_happened:
        wait = retry_after(RETRY_UNKNOWN_MS)
        return problem(problems.OUTCOME_UNKNOWN, headers=wait, **members)
    wait = retry_after(away.retry_after_ms)
    return problem(problems.UNAVAILABLE, headers=wait, reason=away.why.value, **members)


async def send_answer(answer: Answer, send: Send) -> None:
    """Send a finished answer."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})
