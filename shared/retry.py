"""When a recipient is tried again. Pure: decides, does nothing.

There is no jitter: the bus rounds a delay up to a step of its topology, which would take it away again. What failed together and comes
back together is no herd for a next hop: its connections are limited, and one that is down is dialled by one task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.topology import delay_step

UNKNOWN_FLOOR = 900.0
"""Seconds before a batch is tried again whose reply to the final dot was lost: it may have been delivered, so nobody hurries to repeat it."""


def next_attempt(attempt: int, age: float, schedule: Sequence[float], max_age: float) -> float | None:
    """Seconds until the attempt after `attempt` (counted from 0) of a post `age` seconds old; None when its time is up.

    A post expires by age only after two attempts at least: a clock that jumps, or a queue that stood still for a week, must not
    fail what was hardly tried.
    """
    if attempt >= 1 and age >= max_age:
        return None
    return _step(attempt, schedule)


def after_unknown(attempt: int, age: float, schedule: Sequence[float], max_age: float) -> float | None:
    """As `next_attempt` for a lost reply to the final dot: not before 15 minutes, or the longest step of a schedule that is shorter."""
    if attempt >= 1 and age >= max_age:
        return None
    return max(_step(attempt, schedule), min(UNKNOWN_FLOOR, max(schedule)))


def _step(attempt: int, schedule: Sequence[float]) -> float:
    return schedule[min(attempt, len(schedule) - 1)]


# --- what is still to come -------------------------------------------------------------------------------------------
class Outlook(NamedTuple):
    """How often a recipient will be tried again if nothing changes: `tries`, the first of them as recorded, the last one at about `last`."""

    tries: int
    last: float


def outlook(attempts: int, next_at: float, accepted_at: float, schedule: Sequence[float], max_age: float) -> Outlook:
    """The tries to come of a recipient after `attempts` of them, the next one due at `next_at` (seconds since the epoch), of a post accepted then.

    The settings are those of the reader; a sender's may differ. A reply that was lost delays the next try more, and so may a queue.
    """
    tries, last, attempt = 1, next_at, attempts
    while (delay := next_attempt(attempt, last - accepted_at, schedule, max_age)) is not None:
        step = max(float(delay_step(delay)), 1.0)
        more = 1
        if attempt >= len(schedule) - 1:  # from here on all steps are alike: counted, not walked
            left = accepted_at + max_age - last
            more = max(1, -int(-left // step)) if attempt >= 1 else 1
        tries += more
        last += more * step
        attempt += more
    return Outlook(tries, last)
