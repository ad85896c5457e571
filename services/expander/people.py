"""The people of a fan-out: reads members slot range by slot range and merges them by key, so that memory is a slice's, whatever the group (P10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.expander.expand import Facts, Judgement, Row, Rules, judge
from services.expander.graph import Scope
from shared.address import key, person_key
from shared.directory import Directory
from shared.groups import Member, slot

THREAD = "thread"
"""Last step of the path of a thread's author who is no member: not a group, but the reason the address is there."""


async def read(directory: Directory, scopes: Sequence[Scope], low: int, high: int) -> dict[str, list[Row]]:
    """All memberships of people with slots in [low, high), by key, each in the order of targets and groups found."""
    rows: dict[str, list[Row]] = {}
    for number, scope in enumerate(scopes):
        for node in scope.nodes:
            async for page in directory.members(node.group, low=low, high=high):
                for member in page:
                    if member.group is None:
                        rows.setdefault(member.key, []).append(Row(number, node.via, member))
    return rows


def add_thread_authors(
    rows: dict[str, list[Row]], scopes: Sequence[Scope], authors: Mapping[str, str], facts: Facts, low: int, high: int
) -> None:
    """Add the person who started the thread where the group wants that: not when a member already, nor to an answer of their own."""
    for number, scope in enumerate(scopes):
        address = authors.get(scope.group.address, "")
        who = key(address)
        if not address or not scope.group.settings.thread_author or not low <= slot(who) < high:
            continue
        if person_key(who) in facts.authors or any(row.scope == number for row in rows.get(who, ())):
            continue
        member = Member(address=address, key=who)
        rows.setdefault(who, []).append(Row(number, (scope.group.address, THREAD), member))


def judge_all(rows: Mapping[str, Sequence[Row]], scopes: Sequence[Scope], facts: Facts) -> list[list[Judgement]]:
    """The judgements of every row, a list for each scope."""
    rules = [Rules(scope.group.settings.remove_author, scope.group.settings.remove_to_cc) for scope in scopes]
    judged: list[list[Judgement]] = [[] for _ in scopes]
    for person in rows.values():
        for judgement in judge(person, rules, facts):
            judged[judgement.scope].append(judgement)
    return judged
