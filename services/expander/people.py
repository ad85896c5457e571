"""The people of a fan-out: members are read a range of slots at a time, so that memory is a slice's, whatever the group (P10)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from services.expander.expand import THREAD
from services.expander.graph import Aim
from services.expander.judging import Added, Source
from shared.address import key, person_key, split_role
from shared.directory import Directory
from shared.groups import Member, cell, slot

_ALONE = re.compile(r"(?:^|[-_.])(?:no|donot|do[-_.]not|dont)[-_.]?reply(?:$|[-_.])|^(?:mailer-daemon|bounces?)$")
"""Local parts, tags taken off, under which nobody reads: an answer would come back, or be answered by a machine."""


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
    """Those authors of threads, by group, who are people: an address of a group of ours, or of its owners, is none, nor is `noreply@`."""
    people = {}
    for group, address in authors.items():
        if _ALONE.search(person_key(key(address)).rpartition("@")[0]):
            continue
        role, holder, _ = split_role(key(address))
        ours = await directory.group(holder) if role != "postmaster" else await directory.domain(holder)
        if ours is None:
            people[group] = address
    return people


def thread_authors(aims: Sequence[Aim], authors: Mapping[str, str], *, cells: int, low: int, high: int) -> list[Added]:
    """The person who started the thread, where the group wants that; the slice of their slot alone adds them, so a large fan-out does once.

    Who is a member already is not added, and the filters are the members' (`judge`): every reason to leave them out stands in the trace.
    """
    found = []
    for position, aim in enumerate(aims) if authors else ():
        address = authors.get(aim.group.address, "")
        who = key(address)
        if not address or not aim.group.settings.thread_author or not low <= (place := slot(who)) < high:
            continue
        member = Member(address=address, key=who)
        found.append(Added(cell(place, cells), position, (aim.group.address, THREAD), member))
    return found
