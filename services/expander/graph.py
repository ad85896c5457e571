"""The graph of groups behind a target: which are expanded in place, which get a post of their own, which are left out and why.

Reads only the members that are groups (`directory.subgroups`: few), never the people. An administrator controls the graph: cycles,
diamonds, a group in itself and deep chains are all harmless, because every group is entered once.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from shared.directory import Directory, DirectoryUnavailable
from shared.groups import Group, Member
from shared.membership import in_place
from shared.messages import Reason, Suppressed, Target

MAX_GROUPS = 10_000
"""Groups one expansion may enter; more is a mistake or an attack, and is put off for a person to look at."""


class Node(msgspec.Struct, frozen=True):
    """A group that is expanded in place. `via` is the path of group keys that led to it, itself last."""

    group: str
    via: tuple[str, ...]


class HandedOn(msgspec.Struct, frozen=True):
    """A sub-group that gets a post of its own. `address` as the member is written, `via` the path to the group that holds it."""

    group: Group
    address: str
    via: tuple[str, ...]


class Scope(msgspec.Struct):
    """What one target's expansion covers. `people` is the upper bound of memberships to read."""

    target: Target
    group: Group
    nodes: list[Node] = []
    handed_on: list[HandedOn] = []
    suppressed: list[Suppressed] = []
    people: int = 0


async def find_scope(directory: Directory, target: Target, group: Group, *, trail: tuple[str, ...] = ()) -> Scope:
    """Walk the graph breadth first from `group`. `trail` names groups the post has been through already, which are never entered again.

    Raises `DirectoryUnavailable`.
    """
    scope = Scope(target=target, group=group)
    seen = {group.address}
    waiting: deque[tuple[Group, tuple[str, ...]]] = deque([(group, (group.address,))])
    while waiting:
        holder, via = waiting.popleft()
        scope.nodes.append(Node(holder.address, via))
        scope.people += holder.members
        for member in await directory.subgroups(holder.address):
            if (inside := await _enter(directory, scope, holder, via, member, seen, trail)) is not None:
                waiting.append((inside, (*via, inside.address)))
    return scope


async def _enter(
    directory: Directory,
    scope: Scope,
    holder: Group,
    via: tuple[str, ...],
    member: Member,
    seen: set[str],
    trail: tuple[str, ...],
) -> Group | None:
    """Decide about one sub-group: the group to expand in place, or None when the scope has its row already."""
    key = member.group or member.key
    if (reason := _left_out(member, key, via, seen, trail)) is not None:
        scope.suppressed.append(Suppressed(address=member.address, reason=reason, via=via))
        return None
    group = await directory.group(key)
    if group is None:  # deleted between the two reads: ask again, the next answer agrees with itself
        raise DirectoryUnavailable(f"{key} is a member of {holder.address} but no group")
    if await _disabled(directory, group):
        scope.suppressed.append(Suppressed(address=member.address, reason=Reason.SUBGROUP_DISABLED, via=via))
        return None
    seen.add(key)
    if len(seen) > MAX_GROUPS:
        raise DirectoryUnavailable(f"{scope.group.address} nests more than {MAX_GROUPS} groups")
    if in_place(holder, group):
        return group
    scope.handed_on.append(HandedOn(group, member.address, via))
    return None


def _left_out(member: Member, key: str, via: tuple[str, ...], seen: set[str], trail: tuple[str, ...]) -> Reason | None:
    if key in via or key in trail:
        return Reason.CYCLE
    if key in seen:
        return Reason.DUPLICATE
    if member.paused:
        return Reason.PAUSED
    return Reason.SUSPENDED if member.bounce == "suspended" else None


async def _disabled(directory: Directory, group: Group) -> bool:
    if group.settings.disabled:
        return True
    domain: Any = await directory.domain(group.domain)
    return domain is None or domain.disabled
