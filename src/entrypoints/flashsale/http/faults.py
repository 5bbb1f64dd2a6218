"""Errors that are no answers, mapped to problems in one place: the core's, the framework's, any."""

from collections.abc import Callable
from typing import Any

import structlog
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.response import Response

from flashsale.http import problems
from flashsale.http.problems import (
    Answer,
    Kind,
    ProblemRaised,
    as_http,
    invalid,
    problem,
    retry_after,
)
from flashsale_core.errors import Conflict, Corrupt, Invalid, Unavailable

_log = structlog.get_logger("flashsale.http")
_FRAMEWORK: dict[int, Kind] = {
    400: problems.BAD_REQUEST,
    401: problems.UNAUTHORIZED,
    404: problems.NOT_FOUND,
    405: problems.METHOD_NOT_ALLOWED,
    413: problems.TOO_LARGE,
    415: problems.UNSUPPORTED_MEDIA_TYPE,
}

Req = Request[Any, Any, Any]


def raised(_: Req, error: ProblemRaised) -> Response[bytes]:
    """Send the finished answer."""
    return response(error.answer)


def _invalid(_: Req, error: Invalid) -> Response[bytes]:
    return response(invalid(*as_http(error)))


def _conflict(_: Req, error: Conflict) -> Response[bytes]:
    return response(problem(problems.BY_CODE.get(error.code, problems.WRONG_STATE), error.detail))


def _unavailable(_: Req, error: Unavailable) -> Response[bytes]:
    wait = retry_after(error.retry_after_ms)
    return response(problem(problems.UNAVAILABLE, headers=wait, reason=error.why.value))


def _framework(_: Req, error: HTTPException) -> Response[bytes]:
    kind = _FRAMEWORK.get(error.status_code)
    if kind is None:
        kind = problems.BAD_REQUEST if error.status_code < 500 else problems.INTERNAL  # noqa: PLR2004
    given = error.headers or {}
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    return response(problem(kind, headers=headers))


def _unexpected(request: Req, error: Exception) -> Response[bytes]:
    _log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return response(problem(problems.INTERNAL))


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Req, Any], Response[bytes]]] = {
    ProblemRaised: raised,
    Invalid: _invalid,
    Conflict: _conflict,
    Unavailable: _unavailable,
    Corrupt: _unexpected,
    HTTPException: _framework,
    Exception: _unexpected,
}


def response(answer: Answer) -> Response[bytes]:
    """Turn a finished answer into the framework's own kind."""
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    media_type = headers.pop("content-type")
    headers.pop("content-length", None)
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=media_type)
