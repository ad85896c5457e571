"""A short list of members as the process's cache keeps it, with what is asked of it made once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from shared.groups import SLOTS, Member, Roll, roll, rolls, slot


class Few:
    """All members of a group that has few, in key order."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)

    @cached_property
    def subgroups(self) -> Sequence[Member]:
        """Those that are groups."""
        return tuple(member for member in self.members if member.group is not None)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Their keys."""
        return frozenset(member.key for member in self.members)

    def between(self, low: int, high: int) -> Sequence[Member]:
        """Those with slots in [low, high)."""
        if low <= 0 and high >= SLOTS:
            return list(self.members)
        return [member for member in self.members if low <= slot(member.key) < high]

    def rolls(self, cells: int, low: int, high: int) -> Mapping[int, Roll]:
        """Those with slots in [low, high), by cell."""
        if cells == 1 and low <= 0 and high >= SLOTS:
            return self._whole
        return rolls(self.members, cells=cells, low=low, high=high)

    @cached_property
    def _whole(self) -> Mapping[int, Roll]:
        return {0: roll(self.members)} if self.members else {}
