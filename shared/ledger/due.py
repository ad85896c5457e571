"""What waits to be told: reports that are due when a post is finished, or a while after something happened; and what they are made from.

A row of `due` is looked at again and again, by whichever reporter takes it, until it is done. Done rows stay until the sweep, so that what is
told again (a redelivery) is not due again: it is looked at once more, and finds that all is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from shared.ledger import PostSummary, Row

NEVER = 32503680000.0
"""`at` of what is done (the year 3000)."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at. `at`: when next; `since`: when it became due; `detail`: JSON of its owner's.

    `tries` counts the times it was taken, `puts` those it was said to be due: both are the ledger's, who lets only the last taker write.
    """

    id: str
    kind: str
    post_id: str
    group: str
    at: float
    since: float
    detail: str = "{}"
    tries: int = 0
    puts: int = 0


MOST_COUNTED = 100_000
"""Of a longer backlog only so many are counted: the number is for people."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in the ledger: reports that are due some time, for how many seconds the longest has been due, parked messages."""

    due: int
    late: float
    parked: int


class Dues(Protocol):
    """The part of the ledger that remembers what is due. All times are the caller's clock, seconds since the epoch."""

    async def due_put(self, due: Due) -> None:
        """Say that this is due, insert-if-absent. What is there keeps its detail and its time; what is done is looked at once more, at `due.at`."""

    async def due_take(self, now: float, *, limit: int, lease: float) -> Sequence[Due]:
        """Take what is to be looked at by `now`, the longest due first. Nobody else takes it for `lease` seconds; then it comes again."""

    async def due_keep(self, due: Due, *, at: float, detail: str) -> bool:
        """Look at it again at `at`, with this detail. False, and nothing is written, where somebody else has taken it since."""

    async def due_later(self, due: Due, *, at: float) -> None:
        """Look at it again at `at`; what was written of it stays. Nothing happens where somebody else has taken it since."""

    async def due_done(self, due: Due, *, detail: str, again: float) -> bool:
        """It is done; False where somebody else has taken it. Said to be due since it was taken: then it is looked at once more, at `again`."""

    async def due_next(self) -> float:
        """When something is to be looked at next; `NEVER` where nothing is due."""

    async def backlog(self, now: float) -> Backlog:
        """What waits, at the time `now`; of each kind at most `MOST_COUNTED` are counted."""

    async def unreached(self, post_id: str, group: str, *, limit: int) -> Sequence[Row]:
        """Recipients who were tried and did not get a copy: at most `limit` who have failed, then as many who are deferred, by key.

        Reads those slices of the post alone in which somebody failed or was put off.
        """

    async def left_out(self, post_id: str, group: str) -> Mapping[str, int]:
        """How many addresses a group's fan-out left out, by reason."""

    async def posts_between(
        self, group: str, since: float, until: float, *, after: str = "", limit: int = 100
    ) -> Sequence[PostSummary]:
        """Posts to a group that were accepted in [since, until), oldest first, after the id `after`."""
