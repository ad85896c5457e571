"""Whether somebody is a member of a group, itself or through sub-groups that are expanded in place: who may post to `who_can_post=members`."""

from __future__ import annotations

from collections import deque

from shared.directory import Directory
from shared.groups import Group

MAX_GROUPS = 1000
"""Groups that one question may enter: it is asked while a client waits."""


def in_place(holder: Group, group: Group) -> bool:
    """Whether `holder` expands `group` in place: its own switch, and same domain or the other's consent (cross-tenant nesting)."""
    return holder.settings.expand_groups and (
        group.domain == holder.domain or holder.domain in group.settings.nest_from
    )


async def is_member(directory: Directory, group: Group, member: str) -> bool:
    """Whether the key `member` is one of those the group's own posts reach. Raises `DirectoryUnavailable`."""
    if not member:
        return False
    seen = {group.address}
    waiting = deque([group])
    while waiting and len(seen) <= MAX_GROUPS:
        holder = waiting.popleft()
        if await directory.is_member(holder.address, member):
            return True
        for row in await directory.subgroups(holder.address):
            if row.group is None or row.group in seen:
                continue
            seen.add(row.group)
            inside = await directory.group(row.group)
            if inside is not None and not inside.settings.disabled and in_place(holder, inside):
                waiting.append(inside)
    return False
