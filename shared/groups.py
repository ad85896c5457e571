"""Groups, members, and the pure rules about them. No I/O.

A *key* is the canonical form of an address (`shared.address.key`): what is compared, indexed and hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

SLOTS = 1 << 31
"""Every key hashes to a slot in [0, SLOTS): slices of a member list are ranges of slots, so they hold whatever is edited meanwhile."""

WhoCanPost = Literal["anyone", "domain", "members", "owners"]
Envelope = Literal["list", "alias"]
BounceState = Literal["ok", "suspended"]
Language = Literal["", "en", "bg"]
NotifyOwners = Literal["failures", "posts", "daily", "none"]


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """A mail domain whose groups are ours. `postmaster` overrides HORO_POSTMASTER where it is not empty.

    `disabled` is for good: its mail is refused. `suspended` is for now: its mail is put off, and waits with whoever sends it. The quotas are 0 where
    there is none: groups, memberships in all of them together, and what may be accepted on a day (UTC) in messages and in recipients.
    """

    name: str
    postmaster: str = ""
    disabled: bool = False
    suspended: bool = False
    max_groups: int = 0
    max_members: int = 0
    messages_per_day: int = 0
    recipients_per_day: int = 0

    @property
    def metered(self) -> bool:
        """Whether what it sends is counted."""
        return bool(self.messages_per_day or self.recipients_per_day)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group's settings, by the keys that `horo group set` takes; the defaults are DESIGN.md's. `max_size` is in octets, 0 for no own limit.

    `language` is that of reports and notices, "" for HORO_LANGUAGE. `notify_owners` says what its owners are told by mail: of the failures of
    a post, once; of every post, how it ended; the day's sums; or nothing. `announce_posts` makes a signal of every post.
    """

    reply_to_group: bool = True
    expand_groups: bool = True
    remove_author: bool = True
    disabled: bool = False
    report_delivery: bool = False
    reject_automatic: bool = True
    remove_to_cc: bool = True
    disable_signals: bool = False
    title: str = ""
    description: str = ""
    owners: tuple[str, ...] = ()
    who_can_post: WhoCanPost = "anyone"
    nest_from: tuple[str, ...] = ()
    max_size: int = 0
    subject_prefix: str = ""
    envelope: Envelope = "list"
    thread_author: bool = True
    verp: bool = False
    language: Language = ""
    notify_owners: NotifyOwners = "failures"
    announce_posts: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual address with settings and members. `members` is how many there are; `seq` the directory change it was read at."""

    id: int
    address: str
    settings: Settings
    members: int = 0
    seq: int = 0

    @property
    def domain(self) -> str:
        """The group's domain, lower case A-label."""
        return self.address.rpartition("@")[2]

    @property
    def local(self) -> str:
        """The group's local part."""
        return self.address.rpartition("@")[0]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One address in a group, a person or another group. `address` is as entered (case kept), `key` what is compared.

    `group` is set where the address is a group of this installation: that group's key (a member `board+x@` is the group `board@`).
    """

    address: str
    key: str
    name: str = ""
    paused: bool = False
    own_copies: bool = False
    bounce: BounceState = "ok"
    group: str | None = None


def slot(key: str) -> int:
    """The slot of a key: stable over processes, versions and edits (P3). BLAKE2b, for Python's own hash is salted."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=4).digest()) >> 1


def cell(slot: int, cells: int) -> int:
    """Which of `cells` equal ranges of slots a slot falls into."""
    return slot * cells // SLOTS


# --- members by cells ---------------------------------------------------------------------------------------------------
class Roll(msgspec.Struct, frozen=True):
    """The members of one group in one cell, in a form that is judged by the hundred rather than one by one.

    `keys` are the plain ones, in order: people who are not paused or suspended and want no own copies. `spelled` has the addresses of those among
    them that are not written as their key. `others` are all other members, in order of keys.
    """

    keys: Sequence[str] = ()
    spelled: Mapping[str, str] = {}
    others: Sequence[Member] = ()

    def __len__(self) -> int:
        return len(self.keys) + len(self.others)


def roll(members: Iterable[Member]) -> Roll:
    """The roll of members of one group and one cell."""
    plain: list[Member] = []
    others: list[Member] = []
    for member in sorted(members, key=lambda member: member.key):
        stateful = member.paused or member.own_copies or member.bounce != "ok" or member.group is not None
        (others if stateful else plain).append(member)
    spelled = {member.key: member.address for member in plain if member.address != member.key}
    return Roll([member.key for member in plain], spelled, tuple(others))


def rolls(members: Iterable[Member], *, cells: int, low: int = 0, high: int = SLOTS) -> dict[int, Roll]:
    """The rolls of a group's members with slots in [low, high), by cell."""
    found: dict[int, list[Member]] = {}
    for member in members:
        if low <= (place := slot(member.key)) < high:
            found.setdefault(cell(place, cells), []).append(member)
    return {number: roll(found[number]) for number in sorted(found)}
