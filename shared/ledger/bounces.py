"""Bounces: what is kept of members' addresses that fail, of probes, and of suspensions. Written and read by the reporter and the command line.

A member is (group, key of the address). Kept are failures that count alone: an ordinary delivery, and an ordinary failure, leave no row here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from shared.ledger.notes import Note

if TYPE_CHECKING:
    from shared.ledger import Row


class Source(StrEnum):
    """How a failure is known."""

    SESSION = "session"  # a server refused the address to us
    OWN = "own"  # a bounce came to the member's own bounce address
    HEARSAY = "hearsay"  # a bounce came to the bounce address that every member knows


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A member's address failed for good at `at`, with this status and reply; `post_id` is the post whose copy it was."""

    group: str
    member: str
    at: float
    post_id: str
    source: Source
    status: str
    reply: str

    @property
    def day(self) -> str:
        """The day it counts for: UTC, "2026-11-23"."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.at))


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A message that asks whether a member's address works; `token` is what its bounce address carries."""

    token: str
    group: str
    member: str
    at: float


class Suspension(msgspec.Struct, frozen=True, kw_only=True):
    """A member was suspended and everybody who is to hear of it was told. `id` is made of the failures that led to it."""

    id: str
    group: str
    member: str
    at: float
    post_id: str
    reason: str


def bounce_note(
    post_id: str, group: str, member: str, *, at: float = 0.0, detail: Mapping[str, str] | None = None
) -> Note:
    """The note of a copy that came back for good: one a post, group and member, by which it is also known that it did."""
    return Note(post_id=post_id, kind="bounce", group=group, at=at, unique=f"failed {member}", detail=detail or {})


class Bounces(Protocol):
    """The part of the ledger that keeps bounces."""

    async def failed(self, failures: Sequence[Failure], *, since: float) -> Sequence[Failure]:
        """Keep failures, one a member and day: the first, unless that was hearsay and this one is not, which then takes its place at its time.

        Tells all that are kept of these members since `since`, oldest first.
        """

    async def forgive(self, group: str, member: str, *, until: float, hearsay: float = 0.0) -> None:
        """Forget a member's failures until `until`, and what is hearsay among them until `hearsay`; also a probe that was made until either."""

    async def probe(self, probe: Probe, *, since: float) -> Probe:
        """Keep a probe, unless the member has had one since `since`; the one that the member has now."""

    async def probe_of_token(self, token: str) -> Probe | None: ...

    async def probe_of_member(self, group: str, member: str) -> Probe | None:
        """The last probe that the member has had."""

    async def suspended(self, suspension: Suspension) -> None:
        """Note that a suspension has been told; in the place of an earlier one of the member."""

    async def suspensions(self, group: str, members: Sequence[str]) -> Mapping[str, Suspension]:
        """The suspensions of these members of a group, by key."""

    async def suspended_since(self, group: str, at: float) -> int:
        """How many members of a group were suspended since that time and are not brought back."""

    async def bring_back(self, group: str, member: str) -> None:
        """Forget all failures, probes and the suspension of a member."""

    async def last_success(self, member: str, *, since: float, until: float) -> float | None:
        """When the last copy was delivered to the address (a key) between these times, in any group, that did not come back; None for none.

        Looks at a bounded number of posts, newest first.
        """

    async def at_slot(self, post_id: str, slot: int) -> Sequence[Row]:
        """The recipients of a post whose key has this slot (`shared.groups.slot`): nobody, or one, or very rarely two."""
