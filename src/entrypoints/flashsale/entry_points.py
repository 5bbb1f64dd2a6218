"""Which adapter a URL's scheme means: entry points, ours and those of any installed package."""

from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from flashsale.setting_kinds import Url


class Group(StrEnum):
    """The groups of entry points; a name in one of them is a URL scheme."""

    GATES = "flashsale.gates"
    BUSES = "flashsale.buses"
    DATABASES = "flashsale.databases"
    PAYMENTS = "flashsale.payments"
    GATE_OPERATORS = "flashsale.gate-operators"
    BUS_OPERATORS = "flashsale.bus-operators"
    DATABASE_OPERATORS = "flashsale.database-operators"


EXTRAS = {
    "http": "payment",
    "https": "payment",
    "redis": "redis",
    "rediss": "redis",
    "redis+cluster": "redis",
    "rediss+cluster": "redis",
    "kafka": "kafka",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "postgresql+asyncpg": "postgres",
    "sqlite+aiosqlite": "sqlite",
}
"""The extra of this package that brings what a scheme of ours needs."""


class AdapterMissing(Exception):
    """What a URL asks for is not installed; the message says how to install it."""


def schemes(group: Group) -> list[str]:
    """List the schemes that may stand in a URL of this kind."""
    return sorted(entry_points(group=group.value).names)


def point_of(group: Group, url: Url) -> EntryPoint:
    """Find who opens such a URL, and import nothing.

    Raises AdapterMissing when no package brings the scheme, or when two do.
    """
    found = entry_points(group=group.value, name=url.scheme)
    if not found:
        known = ", ".join(f"{scheme}://" for scheme in schemes(group)) or "nothing"
        raise AdapterMissing(f"nothing installed opens {url.scheme}://; installed: {known}")
    values = sorted({point.value for point in found})
    if len(values) > 1:
        raise AdapterMissing(f"two packages open {url.scheme}://: {' and '.join(values)}")
    return next(iter(found))


def opener(group: Group, url: Url) -> Callable[..., Any]:
    """Import what opens such a URL.

    Raises AdapterMissing when nobody does, or when a library that it needs is not installed.
    """
    point = point_of(group, url)
    try:
        loaded: Callable[..., Any] = point.load()
    except ImportError as exc:
        raise AdapterMissing(_missing(point, exc)) from exc
    return loaded


def _missing(point: EntryPoint, exc: ImportError) -> str:
    extra = EXTRAS.get(point.name)
    what = f"{point.name}:// needs {exc.name or exc}, which is not installed"
    if extra is not None and point.module.startswith("flashsale_"):
        return f"{what}: pip install 'flashsale[{extra}]'"
    return f"{what}; {point.value} asked for it"
