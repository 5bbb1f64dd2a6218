"""The OpenAPI document: the framework generates it; what it cannot know is told here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Components,
    Example,
    Info,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.types import ControllerRouterHandler

from flashsale.http import answers, problems
from flashsale.http.answers import Problem
from flashsale.http.asking import BODY_BYTES_MAX
from flashsale.http.problems import MEDIA_TYPE, Kind
from flashsale.http.wire import ID_PATTERN, SALE_ID_PATTERN

DESCRIPTION = """Sells a fixed number of units to a crowd.

Errors are RFC 9457 problem details (`application/problem+json`) with a stable `type`, a URN;
`GET /problems` lists all types. Unknown fields are refused everywhere, in bodies and in queries.
Answers write times as UTC in RFC 3339, to the millisecond. HEAD is answered like GET.
"""
BEARER = "adminToken"
_TAGS = {
    "purchases": "For buyers.",
    "sales": "For the admin: `Authorization: Bearer`, where a token is configured.",
    "dead letters": "For the admin: messages that were set aside, and what becomes of them.",
    "operation": "For whoever runs it.",
}
_ADMIN_TAGS = ("sales", "dead letters")
_HEADERS = {
    "location": ("Where the purchase can be looked up.", "/purchase/0197a1c2?saleId=1.1"),
    "retry-after": ("Seconds to wait before the next try.", "1"),
    "allow": ("The methods that the path knows.", "OPTIONS, POST"),
    "www-authenticate": ("How to authenticate.", "Bearer"),
}
_OF_STATUS = {401: ("www-authenticate",), 405: ("allow",), 503: ("retry-after",)}

EVERYWHERE = (problems.BAD_REQUEST, problems.METHOD_NOT_ALLOWED, problems.INTERNAL)
ADMIN_PROBLEMS = (problems.UNAUTHORIZED, problems.INVALID, problems.UNAVAILABLE)


def described(
    *,
    operation_id: str,
    summary: str,
    description: str,
    tag: str,
    answer: ResponseSpec,
    fails: Iterable[Kind] = (),
    parameters: Iterable[Parameter] = (),
    body: type[msgspec.Struct] | None = None,
    status: int = 200,
    headers: Iterable[str] = (),
) -> dict[str, Any]:
    """Describe a route, as the arguments that its handler's decorator takes."""
    headers_of = {status: tuple(headers), **_OF_STATUS}
    request_body = None if body is None else _request_body(body)
    given = list(parameters)

    # The framework's decorators take a class here, and make one object of it per operation.
    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.parameters = given or None  # type: ignore[assignment]
            self.request_body = request_body
            for code, response in (self.responses or {}).items():
                if isinstance(response, OpenAPIResponse):
                    response.headers = {
                        name: _header(name) for name in headers_of.get(int(code), ())
                    }

    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": description,
        "tags": [tag],
        "security": [{BEARER: []}] if tag in _ADMIN_TAGS else None,
        "responses": {status: answer, **_responses([*EVERYWHERE, *fails])},
        "operation_class": Described,
    }


def _responses(kinds: Iterable[Kind]) -> dict[int, ResponseSpec]:
    by_status: dict[int, list[Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: ResponseSpec(
            data_container=Problem,
            generate_examples=False,
            media_type=MEDIA_TYPE,
            description=" ".join(f"`{kind.code}`: {kind.meaning}" for kind in several),
            examples=[_example(kind) for kind in several],
        )
        for status, several in by_status.items()
    }


_PURCHASE = "0197a1c2-7a3e-7b11-9d2c-3f6f0a4b5c6d"
_MEMBERS: dict[str, dict[str, Any]] = {
    "invalid": {"violations": [{"field": "userId", "problem": "is required"}]},
    "sold-out": {"available": 0},
    "limit-reached": {"limit": 2, "held": 2},
    "purchase-ended": {"purchaseId": _PURCHASE, "reason": "SOLD_OUT"},
    "not-open": {"opensAt": "2026-11-27T18:00:00.000Z"},
    "key-reused": {"purchaseId": _PURCHASE},
    "refused": {"code": "REGION_BLOCKED"},
    "unavailable": {"reason": "gate-away"},
    "outcome-unknown": {"purchaseId": _PURCHASE},
}


def _example(kind: Kind) -> Example:
    value = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": kind.meaning}
    return Example(summary=kind.code, value={**value, **_MEMBERS.get(kind.code, {})})


def _header(name: str) -> OpenAPIHeader:
    description, example = _HEADERS[name]
    return OpenAPIHeader(
        description=description,
        schema=Schema(type=OpenAPIType.STRING),
        example=example,
    )


def _request_body(kind: type[msgspec.Struct]) -> RequestBody:
    schema = schema_of(kind)
    return RequestBody(
        required=True,
        description=f"Exactly one JSON object in UTF-8, at most {BODY_BYTES_MAX} bytes.",
        content={"application/json": OpenAPIMediaType(schema=schema)},  # type: ignore[arg-type]
    )


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Write a struct's JSON Schema, whole, with every limit that its decoder enforces."""
    template = "#/components/schemas/{name}"
    (schema,), parts = msgspec.json.schema_components((kind,), ref_template=template)
    return dict(_inlined(schema, {template.format(name=name): parts[name] for name in parts}))


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: _inlined(value, parts) for name, value in schema.items() if name != "$ref"}
    if "$ref" in schema:
        return {**_inlined(parts[schema["$ref"]], parts), **rest}
    return rest


def query_of(kind: type[msgspec.Struct]) -> list[Parameter]:
    """Describe a query by the struct that it is read into."""
    schema = schema_of(kind)
    return [
        Parameter(
            name=name,
            param_in="query",
            required=name in schema.get("required", ()),
            description=one.pop("description", None),
            schema=one,
        )
        for name, one in schema["properties"].items()
    ]


def header(name: str, description: str, **schema: Any) -> Parameter:
    """Describe a header that a request may bring."""
    return Parameter(
        name=name,
        param_in="header",
        description=description,
        schema={"type": "string", **schema},  # type: ignore[arg-type]
    )


def in_path(name: str, pattern: str, example: str) -> Parameter:
    """Describe an id that stands in the path."""
    return Parameter(
        name=name,
        param_in="path",
        required=True,
        schema={"type": "string", "pattern": pattern, "examples": [example]},  # type: ignore[arg-type]
    )


PURCHASE_IN_PATH = in_path("purchaseId", ID_PATTERN, _PURCHASE)
LETTER_IN_PATH = in_path("letterId", "^[0-9]{1,19}$", "7")
SALE_IN_PATH = in_path("saleId", SALE_ID_PATTERN, "1.1")


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """Put in the structs' own schemas: the framework's lose formats, and limits inside unions."""
    names = document["components"]["schemas"]
    structs = [kind for name, kind in vars(answers).items() if name in names and _is_struct(kind)]
    _, own = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    components = {**document["components"], "schemas": {**names, **own}}
    return {**document, "components": components}


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


class _NoPages(Router):
    """Keeps the framework from adding documentation pages of its own: they need the internet."""

    def register(self, value: ControllerRouterHandler) -> list[Any]:  # noqa: ARG002 - its signature
        return []


def openapi_config() -> OpenAPIConfig:
    """Configure the document."""
    info = Info(title="Flashsale", version="1")
    return OpenAPIConfig(
        title=info.title,
        version=info.version,
        description=DESCRIPTION,
        use_handler_docstrings=False,
        components=Components(
            security_schemes={BEARER: SecurityScheme(type="http", scheme="bearer")}
        ),
        tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
        openapi_router=_NoPages(path="/", route_handlers=[]),
    )
