"""How a failure that many share is told to each of them."""

import asyncio
from typing import TypeVar

from flashsale_core.errors import Unavailable

T = TypeVar("T")


def tell_failure(waiting: "asyncio.Future[T]", failure: BaseException) -> None:
    """Tell one caller by an exception of its own: on a shared one, tracebacks would pile up."""
    if waiting.done():
        return
    if isinstance(failure, Unavailable):
        own = Unavailable(
            failure.why,
            failure.detail,
            retry_after_ms=failure.retry_after_ms,
            may_have_happened=failure.may_have_happened,
            was_refused=failure.was_refused,
        )
        own.__cause__ = failure.__cause__
        waiting.set_exception(own)
    elif isinstance(failure, Exception):
        waiting.set_exception(failure)
    else:
        waiting.cancel()
