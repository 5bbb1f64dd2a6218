"""Bad input at the HTTP door: every case has a name, one clear answer by both ways, and no unit."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flashsale.http.asking import read_body
from flashsale.http.problems import ProblemRaised
from flashsale.http.reading import DEPTH_MAX, read_buy
from flashsale.http.wire import BuyBody
from tests.unit.http_world import Reply, Shop, ask

GOOD = {"userId": 101, "productId": 1, "purchaseId": "p"}


def but(**changes: Any) -> bytes:
    """Write a good purchase with other values."""
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    """Write a good purchase without a field."""
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def padded(size: int) -> bytes:
    """Write a good purchase of exactly so many bytes."""
    body = but()
    return body[:-1] + b" " * (size - len(body)) + b"}"


MALFORMED = {
    "empty": b"",
    "only white space": b" \r\n\t",
    "not JSON": b"userId=101&productId=1",
    "cut off": but()[:-1],
    "two documents": but() + but(),
    "two documents in lines": but() + b"\n" + but(),
    "trailing comma": b'{"userId":101,"productId":1,}',
    "comment": b'{"userId":101,"productId":1}//',
    "single quotes": b"{'userId':101,'productId':1}",
    "NaN": b'{"userId":NaN,"productId":1}',
    "leading zero": b'{"userId":0101,"productId":1}',
    "plus sign": b'{"userId":+101,"productId":1}',
    "array": b"[1]",
    "array of a purchase": b"[" + but() + b"]",
    "text": b'"userId"',
    "number": b"101",
    "null": b"null",
    "true": b"true",
    "byte order mark": b"\xef\xbb\xbf" + but(),
    "UTF-16": but().decode().encode("utf-16"),
    "Latin-1": b'{"userId":"\xe4","productId":1}',
    "invalid UTF-8 in an unknown field": b'{"x":"\xff","userId":101,"productId":1}',
    "overlong UTF-8": b'{"userId":"\xc0\x80","productId":1}',
    "UTF-8 of a surrogate": b'{"userId":"\xed\xa0\x80","productId":1}',
    "lone surrogate": b'{"userId":101,"productId":1,"paymentToken":"\\ud800"}',
    "lone surrogate in an unknown field": b'{"x":"\\udfff","userId":101,"productId":1}',
    "raw NUL": b'{"userId":"a\x00b","productId":1}',
    "raw control character": b'{"userId":"a\nb","productId":1}',
    "number out of range": b'{"userId":1e400,"productId":1}',
    "duplicate key": b'{"userId":1,"userId":2,"productId":1}',
    "duplicate key, equal values": b'{"userId":1,"productId":1,"productId":1}',
    "duplicate key, escaped": b'{"userId":1,"productId":1,"user\\u0049d":2}',
    "duplicate optional key": b'{"userId":1,"productId":1,"quantity":1,"quantity":2}',
    "duplicate text": b'{"userId":"a","productId":1,"userId":"a"}',
    "duplicate key below": b'{"userId":{"a":1,"a":2},"productId":1}',
    "duplicate unknown key": b'{"userId":1,"productId":1,"x":1,"x":1}',
    "deep array": b'{"userId":' + b"[" * 4000,
    "deep array, closed": b'{"userId":' + b"[" * 2000 + b"]" * 2000 + b',"productId":1}',
    "deep object": b'{"a":' * 800,
    "deep unknown field": b'{"x":' + b"[" * 2000 + b"]" * 2000 + b',"userId":1,"productId":1}',
}

INVALID = {
    "no fields": (b"{}", ["userId", "productId"]),
    "no user": (without("userId"), ["userId"]),
    "no product": (without("productId"), ["productId"]),
    "user null": (but(userId=None), ["userId"]),
    "product null": (but(productId=None), ["productId"]),
    "quantity null": (but(quantity=None), ["quantity"]),
    "purchase id null": (but(purchaseId=None), ["purchaseId"]),
    "source null": (but(source=None), ["source"]),
    "payment token null": (but(paymentToken=None), ["paymentToken"]),
    "user true": (but(userId=True), ["userId"]),
    "user array": (but(userId=[101]), ["userId"]),
    "user object": (but(userId={"id": 101}), ["userId"]),
    "user empty": (but(userId=""), ["userId"]),
    "user -5": (but(userId=-5), ["userId"]),
    "user 1.0": (but(userId=1.0), ["userId"]),
    "user 1e3": (b'{"userId":1e3,"productId":1}', ["userId"]),
    "user 2^63": (but(userId=2**63), ["userId"]),
    "user 2^200": (but(userId=2**200), ["userId"]),
    "user of 4000 digits": (b'{"userId":' + b"9" * 4000 + b',"productId":1}', ["userId"]),
    "user with NUL": (but(userId="a\0b"), ["userId"]),
    "user with braces": (but(userId="{1}"), ["userId"]),
    "user with a slash": (but(userId="a/b"), ["userId"]),
    "user with a space": (but(userId="a b"), ["userId"]),
    "user with a line's end": (but(userId="a\n"), ["userId"]),
    "user of 65 characters": (but(userId="u" * 65), ["userId"]),
    "user beyond ASCII": (but(userId="é"), ["userId"]),
    "user of another script's digits": (but(userId="\u0661"), ["userId"]),
    "user of quotes": (but(userId='""'), ["userId"]),
    "product -5": (but(productId=-5), ["productId"]),
    "product 1.0": (but(productId=1.0), ["productId"]),
    "product with braces": (but(productId="{1}"), ["productId"]),
    "product with a line's end": (but(productId="1\n"), ["productId"]),
    "product of 65 characters": (but(productId="i" * 65), ["productId"]),
    "purchase id with NUL": (but(purchaseId="\0"), ["purchaseId"]),
    "purchase id of 65 characters": (but(purchaseId="p" * 65), ["purchaseId"]),
    "purchase id -5": (but(purchaseId=-5), ["purchaseId"]),
    "quantity 0": (but(quantity=0), ["quantity"]),
    "quantity -1": (but(quantity=-1), ["quantity"]),
    "quantity 2^31": (but(quantity=2**31), ["quantity"]),
    "quantity 2^200": (but(quantity=2**200), ["quantity"]),
    "quantity 1.5": (but(quantity=1.5), ["quantity"]),
    "quantity 1.0": (but(quantity=1.0), ["quantity"]),
    "quantity text": (but(quantity="1"), ["quantity"]),
    "quantity true": (but(quantity=True), ["quantity"]),
    "source unknown": (but(source="PHONE"), ["source"]),
    "source in small letters": (but(source="web"), ["source"]),
    "source number": (but(source=0), ["source"]),
    "payment token empty": (but(paymentToken=""), ["paymentToken"]),
    "payment token of 257 characters": (but(paymentToken="t" * 257), ["paymentToken"]),
    "payment token with NUL": (but(paymentToken="a\0"), ["paymentToken"]),
    "payment token number": (but(paymentToken=1), ["paymentToken"]),
    "unknown field": (but(itemId=1), ["itemId"]),
    "field in snake case": (but(user_id=1), ["user_id"]),
    "the message's event id": (but(eventId="e"), ["eventId"]),
    "name with NUL": (but(**{"a\0": 1}), ["a field whose name is no name"]),
    "several at once": (
        b'{"userId":null,"quantity":0,"x":1}',
        ["userId", "productId", "quantity", "x"],
    ),
    "hundreds of unknown fields": (
        json.dumps({**GOOD, **{f"x{i}": 0 for i in range(300)}}).encode(),
        [f"x{i}" for i in range(20)],
    ),
}

_JSON = {"content-type": "application/json"}
OTHERWISE: dict[str, tuple[int, str, dict[str, Any]]] = {
    "body over 4 KiB": (413, "too-large", {"body": padded(4097)}),
    "body of a megabyte": (413, "too-large", {"body": b" " * 2**20}),
    "nested 100,000 deep": (413, "too-large", {"body": b"[" * 100_000}),
    "chunks over 4 KiB": (413, "too-large", {"chunks": [b" " * 1000] * 6}),
    "media type missing": (415, "unsupported-media-type", {"body": but(), "headers": {}}),
    "media type of a form": (
        415,
        "unsupported-media-type",
        {"body": but(), "headers": {"content-type": "application/x-www-form-urlencoded"}},
    ),
    "media type text": (
        415,
        "unsupported-media-type",
        {"body": but(), "headers": {"content-type": "text/plain"}},
    ),
    "media type nonsense": (
        415,
        "unsupported-media-type",
        {"body": but(), "headers": {"content-type": ";;;"}},
    ),
    "charset UTF-16": (
        415,
        "unsupported-media-type",
        {"body": but(), "headers": {"content-type": "application/json; charset=utf-16"}},
    ),
    "content coding": (
        415,
        "unsupported-media-type",
        {"body": but(), "headers": {**_JSON, "content-encoding": "gzip"}},
    ),
    "fields in the query": (422, "invalid", {"body": but(), "query": "?quantity=3"}),
}


@pytest.fixture(scope="module")
def shop() -> Shop:
    """One shop for all: nothing here may change it."""
    return Shop()


async def by_both_ways(shop: Shop, query: str = "", **how: Any) -> Reply:
    """Ask the raw handler and the framework's route; they must answer alike, byte for byte."""
    await shop.world.sell()
    how.setdefault("headers", _JSON)
    raw, framework = [
        await ask(shop.app, "POST", f"{path}{query}", **how)
        for path in ("/purchase/buy", "/purchase/buy/")
    ]
    assert raw is not None
    assert raw == framework
    assert (await shop.world.books()).records == 0
    return raw


@pytest.mark.parametrize("case", MALFORMED)
async def test_what_is_not_exactly_one_json_object_is_400(shop: Shop, case: str) -> None:
    """Syntax, encoding, depth, duplicate keys, and other values than an object."""
    reply = await by_both_ways(shop, body=MALFORMED[case])
    assert (reply.status, reply.problem) == (400, "malformed")
    assert "exactly one JSON object" in reply.json["detail"]


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ("empty", "it is empty"),
        ("two documents", "trailing characters"),
        ("array", "another JSON value"),
        ("duplicate key", "a key comes twice"),
        ("deep array", "nested too deeply"),
        ("Latin-1", "not UTF-8"),
        ("invalid UTF-8 in an unknown field", "not UTF-8"),
    ],
)
async def test_what_is_wrong_with_the_body_is_said(shop: Shop, case: str, what: str) -> None:
    """A sender finds the mistake without guessing."""
    assert what in (await by_both_ways(shop, body=MALFORMED[case])).json["detail"]


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize(
    ("inside", "problem"), [(DEPTH_MAX, "malformed"), (DEPTH_MAX - 1, "invalid")]
)
async def test_how_deep_is_too_deep_is_the_same_in_every_python(
    shop: Shop, opened: bytes, closed: bytes, inside: int, problem: str
) -> None:
    """How much each of them bears by itself has changed more than once."""
    value = opened * inside + b"1" + closed * inside
    reply = await by_both_ways(shop, body=b'{"userId":1,"productId":1,"x":' + value + b"}")
    assert reply.problem == problem


async def test_brackets_in_a_text_are_no_depth(shop: Shop) -> None:
    """Behind an escaped quote neither."""
    text = b"[" * DEPTH_MAX + b'\\"' + b"{" * DEPTH_MAX
    reply = await by_both_ways(shop, body=b'{"userId":1,"productId":1,"x":"' + text + b'"}')
    assert reply.problem == "invalid"


@pytest.mark.parametrize("case", INVALID)
async def test_an_object_that_breaks_a_rule_is_422_and_names_every_field(
    shop: Shop, case: str
) -> None:
    """All violated fields at once, in their order, each with its rule."""
    body, fields = INVALID[case]
    reply = await by_both_ways(shop, body=body)
    assert (reply.status, reply.problem) == (422, "invalid")
    assert [one["field"] for one in reply.json["violations"]] == fields
    assert all(one["problem"] for one in reply.json["violations"])


@pytest.mark.parametrize("case", OTHERWISE)
async def test_size_media_and_query_are_checked_too(shop: Shop, case: str) -> None:
    """Each with its own status."""
    status, code, how = OTHERWISE[case]
    reply = await by_both_ways(shop, **how)
    assert (reply.status, reply.problem) == (status, code)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
async def test_another_method_is_405_with_allow(shop: Shop, method: str) -> None:
    """The header says which method there is."""
    reply = await shop.ask(method, "/purchase/buy")
    assert (reply.status, reply.problem) == (405, "method-not-allowed")
    assert sorted((reply.header("allow") or "").split(", ")) == ["OPTIONS", "POST"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json ; charset=UTF-8",
    ],
)
async def test_json_in_utf_8_is_taken_however_it_is_called(shop: Shop, content_type: str) -> None:
    """Names of media types do not depend on case; UTF-8 may be said."""
    reply = await by_both_ways(
        shop, body=but(productId="none"), headers={"content-type": content_type}
    )
    assert reply.problem == "unknown-item"


GOOD_CASES = {
    "exactly 4 KiB": padded(4096),
    "user 0": but(userId=0),
    "user 2^63-1": but(userId=2**63 - 1),
    "ids of 64 characters": but(userId="u" * 64),
    "all kinds of characters": but(userId="Az09_.-"),
    "quantity 2^31-1": but(quantity=2**31 - 1),
    "payment token of 256 characters": but(paymentToken="ü" * 256),
    "payment token of quotes and escapes": but(paymentToken='\\"{\n'),
    "escaped names": b'{"user\\u0049d":101,"productId":1}',
    "white space around": b" \r\n" + but() + b"\n ",
}


@pytest.mark.parametrize("case", GOOD_CASES)
async def test_what_is_at_the_limit_is_good(shop: Shop, case: str) -> None:
    """It gets as far as the item, which is not known here."""
    good = json.loads(GOOD_CASES[case])
    body = GOOD_CASES[case].replace(b'"productId": 1', b'"productId": 2')
    body = body.replace(b'"productId":1', b'"productId":2')
    assert good["productId"] == 1
    assert (await by_both_ways(shop, body=body)).problem == "unknown-item"


async def test_no_more_is_read_than_the_limit(shop: Shop) -> None:
    """A body without end costs no memory: the rest of it is left alone."""
    endless = [b" " * 1000] * 1000
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": endless[read], "more_body": True}

    assert len(await read_body(receive)) == 4097
    assert read == 5


async def test_chunks_make_the_same_purchase(shop: Shop) -> None:
    """However the body is cut, down to single bytes."""
    body = but(productId=2)
    for size in (1, 7, len(body)):
        chunks = [body[at : at + size] for at in range(0, len(body), size)]
        reply = await by_both_ways(shop, chunks=[*chunks, b""])
        assert reply.problem == "unknown-item"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from([*BuyBody.__struct_encode_fields__, "x"])
_MEMBERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=7)


def _object(members: list[tuple[str, Any]]) -> bytes:
    text = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members)
    return f"{{{text}}}".encode()


@given(st.binary(max_size=100) | _MEMBERS.map(_object))
@example(b'{"userId":1,"productId":1,"quantity":1,"quantity":null}')
def test_any_bytes_are_a_purchase_or_a_problem_that_says_what_is_wrong(body: bytes) -> None:
    """Reading is total, and never lets a duplicate key through."""
    try:
        read_buy(body)
    except ProblemRaised as raised:
        problem = json.loads(raised.answer.body)
        assert problem["status"] in (400, 422)
        assert problem["detail"]
    else:
        names: list[str] = []
        json.loads(body, object_pairs_hook=lambda pairs: names.extend(name for name, _ in pairs))
        assert len(names) == len(set(names))


_GOOD_VALUES = {
    "userId": st.integers(0, 2**63 - 1) | st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    "productId": st.sampled_from([1, "1", "a.b"]),
    "quantity": st.integers(1, 2**31 - 1),
    "purchaseId": st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True),
    "source": st.sampled_from(["WEB", "MOBILE", "API"]),
    "paymentToken": st.text(st.characters(codec="utf-8"), min_size=1, max_size=256),
}


@given(
    st.fixed_dictionaries(
        {name: _GOOD_VALUES[name] for name in ("userId", "productId")},
        optional={name: _GOOD_VALUES[name] for name in list(_GOOD_VALUES)[2:]},
    ),
    st.booleans(),
    st.data(),
)
def test_a_good_object_is_read_and_a_repeated_key_in_it_is_not(
    members: dict[str, Any], ascii_only: bool, data: st.DataObject
) -> None:
    """The quick look at quotes misses no duplicate and takes no good purchase for one."""
    text = json.dumps(members, ensure_ascii=ascii_only)
    wire = read_buy(text.encode())
    assert wire.user_id == members["userId"]
    name = data.draw(st.sampled_from(sorted(members)))
    again = f"{text[:-1]},{json.dumps(name)}:{json.dumps(members[name])}}}"
    with pytest.raises(ProblemRaised) as raised:
        read_buy(again.encode())
    assert raised.value.answer.status == 400
