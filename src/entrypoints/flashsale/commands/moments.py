"""Times as people type and read them: RFC 3339, or milliseconds since 1970."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter, Token

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_ms(text: str) -> int:
    """Read a time. Raises ValueError with the rule."""
    if re.fullmatch(r"\d{1,15}", text, re.ASCII):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be a time with its offset, as in 2026-11-27T18:00:00Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def written(milliseconds: int | None) -> str | None:
    """Write a time in UTC, to the millisecond; None stays None."""
    if milliseconds is None:
        return None
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _convert(_: Any, tokens: tuple[Token, ...]) -> int:
    return moment_ms(tokens[0].value)


Moment = Annotated[int, Parameter(converter=_convert, metavar="TIME")]
