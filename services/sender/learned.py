"""What a server has taught us of its limits and faults, for a while: then it may have been mended, and is tried again.

Nothing here does I/O; the clock is the system's.
"""

from __future__ import annotations

import time

REMEMBERED = 600.0
"""Seconds for which a server's limits, its broken TLS or its dislike of chained transactions are remembered."""

FULL_FOR = 30.0
"""Seconds for which no more connections are tried than a server had open when it refused one more."""


class Learned:
    """Of one server. A number is None where nothing is known (any more)."""

    __slots__ = ("_numbers", "_until")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._until: dict[str, float] = {}

    @property
    def max_recipients(self) -> int | None:
        """The largest transaction that it has taken, where it refused a larger one."""
        return self._known("recipients")

    def too_many_recipients(self, accepted: int) -> None:
        """It answered 452 "too many" after `accepted` recipients."""
        self._learn("recipients", max(1, accepted))

    @property
    def max_transactions(self) -> int | None:
        """The transactions after which it ended a connection."""
        return self._known("transactions")

    def session_limit(self, transactions: int) -> None:
        """It ended a connection after so many transactions."""
        self._learn("transactions", transactions)

    @property
    def most_open(self) -> int | None:
        """The connections that it had open when it refused one more."""
        return self._known("full")

    def full(self, connections: int) -> None:
        """It refused one more connection while these were open."""
        self._learn("full", max(1, connections), FULL_FOR)

    @property
    def plain(self) -> bool:
        """Whether its TLS failed (opportunistic policy)."""
        return self._known("plain") is not None

    def tls_failed(self) -> None:
        """Its TLS failed."""
        self._learn("plain", 1)

    @property
    def chains(self) -> bool:
        """Whether transactions may be written behind the body before them: not where it closed in mid-chain, and an answer was lost with that."""
        return self._known("unchained") is None

    def unchained(self) -> None:
        """It closed in mid-chain, and an answer was lost with that."""
        self._learn("unchained", 1)

    def _learn(self, what: str, number: int, seconds: float = REMEMBERED) -> None:
        self._numbers[what] = number
        self._until[what] = time.monotonic() + seconds

    def _known(self, what: str) -> int | None:
        return self._numbers[what] if what in self._until and self._until[what] > time.monotonic() else None
