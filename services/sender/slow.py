"""Channels that keep a caller waiting, and how many of the threads they may have: one group's dead webhooks must not hold up everybody's chats (P7).

Pure but for its memory, which is bounded (P10): a channel is slow when its last call took long, and stays so until a call that did not. A restart
begins anew, at the price of one long call each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

LONG = 2.0
"""Seconds after which a call was a long one."""
REMEMBERED = 10_000
"""Slow channels that are known; the one that was called longest ago is forgotten first."""


class Slow:
    """Knows slow channels by their labels, and lets at most `most` calls to such be under way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, None] = OrderedDict()
        self._under_way = 0

    @contextmanager
    def place(self, label: str) -> Iterator[bool]:
        """A place for a call to this channel; False where it is a slow one and has to wait."""
        slow = label in self._known
        free = not slow or self._under_way < self._most
        self._under_way += slow and free
        try:
            yield free
        finally:
            self._under_way -= slow and free

    def took(self, label: str, seconds: float) -> None:
        """A call to this channel took so long."""
        self._known.pop(label, None)
        if seconds > LONG:
            self._known[label] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
