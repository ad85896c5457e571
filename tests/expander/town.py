"""A directory in memory for the expander's tests: what the double of the ingress has, and the spellings, states and edits of members."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from shared.address import key, parse, split_role
from shared.groups import SLOTS, Domain, Group, Member, slot
from shared.groups import Settings as GroupSettings
from tests.support.doubles import MemoryDirectory


class Town(MemoryDirectory):
    """A directory that keeps addresses as the real one does: bare names, case, A-labels, `board+x@` is `board@`. Pages of three."""

    def add(self, address: str, *members: str | Member, **settings: Any) -> Group:
        """Add a group; `owners` and the like as in `shared.groups.Settings`. Of members with one key the first stays."""
        name = key(str(parse(address)))
        group = Group(id=len(self.groups) + 1, address=name, settings=GroupSettings(**settings))
        self.groups[name] = group
        self.rows[name] = []
        self.domains.setdefault(group.domain, Domain(name=group.domain))
        for one in members:
            self.put(name, one)
        return group

    def put(self, group: str, member: str | Member, **changes: Any) -> None:
        """Add a member, or change one that is there."""
        one = member if isinstance(member, Member) else person(member)
        address = str(parse(one.address, default_domain=self.groups[group].domain))
        one = msgspec.structs.replace(one, address=address, key=key(address), **changes)
        rows = self.rows[group]
        if changes:
            rows[:] = [row for row in rows if row.key != one.key]
        if one.key not in {row.key for row in rows}:
            rows.append(one)

    def remove(self, group: str, member: str) -> None:
        """Take a member out."""
        self.rows[group] = [row for row in self.rows[group] if row.key != key(member)]

    def set(self, group: str, **settings: Any) -> None:
        """Change a group's settings."""
        old = self.groups[group]
        self.groups[group] = msgspec.structs.replace(old, settings=msgspec.structs.replace(old.settings, **settings))

    def delete(self, group: str) -> None:
        """Delete a group; where it was a member, its address is nobody's group any more."""
        del self.groups[group], self.rows[group]

    async def group(self, key: str) -> Group | None:
        await self.fault()
        found = self.groups.get(key)
        return found and msgspec.structs.replace(found, members=len(self.rows[key]))

    async def subgroups(self, key: str) -> Sequence[Member]:
        await self.fault()
        return [row for row in self._resolved(key) if row.group is not None]

    async def nested(self, keys: Sequence[str]) -> Mapping[str, Sequence[Member]]:
        return {key: await self.subgroups(key) for key in keys}

    async def members(self, key: str, *, low: int = 0, high: int = SLOTS) -> AsyncIterator[Sequence[Member]]:
        rows = [row for row in self._resolved(key) if low <= slot(row.key) < high]
        for start in range(0, len(rows), 3):
            await self.fault()
            yield rows[start : start + 3]

    def _resolved(self, group: str) -> list[Member]:
        rows = sorted(self.rows.get(group, ()), key=lambda row: row.key)
        return [msgspec.structs.replace(row, group=self.group_of(row.key)) for row in rows]

    def group_of(self, member: str) -> str | None:
        """The group that a member's key stands for."""
        role, base, _ = split_role(member)
        return base if role == "group" and base in self.groups else None


def person(address: str, **state: Any) -> Member:
    """A member with a state: `paused`, `own_copies`, `bounce`."""
    return Member(address=address, key="", **state)
