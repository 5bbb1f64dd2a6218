"""How a URL of a setting is taken apart: one way for all who read one."""

import re
from typing import Final

import attrs

_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<place>[^/?#]*)(?P<path>[^?#]*)(\?(?P<query>[^#]*))?"
)
"""By hand: newer Pythons take no list of hosts in which a later one stands in brackets."""
_HOST: Final = re.compile(
    r"(\[(?P<ipv6>[0-9A-Fa-f:.]+(%[^\[\]]+)?)\]|(?P<name>[^:\[\]]*))(:(?P<port>[0-9]{0,5}))?"
)
_PORT_MAX: Final = 65_535


@attrs.frozen
class UrlHost:
    """One host of a URL as it is written, but for its brackets; "" where none is named.

    It may be the percent-encoded folder of a socket, so that its case is kept.
    """

    name: str
    port: int | None = None

    def __str__(self) -> str:
        """Write it as in a URL."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


@attrs.frozen(repr=False)
class UrlParts:
    """`scheme://login@host:port,host:port/path?query`, still percent-encoded.

    Nothing of it shows itself: it may hold a password.
    """

    scheme: str
    login: str
    """What stands before the last @ ahead of the path; empty when there is none."""
    hosts: tuple[UrlHost, ...]
    """At least one, in the URL's order."""
    path: str
    """Its slash included."""
    query: str
    """Without its question mark."""

    @property
    def password(self) -> str:
        """Name what stands behind the login's first colon; empty when there is none."""
        return self.login.partition(":")[2]


def url_parts(url: str) -> UrlParts:
    """Take a URL apart.

    Raises ValueError with the rule that it breaks, which never repeats the URL.
    """
    found = _URL.match(url)
    if found is None:
        message = "must be a URL, as in redis://127.0.0.1:6379/0"
        raise ValueError(message)
    login, _, hosts = found["place"].rpartition("@")
    return UrlParts(
        scheme=found["scheme"],
        login=login,
        hosts=tuple(_host(text.strip()) for text in hosts.split(",")),
        path=found["path"],
        query=found["query"] or "",
    )


def _host(text: str) -> UrlHost:
    found = _HOST.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 1 <= port <= _PORT_MAX):
        message = "must be a URL; a host or port of it is malformed"
        raise ValueError(message)
    return UrlHost(found["ipv6"] or found["name"], port)
