"""Channels: where signals go beside the events, a group's own or one of its members'. The URL is a secret, and stands here encrypted only.

What the pipeline reads (`Channels`) and what the command line and the console write (`ChannelRegistry`); both are parts of the directory. A channel
of a member holds for as long as the membership: it is not reached while the member is paused, and goes when the member goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

MOST_OF_GROUP = 20
"""Channels of a group's own."""
MOST_OF_MEMBER = 5
"""Channels of one membership: what a signal costs stays in proportion to the members (P10)."""


class SealedChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's URL as it is kept. `shown` is the URL without anything secret, `label` its name in the ledger and on the bus.

    Equal URLs have equal labels (a keyed digest is in them), so that one signal notifies each but once; `secret` is encrypted.
    """

    kind: str
    shown: str
    label: str
    secret: bytes


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as people see it. `member` is the member's key, empty for the group's own."""

    id: int
    group: str
    member: str
    kind: str
    shown: str
    label: str
    at: float


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that a signal to its group reaches."""

    id: int
    group: str
    label: str


class Channels(Protocol):
    """What the pipeline reads. Raises `DirectoryUnavailable`."""

    async def reached(self, groups: Sequence[str], *, low: int, high: int) -> Sequence[Reach]:
        """The channels of these groups, and of their members who are not paused, whose label's slot is in [low, high); in the order of numbers."""

    async def sealed_channel(self, number: int) -> SealedChannel | None:
        """One channel, to be notified."""


class ChannelRegistry(Channels, Protocol):
    """What the command line and the console write."""

    async def add_channel(self, group: str, channel: SealedChannel, *, member: str = "") -> Channel:
        """Raises `NotFound` for the group or the member, `Conflict` where the same channel is there, `DirectoryError` for one too many."""

    async def channels(
        self, group: str, *, member: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Channel]:
        """A group's channels by number, the page after `after`; of one member, or ("") the group's own. Raises `NotFound`."""

    async def remove_channel(self, group: str, number: int) -> None:
        """Raises `NotFound`."""
