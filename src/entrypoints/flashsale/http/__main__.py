"""Write the OpenAPI document as `docs/openapi.json` holds it.

python -m flashsale.http > docs/openapi.json
"""

from typing import Any

from litestar import Litestar

from flashsale.commands.console import write_json
from flashsale.http.app import ROUTES
from flashsale.http.openapi import completed, openapi_config


def document() -> dict[str, Any]:
    """Write the document without an engine: what `GET /openapi.json` serves at the root."""
    bare = Litestar(route_handlers=ROUTES, openapi_config=openapi_config(), logging_config=None)
    return {**completed(bare.openapi_schema.to_schema()), "servers": [{"url": "/"}]}


if __name__ == "__main__":
    write_json(document())
