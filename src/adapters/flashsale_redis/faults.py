"""What Redis's and its client's errors mean for the gate: the one place that knows them."""

from typing import Any

from redis import exceptions as redis_errors

from flashsale_core.errors import Unavailable, Why

UNARMED = "UNARMED"
BROKEN = "BROKEN"
FUNCTION_MISSING = "Function not found"


def unavailable_of(error: BaseException, *, was_sent: bool) -> Unavailable:
    """Say what an error means; `was_sent` when the call may have reached the server."""
    text = str(error)
    if isinstance(error, redis_errors.ResponseError):
        return _of_reply(error, text)
    return Unavailable(Why.GATE_AWAY, _named(error), may_have_happened=was_sent)


def _of_reply(error: redis_errors.ResponseError, text: str) -> Unavailable:
    """Tell a refusal before anything was done from an error of unknown effect."""
    if text.startswith(UNARMED):
        return Unavailable(Why.NOT_ARMED, text)
    if FUNCTION_MISSING in text:
        return Unavailable(Why.NOT_ARMED, "the function library is missing: flashsale gate install")
    if text.startswith(BROKEN):
        return Unavailable(Why.HALTED, text)
    refused = (
        redis_errors.OutOfMemoryError,
        redis_errors.ReadOnlyError,
        redis_errors.NoPermissionError,
        redis_errors.AuthenticationError,
        redis_errors.TryAgainError,
        redis_errors.ClusterDownError,
        redis_errors.MovedError,
        redis_errors.AskError,
    )
    refused_text = ("OOM", "NOPERM", "NOAUTH", "WRONGPASS", "LOADING", "MASTERDOWN", "NOREPLICAS")
    is_refusal = isinstance(error, refused) or text.startswith(refused_text)
    is_gone = text.startswith(("LOADING", "CLUSTERDOWN"))
    return Unavailable(
        Why.GATE_AWAY, _named(error), may_have_happened=not is_refusal, was_refused=not is_gone
    )


def _named(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, TimeoutError):
        return f"no answer in time: {text}" if text else "no answer in time"
    return f"{type(error).__name__}: {text}"


def of_one_sale(reply: Any) -> Unavailable | None:
    """Return what concerns one sale alone; raise what concerns the server."""
    if not isinstance(reply, redis_errors.ResponseError):
        return None
    refused = unavailable_of(reply, was_sent=True)
    if refused.why is Why.GATE_AWAY:
        raise refused from reply
    return refused
