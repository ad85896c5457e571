"""Where recipients stand, folded from the sheets of a post (or of a range of its cells), in the order in which they were told. Pure.

The rule for one recipient: the first word puts it under its group; a final state is never turned back; a higher attempt wins, and the same
attempt told again is the newer word; a delivery is a fact, whichever attempt it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.ledger import Row, Standing, Totals
from shared.ledger.rows import DIRECT, FINAL, NUMBERS, STATES, reason_of, via_path
from shared.ledger.sheets import FateGroup, Name, fates_of, keys_of, share_of
from shared.messages import Reason, State

_DELIVERED = NUMBERS[State.DELIVERED]
_NONE = FateGroup(state=NUMBERS[State.QUEUED], code=0, status="", text="", hop="", at=0.0, next_at=None, names=[])


class Sheet(NamedTuple):
    """A row of `attempts` or, with no `attempts`, of `shares`."""

    seq: int
    group: str
    attempts: int
    at: float
    content: str


class Entry:
    """One recipient. `fate` is what it shares with others; `address` is None where it is the key."""

    __slots__ = ("address", "at", "attempts", "fate", "group", "via")

    def __init__(self, group: str, address: str | None, via: str | None, at: float) -> None:
        self.group = group
        self.address = address
        self.via = via
        self.at = at
        self.attempts = 0
        self.fate = _NONE

    def standing(self) -> Standing:
        """What a sender wants to know."""
        fate = self.fate
        return Standing(
            state=STATES[fate.state],
            attempts=self.attempts,
            next_at=fate.next_at,
            code=fate.code,
            status=fate.status,
            text=fate.text,
        )


LeftOut = tuple[str, str, str, str | None]
"""Key, group, reason and path of an address that gets no copy."""


class Folded:
    """What sheets say together: `people` by key, and `left_out` with the address (None where it is the key) and the time it was told."""

    def __init__(self) -> None:
        self.people: dict[str, Entry] = {}
        self.left_out: dict[LeftOut, tuple[str | None, float]] = {}

    def take(self, sheet: Sheet) -> None:
        """Read one more sheet."""
        if sheet.attempts:
            for fate in fates_of(sheet.content):
                self._tried(sheet, fate)
            return
        content = share_of(sheet.content)
        for queued in content.queued:
            self._queued(sheet, queued.via, queued.names)
        for group in content.suppressed:
            for name in group.names:
                key, address = _parted(name)
                self.left_out.setdefault((key, sheet.group, group.reason, group.via), (address, sheet.at))

    def _queued(self, sheet: Sheet, via: str | None, names: Iterable[Name]) -> None:
        people = self.people
        for name in names:
            key, address = _parted(name)
            entry = people.get(key)
            if entry is None:
                people[key] = Entry(sheet.group, address, via, sheet.at)
            elif via is not None and entry.via == DIRECT:  # tried before it was told of: a direct member, until now
                entry.via = via

    def _tried(self, sheet: Sheet, fate: FateGroup) -> None:
        people, attempts = self.people, sheet.attempts
        for name in fate.names:
            key, address = _parted(name)
            entry = people.get(key)
            if entry is None:
                entry = people[key] = Entry(sheet.group, address, DIRECT, fate.at)
            elif entry.fate.state >= FINAL or (attempts < entry.attempts and fate.state != _DELIVERED):
                continue
            entry.attempts = max(attempts, entry.attempts)
            entry.fate = fate
            entry.at = fate.at


def fold(sheets: Iterable[Sheet]) -> Folded:
    """All sheets, in the order in which they were told."""
    folded = Folded()
    for sheet in sorted(sheets, key=_told):
        folded.take(sheet)
    return folded


def _told(sheet: Sheet) -> tuple[int, int]:
    return sheet.seq, sheet.attempts


def _parted(name: Name) -> tuple[str, str | None]:
    return (name, None) if type(name) is str else (name[0], name[1])


# --- counting --------------------------------------------------------------------------------------------------------
class Sums(NamedTuple):
    """Recipients of one group by state, and addresses left out."""

    queued: int = 0
    deferred: int = 0
    delivered: int = 0
    failed: int = 0
    suppressed: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*(one + two for one, two in zip(self, other, strict=True)))

    def stopped(self) -> Sums:
        """The same where the post was stopped: whoever has no final state gets no copy."""
        return Sums(0, 0, self.delivered, self.failed, self.suppressed + self.queued + self.deferred)

    def totals(self, *, announced: int, complete: bool) -> Totals:
        """As the port tells it."""
        return Totals(
            expanded=sum(self),
            delivered=self.delivered,
            deferred=self.queued + self.deferred,
            failed=self.failed,
            suppressed=self.suppressed,
            announced=announced,
            complete=complete,
        )


def counted(sheets: Sequence[Sheet]) -> dict[str, Sums]:
    """The sums of each group: of one group with nobody tried twice, as it is mostly, by sets of keys; else folded person by person."""
    groups = {sheet.group for sheet in sheets}
    quick = _counted_as_sets(sheets) if len(groups) == 1 else None
    return _counted(fold(sheets)) if quick is None else {groups.pop(): quick}


def _counted_as_sets(sheets: Sequence[Sheet]) -> Sums | None:
    queued, tried = set[str](), set[str]()
    left_out = set[tuple[str, str | None, str]]()
    numbers = [0] * len(STATES)
    for sheet in sheets:
        if sheet.attempts:
            for fate in fates_of(sheet.content):
                numbers[fate.state] += len(fate.names)
                tried.update(keys_of(fate.names))
            continue
        share = share_of(sheet.content)
        for people in share.queued:
            queued.update(keys_of(people.names))
        for group in share.suppressed:
            left_out.update((group.reason, group.via, key) for key in keys_of(group.names))
    if sum(numbers) != len(tried):
        return None
    _, deferred, delivered, failed = numbers
    return Sums(len(queued - tried), deferred, delivered, failed, len(left_out))


def _counted(folded: Folded) -> dict[str, Sums]:
    states = Counter((entry.group, entry.fate.state) for entry in folded.people.values())
    left_out = Counter(group for _, group, _, _ in folded.left_out)
    groups = {group for group, _ in states} | left_out.keys()
    queued, deferred, delivered, failed = range(len(STATES))
    return {
        group: Sums(
            states[group, queued],
            states[group, deferred],
            states[group, delivered],
            states[group, failed],
            left_out[group],
        )
        for group in groups
    }


# --- telling ---------------------------------------------------------------------------------------------------------
def people_rows(post_id: str, folded: Folded, *, stopped: bool = False) -> list[Row]:
    """The recipients as a trace shows them, by key; those of a `stopped` post who have no final state are left out of it."""
    people = sorted(folded.people.items(), key=lambda item: item[0])
    return [_person(post_id, key, entry, stopped=stopped and entry.fate.state < FINAL) for key, entry in people]


def _person(post_id: str, key: str, entry: Entry, *, stopped: bool) -> Row:
    fate = entry.fate
    return Row(
        post_id=post_id,
        group=entry.group,
        address=key if entry.address is None else entry.address,
        via=via_path(entry.via, entry.group),
        state=None if stopped else STATES[fate.state],
        reason=Reason.STOPPED if stopped else None,
        attempts=entry.attempts,
        code=fate.code,
        status=fate.status,
        text=fate.text,
        hop=fate.hop,
        at=entry.at,
        next_at=None if stopped else fate.next_at,
    )


def left_out_rows(post_id: str, folded: Folded) -> list[Row]:
    """The addresses left out as a trace shows them, by key."""
    ordered = sorted(folded.left_out.items(), key=lambda item: (*item[0][:3], item[0][3] or ""))
    return [
        Row(
            post_id=post_id,
            group=group,
            address=key if address is None else address,
            via=via_path(via, group),
            state=None,
            reason=reason_of(reason),
            attempts=0,
            code=0,
            status="",
            text="",
            hop="",
            at=at,
            next_at=None,
            instead=_copy_of(key, folded) if reason == Reason.DUPLICATE else (),
        )
        for (key, group, reason, via), (address, at) in ordered
    ]


def _copy_of(key: str, folded: Folded) -> tuple[str, ...]:
    """The path by which somebody's one copy came."""
    entry = folded.people.get(key)
    return () if entry is None else via_path(entry.via, entry.group)
