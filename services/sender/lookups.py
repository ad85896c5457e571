"""What the domain name system says of a name, for those who check an installation: text records, and the name of an address."""

from __future__ import annotations

from typing import Any

import dns.asyncresolver
import dns.exception
import dns.resolver
import dns.reversename

PATIENCE = 5.0
"""Seconds for one question."""


class Unanswered(Exception):
    """No name server gave an answer, not even that there is nothing."""


async def texts(name: str) -> list[str]:
    """The text records of a name; none where it has none or is none. Raises `Unanswered`."""
    return [b"".join(one.strings).decode("utf-8", "replace") for one in await _asked(name, "TXT")]


async def addresses(name: str) -> list[str]:
    """Its addresses of both families. Raises `Unanswered`."""
    return [one.address for kind in ("A", "AAAA") for one in await _asked(name, kind)]


async def name_of(address: str) -> list[str]:
    """The names that an address has (PTR). Raises `Unanswered`."""
    reverse = dns.reversename.from_address(address).to_text()
    return [str(one.target).rstrip(".").lower() for one in await _asked(reverse, "PTR")]


async def _asked(name: str, kind: str) -> list[Any]:
    try:
        return list(await dns.asyncresolver.resolve(name, kind, lifetime=PATIENCE))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise Unanswered(f"{type(error).__name__}: {error}") from error
