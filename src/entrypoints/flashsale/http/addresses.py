"""Where a request came from: what the socket says, and what proxies that we trust say further."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from flashsale.http.parts import RawHeaders, Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
IPV6_PREFIX = 64
"""One household or server has that many addresses to itself, so that they count as one."""


class Addresses:
    """Tells a buyer's address for counting."""

    def __init__(self, trusted: tuple[Network, ...] = ()) -> None:
        """Believe `X-Forwarded-For` only from these networks."""
        self._trusted = trusted

    def __call__(self, scope: Scope) -> str | None:
        """Answer the address; None where the connection has none, as on a Unix socket."""
        client = scope.get("client")
        if not client:
            return None
        peer = parsed(client[0])
        if peer is None:
            return None
        if self._trusted and self._is_trusted(peer):
            return counted(self._forwarded(scope["headers"]) or peer)
        return counted(peer)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _forwarded(self, headers: RawHeaders) -> Address | None:
        """Find the right-most hop that is no proxy of ours; None where one cannot be read.

        Each proxy writes at the right whom it heard from. What stands left of the first stranger
        is that stranger's own word, and is not looked at.
        """
        lines = [value for name, value in headers if name == b"x-forwarded-for"]
        hops = b",".join(lines).decode("latin-1").split(",")
        farthest = None
        for hop in reversed(hops):
            address = parsed(hop.strip())
            if address is None or not self._is_trusted(address):
                return address
            farthest = address
        return farthest


def parsed(text: str) -> Address | None:
    """Read an address, perhaps with a port behind it; one of IPv4 inside IPv6 is that of IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def counted(address: Address) -> str:
    """Name what is counted: an IPv4 address, or an IPv6 network."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), IPV6_PREFIX), strict=False))
    return str(address)
