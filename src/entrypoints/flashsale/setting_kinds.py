"""The kinds of value that a setting may have: how each is read, checked, and shown masked.

A converter raises ValueError with the rule that was broken and never repeats the value: it may be
a secret. It takes what it gave, too, so that settings can be copied with some of them changed.
"""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NoReturn

import attrs
from typed_settings import Secret

from flashsale_core.urls import url_parts

MASK = "***"
_USERINFO = re.compile(r"(?<=://)(?P<user>[^/@:]*):[^/]*@")
"""To the last @: where several hosts were given a password each, none is shown."""
_SECRET_PARAMETER = re.compile(
    r"(?<=[?&])([^=&]*(?:password|passwd|secret|token)[^=&]*)=[^&]*", re.IGNORECASE
)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII)
"""What Kafka allows in a topic's name: at most 249, and ours get suffixes."""
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@attrs.frozen(repr=False)
class Url:
    """A URL that shows itself without its password; `text` is the whole of it."""

    text: str

    @property
    def scheme(self) -> str:
        """Name what decides which adapter opens it."""
        return url_parts(self.text).scheme

    @property
    def password(self) -> str:
        """Name what stands between the user's colon and the hosts; empty when there is none."""
        return url_parts(self.text).password

    @property
    def path(self) -> str:
        """Name what stands behind the hosts, its slash included."""
        return url_parts(self.text).path

    @property
    def is_memory(self) -> bool:
        """Say whether it lives in this process alone."""
        return self.scheme == "memory"

    def __str__(self) -> str:
        """Show it with every password masked."""
        shown = _USERINFO.sub(rf"\g<user>:{MASK}@", self.text)
        return _SECRET_PARAMETER.sub(rf"\1={MASK}", shown)

    def __repr__(self) -> str:
        """Show it with every password masked."""
        return f"Url({str(self)!r})"


@attrs.frozen
class Address:
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as it is read; an IPv6 host stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _wrong(rule: str) -> NoReturn:
    raise ValueError(rule)


def _as_url(value: object) -> Url:
    if isinstance(value, Url):
        return value
    text = value if isinstance(value, str) else ""
    url_parts(text)
    return Url(text)


def _as_secret(value: object) -> Secret[str]:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value.strip():
        _wrong("must not be empty")
    if any(ord(character) < ord(" ") for character in value):
        _wrong("must not contain control characters (a line end in a secret's file, perhaps)")
    return Secret(value)


def _as_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        _wrong("must be a text that is not empty")
    return value


def _as_name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        _wrong("must be 1 to 200 characters of A-Z a-z 0-9 . _ -")
    return value


def _as_namespace(value: object) -> str:
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        _wrong("must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
    return value


def _as_file(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        _wrong("must be the path of a file")
    return Path(value)


def _as_address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not colon or not port.isascii() or not port.isdigit() or int(port) > 2**16 - 1:
        _wrong("must be host:port, as in 127.0.0.1:8081")
    return Address(host, int(port))


def _as_list(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable):
        _wrong("must be a list, or a text with commas between its items")
    items = tuple(items)
    if not all(isinstance(item, str) for item in items):
        _wrong("must be a list of texts")
    return tuple(stripped for item in items if (stripped := item.strip()))


def _as_networks(value: object) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(network)) for network in _as_list(value))
    except ValueError:
        _wrong("must be networks with commas between them, as in 10.0.0.0/8,fd00::/8")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        text = str(value).strip() if type(value) in (int, str) else ""
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not low <= int(text) <= high:
            _wrong(f"must be a whole number from {low} to {high}")
        return int(text)

    return convert


def _choice(kind: type[StrEnum]) -> Callable[[object], StrEnum]:
    def convert(value: object) -> StrEnum:
        try:
            return kind(str(value))
        except ValueError:
            _wrong(f"must be one of: {', '.join(kind)}")

    return convert


def _or_none(convert: Callable[[object], object]) -> Callable[[object], object]:
    def convert_unless_none(value: object) -> object:
        return None if value is None else convert(value)

    return convert_unless_none


def _field(
    convert: Callable[[Any], Any],
    default: object,
    help_text: str,
    *,
    may_be_absent: bool = False,
    is_secret: bool = False,
) -> Any:
    return attrs.field(
        default=default,
        converter=_or_none(convert) if may_be_absent else convert,
        metadata={"help": " ".join(help_text.split()), "is_secret": is_secret},
    )


def url(default: str | None, help_text: str) -> Any:
    """Declare a URL; None means that it may be absent."""
    return _field(_as_url, default, help_text, may_be_absent=default is None)


def secret(help_text: str) -> Any:
    """Declare a secret: masked wherever it is shown, and without a default."""
    return _field(_as_secret, None, help_text, may_be_absent=True, is_secret=True)


def text(default: str | None, help_text: str) -> Any:
    """Declare a plain text."""
    return _field(_as_text, default, help_text, may_be_absent=default is None)


def name(default: str | None, help_text: str) -> Any:
    """Declare a topic's, queue's or group's name."""
    return _field(_as_name, default, help_text, may_be_absent=default is None)


def namespace(default: str, help_text: str) -> Any:
    """Declare what the gate's keys begin with."""
    return _field(_as_namespace, default, help_text)


def file(help_text: str) -> Any:
    """Declare a file's path that may be absent."""
    return _field(_as_file, None, help_text, may_be_absent=True)


def address(default: str, help_text: str) -> Any:
    """Declare a host and port to listen on."""
    return _field(_as_address, default, help_text)


def texts(help_text: str) -> Any:
    """Declare a list of texts, empty by default; with commas in the environment."""
    return _field(_as_list, (), help_text)


def networks(help_text: str) -> Any:
    """Declare a list of networks, empty by default."""
    return _field(_as_networks, (), help_text)


def whole(default: int, low: int, high: int, help_text: str) -> Any:
    """Declare a whole number with its bounds."""
    return _field(_whole(low, high), default, help_text)


def choice(default: StrEnum | None, kind: type[StrEnum], help_text: str) -> Any:
    """Declare one of a closed set of words."""
    return _field(_choice(kind), default, help_text, may_be_absent=default is None)
