"""The document and its page. Every byte that the page needs is served from here: no internet."""

import html
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from flashsale.http import problems
from flashsale.http.buy import ROOT_PATH
from flashsale.http.openapi import completed
from flashsale.http.problems import ProblemRaised, problem

ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
ASSET_AGE_S = 3600
"""Assets change with an installed package; an hour old ones do no harm."""
START = "start.js"
_SECURITY = {
    # Whatever the assets hold, the browser asks nobody but this server.
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flashsale: the HTTP API</title>
<link rel="stylesheet" href="{root}/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="{root}/docs/favicon-32x32.png">
</head>
<body>
<div id="page" data-document="{root}/openapi.json"></div>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js"></script>
</body>
</html>
"""
_START = b"""const page = document.getElementById("page");
SwaggerUIBundle({
  url: page.dataset.document,
  domNode: page,
  deepLinking: true,
  validatorUrl: null,
});
"""

Req = Request[Any, Any, Any]


def docs_routes() -> list[HTTPRouteHandler]:
    """Make the routes; the assets are read once, here.

    Raises ModuleNotFoundError, naming the package, where the browser's assets are not installed.
    """
    files = {name: ((_folder() / name).read_bytes(), kind) for name, kind in ASSETS.items()}
    files[START] = (_START, "text/javascript")

    @get("/docs/{name:str}", include_in_schema=False)
    async def asset(request: Req) -> Response[bytes]:
        """Serve a file of the page."""
        name = request.path_params["name"]
        if name not in files:
            raise ProblemRaised(problem(problems.NOT_FOUND))
        content, media_type = files[name]
        age = {"cache-control": f"public, max-age={ASSET_AGE_S}"}
        return Response(content, media_type=media_type, headers={**_SECURITY, **age})

    return [document, page, asset]


@get("/openapi.json", include_in_schema=False)
async def document(request: Req) -> Response[bytes]:
    """Serve the document, for wherever this application is mounted."""
    known: dict[str, Any] | None = request.app.state.get("document")
    if known is None:
        known = request.app.state["document"] = completed(request.app.openapi_schema.to_schema())
    here = {**known, "servers": [{"url": _root(request) or "/"}]}
    return Response(msgspec.json.encode(here), media_type="application/json")


@get("/docs", include_in_schema=False)
async def page(request: Req) -> Response[str]:
    """Serve the page."""
    text = _PAGE.format(root=html.escape(_root(request)))
    return Response(text, media_type="text/html", headers=_SECURITY)


def _root(request: Req) -> str:
    root: str = request.scope.get(ROOT_PATH, "")  # type: ignore[assignment]
    return root.rstrip("/")


def _folder() -> Path:
    # Found, not imported: the package's code adapts other frameworks and is not wanted here.
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        message = "the package swagger-ui-py is missing: pip install 'flashsale[http]'"
        raise ModuleNotFoundError(message, name="swagger_ui")
    return Path(spec.submodule_search_locations[0]) / "static"
