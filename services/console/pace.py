"""How fast one token may ask: a bucket for each, in this process. Pure but for the clock, which its caller gives."""

from __future__ import annotations

from collections import OrderedDict

MOST = 10_000
"""Tokens that are remembered: whoever has not asked for longest is forgotten, with a bucket that is full again or nearly so."""
BURST = 10.0
"""Seconds' worth of requests that may come at once."""


class Pace:
    """At most `a_minute` requests a minute of each, evenly but for a burst; 0 for no limit."""

    def __init__(self, a_minute: int) -> None:
        self._rate = a_minute / 60
        self._room = max(1.0, self._rate * BURST)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, who: str, now: float) -> float:
        """0.0 and one request is counted, or the seconds until one may come. `now` is monotonic, in seconds."""
        if not self._rate:
            return 0.0
        left, at = self._buckets.pop(who, (self._room, now))
        left = min(self._room, left + (now - at) * self._rate)
        late = 0.0 if left >= 1.0 else (1.0 - left) / self._rate
        self._buckets[who] = (left if late else left - 1.0, now)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        return late
