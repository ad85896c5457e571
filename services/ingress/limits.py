"""What a client may use: counts, rates and times. Pure but for the clock that callers pass in; nothing here grows without bound (P10).

An attacker controls how many connections there are, from how many addresses, and everything that is counted here.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

import msgspec

from shared.settings import Settings, seconds

SPARE_DESCRIPTORS = 100
"""Open files kept for the bus, the stores and connections that are being turned away, of those the process may have."""

MAX_RATE_ENTRIES = 100_000
"""Client addresses whose rate is remembered."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one session; times in seconds, sizes in octets. Those without a setting carry Postfix's defaults."""

    max_size: int
    max_header_size: int
    max_recipients: int
    inline_limit: int
    command_timeout: float
    session_timeout: float
    accept_timeout: float
    data_min_rate: int
    data_grace: float = 30.0
    junk_commands: int = 100
    errors: int = 20
    bad_bytes: int = 3
    tarpit_after: int = 10
    tarpit: float = 1.0
    greeting_pause: float = 0.01
    linger: float = 2.0
    max_held: int = 64 * 1024 * 1024

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the settings say."""
        return cls(
            max_size=settings.max_size,
            max_header_size=settings.max_header_size,
            max_recipients=settings.max_recipients,
            inline_limit=settings.inline_limit,
            command_timeout=seconds(settings.command_timeout),
            session_timeout=seconds(settings.session_timeout),
            accept_timeout=seconds(settings.accept_timeout),
            data_min_rate=settings.data_min_rate,
        )


def network_of(ip: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 one, of which anybody has 2**64 addresses."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def connection_limit(wanted: int, descriptors: int) -> int:
    """Connections that can be held with so many file descriptors: running out of them would stop the bus and the stores too."""
    return max(1, min(wanted, descriptors - SPARE_DESCRIPTORS))


class Crowd:
    """Open connections, in all and by client."""

    def __init__(self, *, total: int, per_client: int) -> None:
        self.total = total
        self._per_client = per_client
        self._open: Counter[str] = Counter()
        self._count = 0

    @property
    def count(self) -> int:
        """Connections that were admitted and are open."""
        return self._count

    def admit(self, ip: str) -> bool:
        """Count a new connection; False, and nothing counted, where it is one too many."""
        client = network_of(ip)
        if self._count >= self.total or self._open[client] >= self._per_client:
            if not self._open[client]:
                del self._open[client]
            return False
        self._open[client] += 1
        self._count += 1
        return True

    def leave(self, ip: str) -> None:
        """An admitted connection has ended."""
        client = network_of(ip)
        self._open[client] -= 1
        self._count -= 1
        if not self._open[client]:
            del self._open[client]


class Room:
    """Octets of messages that are not on the bus yet, of all clients together: thousands of clients that stop in the middle of theirs may
    not fill the memory (P10)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether only small messages are still taken."""
        return self.held > self._most


class Share:
    """What one message has of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0

    def hold(self, octets: int) -> None:
        """The message is so many octets in memory now."""
        self._room.held += octets - self._held
        self._held = octets


class Pace:
    """Messages a minute from one client, by the generic cell rate algorithm: one number a client, a burst of a minute's worth."""

    def __init__(self, per_minute: int) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._due: dict[str, float] = {}

    def allows(self, ip: str, now: float) -> bool:
        """Count a message at `now` (monotonic seconds); False where it is one too many, which is not counted."""
        if not self._interval:
            return True
        client = network_of(ip)
        due = max(self._due.pop(client, now), now)
        allowed = due - now <= 60.0 - self._interval
        self._due[client] = due + self._interval if allowed else due
        if len(self._due) > MAX_RATE_ENTRIES:
            self._forget(now)
        return allowed

    def _forget(self, now: float) -> None:
        """Drop the clients that have nothing on their account, and the longest unseen of the rest."""
        self._due = {client: due for client, due in self._due.items() if due > now}
        while len(self._due) > MAX_RATE_ENTRIES // 2:
            del self._due[next(iter(self._due))]


class Conduct:
    """How a client behaves between two accepted messages: errors, commands that lead nowhere, lines that are no SMTP."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._errors = 0
        self._junk = 0
        self._bad_bytes = 0

    def accepted(self) -> None:
        """A message was accepted: errors and junk begin anew (bad bytes do not: no honest client sends them)."""
        self._errors = 0
        self._junk = 0

    def error(self) -> bool:
        """Count a permanent refusal; False where it was one too many."""
        self._errors += 1
        return self._errors < self._limits.errors

    def junk(self) -> bool:
        """Count a command that leads nowhere; False where it was one too many."""
        self._junk += 1
        return self._junk <= self._limits.junk_commands

    def bad_bytes(self) -> bool:
        """Count a command with bytes that no command has; False where it was one too many."""
        self._bad_bytes += 1
        return self._bad_bytes < self._limits.bad_bytes

    @property
    def pause(self) -> float:
        """Seconds to wait before the next refusal: guessing addresses is made slow."""
        return self._limits.tarpit if self._errors > self._limits.tarpit_after else 0.0
