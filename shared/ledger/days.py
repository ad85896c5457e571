"""What domains with a quota have sent, day by day: counted where a message is accepted, and only for domains that have such a quota."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import msgspec


class Sent(msgspec.Struct, frozen=True):
    """What a domain sends, or has sent on a day: messages, and the recipients that their groups had when they were accepted."""

    messages: int = 0
    recipients: int = 0


class Days(Protocol):
    """The part of the ledger that counts for quotas. Every method raises `LedgerUnavailable`."""

    async def spend(self, domain: str, day: str, sent: Sent, most: Sent) -> bool:
        """Count it, unless the day would then have more than `most` (0: no limit); whether it was counted. Of two at once one waits for the other."""

    async def give_back(self, domain: str, day: str, sent: Sent) -> None:
        """What was spent was not sent after all."""

    async def spent(self, domain: str, day: str) -> Sent:
        """What the domain has sent on that day."""


def day_of(at: float) -> str:
    """The day of a time, UTC, as "2026-11-23"."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()
