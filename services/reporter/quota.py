"""How many reports an hour one address that is not ours may get: a forged envelope sender must not be flooded by us. Pure but for its memory.

In the process, not in the ledger: a count in SQL would be a write that all reports to one address wait for, and what is to be bounded is
a flood, not a number. Two reporters allow twice as much, and a restart begins anew. Memory is bounded (P10): the addresses that were written to
longest ago are forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict, deque

HOUR = 3600.0
ADDRESSES = 10_000
"""Addresses that are remembered."""


class Quota:
    """At most `limit` reports in any hour to one address; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sent: OrderedDict[str, deque[tuple[float, str]]] = OrderedDict()

    def allows(self, address: str, report_id: str, now: float) -> bool:
        """Whether this report may go to this address (a key) now; if so, it counts. The same report, told again, counts once."""
        if not self._limit:
            return True
        sent = self._sent.setdefault(address, deque())
        self._sent.move_to_end(address)
        while len(self._sent) > ADDRESSES:
            self._sent.popitem(last=False)
        while sent and sent[0][0] <= now - HOUR:
            sent.popleft()
        if any(known == report_id for _, known in sent):
            return True
        if len(sent) >= self._limit:
            return False
        sent.append((now, report_id))
        return True
