"""A second expander, written from DESIGN.md and docs/design/0001-pipeline.md alone: plain sets and lists, everything in memory, no slices.

It shares nothing with `services/expander` but the keys of addresses. Where a copy, a row or a post of it differs, one of the two is wrong.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from shared.address import key, parse


class Person(NamedTuple):
    """A member as an administrator writes it, and its state in this group."""

    address: str
    paused: bool = False
    own_copies: bool = False
    suspended: bool = False


class Circle(NamedTuple):
    """A group, by the switches that decide who gets a copy. `closed`: nobody may post to it."""

    address: str
    members: tuple[Person, ...] = ()
    expand_groups: bool = True
    remove_author: bool = True
    remove_to_cc: bool = True
    disabled: bool = False
    closed: bool = False
    nest_from: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        return self.address.partition("@")[2]


Town = dict[str, Circle]
Path = tuple[str, ...]


class Answer:
    """`copies`: (post, target, key) counted, where a post is "outside" or the sub-group it was made for. `rows`: every membership that
    is reached, (post, target, path of groups, key). `handed`: the sub-groups that got a post of their own, in order."""

    def __init__(self) -> None:
        self.copies: Counter[tuple[str, str, str]] = Counter()
        self.rows: Counter[tuple[str, str, Path, str]] = Counter()
        self.handed: list[str] = []
        self.reasons: dict[tuple[str, str, Path, str], str] = {}


def expand(town: Town, targets: list[str], *, authors: set[str], to_cc: set[str]) -> Answer:
    """Everything that becomes of one post from outside; `authors` and `to_cc` as they stand in the header."""
    answer = Answer()
    writers = {untagged(key(one)) for one in authors}
    named = {key(one) for one in to_cc}
    waiting: list[tuple[str, list[str], Path]] = [("outside", targets, ())]
    own_post: set[str] = set(targets)  # a target has the message already
    while waiting:
        label, aims, trail = waiting.pop(0)
        served: set[str] = set()
        for aim in aims:
            entered, handed = walk(
                town, aim, trail, lambda path, who, label=label, aim=aim: mark(answer, label, aim, path, who)
            )
            people: dict[str, list[Person]] = {}
            for group, path in entered:
                for member in written(town[group]):
                    if stands_for(town, member) is None:
                        mark(answer, label, aim, path, key_in(town[group], member))
                        people.setdefault(key_in(town[group], member), []).append(member)
            for who, memberships in people.items():
                if who not in served and gets(town[aim], who, memberships, writers, named):
                    served.add(who)
                    answer.copies[label, aim, who] += 1
            for sub, path in handed:
                if sub not in own_post:
                    own_post.add(sub)
                    if not town[sub].closed:
                        answer.handed.append(sub)
                        waiting.append((sub, [sub], (*trail, *aims, *path)))
    return answer


def mark(answer: Answer, label: str, aim: str, path: Path, who: str) -> None:
    answer.rows[label, aim, path, who] += 1


def gets(target: Circle, who: str, memberships: list[Person], writers: set[str], named: set[str]) -> bool:
    """The filters; a pause or a suspension holds in its own group only, a wish for own copies everywhere."""
    if target.remove_author and untagged(who) in writers and not any(one.own_copies for one in memberships):
        return False
    if target.remove_to_cc and who in named:
        return False
    return any(not one.paused and not one.suspended for one in memberships)


def walk(town: Town, aim: str, trail: Path, row: Any) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Breadth first: the groups that are expanded in place, and those that get a post of their own, each with the path of groups
    (of the group itself, of its holder). `row` is told of every membership that is a group and not expanded in place."""
    entered: list[tuple[str, Path]] = [(aim, (aim,))]
    handed: list[tuple[str, Path]] = []
    seen = {aim, *trail}
    for holder, path in entered:  # grows as it goes
        circle = town[holder]
        for member in sorted(written(circle), key=lambda one: key_in(circle, one)):
            sub = stands_for(town, member, circle)
            if sub is None:
                continue
            consent = town[sub].domain == circle.domain or circle.domain in town[sub].nest_from
            left_out = sub in seen or member.paused or member.suspended or town[sub].disabled
            if not left_out and circle.expand_groups and consent:
                entered.append((sub, (*path, sub)))  # its people stand for it: no row of its own
            else:
                row(path, key_in(circle, member))
                handed += [] if left_out else [(sub, path)]
            seen |= set() if left_out else {sub}
    return entered, handed


def written(circle: Circle) -> list[Person]:
    """The members, bare names completed, the first of those with one key."""
    found: dict[str, Person] = {}
    for member in circle.members:
        full = member if "@" in member.address else member._replace(address=f"{member.address}@{circle.domain}")
        found.setdefault(key_in(circle, full), full)
    return list(found.values())


def key_in(circle: Circle, member: Person) -> str:
    return key(str(parse(member.address, default_domain=circle.domain)))


def stands_for(town: Town, member: Person, circle: Circle | None = None) -> str | None:
    """The group that a member is, if it is one of ours."""
    local, _, domain = key(member.address).partition("@")
    name = f"{local.partition('+')[0]}@{domain}"
    return name if name in town else None


def untagged(who: str) -> str:
    local, _, domain = who.partition("@")
    return f"{local.partition('+')[0]}@{domain}"
