"""What became of posts, told to people: searched for, paged, and followed to each attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from shared.messages import State

if TYPE_CHECKING:
    from shared.ledger import PostSummary, Row

LEFT_OUT = "suppressed"
"""The word for all who were left out, beside the states of those who were not."""


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one recipient, as its sender recorded it. `attempt` counts from 0."""

    attempt: int
    group: str
    state: State
    at: float
    hop: str
    code: int
    status: str
    text: str
    next_at: float | None


class TracePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a trace; `after` is where the next one begins, empty at the end."""

    rows: Sequence[Row]
    after: str


class Traces(Protocol):
    """The part of the ledger that tells."""

    async def find(
        self,
        *,
        message_id: str = "",
        group: str = "",
        recipient: str = "",
        since: float | None = None,
        until: float | None = None,
        after: str = "",
        limit: int = 20,
    ) -> Sequence[PostSummary]:
        """Posts by Message-ID, group and/or recipient, newest first: those that came from outside at `since` or later and before `until`, and in that
        order follow the post with the id `after`."""

    def trace(self, post_id: str, *, recipient: str = "", states: Collection[str] = ()) -> AsyncIterator[Sequence[Row]]:
        """Every address of a post, in pages: recipients first, slice by slice, then those left out. `states`: only those in one of these states
        (`State`), left out for one of these reasons (`Reason`), or left out at all ("suppressed")."""

    async def trace_page(
        self,
        post_id: str,
        *,
        recipient: str = "",
        states: Collection[str] = (),
        groups: Collection[str] = (),
        after: str = "",
        limit: int = 500,
    ) -> TracePage:
        """One page of a trace, of at most `limit` rows, where `groups` are named of these targets alone: neither a row nor an `after` tells of
        another one then. Raises ValueError for an `after` that no page has given."""

    async def tries(self, post_id: str, recipient: str) -> Sequence[Try]:
        """Every recorded attempt at a recipient, in the order in which they were told."""

    async def children(self, post_id: str) -> Sequence[tuple[str, str]]:
        """The posts that were made from this one for sub-groups, with their groups."""
