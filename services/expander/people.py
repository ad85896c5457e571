"""The people of a fan-out: reads members slot range by slot range and merges them by key, so that memory is a slice's, whatever the group (P10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.expander.expand import Facts, Judgement, Row, Rules, judge
from services.expander.graph import Aim
from shared.address import key, person_key, split_role
from shared.directory import Directory
from shared.groups import Member, slot

THREAD = "thread"
"""Last step of the path of a thread's author who is no member: not a group, but the reason the address is there."""


async def read(directory: Directory, aims: Sequence[Aim], low: int, high: int) -> dict[str, list[Row]]:
    """All memberships of people with slots in [low, high), by key, each in the order of targets and groups found."""
    rows: dict[str, list[Row]] = {}
    for position, aim in enumerate(aims):
        groups = aim.scope.groups
        for number, node in enumerate(aim.scope.nodes):
            via = aim.scope.via(number)
            async for page in directory.members(node.group, low=low, high=high):
                for member in page:
                    # what was a group when the post came has its row, and is no person when it is deleted meanwhile
                    if member.group is None and member.key not in groups:
                        rows.setdefault(member.key, []).append(Row(position, via, member))
    return rows


async def are_people(directory: Directory, authors: Mapping[str, str]) -> dict[str, str]:
    """Those authors of threads, by group, who are people: an address of a group of ours, or of its owners, is none."""
    people = {}
    for group, address in authors.items():
        role, holder, _ = split_role(key(address))
        ours = await directory.group(holder) if role != "postmaster" else await directory.domain(holder)
        if ours is None:
            people[group] = address
    return people


def add_thread_authors(
    rows: dict[str, list[Row]], aims: Sequence[Aim], authors: Mapping[str, str], facts: Facts, low: int, high: int
) -> None:
    """Add the person who started the thread where the group wants that: not when a member already, nor to an answer of their own."""
    for position, aim in enumerate(aims):
        address = authors.get(aim.group.address, "")
        who = key(address)
        if not address or not aim.group.settings.thread_author or not low <= slot(who) < high:
            continue
        if person_key(who) in facts.authors or any(row.scope == position for row in rows.get(who, ())):
            continue
        member = Member(address=address, key=who)
        rows.setdefault(who, []).append(Row(position, (aim.group.address, THREAD), member))


def judge_all(rows: Mapping[str, Sequence[Row]], aims: Sequence[Aim], facts: Facts) -> list[list[Judgement]]:
    """The judgements of every row, a list for each aim."""
    rules = [Rules(aim.group.settings.remove_author, aim.group.settings.remove_to_cc) for aim in aims]
    judged: list[list[Judgement]] = [[] for _ in aims]
    for person in rows.values():
        for judgement in judge(person, rules, facts):
            judged[judgement.scope].append(judgement)
    return judged
