"""Who is behind the addresses that answer for a group or a domain: people, whom mail of ours and mail to `office-owner@` reaches.

An owner or a postmaster may be a group of ours. Mail to such an address would come back to us, where the null sender is refused: so a group stands
for its members, and a role address of ours (an owner that is `office-owner@`) for nobody. A group's administrator controls the addresses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from shared.address import Role, key, split_role
from shared.directory import Directory

MAX_PEOPLE = 1000
"""People that some addresses reach at most: an owner that is a group is a small one."""


async def people_behind(directory: Directory, addresses: Sequence[str]) -> list[str]:
    """The people behind the addresses, one each, in their order."""
    people: dict[str, str] = {}
    seen: set[str] = set()
    waiting = deque(addresses)
    while waiting and len(people) < MAX_PEOPLE:
        address = waiting.popleft()
        role, holder, _ = split_role(key(address))
        if role == "group" and holder not in seen and await directory.group(holder) is not None:
            seen.add(holder)
            waiting.extend(await _members(directory, holder, MAX_PEOPLE - len(people)))
        elif holder not in seen and not await _is_role(directory, role, holder):
            people.setdefault(key(address), address)
    return list(people.values())


async def _members(directory: Directory, group: str, most: int) -> list[str]:
    """Members who get mail."""
    found: list[str] = []
    async for page in directory.members(group):
        found.extend(member.address for member in page if not member.paused and member.bounce != "suspended")
        if len(found) >= most:
            break
    return found[:most]


async def _is_role(directory: Directory, role: Role, holder: str) -> bool:
    if role == "postmaster":
        return await directory.domain(holder) is not None
    return role != "group" and await directory.group(holder) is not None
