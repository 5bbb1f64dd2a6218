"""From bytes to values: JSON bodies and queries, strictly; and what exactly is wrong with them."""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Struct

from flashsale.http.problems import MALFORMED, ProblemRaised, invalid, problem
from flashsale.http.wire import BuyBody
from flashsale_core.errors import Violation

QUERY_FIELDS_MAX = 32
"""Far more than any route knows; whoever sends more is refused before they are looked at."""
VIOLATIONS_MAX = 20
"""A body of 4 KiB has room for hundreds of unknown names; a person reads the first few."""
DEPTH_MAX = 64
"""Brackets within brackets. No body has any inside its one pair; how many Python itself bears
differs from version to version, and an answer must not."""
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

_S = TypeVar("_S", bound=Struct)
_decode_buy = msgspec.json.Decoder(BuyBody).decode


def read_buy(body: bytes) -> BuyBody:
    """Read a purchase. Raises ProblemRaised: 400 when it is not one JSON object, else 422."""
    try:
        wire = _decode_buy(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        found = _violations(BuyBody, _one_object(body))
        if not found:
            _malformed(str(wrong))
        raise ProblemRaised(invalid(*found)) from None
    # The decoder keeps the last of duplicate keys. Each member explains the quotes of its name
    # and of its text; where the body has more, a key came twice or a quote was escaped, and only
    # then is the exact and slow look worth its time.
    if body.count(b'"') != _quotes_explained(wire):
        _one_object(body)
    return wire


def _quotes_explained(wire: BuyBody) -> int:
    quotes = 4
    quotes += 2 * (type(wire.user_id) is str) + 2 * (type(wire.product_id) is str)
    if wire.quantity is not UNSET:
        quotes += 2
    if wire.purchase_id is not UNSET:
        quotes += 4 if type(wire.purchase_id) is str else 2
    if wire.source is not UNSET:
        quotes += 4
    if wire.payment_token is not UNSET:
        quotes += 4
    return quotes


def _one_object(body: bytes) -> dict[str, Any]:
    """Read exactly: one object, UTF-8, every key once. Raises ProblemRaised with what is wrong."""
    if _is_deep(body):
        _malformed("it is nested too deeply")
    try:
        # msgspec is the stricter reader of syntax, encoding and lone surrogates; the standard
        # library's is the one that shows duplicate keys.
        value = msgspec.json.decode(body)
        json.loads(body.decode(), object_pairs_hook=_each_key_once)
    except UnicodeDecodeError:
        _malformed("it is not UTF-8")
    except msgspec.DecodeError as wrong:
        _malformed("it is empty" if not body.strip() else str(wrong))
    except ValueError:
        _malformed("it is not JSON")
    if type(value) is not dict:
        _malformed("it is another JSON value than an object")
    return value


def _is_deep(body: bytes) -> bool:
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return False
    depth = 0
    for sign in _TEXT.sub(b"", body):
        depth += (sign in b"[{") - (sign in b"]}")
        if depth > DEPTH_MAX:
            return True
    return False


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _malformed("a key comes twice in one object")
    return members


def _malformed(what: str) -> NoReturn:
    raise ProblemRaised(problem(MALFORMED, f"The body must be exactly one JSON object: {what}."))


def read_query(kind: type[_S], query: bytes) -> _S:
    """Read a query into a struct: unknown and repeated names are refused.

    Raises ProblemRaised (422) with every field that is wrong.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError:
        wrong = Violation(field="query", problem="must be a few fields in percent-encoded UTF-8")
        raise ProblemRaised(invalid(wrong)) from None
    integers = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if isinstance(_bare(msgspec.inspect.type_info(field.type)), msgspec.inspect.IntType)
    }
    members: dict[str, Any] = {}
    violations = []
    for name, text in pairs:
        if name in members:
            violations.append(Violation(field=_named(name), problem="must come once"))
        members[name] = int(text) if name in integers and _INTEGER.fullmatch(text) else text
    violations += _violations(kind, members)
    if violations:
        raise ProblemRaised(invalid(*violations))
    return msgspec.convert(members, kind)


def _violations(kind: type[Struct], members: dict[str, Any]) -> list[Violation]:
    """List every field that breaks its rule, then the names that are not known."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    found = [*_broken(fields, members)]
    found += [
        Violation(field=_named(name), problem="is not known")
        for name in members
        if name not in fields
    ]
    return found[:VIOLATIONS_MAX]


def _broken(
    fields: dict[str, msgspec.structs.FieldInfo], members: dict[str, Any]
) -> Iterator[Violation]:
    for name, field in fields.items():
        if name not in members:
            if field.required:
                yield Violation(field=name, problem="is required")
            continue
        try:
            msgspec.convert(members[name], field.type)
        except msgspec.ValidationError as wrong:
            yield Violation(field=name, problem=_rule_of(field) or str(wrong))


def _rule_of(field: msgspec.structs.FieldInfo) -> str:
    described = msgspec.inspect.type_info(field.type)
    extra = described.extra if isinstance(described, msgspec.inspect.Metadata) else None
    return str((extra or {}).get("rule", ""))


def _bare(described: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Look through metadata and unions with UNSET at the one type that a query's text may be."""
    if isinstance(described, msgspec.inspect.Metadata):
        return _bare(described.type)
    if isinstance(described, msgspec.inspect.UnionType):
        return _bare(described.types[0])
    return described


def _named(name: str) -> str:
    """Repeat a name from outside only where it is harmless and short."""
    return name if _NAME.fullmatch(name) else "a field whose name is no name"
