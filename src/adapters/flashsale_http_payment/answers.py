"""What a provider's status and body mean. Nothing of a body is ever told on, but for its codes."""

import json
import re
from typing import Any

from flashsale_core.charges import Charged, Declined, InProgress, LookUpAnswer, NeverHeard
from flashsale_core.errors import Corrupt, Unavailable, Why

OK_FROM, OK_TO = 200, 300
PAYMENT_REQUIRED = 402
NOT_FOUND = 404
CONFLICT = 409
SERVER_FAULT = 500
TRY_LATER = frozenset({408, 425, 429})
"""4xx, and yet no fault of the question: it timed out, came early, or one of too many."""
REFERENCE = re.compile(r"[!-~]{1,200}", re.ASCII)
REASON = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
NO_REASON = "declined"
"""Where the provider gives no reason, or none that is a plain code."""


def unknown_outcome(detail: str) -> Unavailable:
    """Make the error of a call that may have charged."""
    return Unavailable(Why.PAYMENT_AWAY, detail, may_have_happened=True)


def what_is_said(status: int, body: bytes, *, is_look_up: bool) -> LookUpAnswer:
    """Read an answer. Raises Unavailable where the outcome is unknown, else Corrupt."""
    if OK_FROM <= status < OK_TO:
        return _of_body(body)
    if status == PAYMENT_REQUIRED:
        return Declined(reason=_reason(_document(body)))
    if status == CONFLICT:
        return InProgress()
    if status == NOT_FOUND and is_look_up:
        return NeverHeard()
    if status in TRY_LATER or status >= SERVER_FAULT:
        raise unknown_outcome(f"the gateway answered {status}")
    raise Corrupt("payment-refused", f"the gateway answered {status}")


def _of_body(body: bytes) -> LookUpAnswer:
    document = _document(body)
    status = document.get("status")
    if status == "declined":
        return Declined(reason=_reason(document))
    if status == "in-progress":
        return InProgress()
    reference = document.get("reference")
    if status == "charged" and isinstance(reference, str) and REFERENCE.fullmatch(reference):
        return Charged(reference=reference)
    raise unknown_outcome("the gateway answered 2xx and not what was agreed")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _reason(document: dict[str, Any]) -> str:
    reason = document.get("reason")
    return reason if isinstance(reason, str) and REASON.fullmatch(reason) else NO_REASON
