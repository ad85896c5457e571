"""How much a next hop is asked for at a time. Pure: numbers and times in, decisions out; the clock is the caller's.

A window of connections starts small, grows while it is used up and transactions succeed, and shrinks where the next hop pushes back (as
TCP does, RFC 5681: slow start, then additive increase, multiplicative decrease). A circuit keeps everybody but one from dialling a server
that cannot be reached. A meter holds a rate that the operator has set. `next_lane` shares connections between the lanes (P7).
A next hop controls all of what these hear, and can only make itself slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from shared.messages import Lane
from shared.replies import Reply

State = Literal["up", "down", "unsure"]

START = 4
"""Connections towards a next hop that nothing is known of."""

CALM = 600.0
"""Seconds without push-back after which growth is fast again up to the limit."""

EXPRESS_RUN = 8
"""Connections given to the express lane in a row while bulk, which has none, waits."""

DOWN_FIRST, DOWN_LONGEST = 2.0, 30.0
"""Seconds without a dial after a failed one; doubled while it goes on failing."""


class Window:
    """Connections that one next hop gets, between 1 and `limit`."""

    __slots__ = ("_shrunk_at", "_size", "_threshold", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._size = float(min(START, limit))
        self._threshold = float(limit)
        self._shrunk_at = -math.inf

    @property
    def size(self) -> int:
        """The connections that may be used now."""
        return int(self._size)

    def succeeded(self, now: float, *, used_up: bool) -> None:
        """A transaction came to its end at time `now` (seconds). Growth needs proof: a window that is not `used_up` stays."""
        if not used_up:
            return
        if now - self._shrunk_at > CALM:
            self._threshold = float(self.limit)
        self._size = min(self._size + (1.0 if self._size < self._threshold else 1.0 / self._size), float(self.limit))

    def pushed_back(self, begun: float, now: float) -> None:
        """A transaction begun at `begun` was told to go slower. What began before the last decrease tells nothing new."""
        if begun < self._shrunk_at:
            return
        self._size = self._threshold = max(1.0, self._size / 2)
        self._shrunk_at = now

    def restart(self) -> None:
        """The next hop is back after it was down: no herd, it is given one connection first."""
        self._size = 1.0
        self._threshold = max(1.0, self.limit / 2)


def room(window: int, limit: int) -> tuple[int, int]:
    """(connections that bulk may use, connections that both lanes may use together) of a window.

    Bulk gets three quarters, and express always finds one more than bulk can hold, be the window as small as one (P7).
    """
    bulk = max(1, window - math.ceil(window / 4))
    return bulk, min(limit, max(window, bulk + 1))


def next_lane(waiting: Sequence[bool], used: Sequence[int], window: int, limit: int, express_run: int) -> Lane | None:
    """Which lane gets the next connection, None for neither. `waiting` and `used` are (express, bulk); `express_run` counts the connections
    that express was given in a row: it goes first, but not for ever while bulk has nothing."""
    express, bulk = waiting
    bulk_room, all_room = room(window, limit)
    if sum(used) >= all_room:
        return None
    bulk = bulk and used[1] < bulk_room
    if bulk and (not express or (used[1] == 0 and express_run >= EXPRESS_RUN)):
        return Lane.BULK
    return Lane.EXPRESS if express else None


class Meter:
    """A rate (per second, 0 for none) that is held over time; what does not fit into a second's allowance is owed, and those after it wait."""

    __slots__ = ("_clear_at", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._clear_at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until more may be sent."""
        return max(0.0, self._clear_at - 1.0 - now) if self._rate else 0.0

    def spend(self, amount: int, now: float) -> None:
        """So much is sent."""
        if self._rate:
            self._clear_at = max(self._clear_at, now) + amount / self._rate

    @property
    def most(self) -> int | None:
        """The most that is sent at once: a second's worth, at least one; None for no limit."""
        return max(1, int(self._rate)) if self._rate else None


class Circuit:
    """Whether a server can be reached. Down: nobody dials. Unsure: one does, to see whether it is back."""

    __slots__ = ("failures", "until", "why")

    def __init__(self) -> None:
        self.why: Reply | None = None
        self.until = -math.inf
        self.failures = 0

    def state(self, now: float) -> State:
        """At time `now`, seconds."""
        if self.why is None:
            return "up"
        return "down" if now < self.until else "unsure"

    def failed(self, why: Reply, now: float) -> None:
        """A dial came to nothing. Of several dials that were on their way together the first counts."""
        if self.state(now) == "down":
            return
        self.failures += 1
        self.why = why
        self.until = now + min(DOWN_FIRST * 2.0 ** min(self.failures - 1, 10), DOWN_LONGEST)

    def connected(self) -> bool:
        """A dial succeeded; whether the server had been down."""
        was_down, self.why, self.failures = self.why is not None, None, 0
        return was_down
