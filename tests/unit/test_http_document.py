"""The OpenAPI document is complete, and its page needs no internet."""

import json
import re
from typing import Any

import msgspec
import pytest

from flashsale.http import answers, wire
from flashsale.http.problems import KINDS
from tests.unit.http_world import Reply, Shop, selling

TABLE = {
    "/purchase/buy": {200, 400, 404, 405, 408, 409, 410, 413, 415, 422, 425, 429, 500, 503},
    "/purchase/init": {200, 400, 401, 405, 409, 422, 500, 503},
    "/purchase/{purchaseId}": {200, 400, 404, 405, 409, 422, 500, 503},
    "/sales": {200, 400, 401, 405, 422, 500, 503},
    "/sales/{saleId}": {200, 400, 401, 404, 405, 422, 500, 503},
    "/sales/{saleId}/pause": {200, 400, 401, 404, 405, 409, 422, 500, 503},
    "/sales/{saleId}/resume": {200, 400, 401, 404, 405, 409, 422, 500, 503},
    "/sales/{saleId}/close": {200, 400, 401, 404, 405, 409, 422, 500, 503},
    "/sales/{saleId}/settle": {200, 400, 401, 404, 405, 409, 422, 500, 503},
    "/dead-letters": {200, 400, 401, 405, 422, 500, 503},
    "/dead-letters/{letterId}": {200, 400, 401, 404, 405, 422, 500, 503},
    "/dead-letters/{letterId}/replay": {200, 400, 401, 404, 405, 409, 422, 500, 503},
    "/dead-letters/{letterId}/discard": {200, 400, 401, 404, 405, 409, 422, 500, 503},
    "/dead-letters/replay": {200, 400, 401, 405, 422, 500, 503},
    "/dead-letters/discard": {200, 400, 401, 405, 422, 500, 503},
    "/sales/{saleId}/purchases/{purchaseId}/end": {
        *{200, 400, 401, 404, 405, 409, 422, 500, 503},
    },
    "/healthz": {200, 400, 405, 500},
    "/readyz": {200, 400, 405, 500, 503},
    "/metrics": {200, 400, 405, 500},
    "/problems": {200, 400, 405, 500},
}


@pytest.fixture(scope="module")
def shop() -> Shop:
    """One shop for all."""
    return Shop()


async def document(shop: Shop) -> Any:
    """Fetch the document."""
    reply = await shop.ask("GET", "/openapi.json")
    assert (reply.status, reply.header("content-type")) == (200, "application/json")
    return reply.json


def operation(document: Any, path: str) -> Any:
    """Find a path's one operation."""
    [only] = document["paths"][path].values()
    return only


async def test_every_status_of_every_route_stands_in_the_document(shop: Shop) -> None:
    """No more and no fewer."""
    found = await document(shop)
    assert found["openapi"].startswith("3.1")
    statuses = {
        path: {int(status) for status in operation(found, path)["responses"]}
        for path in found["paths"]
    }
    assert statuses == TABLE


async def test_every_problem_type_stands_in_the_document(shop: Shop) -> None:
    """With an example at its status, but for those that belong to no route."""
    found = await document(shop)
    shown: dict[str, int] = {}
    for path in found["paths"]:
        for status, response in operation(found, path)["responses"].items():
            content = response["content"].get("application/problem+json", {})
            for example in content.get("examples", {}).values():
                assert example["value"]["status"] == int(status)
                assert example["summary"] in response["description"]
                shown[example["value"]["type"]] = int(status)
    of_no_route = {"not-found", "head-too-large", "url-too-long"}
    assert shown == {kind.type: kind.status for kind in KINDS if kind.code not in of_no_route}
    listed = found["components"]["schemas"]["Problem"]["properties"]["type"]["examples"]
    assert listed == [kind.type for kind in KINDS]
    served = (await shop.ask("GET", "/problems")).json["problems"]
    assert [one["type"] for one in served] == listed
    assert all(one["meaning"] and one["title"] for one in served)


async def test_limits_and_examples_of_a_purchase_are_told(shop: Shop) -> None:
    """What the decoder enforces is what the document says."""
    buy = operation(await document(shop), "/purchase/buy")
    body = buy["requestBody"]
    assert body["required"]
    assert "4096 bytes" in body["description"]
    schema = body["content"]["application/json"]["schema"]
    assert schema["required"] == ["userId", "productId"]
    assert schema["additionalProperties"] is False
    fields = schema["properties"]
    ids = [
        {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
        {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    ]
    assert [fields[name]["anyOf"] for name in ("userId", "productId", "purchaseId")] == [ids] * 3
    assert (fields["quantity"]["minimum"], fields["quantity"]["maximum"]) == (1, 2**31 - 1)
    assert fields["quantity"]["default"] == 1
    assert sorted(fields["source"]["enum"]) == ["API", "MOBILE", "WEB"]
    assert fields["paymentToken"]["maxLength"] == 256
    assert all(field["description"] and field["examples"] for field in fields.values())
    assert [one["name"] for one in buy["parameters"]] == ["Idempotency-Key", "traceparent"]
    assert set(buy["responses"]["200"]["headers"]) == {"location"}
    assert set(buy["responses"]["503"]["headers"]) == {"retry-after"}
    assert set(buy["responses"]["405"]["headers"]) == {"allow"}
    assert not buy["responses"]["429"]["headers"]


async def test_the_documents_own_examples_are_valid_purchases(shop: Shop) -> None:
    """Whoever copies them gets past the decoder."""
    schema = operation(await document(shop), "/purchase/buy")["requestBody"]["content"][
        "application/json"
    ]["schema"]
    for name, field in schema["properties"].items():
        for value in field["examples"]:
            given = {"userId": 1, "productId": 1, name: value}
            msgspec.json.decode(json.dumps(given), type=wire.BuyBody)


async def test_every_query_field_is_described_with_its_limits(shop: Shop) -> None:
    """The terms of a sale stand in its query."""
    init = operation(await document(shop), "/purchase/init")
    fields = {one["name"]: one for one in init["parameters"]}
    assert list(fields) == list(wire.InitQuery.__struct_encode_fields__)
    assert [name for name, one in fields.items() if one["required"]] == ["productId", "stock"]
    assert (fields["stock"]["schema"]["minimum"], fields["stock"]["schema"]["maximum"]) == (
        1,
        10**9,
    )
    assert all(one["description"] and one["schema"]["examples"] for one in fields.values())


async def test_every_route_says_who_may_ask(shop: Shop) -> None:
    """The admin's routes name the token, the others none."""
    found = await document(shop)
    for path in found["paths"]:
        needs_token = path.startswith(("/sales", "/dead-letters")) or path == "/purchase/init"
        assert bool(operation(found, path).get("security")) == needs_token, path
    assert found["components"]["securitySchemes"]["adminToken"]["scheme"] == "bearer"


def _answer_fits(found: Any, path: str, reply: Reply) -> None:
    content = operation(found, path)["responses"][str(reply.status)]["content"]
    media_type = (reply.header("content-type") or "").partition(";")[0]
    name = content[media_type]["schema"]["$ref"].rpartition("/")[2]
    known = set(found["components"]["schemas"][name]["properties"])
    assert set(reply.json) <= known, name
    assert set(found["components"]["schemas"][name]["required"]) <= set(reply.json), name
    msgspec.convert(reply.json, getattr(answers, name))


async def test_answers_are_what_the_document_says() -> None:
    """Real answers fit the schemas, member by member."""
    async with selling(Shop()) as shop:
        found = await document(shop)
        good = {"userId": 1, "productId": 1, "purchaseId": "p"}
        for body in (good, {**good, "quantity": 2}, {}, {**good, "productId": 2}):
            _answer_fits(found, "/purchase/buy", await shop.buy(body))
        asked = {
            "/sales": "/sales",
            "/sales/{saleId}": "/sales/1.1",
            "/purchase/{purchaseId}": "/purchase/p",
            "/readyz": "/readyz",
            "/healthz": "/healthz",
            "/problems": "/problems",
        }
        for path, target in asked.items():
            _answer_fits(found, path, await shop.ask("GET", target))


async def test_the_page_needs_no_internet(shop: Shop) -> None:
    """Everything that it loads comes from here, and the browser is told to ask nobody else."""
    page = await shop.ask("GET", "/docs")
    assert page.status == 200
    text = page.body.decode()
    assert "//" not in text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(loaded) == 4
    for target in loaded:
        asset = await shop.ask("GET", target)
        assert asset.status == 200, target
        assert asset.body
    policy = page.header("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "SwaggerUIBundle" in (await shop.ask("GET", "/docs/swagger-ui-bundle.js")).body.decode()


async def test_only_the_pages_own_files_are_served(shop: Shop) -> None:
    """The folder that they come from holds more."""
    for name in ("swagger-editor.js", "..%2Fapp.py", "%2Fetc%2Fpasswd", "index.css"):
        reply = await shop.ask("GET", f"/docs/{name}")
        assert (reply.status, reply.problem) == (404, "not-found"), name
