"""What is to be done about a member, by the failures that are kept of the address. Pure.

A day counts once. What a server told us, and what came to the member's own bounce address, is sure. What came to the address that every member knows
may be forged by any of them: it asks the member, by a probe, and suspends nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from shared.identity import derive, new_id
from shared.ledger.bounces import Failure, Probe, Source

DAY = 86400.0
WINDOW = 30 * DAY
"""Seconds within which failures count together."""
PROBE_LASTS = 7 * DAY
"""Seconds until a probe that did not come back has arrived; a member gets one in so long."""


class Judgment(StrEnum):
    """What is to be done."""

    NOTHING = "nothing"
    PROBE = "probe"
    SUSPEND = "suspend"


def in_window(failures: Sequence[Failure]) -> list[Failure]:
    """Those that count together with the last, oldest first."""
    last = max((failure.at for failure in failures), default=0.0)
    return sorted((failure for failure in failures if failure.at > last - WINDOW), key=lambda one: (one.day, one.at))


def since(failures: Sequence[Failure], success: float | None) -> list[Failure]:
    """Those that came after a success."""
    return [failure for failure in failures if success is None or failure.at > success]


def after_probe(failures: Sequence[Failure], probe: Probe) -> list[Failure]:
    """What is left when a probe has arrived: what came after it, and of hearsay, what came when that was known."""
    return [
        failure
        for failure in failures
        if failure.at > probe.at + (PROBE_LASTS if failure.source is Source.HEARSAY else 0.0)
    ]


def enough(failures: Sequence[Failure], days: int) -> bool:
    """Whether there are so many days that something may have to be done."""
    return len({failure.day for failure in failures}) >= days


def judge(failures: Sequence[Failure], days: int) -> tuple[Judgment, Sequence[Failure]]:
    """What is to be done, and the failures that it is done for: the first of so many days, so that who judges again judges the same."""
    sure = _by_day([failure for failure in failures if failure.source is not Source.HEARSAY])
    if len(sure) >= days:
        return Judgment.SUSPEND, sure[:days]
    told = _by_day(failures)
    return (Judgment.PROBE, told[:days]) if len(told) >= days else (Judgment.NOTHING, ())


def _by_day(failures: Sequence[Failure]) -> list[Failure]:
    found: dict[str, Failure] = {}
    for failure in sorted(failures, key=lambda one: one.at):
        found.setdefault(failure.day, failure)
    return [found[day] for day in sorted(found)]


def identity(failures: Sequence[Failure], what: str) -> str:
    """The id of what is done for these failures of one member: the same for whoever does it, another once the member was brought back."""
    first = failures[0]
    return derive(new_id(first.at)[:10], first.group, first.member, what, *(repr(failure.at) for failure in failures))
