"""Which addresses a channel may reach: the public Internet's, and those networks that the operator names. Pure.

An attacker controls the name and all that it resolves to. Not public are loopback, private, link-local (cloud metadata among them), shared, reserved
and multicast addresses, in whatever form they are written: what is checked is the address that is going to be connected to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")
"""For protocols' own use (RFC 6890); clouds keep services of theirs there."""
_TUNNELS = (ipaddress.IPv6Network("2001::/32"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""Teredo and local NAT64: where they end nobody can tell."""

WEB_PORTS = (80, 443)
FIRST_FREE_PORT = 1024
"""Ports below it are other protocols', which a request could be smuggled into."""
OTHER_PROTOCOLS = frozenset(
    {
        *(1433, 1521, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5671, 5672, 5900, 6379, 6380, 6443),
        *(9042, 9092, 9200, 9300, 10250, 11211, 15692, 25672, 26379, 27017),
    }
)
"""Databases, queues and the like that listen on high ports."""


def networks(text: str) -> tuple[Network, ...]:
    """HORO_CHANNEL_NETWORKS as networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def permitted(address: str, allowed: Sequence[Network], *, plain: bool) -> bool:
    """Whether a channel may reach this address (as `getaddrinfo` writes it); `plain`: without TLS, which the operator's own networks alone may."""
    try:
        found = _reached(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if any(found.version == network.version and found in network for network in allowed):
        return True
    return not plain and _public(found)


def port_permitted(port: int) -> bool:
    """Whether a channel may be at this port: the web's two, or a high one that is not known to be something else's."""
    return port in WEB_PORTS or (FIRST_FREE_PORT <= port <= 65535 and port not in OTHER_PROTOCOLS)


def _reached(address: Address) -> Address:
    """The address at which a packet to this one arrives: that of IPv4 where IPv6 only wraps it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _public(address: Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_loopback:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return not address.is_site_local and not any(address in tunnel for tunnel in _TUNNELS)
    return address not in _PROTOCOLS
