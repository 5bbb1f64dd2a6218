"""Who may ask what: the admin's token, and bodies where none is wanted."""

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from flashsale.http import problems
from flashsale.http.parts import HttpParts
from flashsale.http.problems import ProblemRaised, invalid, problem
from flashsale_core.errors import Violation

Connection = ASGIConnection[Any, Any, Any, Any]


def parts_of(connection: Connection) -> HttpParts:
    """Find what the application was built from."""
    parts: HttpParts = connection.app.state.parts
    return parts


def admin_only(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuse whoever does not bring the admin's token, where one is configured."""
    token = parts_of(connection).admin_token
    if token is None:
        return
    given = connection.headers.get("authorization", "")
    scheme, _space, credentials = given.partition(" ")
    # Compared in constant time, as bytes: text beyond ASCII cannot be compared so.
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        credentials.strip().encode(), token.encode()
    ):
        raise ProblemRaised(
            problem(problems.UNAUTHORIZED, headers=[(b"www-authenticate", b"Bearer")])
        )


def no_body(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuse a body where the query says everything: it would be ignored in silence."""
    headers = connection.headers
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise ProblemRaised(invalid(Violation(field="body", problem="must be empty")))
