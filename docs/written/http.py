"""The page of the HTTP API, from the OpenAPI document that it serves."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from tests.unit.http_world import Shop

Json = dict[str, Any]
HEAD = """\
# HTTP API

What `flashsale serve` and `flashsale run` answer. `GET /openapi.json` is the same as an OpenAPI
document, and `GET /docs` lets one try it out.

"""
END = "\nThis page is written by `python -m docs.written` from the OpenAPI document.\n"
PROBLEM = "application/problem+json"


def document() -> Json:
    """Ask a whole engine in memory for its document."""
    answered: Json = asyncio.run(Shop().ask("GET", "/openapi.json")).json
    return answered


def page() -> str:
    """Write the page: routes by who they are for, then the bodies of answers."""
    whole = document()
    parts = [HEAD, f"{whole['info']['description'].strip()}\n"]
    for tag in whole["tags"]:
        parts.append(f"\n## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        for path, operations in whole["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    parts.append(_route(method.upper(), path, operation))
    parts.append("\n## Bodies of answers\n")
    for name, schema in sorted(whole["components"]["schemas"].items()):
        parts.append(_body(name, schema))
    return "".join(parts) + END


def _route(method: str, path: str, operation: Json) -> str:
    parts = [f"\n### {method} {path}\n\n{operation['summary']}. {operation['description']}\n"]
    fields = [
        (_where(one), one["schema"], one.get("description", ""), one["required"])
        for one in operation.get("parameters", ())
    ]
    body = operation.get("requestBody")
    if body:
        schema = body["content"]["application/json"]["schema"]
        required = schema.get("required", ())
        fields += [
            (f"`{name}` in the body", one, one.get("description", ""), name in required)
            for name, one in schema.get("properties", {}).items()
        ]
    if fields:
        parts.append(_table(("asked with", "type", "needed", "what it is"), map(_field, fields)))
    if body:
        parts.append(f"\nThe body: {body['description']}\n")
    responses = sorted(operation["responses"].items())
    answers = [_answer(int(status), one) for status, one in responses]
    parts.append(_table(("status", "answer", "body"), answers))
    return "".join(parts)


def _field(field: tuple[str, Json, str, bool]) -> tuple[str, ...]:
    where, schema, description, needed = field
    return where, _type(schema), "yes" if needed else "", description


def _where(parameter: Json) -> str:
    kinds = {"query": "query", "path": "path", "header": "header"}
    return f"`{parameter['name']}` in the {kinds[parameter['in']]}"


def _answer(status: int, answer: Json) -> tuple[str, ...]:
    content = answer.get("content", {})
    text = answer["description"]
    if PROBLEM in content:
        # The problems' own page says what each means.
        codes = re.findall(r"(?:^| )`([a-z-]+)`:", text)
        return str(status), ", ".join(f"[{code}](problems.md#{code})" for code in codes), "problem"
    bodies = [_type(one["schema"]) for one in content.values() if "schema" in one]
    names = [f"`{name}`" for name in answer.get("headers") or ()]
    brings = f" Brings {' and '.join(names)}." if names else ""
    return str(status), text + brings, " or ".join(bodies)


def _body(name: str, schema: Json) -> str:
    text = f"\n### {name} (body)\n\n{schema.get('description', '')}\n"
    if "properties" not in schema:
        return f"{text}\n{_type(schema)}\n"
    required = schema.get("required", ())
    fields = [
        (f"`{field}`", _type(one), "yes" if field in required else "", one.get("description", ""))
        for field, one in schema["properties"].items()
    ]
    return text + _table(("field", "type", "always there", "what it is"), fields)


def _type(schema: Json) -> str:  # noqa: C901, PLR0911 - one return a form of schema
    """Write a schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()}-body)"
    if "enum" in schema:
        return " ".join(f"`{one}`" for one in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}"
        case "string" if "pattern" in schema:
            return f"text like `{schema['pattern']}`"
        case "string":
            return _bounded("text", schema, "minLength", "maxLength", " characters")
        case "integer" | "number" as kind:
            return _bounded(kind, schema, "minimum", "maximum", "")
        case list() as kinds:
            return " or ".join(kinds)
        case None:
            return "anything"
        case kind:
            return str(kind)


def _bounded(kind: str, schema: Json, least: str, most: str, unit: str) -> str:
    match schema.get(least), schema.get(most):
        case None, None:
            return kind
        case low, None:
            return f"{kind}, at least {low}{unit}"
        case None, high:
            return f"{kind}, at most {high}{unit}"
        case low, high:
            return f"{kind}, {low} to {high}{unit}"
    raise AssertionError


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n" + "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n"
        for line in lines
    )
