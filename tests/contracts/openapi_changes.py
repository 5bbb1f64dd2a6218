"""What breaks a client of one OpenAPI document that meets a server of the next.

A request that was valid must stay valid; an answer must stay one that an old client can read. So
each schema is asked whether it is part of another: in requests the old one of the new, in answers
the new one of the old. A keyword that is not known here is an error and never passed over.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

Json = dict[str, Any]
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
ANNOTATIONS: Final = frozenset(
    {"title", "description", "examples", "example", "default", "deprecated", "$comment"}
)
JUDGED: Final = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "pattern", "format", "items", "properties"}
    | {"required", "additionalProperties", "minimum", "maximum", "minLength", "maxLength"}
    | {"minItems", "maxItems", "$ref"}
)
FORM: Final = ("style", "explode", "allowReserved")
"""How a parameter is written into a URL or header."""
LOW: Final = ("minimum", "minLength", "minItems")
HIGH: Final = ("maximum", "maxLength", "maxItems")
NUMBERS: Final = {"integer": {"integer", "number"}, "number": {"number"}}
JSON_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Say each way in which the new document breaks a promise of the old one."""
    found: list[str] = []
    for path, methods in old["paths"].items():
        for method in (method for method in methods if method in METHODS):
            place = f"{method.upper()} {path}"
            there = new["paths"].get(path, {}).get(method)
            if there is None:
                found.append(f"{place}: is gone")
            else:
                then = _whole(old, methods, methods[method])
                now = _whole(new, new["paths"][path], there)
                found += _operation(_Pair(old, new), then, now, place)
    return found


def schema_changes(old: Json, new: Json, place: str, *, is_answer: bool) -> list[str]:
    """Compare two schemas without references: of what we write, or of what we read."""
    pair = _Pair({}, {})
    return list((pair.answer if is_answer else pair.request)(old, new, place))


def _whole(document: Json, path: Json, operation: Json) -> Json:
    """Give an operation what its path and its document say for it."""
    inherited = {
        "security": document.get("security") or [],
        "servers": path.get("servers") or document.get("servers") or [{"url": "/"}],
    }
    named = {**_by_name(path), **_by_name(operation)}
    return {**inherited, **operation, "parameters": list(named.values())}


def _operation(pair: "_Pair", old: Json, new: Json, place: str) -> Iterator[str]:
    yield from _credentials(pair, old["security"], new["security"], place)
    for url in [one["url"] for one in old["servers"]]:
        if url not in [one["url"] for one in new["servers"]]:
            yield f"{place}: is not at {url} any more"
    yield from _parameters(pair, old, new, place)
    yield from _body(pair, old.get("requestBody"), new.get("requestBody"), place)
    for status, answer in old.get("responses", {}).items():
        where = f"{place} → {status}"
        if status not in new.get("responses", {}):
            yield f"{where}: is gone"
        else:
            yield from _answer(pair, answer, new["responses"][status], where)


def _credentials(pair: "_Pair", old: list[Json], new: list[Json], place: str) -> Iterator[str]:
    """Whoever was let in must be let in with what they bring."""
    then, now = (_schemes(document) for document in (pair.old, pair.new))
    for brought in old or [{}]:
        known = {name for name in brought if then.get(name) == now.get(name)}
        if not any(set(asked) <= known for asked in new or [{}]):
            yield f"{place}: needs {'another' if brought else 'a'} credential now"


def _schemes(document: Json) -> Json:
    """Say what each credential is, without words about it."""
    schemes: Json = document.get("components", {}).get("securitySchemes", {})
    return {
        name: {key: value for key, value in scheme.items() if key != "description"}
        for name, scheme in schemes.items()
    }


def _parameters(pair: "_Pair", old: Json, new: Json, place: str) -> Iterator[str]:
    then, now = _by_name(old), _by_name(new)
    for name, parameter in now.items():
        if parameter.get("required") and not then.get(name, {}).get("required"):
            yield f"{place}: {' '.join(name)} is required now"
    for name, parameter in then.items():
        where = f"{place}: {' '.join(name)}"
        if name not in now:
            yield f"{where} is not taken any more"
        else:
            form, now_form = ([one.get(key) for key in FORM] for one in (parameter, now[name]))
            if form != now_form:
                yield f"{where} is written otherwise now"
            yield from pair.request(parameter["schema"], now[name]["schema"], where)


def _by_name(operation: Json) -> dict[tuple[str, str], Json]:
    return {(one["in"], one["name"]): one for one in operation.get("parameters") or ()}


def _body(pair: "_Pair", old: Json | None, new: Json | None, place: str) -> Iterator[str]:
    if new is not None and new.get("required") and not (old and old.get("required")):
        yield f"{place}: a body is required now"
    for kind, content in (old or {}).get("content", {}).items():
        if new is None or kind not in new["content"]:
            yield f"{place}: a body of {kind} is not taken any more"
        else:
            where = f"{place}: body"
            yield from pair.request(content["schema"], new["content"][kind]["schema"], where)


def _answer(pair: "_Pair", old: Json, new: Json, place: str) -> Iterator[str]:
    for name, header in (old.get("headers") or {}).items():
        there = (new.get("headers") or {}).get(name)
        if there is None:
            yield f"{place}: header {name} is gone"
            continue
        if header.get("required") and not there.get("required"):
            yield f"{place}: header {name} may be missing now"
        yield from pair.answer(header["schema"], there["schema"], f"{place}: header {name}")
    for kind, content in (old.get("content") or {}).items():
        if kind not in (new.get("content") or {}):
            yield f"{place}: is not {kind} any more"
        else:
            yield from pair.answer(content["schema"], new["content"][kind]["schema"], place)


@attrs.frozen
class _Pair:
    """Two documents, in whose components references are looked up."""

    old: Json
    new: Json

    def request(self, old: Json, new: Json, place: str) -> Iterator[str]:
        """What was valid must be valid."""
        return _Part(self.old, self.new, is_answer=False).of(old, new, place)

    def answer(self, old: Json, new: Json, place: str) -> Iterator[str]:
        """What may come now must be what might come before, and nothing may be missing."""
        return _Part(self.new, self.old, is_answer=True).of(new, old, place)


@attrs.frozen
class _Part:
    """Whether every value of a schema (`part`) is one of another (`whole`)."""

    parts: Json
    wholes: Json
    is_answer: bool

    def of(self, part: Json, whole: Json, place: str) -> Iterator[str]:
        """Say why it is not; the words are those of the newer document's reader."""
        part, whole = _resolved(part, self.parts), _resolved(whole, self.wholes)
        for branches in (name for name in ("anyOf", "oneOf") if name in part):
            rest = {name: value for name, value in part.items() if name != branches}
            for branch in part[branches]:
                yield from self.of({**rest, **_resolved(branch, self.parts)}, whole, place)
            return
        for branches in (name for name in ("anyOf", "oneOf") if name in whole):
            rest = {name: value for name, value in whole.items() if name != branches}
            tried = [
                list(self.of(part, {**rest, **_resolved(branch, self.wholes)}, place))
                for branch in whole[branches]
            ]
            if all(tried):
                yield min(tried, key=len)[0]
            return
        yield from self._type(part, whole, place)
        yield from self._values(part, whole, place)
        yield from self._limits(part, whole, place)
        yield from self._object(part, whole, place)
        if "items" in whole:
            yield from self.of(part.get("items", {}), whole["items"], f"{place}[]")

    def _type(self, part: Json, whole: Json, place: str) -> Iterator[str]:
        allowed = _types(whole)
        ours = _types(part)
        if allowed is None:
            return
        if ours is None or any(not NUMBERS.get(one, {one}) & allowed for one in ours):
            yield f"{place}: {self._changed(_shown(ours), _shown(allowed))}"

    def _changed(self, part: str, whole: str) -> str:
        then, now = (whole, part) if self.is_answer else (part, whole)
        return f"{then} became {now}"

    def _values(self, part: Json, whole: Json, place: str) -> Iterator[str]:
        allowed, ours = _enumerated(whole), _enumerated(part)
        if allowed is not None:
            surplus = None if ours is None else [one for one in ours if one not in allowed]
            if surplus is None or surplus:
                verb = "may come now" if self.is_answer else "is not taken any more"
                yield f"{place}: {_listed(surplus)} {verb}"
        for keyword in ("pattern", "format"):
            wanted = whole.get(keyword)
            if wanted is None or part.get(keyword) == wanted:
                continue
            if keyword == "pattern" and ours and all(re.search(wanted, str(one)) for one in ours):
                continue
            yield f"{place}: {keyword} {self._changed(str(part.get(keyword)), wanted)}"
        default, wanted = part.get("default"), whole.get("default")
        if not self.is_answer and default != wanted:
            yield f"{place}: default {self._changed(str(default), str(wanted))}"

    def _limits(self, part: Json, whole: Json, place: str) -> Iterator[str]:
        if _enumerated(part) is not None:
            return
        for keyword in (*LOW, *HIGH):
            limit, ours = whole.get(keyword), part.get(keyword)
            if limit is None:
                continue
            is_inside = ours is not None and (ours >= limit if keyword in LOW else ours <= limit)
            if not is_inside:
                yield f"{place}: {keyword} {self._changed(str(ours), str(limit))}"

    def _object(self, part: Json, whole: Json, place: str) -> Iterator[str]:
        ours, allowed = part.get("properties", {}), whole.get("properties", {})
        missing = set(whole.get("required", ())) - set(part.get("required", ()))
        verb = "may be missing now" if self.is_answer else "is required now"
        gone = {name for name in allowed if name not in ours} if self.is_answer else set()
        for name in sorted(missing - gone):
            yield f"{place}.{name}: {verb}"
        for name in sorted(gone):
            yield f"{place}.{name}: is gone"
        others = whole.get("additionalProperties", True)
        for name, schema in ours.items():
            if name in allowed:
                yield from self.of(schema, allowed[name], f"{place}.{name}")
            elif others is False:
                verb = "may come now" if self.is_answer else "is not taken any more"
                yield f"{place}.{name}: {verb}"
            elif others is not True:
                yield from self.of(schema, others, f"{place}.{name}")
        yield from self._others(part, others, place)

    def _others(self, part: Json, allowed: Any, place: str) -> Iterator[str]:
        ours = part.get("additionalProperties", True)
        if allowed is True or ours is False:
            return
        if isinstance(allowed, dict) and isinstance(ours, dict):
            yield from self.of(ours, allowed, f"{place}.*")
        elif "properties" in part or _types(part) == {"object"}:
            verb = "may come now" if self.is_answer else "are not taken any more"
            yield f"{place}: other fields {verb}"


def _resolved(schema: Json, document: Json) -> Json:
    unknown = set(schema) - JUDGED - ANNOTATIONS
    if unknown:
        raise NotImplementedError(f"nobody judges {', '.join(sorted(unknown))} here yet")
    if "$ref" not in schema:
        return schema
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    rest = {name: value for name, value in schema.items() if name != "$ref"}
    return {**_resolved(found, document), **rest}


def _types(schema: Mapping[str, Any]) -> set[str] | None:
    """Name the JSON types that a schema admits; None for any."""
    if "type" in schema:
        told = schema["type"]
        return {told} if isinstance(told, str) else set(told)
    values = _enumerated(schema)
    return None if values is None else {JSON_TYPES.get(type(one), "null") for one in values}


def _enumerated(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _shown(types: set[str] | None) -> str:
    return "anything" if types is None else " or ".join(sorted(types))


def _listed(values: list[Any] | None) -> str:
    return "any value" if values is None else ", ".join(map(str, values))
