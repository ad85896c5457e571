"""Which servers take mail for a domain: MX, else A/AAAA (RFC 5321 5.1), null MX (RFC 7505), never ourselves.

The DNS is the domain owner's word: it may point anywhere, this very host included. Time-outs and SERVFAIL are temporary, NXDOMAIN is
final. What is known of an exchanger is shared by all domains that name it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from random import Random

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import msgspec

from services.sender.answers import (
    BAD_DOMAIN,
    LOOP_TO_SELF,
    NO_DOMAIN,
    NO_EXCHANGER,
    NO_MAIL,
    Broken,
)
from services.sender.names import SHORTEST, TROUBLE_FOR, Kept, Names
from shared.replies import Reply

MOST_DOMAINS = 10_000
"""Domains remembered, and as many exchangers."""

MOST_EXCHANGERS = 8
"""Addresses tried for one domain; a domain with hundreds of exchangers must not keep us dialling."""


class Exchanger(msgspec.Struct, frozen=True):
    """A server for a domain: its name (for TLS) and one address to dial."""

    name: str
    address: str


class _Domain(msgspec.Struct, frozen=True):
    """What a domain says: its exchangers as (preference, name), or the reply that its recipients get."""

    exchangers: tuple[tuple[int, str], ...] = ()
    verdict: Reply | None = None


class _Host(msgspec.Struct, frozen=True):
    """An exchanger's addresses, IPv4 first; `trouble` where some may be missing."""

    addresses: tuple[str, ...]
    trouble: Reply | None = None
    own: bool = False


class MailExchangers:
    """Looks up and remembers. `own` says whether an address is this host's own mail server."""

    def __init__(
        self,
        *,
        hostname: str,
        own: Callable[[str], bool],
        rng: Random,
        resolver: dns.asyncresolver.Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hostname = hostname.lower().rstrip(".")
        self._own = own
        self._rng = rng
        self._names = Names(resolver)
        self._domains: Kept[_Domain] = Kept(MOST_DOMAINS, clock)
        self._hosts: Kept[_Host] = Kept(MOST_DOMAINS, clock)

    async def find(self, domain: str) -> Sequence[Exchanger]:
        """The servers of a domain (lower case A-label) in the order in which to try them; equals in random order, anew each time.

        Raises `Broken` with what it means for the recipients: permanent where the domain has no mail, temporary where DNS has trouble.
        """
        known = await self._domains.get(domain, self._look_up)
        if known.verdict is not None:
            raise Broken(known.verdict)
        found = await self._addresses(known.exchangers)
        shuffled = sorted(found, key=lambda entry: (entry[0], self._rng.random()))
        return [exchanger for _, exchanger in shuffled[:MOST_EXCHANGERS]]

    def close(self) -> None:
        """End the lookups in flight."""
        self._domains.close()
        self._hosts.close()

    # --- the domain -------------------------------------------------------------------------------------------------
    async def _look_up(self, domain: str) -> tuple[_Domain, float]:
        """What a domain says, and for how many seconds."""
        try:
            name = dns.name.from_text(domain)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            return _Domain(verdict=BAD_DOMAIN), SHORTEST
        if domain.startswith("[") or len(name) < 2:
            # address literals are not routed: a member must not name a host of the inner net
            return _Domain(verdict=BAD_DOMAIN), SHORTEST
        try:
            answer = await self._names.ask(name, dns.rdatatype.MX)
        except Broken as broken:
            return _Domain(verdict=broken.reply), TROUBLE_FOR
        if not answer.exists:
            return _Domain(verdict=NO_DOMAIN), answer.seconds
        if any(record.exchange == dns.name.root for record in answer.found):
            return _Domain(verdict=NO_MAIL), answer.seconds
        records = sorted((record.preference, _shown(record.exchange)) for record in answer.found) or [(0, _shown(name))]
        return self._without_us(records), answer.seconds

    def _without_us(self, records: list[tuple[int, str]]) -> _Domain:
        """We may be a backup of this domain: only better exchangers than ourselves may get its mail (RFC 5321 5.1)."""
        ours = [preference for preference, exchange in records if exchange == self._hostname]
        usable = [record for record in records if not ours or record[0] < min(ours)]
        return _Domain(exchangers=tuple(usable[: MOST_EXCHANGERS * 2]), verdict=None if usable else LOOP_TO_SELF)

    # --- its exchangers ---------------------------------------------------------------------------------------------
    async def _addresses(self, records: Sequence[tuple[int, str]]) -> list[tuple[int, Exchanger]]:
        """The exchangers' addresses, cut off at the first that is ours. Raises `Broken` where none is left."""
        found: list[tuple[int, Exchanger]] = []
        own: int | None = None
        trouble: Reply | None = None
        for preference, exchange in records:
            if own is not None and preference >= own:
                break
            host = await self._hosts.get(exchange, self._host)
            if host.own:
                own = preference
            trouble = trouble or (host.trouble if not host.addresses else None)
            found.extend((preference, Exchanger(exchange, address)) for address in host.addresses)
        usable = [entry for entry in found if own is None or entry[0] < own]
        if not usable:
            raise Broken(LOOP_TO_SELF if own is not None else trouble or NO_EXCHANGER)
        return usable

    async def _host(self, exchange: str) -> tuple[_Host, float]:
        """All addresses of a host, and for how many seconds they hold."""
        name = dns.name.from_text(exchange)
        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        answers = await asyncio.gather(*(self._names.ask(name, kind) for kind in kinds), return_exceptions=True)
        addresses: list[str] = []
        seconds: list[float] = []
        trouble: Reply | None = None
        for answer in answers:
            if isinstance(answer, Broken):
                trouble = answer.reply
            elif isinstance(answer, BaseException):
                raise answer
            else:
                addresses += [record.address for record in answer.found]
                seconds.append(answer.seconds)
        own = any(self._own(address) for address in addresses)
        host = _Host(tuple(address for address in addresses if _dialable(address)), trouble, own)
        return host, TROUBLE_FOR if trouble is not None else min(seconds)


def _shown(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _dialable(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_unspecified or parsed.is_multicast)


def is_local(address: str) -> bool:
    """Whether an address belongs to this machine: only then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
