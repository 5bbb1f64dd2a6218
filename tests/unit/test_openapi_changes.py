"""A change that breaks a client of the HTTP API fails the build; one that does not, passes."""

from pathlib import Path

import pytest

from tests.contracts.documents import Change, Json, after, committed, read, released
from tests.contracts.openapi_changes import breaking_changes


@pytest.fixture(scope="module")
def current() -> Json:
    """The document as it is committed."""
    return committed("openapi")


@pytest.mark.parametrize("promise", released("openapi"), ids=lambda file: file.stem)
def test_no_released_promise_of_the_http_api_is_broken(promise: Path, current: Json) -> None:
    """Who built against any release of this major version can go on."""
    assert breaking_changes(read(promise), current) == []


def test_there_is_a_release_to_compare_with() -> None:
    """An empty folder would make the test above pass for ever."""
    assert released("openapi")


def buy(document: Json) -> Json:
    """Find the purchase's operation."""
    operation: Json = document["paths"]["/purchase/buy"]["post"]
    return operation


def body(document: Json) -> Json:
    """Find the schema of what a buyer sends."""
    schema: Json = buy(document)["requestBody"]["content"]["application/json"]["schema"]
    return schema


def field(document: Json, name: str) -> Json:
    """Find one field of what a buyer sends."""
    schema: Json = body(document)["properties"][name]
    return schema


def answer(document: Json, name: str) -> Json:
    """Find the schema of an answer."""
    schema: Json = document["components"]["schemas"][name]
    return schema


def query(document: Json, name: str) -> Json:
    """Find a field of the query that opens a sale."""
    parameters = document["paths"]["/purchase/init"]["post"]["parameters"]
    [found] = [one for one in parameters if one["name"] == name]
    schema: Json = found
    return schema


BREAKS: dict[str, tuple[Change, str]] = {
    "a route is removed": (
        lambda d: d["paths"].pop("/purchase/buy"),
        "POST /purchase/buy: is gone",
    ),
    "a method is removed": (
        lambda d: d["paths"]["/sales"].pop("get"),
        "GET /sales: is gone",
    ),
    "an answer is removed": (
        lambda d: buy(d)["responses"].pop("429"),
        "POST /purchase/buy → 429: is gone",
    ),
    "a field becomes required": (
        lambda d: body(d)["required"].append("source"),
        "POST /purchase/buy: body.source: is required now",
    ),
    "a new field is required": (
        lambda d: (
            body(d)["required"].append("channel"),
            body(d)["properties"].update(channel={"type": "string"}),
        ),
        "body.channel: is required now",
    ),
    "a field is not taken any more": (
        lambda d: body(d)["properties"].pop("paymentToken"),
        "body.paymentToken: is not taken any more",
    ),
    "an enum is narrowed": (
        lambda d: field(d, "source")["enum"].remove("WEB"),
        "body.source: WEB is not taken any more",
    ),
    "a type is narrowed": (
        lambda d: field(d, "userId")["anyOf"].pop(),
        "body.userId: integer became string",
    ),
    "a type is another": (
        lambda d: field(d, "quantity").update(type="string"),
        "body.quantity: integer became string",
    ),
    "a maximum is lowered": (
        lambda d: field(d, "quantity").update(maximum=10),
        "body.quantity: maximum 2147483647 became 10",
    ),
    "a minimum is raised": (
        lambda d: field(d, "quantity").update(minimum=2),
        "body.quantity: minimum 1 became 2",
    ),
    "a limit is new": (
        lambda d: query(d, "currency")["schema"].update(maxLength=2),
        "maxLength None became 2",
    ),
    "a pattern is another": (
        lambda d: field(d, "userId")["anyOf"][0].update(pattern="^[a-z]+$"),
        "became ^[a-z]+$",
    ),
    "a default is another": (
        lambda d: field(d, "quantity").update(default=2),
        "body.quantity: default 1 became 2",
    ),
    "a query field is removed": (
        lambda d: d["paths"]["/purchase/init"]["post"]["parameters"].remove(query(d, "opensAt")),
        "query opensAt is not taken any more",
    ),
    "a query field becomes required": (
        lambda d: query(d, "maxPerUser").update(required=True),
        "query maxPerUser is required now",
    ),
    "a body's media type is another": (
        lambda d: buy(d)["requestBody"].update(content={"text/json": {"schema": body(d)}}),
        "a body of application/json is not taken any more",
    ),
    "a credential is needed": (
        lambda d: buy(d).update(security=[{"adminToken": []}]),
        "POST /purchase/buy: needs a credential now",
    ),
    "an answer's field is removed": (
        lambda d: answer(d, "Accepted")["properties"].pop("quantity"),
        "POST /purchase/buy → 200.quantity: is gone",
    ),
    "an optional field of an answer is removed": (
        lambda d: answer(d, "DependencyReport")["properties"].pop("lastError"),
        "dependencies[].lastError: is gone",
    ),
    "an answer's field may be missing": (
        lambda d: answer(d, "Accepted")["required"].remove("status"),
        "POST /purchase/buy → 200.status: may be missing now",
    ),
    "an answer's type is widened": (
        lambda d: answer(d, "Accepted")["properties"]["quantity"].update(type=["integer", "null"]),
        "200.quantity: integer became integer or null",
    ),
    "an answer's enum is widened": (
        lambda d: answer(d, "SaleState")["enum"].append("FROZEN"),
        "FROZEN may come now",
    ),
    "an answer's limit is loosened": (
        lambda d: answer(d, "Accepted")["properties"]["quantity"].pop("maximum"),
        "200.quantity: maximum 2147483647 became None",
    ),
    "an answer's media type is another": (
        lambda d: buy(d)["responses"]["429"]["content"].update(
            {"text/plain": buy(d)["responses"]["429"]["content"].pop("application/problem+json")}
        ),
        "429: is not application/problem+json any more",
    ),
    "another credential is needed": (
        lambda d: d["components"]["securitySchemes"]["adminToken"].update(
            {"type": "apiKey", "in": "header", "name": "x-token"}
        ),
        "GET /sales: needs another credential now",
    ),
    "a second credential is needed": (
        lambda d: d["paths"]["/sales"]["get"].update(security=[{"adminToken": [], "other": []}]),
        "GET /sales: needs another credential now",
    ),
    "a credential is needed everywhere": (
        lambda d: d.update(security=[{"adminToken": []}]),
        "POST /purchase/buy: needs a credential now",
    ),
    "all moves to another place": (
        lambda d: d.update(servers=[{"url": "/v2"}]),
        "POST /purchase/buy: is not at / any more",
    ),
    "a path asks for something": (
        lambda d: d["paths"]["/sales"].update(
            parameters=[{"in": "query", "name": "shop", "required": True, "schema": {}}]
        ),
        "GET /sales: query shop is required now",
    ),
    "a query field is written otherwise": (
        lambda d: query(d, "maxPerUser").update(style="pipeDelimited"),
        "POST /purchase/init: query maxPerUser is written otherwise now",
    ),
    "an answer's header is another": (
        lambda d: buy(d)["responses"]["503"]["headers"]["retry-after"]["schema"].update(
            type="integer"
        ),
        "POST /purchase/buy → 503: header retry-after: string became integer",
    ),
    "an answer's header is removed": (
        lambda d: buy(d)["responses"]["503"]["headers"].pop("retry-after"),
        "503: header retry-after is gone",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_breaking_change_fails_the_build_and_names_its_place(name: str, current: Json) -> None:
    """Each kind by itself: nobody finds out from a client's error."""
    change, said = BREAKS[name]
    found = breaking_changes(current, after(change, current))
    assert any(said in one for one in found), found


KEEPS: dict[str, Change] = {
    "a new route": lambda d: d["paths"].update({"/new": {"get": {"responses": {}}}}),
    "a new optional field": lambda d: body(d)["properties"].update(colour={"type": "string"}),
    "a new optional query field": lambda d: d["paths"]["/sales"]["get"].update(
        parameters=[{"in": "query", "name": "q", "schema": {"type": "string"}}]
    ),
    "a field that need not come any more": lambda d: body(d)["required"].remove("userId"),
    "a wider enum in a request": lambda d: field(d, "source")["enum"].append("KIOSK"),
    "a wider type in a request": lambda d: field(d, "quantity").update(type=["integer", "string"]),
    "a wider limit in a request": lambda d: field(d, "paymentToken").update(maxLength=512),
    "a limit less in a request": lambda d: field(d, "paymentToken").pop("maxLength"),
    "a new field in an answer": lambda d: answer(d, "Accepted")["properties"].update(
        colour={"type": "string"}
    ),
    "a narrower enum in an answer": lambda d: answer(d, "SaleState")["enum"].remove("HALTED"),
    "a new answer": lambda d: buy(d)["responses"].update({"451": {"description": "no"}}),
    "other words": lambda d: (
        buy(d).update(description="!", summary="!"),
        field(d, "source").update(description="!", examples=[]),
    ),
}


@pytest.mark.parametrize("name", KEEPS)
def test_a_change_that_old_clients_do_not_feel_passes(name: str, current: Json) -> None:
    """A gate that refuses everything is taken out by the next who meets it."""
    assert breaking_changes(current, after(KEEPS[name], current)) == []


def test_a_keyword_that_nobody_judges_is_never_passed_over(current: Json) -> None:
    """What the comparison does not know might narrow; it says so."""
    changed = after(lambda d: field(d, "quantity").update(multipleOf=2), current)
    with pytest.raises(NotImplementedError, match="multipleOf"):
        breaking_changes(current, changed)
