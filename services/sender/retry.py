"""When a recipient is tried again. Pure: decides, does nothing.

The bus rounds a delay up to a step of its topology, so jitter is taken off, never put on: 66 seconds would become five minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

JITTER = 0.1
"""The share of a delay that may be taken off, so that what failed together does not come back together."""

UNKNOWN_FLOOR = 900.0
"""Seconds before a batch is tried again whose reply to the final dot was lost: it may have been delivered, so nobody hurries to repeat it."""


def next_attempt(attempt: int, age: float, schedule: Sequence[float], max_age: float, rng: Random) -> float | None:
    """Seconds until the attempt after `attempt` (counted from 0) of a post `age` seconds old; None when its time is up.

    A post expires by age only after two attempts at least: a clock that jumps, or a queue that stood still for a week, must not
    fail what was hardly tried.
    """
    if attempt >= 1 and age >= max_age:
        return None
    return _step(attempt, schedule) * (1 - JITTER * rng.random())


def after_unknown(attempt: int, age: float, schedule: Sequence[float], max_age: float) -> float | None:
    """As `next_attempt` for a lost reply to the final dot: not before 15 minutes, or the longest step of a schedule that is shorter."""
    if attempt >= 1 and age >= max_age:
        return None
    return max(_step(attempt, schedule), min(UNKNOWN_FLOOR, max(schedule)))


def _step(attempt: int, schedule: Sequence[float]) -> float:
    return schedule[min(attempt, len(schedule) - 1)]
