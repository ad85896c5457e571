"""Which servers take mail for a domain: MX, else A/AAAA (RFC 5321 5.1), null MX (RFC 7505), never ourselves.

The DNS is the domain owner's word: it may point anywhere, this very host included. Time-outs and SERVFAIL are temporary, NXDOMAIN is
final. Answers are kept for their TTL within bounds, so that neither a TTL of a week nor one of zero does harm.
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
import dns.resolver
import msgspec

from services.sender.answers import (
    BAD_DOMAIN,
    LOOP_TO_SELF,
    NO_DOMAIN,
    NO_EXCHANGER,
    NO_MAIL,
    Broken,
    dns_trouble,
)
from shared.replies import Reply

LIFETIME = 20.0
"""Seconds for one question, repetitions and all servers included."""

SHORTEST, LONGEST = 30.0, 3600.0
"""Bounds of the TTL that is believed, seconds."""

MOST_DOMAINS = 10_000
MOST_EXCHANGERS = 8
"""Addresses tried for one domain; a domain with hundreds of exchangers must not keep us dialling."""


class Exchanger(msgspec.Struct, frozen=True):
    """A server for a domain: its name (for TLS) and one address to dial."""

    name: str
    address: str


class _Known(msgspec.Struct):
    """What a domain's lookup ended with: exchangers, or the reply that its recipients get."""

    until: float
    exchangers: tuple[tuple[int, Exchanger], ...] = ()
    verdict: Reply | None = None


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
        self._resolver = resolver
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def find(self, domain: str) -> Sequence[Exchanger]:
        """The servers of a domain (lower case A-label) in the order in which to try them; equals in random order, anew each time.

        Raises `Broken` with what it means for the recipients: permanent where the domain has no mail, temporary where DNS has trouble.
        """
        known = self._known.get(domain)
        if known is None or known.until <= self._clock():
            known = await self._look_up(domain)
            if len(self._known) >= MOST_DOMAINS:
                self._known.clear()  # a cache: starting over costs a few questions
            self._known[domain] = known
        if known.verdict is not None:
            raise Broken(known.verdict)
        shuffled = sorted(known.exchangers, key=lambda entry: (entry[0], self._rng.random()))
        return [exchanger for _, exchanger in shuffled[:MOST_EXCHANGERS]]

    async def _look_up(self, domain: str) -> _Known:
        """Ask, and turn the answer into what is kept. Temporary trouble is raised, never kept."""
        try:
            name = dns.name.from_text(domain)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            return self._verdict(BAD_DOMAIN)
        if domain.startswith("[") or len(name) < 2:
            return self._verdict(
                BAD_DOMAIN
            )  # address literals are not routed: a member must not name a host of the inner net
        try:
            records, ttl = await self._exchangers(name)
        except dns.resolver.NXDOMAIN:
            return self._verdict(NO_DOMAIN)
        if any(exchange == dns.name.root for _, exchange in records):
            return self._verdict(NO_MAIL)
        return await self._addresses(records, ttl)

    def _verdict(self, reply: Reply) -> _Known:
        return _Known(until=self._clock() + SHORTEST * 2, verdict=reply)

    async def _exchangers(self, name: dns.name.Name) -> tuple[list[tuple[int, dns.name.Name]], float]:
        """(preference, exchanger) of a domain, by preference, and the TTL; the domain itself where it has no MX."""
        answer = await self._ask(name, dns.rdatatype.MX)
        if answer is None or answer.rrset is None:
            return [(0, name)], SHORTEST
        records = sorted((record.preference, record.exchange) for record in answer)
        own = [preference for preference, exchange in records if self._is_own_name(exchange)]
        if own:  # we are a backup of this domain: only better exchangers than ourselves may get it (RFC 5321 5.1)
            records = [record for record in records if record[0] < min(own)]
        return records, float(answer.rrset.ttl)

    async def _addresses(self, records: Sequence[tuple[int, dns.name.Name]], ttl: float) -> _Known:
        """The exchangers' addresses, cut off at the first that is ours."""
        if not records:
            return self._verdict(LOOP_TO_SELF)
        found: list[tuple[int, Exchanger]] = []
        own: int | None = None
        trouble: Broken | None = None
        for preference, exchange in records[: MOST_EXCHANGERS * 2]:
            if own is not None and preference >= own:
                break
            shown = exchange.to_text(omit_final_dot=True).lower()
            try:
                addresses, shortest = await self._hosts(exchange)
            except Broken as broken:
                trouble = broken
                continue
            ttl = min(ttl, shortest)
            if any(self._own(address) for address in addresses):
                own = preference
            found.extend((preference, Exchanger(shown, address)) for address in addresses)
        usable = tuple(entry for entry in found if own is None or entry[0] < own)
        if usable:
            return _Known(until=self._clock() + min(max(ttl, SHORTEST), LONGEST), exchangers=usable)
        if own is not None:
            return self._verdict(LOOP_TO_SELF)
        if trouble is not None:
            raise trouble
        return self._verdict(NO_EXCHANGER)

    async def _hosts(self, exchange: dns.name.Name) -> tuple[list[str], float]:
        """All addresses of a host, IPv4 first, and the shorter TTL. Raises `Broken` where DNS has trouble and none is known."""
        answers = await asyncio.gather(
            self._ask(exchange, dns.rdatatype.A), self._ask(exchange, dns.rdatatype.AAAA), return_exceptions=True
        )
        addresses: list[str] = []
        ttl = LONGEST
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, (Broken, dns.resolver.NXDOMAIN)):
                raise answer
            if isinstance(answer, dns.resolver.Answer) and answer.rrset is not None:
                addresses.extend(record.address for record in answer)
                ttl = min(ttl, float(answer.rrset.ttl))
        trouble = next((answer for answer in answers if isinstance(answer, Broken)), None)
        if trouble is not None and not addresses:
            raise trouble
        return [address for address in addresses if _dialable(address)], ttl

    async def _ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer | None:
        """The answer, or None where the name has no such record. Raises NXDOMAIN; `Broken` (temporary) for all other trouble."""
        try:
            resolver = self._resolver or self._default()
            return await resolver.resolve(name, kind, lifetime=LIFETIME, search=False)
        except dns.resolver.NoAnswer:
            return None
        except dns.resolver.NXDOMAIN:
            raise
        except (dns.exception.DNSException, OSError) as error:
            raise Broken(dns_trouble(type(error).__name__)) from error

    def _default(self) -> dns.asyncresolver.Resolver:
        """The system's resolver, read when first needed: most installations have a smarthost and never ask."""
        self._resolver = dns.asyncresolver.Resolver()
        return self._resolver

    def _is_own_name(self, exchange: dns.name.Name) -> bool:
        return exchange.to_text(omit_final_dot=True).lower() == self._hostname


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
