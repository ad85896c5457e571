"""How much one sender asks of a next hop at most: HORO_HOP_CONNECTIONS and the like, and HORO_HOP_LIMITS over them for single hosts. Pure.

An entry of HORO_HOP_LIMITS is a host and what holds for it: `.google.com connections=5 messages=20`. The host is the server's name (for MX the
exchanger's, because many domains share one); `.suffix` stands for all hosts under it, as in HORO_ROUTES.
"""

from __future__ import annotations

import msgspec


class LimitsError(Exception):
    """Limits that cannot be understood."""


class Limits(msgspec.Struct, frozen=True):
    """For one next hop and one sender process: connections, transactions over one connection, messages and recipients a second (0: no limit)."""

    connections: int = 30
    transactions: int = 1000
    messages: int = 0
    recipients: int = 0


class LimitTable(msgspec.Struct, frozen=True):
    """Limits by host: an exact name wins over a `.suffix`, a longer suffix over a shorter, the default comes last."""

    default: Limits
    exact: dict[str, Limits] = {}
    suffix: dict[str, Limits] = {}

    @classmethod
    def parse(cls, text: str, *, default: Limits) -> LimitTable:
        """Read HORO_HOP_LIMITS (comma or new line separated) over a default. Raises `LimitsError`."""
        table = cls(default=default, exact={}, suffix={})
        for part in text.replace("\n", ",").split(","):
            host, *words = part.lower().split() or [""]
            if not host:
                continue
            where = table.suffix if host.startswith(".") else table.exact
            if not words or not host.strip(".") or host in where:
                raise LimitsError(
                    f"{part.strip()!r} names no limits, or names its host again: write example.com connections=5 messages=20"
                )
            where[host] = msgspec.structs.replace(default, **dict(_limit(word) for word in words))
        return table

    def of(self, host: str) -> Limits:
        """The limits of a host (name or address, any case)."""
        host = host.lower()
        if not self.suffix and not self.exact:
            return self.default
        if (found := self.exact.get(host)) is not None:
            return found
        _, dot, rest = host.partition(".")
        while dot:
            if (found := self.suffix.get(f".{rest}")) is not None:
                return found
            _, dot, rest = rest.partition(".")
        return self.default


def _limit(word: str) -> tuple[str, int]:
    name, _, number = word.partition("=")
    lowest = 1 if name in ("connections", "transactions") else 0
    if (
        name not in Limits.__struct_fields__
        or not (number.isascii() and number.isdigit())
        or not lowest <= int(number[:9]) <= 1_000_000
    ):
        raise LimitsError(
            f"{word!r} is no limit: write connections=, transactions=, messages= or recipients= and a number from {lowest} to 1000000"
        )
    return name, int(number[:9])
