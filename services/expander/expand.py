"""Who gets a copy and who does not: the filters, in their fixed order. Pure: rows of members in, judgements out.

The order (DESIGN.md): resolve, normalise, de-duplicate, author, To/Cc, member state. Resolving and normalising happened before, in `graph.py`
and in the directory; the loop guard is about groups, not people, and is in `graph.py` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.expander.state import member_state
from shared.address import person_key
from shared.groups import Member
from shared.messages import Reason

THREAD = "thread"
"""Last step of the path of a thread's author who is no member: not a group, but the reason the address is there."""


class Row(NamedTuple):
    """One membership of one person: in which target's expansion (`scope`, its number), by which path of groups, and the member's own state."""

    scope: int
    via: tuple[str, ...]
    member: Member


class Rules(NamedTuple):
    """What a target's own settings say. `remove_author` and `remove_to_cc` are the addressed group's: those of inlined sub-groups do not apply."""

    remove_author: bool
    remove_to_cc: bool


class Facts(NamedTuple):
    """What the message says: the person keys of its authors (From: and the authenticated sender), the keys in To: and Cc:."""

    authors: frozenset[str]
    to_cc: frozenset[str]


class Judgement(NamedTuple):
    """The fate of one row: a copy (`reason` is None), or why not."""

    scope: int
    address: str
    via: tuple[str, ...]
    reason: Reason | None


def judge(rows: Sequence[Row], rules: Sequence[Rules], facts: Facts) -> Iterator[Judgement]:
    """Judge all memberships of one person (equal keys), given in the order of targets and, in each, of the groups found.

    At most one judgement is a copy (P2): that of the first target that gives one. Every other row is judged too (P4).
    """
    given = False
    for scope in sorted({row.scope for row in rows}):
        mine = [row for row in rows if row.scope == scope]
        chosen = _chosen(mine)
        reason = Reason.DUPLICATE if given else _filtered(chosen, mine, rules[scope], facts)
        given = given or reason is None
        for row in mine:
            why = reason if row is chosen else member_state(row.member) or Reason.DUPLICATE
            yield Judgement(scope, row.member.address, row.via, why)


def _chosen(rows: Sequence[Row]) -> Row:
    """The membership that speaks for the person: the first that is not paused or suspended, for a pause holds in its own group only."""
    return next((row for row in rows if member_state(row.member) is None), rows[0])


def _filtered(chosen: Row, rows: Sequence[Row], rules: Rules, facts: Facts) -> Reason | None:
    own_copies = any(row.member.own_copies for row in rows)
    # who is no member gets no copy of an answer of their own, whatever the group does with its authors
    added = chosen.via[-1:] == (THREAD,)
    if (rules.remove_author or added) and not own_copies and person_key(chosen.member.key) in facts.authors:
        return Reason.AUTHOR
    if rules.remove_to_cc and chosen.member.key in facts.to_cc:
        return Reason.TO_CC
    return member_state(chosen.member)
