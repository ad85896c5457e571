"""Questions to the DNS: one in flight for each name, so many in all, and answers kept for as long as they say, within bounds.

What is asked and what is answered is the word of whoever owns a domain: neither a TTL of a week nor one of zero, neither ten thousand domains nor
a silent name server may do harm. "There is none" is kept as long as the zone says (RFC 2308), trouble for a few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import msgspec

from services.sender.answers import Broken, dns_trouble

LIFETIME = 20.0
"""Seconds for one question, repetitions and all servers included."""

SHORTEST, LONGEST = 30.0, 3600.0
"""Bounds of the TTL that is believed, seconds."""

LONGEST_NO = 900.0
"""The longest that "there is none" is believed, seconds: somebody may be setting the domain up just now."""

TROUBLE_FOR = 10.0
"""Seconds for which trouble is kept: every batch of a domain whose name servers are silent would wait for them otherwise."""

MOST_QUESTIONS = 64
"""Questions in flight at a time; a post to ten thousand domains is not to look like an attack on our resolver."""

V = TypeVar("V")


class Kept(Generic[V]):
    """Answers by name: one lookup in flight for each, kept for their time; of more than `most` the one used longest ago is dropped."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._known: OrderedDict[str, tuple[V, float]] = OrderedDict()
        self._flying: dict[str, asyncio.Task[V]] = {}

    async def get(self, name: str, look_up: Callable[[str], Awaitable[tuple[V, float]]]) -> V:
        """What is known of `name`, else what `look_up` finds, with the seconds for which that holds. Raises what it raises."""
        known = self._known.get(name)
        if known is not None and known[1] > self._clock():
            self._known.move_to_end(name)
            return known[0]
        task = self._flying.get(name)
        if task is None:
            task = self._flying[name] = asyncio.ensure_future(self._fly(name, look_up))
            task.add_done_callback(_looked_at)
        return await asyncio.shield(task)  # others may wait for the same answer

    async def _fly(self, name: str, look_up: Callable[[str], Awaitable[tuple[V, float]]]) -> V:
        try:
            value, seconds = await look_up(name)
        finally:
            del self._flying[name]
        self._known[name] = (value, self._clock() + seconds)
        self._known.move_to_end(name)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._known)

    def close(self) -> None:
        """End the lookups in flight."""
        for task in list(self._flying.values()):
            task.cancel()


def _looked_at(task: asyncio.Task[Any]) -> None:
    """A failure is told to those who wait; where nobody does any more, it is not to be reported as forgotten."""
    if not task.cancelled():
        task.exception()


class Records(msgspec.Struct, frozen=True):
    """The records of one type under one name (none at all, or `exists` false where there is no such name) and how long that holds, seconds."""

    found: tuple[Any, ...]
    seconds: float
    exists: bool = True


class Names:
    """Asks. `resolver` is the system's unless given, read when first needed: most installations have a smarthost and never ask."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._resolver = resolver
        self._room = asyncio.Semaphore(MOST_QUESTIONS)

    async def ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> Records:
        """The records, aliases followed. Raises `Broken` (temporary) for trouble."""
        if self._resolver is None:
            self._resolver = dns.asyncresolver.Resolver()
        try:
            async with self._room:
                answer = await self._resolver.resolve(
                    name, kind, lifetime=LIFETIME, search=False, raise_on_no_answer=False
                )
        except dns.resolver.NXDOMAIN as error:
            responses = cast(dict[dns.name.Name, dns.message.QueryMessage], error.responses())  # type: ignore[no-untyped-call]
            return Records((), min((_no_for(each) for each in responses.values()), default=SHORTEST), exists=False)
        except (dns.exception.DNSException, OSError) as error:
            raise Broken(dns_trouble(type(error).__name__)) from error
        if answer.rrset is None:
            return Records((), _no_for(answer.response))
        return Records(tuple(answer), min(max(float(answer.chaining_result.minimum_ttl), SHORTEST), LONGEST))


def _no_for(response: dns.message.QueryMessage) -> float:
    """Seconds for which a "no" holds: by the zone's SOA where the answer has it."""
    if not any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority):
        return SHORTEST
    return min(max(float(response.resolve_chaining().minimum_ttl), SHORTEST), LONGEST_NO)
