"""The people of a fan-out: members are read a range of slots at a time, so that memory is a slice's, whatever the group (P10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.expander.expand import Facts
from services.expander.graph import Aim
from services.expander.judging import Added, Source
from shared.address import key, person_key, split_role
from shared.directory import Directory
from shared.groups import Member, cell, slot

THREAD = "thread"
"""Last step of the path of a thread's author who is no member: not a group, but the reason the address is there."""


async def read(directory: Directory, aims: Sequence[Aim], *, cells: int, low: int, high: int) -> list[Source]:
    """The members with slots in [low, high), in the order of targets and, in each, of the groups found. A group of two targets is read once."""
    groups = list(dict.fromkeys(node.group for aim in aims for node in aim.scope.nodes))
    rolls = await directory.rolls(groups, cells=cells, low=low, high=high)
    return [
        Source(position, aim.scope.via(number), found)
        for position, aim in enumerate(aims)
        for number, node in enumerate(aim.scope.nodes)
        if (found := rolls.get(node.group))
    ]


async def are_people(directory: Directory, authors: Mapping[str, str]) -> dict[str, str]:
    """Those authors of threads, by group, who are people: an address of a group of ours, or of its owners, is none."""
    people = {}
    for group, address in authors.items():
        role, holder, _ = split_role(key(address))
        ours = await directory.group(holder) if role != "postmaster" else await directory.domain(holder)
        if ours is None:
            people[group] = address
    return people


def thread_authors(
    aims: Sequence[Aim], authors: Mapping[str, str], facts: Facts, *, cells: int, low: int, high: int
) -> list[Added]:
    """The person who started the thread, where the group wants that: not to an answer of their own. A member already is not added."""
    found = []
    for position, aim in enumerate(aims) if authors else ():
        address = authors.get(aim.group.address, "")
        who = key(address)
        if not address or not aim.group.settings.thread_author or not low <= (place := slot(who)) < high:
            continue
        if person_key(who) not in facts.authors:
            member = Member(address=address, key=who)
            found.append(Added(cell(place, cells), position, (aim.group.address, THREAD), member))
    return found
