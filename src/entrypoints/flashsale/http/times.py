"""Times on the wire: RFC 3339 outwards; RFC 3339 or integer milliseconds inwards."""

import re
from datetime import UTC, datetime, timedelta

from flashsale_core.model import TIME_MS_MAX

RULE = (
    "must be an RFC 3339 time with its offset (2026-11-27T18:00:00Z), up to the year 9999, "
    "or milliseconds since 1970"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = re.compile(r"[0-9]{1,15}", re.ASCII)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?([Zz]|[+ -][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


def written(milliseconds: int) -> str:
    """Write a time as clients read it, to the millisecond."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def read(text: str) -> int | None:
    """Read a time; None where it is none. Digits past the millisecond are cut off."""
    if _MILLISECONDS.fullmatch(text):
        return int(text) if int(text) <= TIME_MS_MAX else None
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    day, clock, fraction, offset = found.groups()
    # A plus sign that was put into a query unescaped arrives as a space.
    offset = "+00:00" if offset in "Zz" else offset.replace(" ", "+")
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{offset}")
        milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
    milliseconds += int(((fraction or "") + "000")[:3])
    return milliseconds if 0 <= milliseconds <= TIME_MS_MAX else None


def moment(milliseconds: int | None) -> str | None:
    """Write a time that may be missing."""
    return None if milliseconds is None else written(milliseconds)
