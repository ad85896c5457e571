"""The judgement of a share, cell by cell: by the hundred where nothing but being there twice can leave somebody out, else one by one. Pure.

Of most people nothing is known but their key, and no filter but de-duplication can be about them. Those about whom anything is known (a state of
their own, an address that the message names, a name of a group, an answer to their thread) are judged by `expand.judge`, the rule of all: the rest
gets from it what it says of a person of whom nothing is known. The naive expander of the tests knows only that rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.expander.batches import Copies
from services.expander.expand import Facts, Row, Rules, judge
from services.expander.graph import Aim
from shared.address import person_key
from shared.groups import Member, Roll
from shared.messages import Queued, Reason, Suppressed


class Source(NamedTuple):
    """One group as one target's expansion finds it: the target's number, the path to the group, its members by cell."""

    scope: int
    via: tuple[str, ...]
    rolls: Mapping[int, Roll]


class Added(NamedTuple):
    """Somebody who gets a copy of a target without being a member, unless they are one."""

    cell: int
    scope: int
    via: tuple[str, ...]
    member: Member


class Judged(NamedTuple):
    """What a share comes to for one target: the copies by cell, and a row for every membership, in an order that is the same every time."""

    copies: list[Copies]
    queued: list[Queued]
    suppressed: list[Suppressed]


class _Cell:
    """The copies of one target in the cell at hand."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.spelled: dict[str, str] = {}

    def copies(self, number: int) -> Copies:
        keys = sorted(self.keys)
        addresses = [self.spelled.get(key, key) for key in keys] if self.spelled else keys
        return Copies(number, keys, addresses)


Entries = Sequence[tuple[Source, Roll]]


def judge_all(sources: Iterable[Source], added: Iterable[Added], aims: Sequence[Aim], facts: Facts) -> list[Judged]:
    """The judgement of every membership, by target."""
    cells: dict[int, tuple[list[tuple[Source, Roll]], list[Added]]] = {}
    for source in sources:
        for number, roll in source.rolls.items():
            cells.setdefault(number, ([], []))[0].append((source, roll))
    for one in added:
        cells.setdefault(one.cell, ([], []))[1].append(one)
    judging = _Judging(aims, facts)
    for number in sorted(cells):
        judging.cell(number, *cells[number])
    return judging.judged


class _Judging:
    def __init__(self, aims: Sequence[Aim], facts: Facts) -> None:
        self.judged = [Judged([], [], []) for _ in aims]
        self._facts = facts
        self._rules = [Rules(aim.group.settings.remove_author, aim.group.settings.remove_to_cc) for aim in aims]
        self._groups = [aim.scope.groups for aim in aims]
        self._known = facts.to_cc.union(facts.authors, *self._groups)

    def cell(self, number: int, entries: Entries, added: Sequence[Added]) -> None:
        """Judge everybody in a cell: in another, there is nobody of the same key."""
        everybody = [key for _, roll in entries for key in roll.keys]
        apart = self._apart(everybody, entries)
        apart.update(one.member.key for one in added)
        here = [_Cell() for _ in self.judged]
        self._together(entries, everybody, apart, here)
        if apart:
            self._apiece(entries, added, apart, here)
        for judged, mine in zip(self.judged, here, strict=True):
            if mine.keys:
                judged.copies.append(mine.copies(number))

    def _apart(self, everybody: Sequence[str], entries: Entries) -> set[str]:
        """The keys of whom anything is known."""
        apart = set(self._known.intersection(everybody))
        for _, roll in entries:
            if roll.others:
                apart.update(member.key for member in roll.others)
        if self._facts.authors and "+" in "".join(everybody):  # an author's tagged addresses are the author
            apart.update(key for key in everybody if "+" in key and person_key(key) in self._facts.authors)
        return apart

    def _together(self, entries: Entries, everybody: Sequence[str], apart: set[str], here: Sequence[_Cell]) -> None:
        """Everybody else gets a copy of the first target, by the first path, in which they are found."""
        alone = len(entries) == 1 or len(set(everybody)) == len(everybody)
        seen: set[str] = set()
        for (scope, via, _), roll in entries:
            keys, spelled = roll.keys, roll.spelled
            if apart:
                keys = [key for key in keys if key not in apart]
            if not alone:
                if not seen.isdisjoint(keys):
                    again = [spelled.get(key, key) for key in keys if key in seen]
                    self.judged[scope].suppressed.append(
                        Suppressed(addresses=tuple(again), reason=Reason.DUPLICATE, via=via)
                    )
                    keys = [key for key in keys if key not in seen]
                seen.update(keys)
            here[scope].keys.extend(keys)
            addresses = keys
            if spelled:
                addresses = [spelled.get(key, key) for key in keys]
                here[scope].spelled.update((key, spelled[key]) for key in keys if key in spelled)
            if addresses:
                self.judged[scope].queued.append(Queued(addresses=tuple(addresses), via=via))

    def _apiece(self, entries: Entries, added: Sequence[Added], apart: set[str], here: Sequence[_Cell]) -> None:
        """Those of whom something is known, each by the rule."""
        rows = self._rows(entries, apart)
        for one in added:
            mine = rows.setdefault(one.member.key, [])
            if all(row.scope != one.scope for row in mine):
                mine.append(Row(one.scope, one.via, one.member))
        for key in sorted(rows):
            for scope, address, via, reason in judge(rows[key], self._rules, self._facts):
                if reason is not None:
                    self.judged[scope].suppressed.append(Suppressed(addresses=(address,), reason=reason, via=via))
                    continue
                self.judged[scope].queued.append(Queued(addresses=(address,), via=via))
                here[scope].keys.append(key)
                if address != key:
                    here[scope].spelled[key] = address

    def _rows(self, entries: Entries, apart: set[str]) -> dict[str, list[Row]]:
        """Their memberships by key, each in the order of targets and groups found."""
        rows: dict[str, list[Row]] = {}
        for (scope, via, _), roll in entries:
            plain = [Member(address=roll.spelled.get(key, key), key=key) for key in roll.keys if key in apart]
            for member in (*plain, *roll.others):
                # what was a group when the post came has its row, and is no person when it is deleted meanwhile
                if member.group is None and member.key not in self._groups[scope]:
                    rows.setdefault(member.key, []).append(Row(scope, via, member))
        return rows
