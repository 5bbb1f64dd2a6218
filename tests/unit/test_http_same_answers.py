"""A purchase is answered by three ways: the short cut, raw ASGI, and the framework. All alike."""

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from flashsale_core.model import PurchaseRequest, SaleTerms
from flashsale_core.outcomes import Refused
from tests.unit.http_wire import Ways, Wire
from tests.unit.http_world import Reply, Shop, ask
from tests.unit.test_http_bad_input import GOOD_CASES, INVALID, MALFORMED, OTHERWISE, but

BODIES = 5_000
BATCH = 20
NAMES = ("short cut", "raw", "framework")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JSON = ("content-type", "application/json")
_MADE_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")

Pairs = list[tuple[str, str]]


def _rule(request: PurchaseRequest, _: SaleTerms) -> Refused | None:
    """Refuse one user, and fail for another."""
    if request.user_id == "b":
        raise ZeroDivisionError
    return Refused(code="NO", detail="Not you.") if request.user_id == "a" else None


async def _confirmed(_: object) -> None:
    """Confirm at once, and let no worker change an answer meanwhile."""


class Way:
    """One way to be answered, to a shop of its own: all of them live through the same."""

    def __init__(self, name: str) -> None:
        """Sell one unit of one item, and plenty of another, of which a user may have two."""
        self.name = name
        self.shop = Shop([_rule])
        self.shop.world.bus.publish = _confirmed  # type: ignore[method-assign,assignment]
        self.ways = Ways(self.shop)
        self._wire: Wire | None = None

    async def open(self) -> None:
        """Begin the sales; connect in this event loop."""
        self._wire = None
        await self.shop.world.sell("1", units=1)
        await self.shop.world.sell("2", units=100, per_user_limit=2)

    async def answer(
        self, body: bytes, pairs: Pairs, *, query: str = "", chunks: list[bytes] | None = None
    ) -> Reply:
        """Ask, and see that this way was taken and no other."""
        self.ways.taken.clear()
        if self.name == "short cut":
            reply = await self._by_wire(body, pairs, query, chunks)
        else:
            path = "/purchase/buy" + "/" * (self.name == "framework")
            how: dict[str, Any] = {"body": body, "headers": pairs, "chunks": chunks}
            asked = await ask(self.shop.app, "POST", path + query, **how)
            assert asked is not None
            reply = asked
        # A query is unusual: the server leaves it to the raw handler.
        assert self.ways.taken == ["raw" if query and self.name == "short cut" else self.name]
        return Reply(
            reply.status,
            [
                (name, _MADE_ID.sub(b"made", value.encode()).decode())
                for name, value in reply.headers
            ],
            _MADE_ID.sub(b"made", reply.body),
        )

    async def _by_wire(
        self, body: bytes, pairs: Pairs, query: str, chunks: list[bytes] | None
    ) -> Reply:
        if self._wire is None or self._wire.is_closing():
            self._wire = Wire(self.shop.app)
        head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        if chunks is None:
            head += f"content-length: {len(body)}\r\n"
        else:
            head += "transfer-encoding: chunked\r\n"
            body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
        line = f"POST /purchase/buy{query} HTTP/1.1\r\n"
        self._wire.send(f"{line}{head}\r\n".encode("latin-1") + body)
        [reply] = await self._wire.answers()
        return reply


async def alike(ways: list[Way], body: bytes, pairs: Pairs, **how: Any) -> Reply:
    """Ask by each way, and compare status, headers in their order, and body."""
    first, *others = [await way.answer(body, pairs, **how) for way in ways]
    for way, other in zip(ways[1:], others, strict=True):
        assert first == other, (way.name, body, pairs)
    told = [way.shop.listener.answers[-1][0] for way in ways]
    assert len(set(told)) == 1, (told, body, pairs)
    return first


async def _opened(ways: list[Way]) -> list[Way]:
    for way in ways:
        await way.open()
    return ways


def _ways() -> list[Way]:
    return [Way(name) for name in NAMES]


@pytest.fixture(scope="module")
def shared() -> list[Way]:
    """Three ways for all cases: whatever one of them leaves behind, it leaves to each."""
    return _ways()


@pytest.mark.parametrize(
    "case", [*MALFORMED, *INVALID, *GOOD_CASES, *OTHERWISE], ids=lambda case: case
)
async def test_every_case_of_bad_input_is_answered_alike_by_all_three_ways(
    shared: list[Way], case: str
) -> None:
    """Byte for byte: the tables of `test_http_bad_input`, and what is good at the limit."""
    how: dict[str, Any] = dict(OTHERWISE[case][2]) if case in OTHERWISE else {}
    if case in MALFORMED:
        how["body"] = MALFORMED[case]
    elif case in INVALID:
        how["body"] = INVALID[case][0]
    elif case in GOOD_CASES:
        how["body"] = GOOD_CASES[case]
    pairs = list(how.pop("headers", dict([JSON])).items())
    reply = await alike(await _opened(shared), how.pop("body", b""), pairs, **how)
    assert (reply.status >= 400) or case in GOOD_CASES


@pytest.mark.parametrize(
    "pairs",
    [
        *([("content-type", kind)] for kind in ("Application/JSON", "application/json;charset=x")),
        [JSON, ("content-type", "text/plain")],
        *([JSON, ("content-encoding", coding)] for coding in ("identity", "GZIP", "")),
        *([JSON, ("idempotency-key", key)] for key in ("p", '"p"', "q", "", '"', "a b", "\xe4")),
        [JSON, ("idempotency-key", "p"), ("idempotency-key", '"p"')],
        [JSON, ("idempotency-key", "p"), ("Idempotency-Key", "q")],
        *([JSON, ("traceparent", trace)] for trace in (TRACE, "x", "")),
        [JSON, *((f"x-{number}", "y") for number in range(50))],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "body", [but(), but(productId=2, quantity=3), b'{"userId":9,"productId":2}']
)
async def test_every_form_of_a_header_is_answered_alike_by_all_three_ways(
    shared: list[Way], pairs: Pairs, body: bytes
) -> None:
    """Media types, codings, keys that come twice, traces; twice, as a retry does."""
    ways = await _opened(shared)
    for _ in range(2):
        await alike(ways, body, pairs)


# ── any bytes ───────────────────────────────────────────────────────────────────────────────

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), _SCALARS)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "userId": st.sampled_from([1, 2, 3, "a", "b", "c", "u" * 64]),
    "productId": st.sampled_from([1, 2, "1", "2", 3]),
    "quantity": st.sampled_from([1, 1, 2, 3, 2**31 - 1]),
    "purchaseId": st.sampled_from(["p", "q", 7, "7", "r" * 64]),
    "source": st.sampled_from(["WEB", "MOBILE", "API"]),
    "paymentToken": st.text(min_size=1, max_size=8),
}
_ODD = st.sampled_from(
    [0, -1, 2**31, 2**63, 10**40, 1.0, 1e300, float("nan"), "", "a b", "\0", "\ud800", None, True]
)


@st.composite
def _purchases(draw: st.DrawFn) -> bytes:
    """Write a purchase that is good, or nearly."""
    optional = draw(st.lists(st.sampled_from(list(_FIELDS)[2:]), unique=True, max_size=4))
    members = [(name, draw(_FIELDS[name])) for name in ("userId", "productId", *optional)]
    spoilt = draw(st.sampled_from(["no", "no", "no", "value", "again", "name", "gone", "escape"]))
    at = draw(st.integers(0, len(members) - 1))
    name, value = members[at]
    if spoilt == "value":
        members[at] = (name, draw(_ODD | _VALUES))
    elif spoilt == "again":
        members.append((name, draw(st.just(value) | _ODD)))
    elif spoilt == "name":
        members[at] = (draw(st.sampled_from(["x", name.upper(), name + " ", "\xe9"])), value)
    elif spoilt == "gone":
        del members[at]
    pairs = [f"{json.dumps(one)}:{json.dumps(other)}" for one, other in members]
    text = "{" + draw(st.sampled_from([",", ", ", " ,\n"])).join(pairs) + "}"
    if spoilt == "escape":
        text = text.replace("I", "\\u0049", 1)
    return text.encode()


@st.composite
def _torn(draw: st.DrawFn) -> bytes:
    """Tear a purchase, or put bytes into it."""
    body = draw(_purchases())
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=4)) + body[at + draw(st.integers(0, 9)) :]


_BODIES = st.one_of(
    _purchases(),
    _purchases(),
    _torn(),
    st.binary(max_size=40),
    _VALUES.map(lambda value: json.dumps(value).encode()),
)
_HEADERS = st.sampled_from(
    [
        *[[JSON]] * 8,
        [],
        [("content-type", "application/json; charset=UTF-8")],
        [("content-type", "text/json")],
        [JSON, ("content-encoding", "br")],
        [JSON, ("idempotency-key", '"p"')],
        [JSON, ("idempotency-key", "s")],
        [JSON, ("idempotency-key", "no key")],
        [JSON, ("traceparent", TRACE)],
        [JSON, ("traceparent", "00-x")],
        [JSON, ("origin", "https://other.example"), ("user-agent", "x")],
    ]
)
_REQUESTS = st.lists(st.tuples(_BODIES, _HEADERS), min_size=BATCH, max_size=BATCH)


async def test_five_thousand_bodies_are_answered_alike_by_all_three_ways() -> None:
    """Whatever comes, in whatever state of the sale: sold out, limited, replayed, refused."""
    statuses: dict[int, int] = {}

    @settings(
        max_examples=BODIES // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_REQUESTS)
    def ask_for(batch: list[tuple[bytes, Pairs]]) -> None:
        asked.extend(batch)

    asked: list[tuple[bytes, Pairs]] = []
    ask_for()
    assert len(asked) >= BODIES
    ways = await _opened(_ways())
    for count, (body, pairs) in enumerate(asked):
        if count % 500 == 499:
            # Everything anew, so that not all ends as sold out; and the memory of it runs out.
            ways = await _opened(_ways())
        for way in ways:
            way.shop.world.clock.ms += 7
        with capture_logs():  # A person's form of a traceback takes a tenth of a second.
            reply = await alike(ways, body, pairs)
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
    assert statuses.keys() >= {200, 400, 404, 409, 415, 422, 429, 500}, statuses
