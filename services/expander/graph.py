"""The graph of groups behind a post's targets: which are expanded in place, which get a post of their own, which are left out and why.

Reads only the members that are groups (`directory.subgroups`: few), never the people. An administrator controls the graph: cycles,
diamonds, a group in itself and deep chains are all harmless, because every group is entered once and holds a number, not its path.

The graph of a post's first expansion is recorded with it and obeyed by every slice and repetition (P3): a link that an administrator cuts or adds
meanwhile moves nobody from one way of getting a copy to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from services.expander.state import member_state
from shared.directory import Directory, DirectoryUnavailable
from shared.groups import Group, Member
from shared.membership import in_place
from shared.messages import Reason, Target

MAX_GROUPS = 10_000
"""Groups one expansion may enter; more is a mistake or an attack, and is put off for a person to look at."""

TOGETHER = 100
"""Groups whose sub-groups are asked for in one question."""

AT_ONCE = 20
"""Groups that are read at the same time."""

MAX_STEPS = 12
"""Steps of a path that are told: the first, and the nearest. A path explains; it is not followed."""


class Node(msgspec.Struct, frozen=True, array_like=True):
    """A group that is expanded in place; `parent` is the number of the node that holds it, -1 for the target itself."""

    group: str
    parent: int


class Aside(msgspec.Struct, frozen=True, array_like=True):
    """A member of node `parent` that is a group and not expanded in place: handed on to `group`, or left out for `reason`."""

    address: str
    group: str
    parent: int
    reason: Reason | None = None


class Scope(msgspec.Struct, array_like=True):
    """What one target's expansion covers. `people` is the upper bound of memberships to read."""

    group: str
    nodes: list[Node]
    asides: list[Aside] = []
    people: int = 0

    def via(self, number: int) -> tuple[str, ...]:
        """The path of groups from the target to a node, both included; a long one is cut in its middle."""
        path: list[str] = []
        # no step more than it takes: for every node of a deep chain the whole way would cost the square of its length
        while number >= 0 and len(path) <= MAX_STEPS:
            path.append(self.nodes[number].group)
            number = self.nodes[number].parent
        path.reverse()
        return tuple(path) if len(path) <= MAX_STEPS else (self.group, "...", *path[2 - MAX_STEPS :])

    def path(self, number: int) -> tuple[str, ...]:
        """Every group from the target to a node, both included."""
        path = []
        while number >= 0:
            path.append(self.nodes[number].group)
            number = self.nodes[number].parent
        return tuple(reversed(path))

    def within(self, number: int, group: str) -> bool:
        """Whether `group` is the node or one that holds it."""
        while number >= 0 and self.nodes[number].group != group:
            number = self.nodes[number].parent
        return number >= 0

    @property
    def groups(self) -> set[str]:
        """Every group that the walk met."""
        return {node.group for node in self.nodes} | {aside.group for aside in self.asides}

    @property
    def handed_on(self) -> list[Aside]:
        """The sub-groups that get a post of their own."""
        return [aside for aside in self.asides if aside.reason is None]


_decoder = msgspec.msgpack.Decoder(list[Scope])


def encode(scopes: Sequence[Scope]) -> bytes:
    """Scopes as the ledger keeps them."""
    return msgspec.msgpack.encode(scopes)


def decode(graph: bytes) -> list[Scope]:
    """Scopes as the ledger kept them."""
    return _decoder.decode(graph) if graph else []


class Walk:
    """Finds the scopes of one post. `trail` names groups that the post has been through, which are never entered again."""

    def __init__(self, directory: Directory, *, targets: Iterable[str], trail: Iterable[str] = ()) -> None:
        self._directory = directory
        self._trail = frozenset(trail)
        # a sub-group gets one post of its own, whatever targets hold it, and none where it is a target itself
        self._handed_on = set(targets)

    async def scope(self, group: Group) -> Scope:
        """Walk the graph breadth first from a target. Raises `DirectoryUnavailable`."""
        scope = Scope(group=group.address, nodes=[Node(group.address, -1)])
        seen = {group.address}
        holders = [group]
        nested: dict[str, Sequence[Member]] = {}
        for number, holder in enumerate(holders):  # grows as it goes
            scope.people += holder.members
            if holder.address not in nested:  # those that wait are asked about together
                waiting = holders[number : number + TOGETHER]
                nested = dict(await self._directory.nested([one.address for one in waiting]))
                await self._read_ahead(nested, seen)
            for member in nested.pop(holder.address):
                inside = await self._decide(scope, holder, number, member, seen)
                if inside is not None:
                    scope.nodes.append(Node(inside.address, number))
                    holders.append(inside)
                if len(seen) > MAX_GROUPS:
                    raise DirectoryUnavailable(f"{group.address} nests more than {MAX_GROUPS} groups")
        return scope

    async def _read_ahead(self, nested: Mapping[str, Sequence[Member]], seen: set[str]) -> None:
        """Have the directory know the groups that will be decided about: one after the other, each would be waited for."""
        ahead = [key for key in {m.group or m.key for members in nested.values() for m in members} if key not in seen]
        for start in range(0, len(ahead), AT_ONCE):
            await asyncio.gather(*map(self._directory.group, ahead[start : start + AT_ONCE]))

    async def _decide(self, scope: Scope, holder: Group, number: int, member: Member, seen: set[str]) -> Group | None:
        """Decide about one sub-group: the group to expand in place, or None when the scope has its row."""
        key = member.group or member.key
        reason = self._left_out(scope, number, member, key, seen)
        group = None if reason else await self._group(holder, key)
        if group is not None and await self._disabled(group):
            reason = Reason.SUBGROUP_DISABLED
        if group is not None and reason is None:
            seen.add(key)
            if in_place(holder, group):
                return group
            if key in self._handed_on:
                reason = Reason.DUPLICATE
            self._handed_on.add(key)
        scope.asides.append(Aside(member.address, key, number, reason))
        return None

    def _left_out(self, scope: Scope, number: int, member: Member, key: str, seen: set[str]) -> Reason | None:
        if key in self._trail:
            return Reason.CYCLE
        if key in seen:  # so is every group on the way here: only then is the way looked at
            return Reason.CYCLE if scope.within(number, key) else Reason.DUPLICATE
        return member_state(member)

    async def _group(self, holder: Group, key: str) -> Group:
        group = await self._directory.group(key)
        if group is None:  # deleted between the two reads: ask again, the next answer agrees with itself
            raise DirectoryUnavailable(f"{key} is a member of {holder.address} but no group")
        return group

    async def _disabled(self, group: Group) -> bool:
        domain = await self._directory.domain(group.domain)
        return group.settings.disabled or domain is None or domain.disabled or domain.suspended


class Aim(msgspec.Struct, frozen=True):
    """A target with its group and what its expansion covers."""

    target: Target
    group: Group
    scope: Scope
