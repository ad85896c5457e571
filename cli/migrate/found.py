"""What a reader found elsewhere: groups wanted here, what cannot come along and why. Pure; every value is checked before any of it is applied.

The files and answers that are read were written by others: a value that Horo would refuse is told with the place it stands in, and nothing else
is held up by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from shared.address import AddressError
from shared.directory import DirectoryError, NewMember, rules
from shared.groups import Settings
from shared.idn import to_ascii


class Refused(msgspec.Struct, frozen=True):
    """Something that does not come along: where it stands (`/etc/aliases:12`, a list's address), what it is, and why."""

    where: str
    what: str
    why: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A group to be here: its key, the settings that the source decides (checked, by name), and its members (checked)."""

    address: str
    settings: Mapping[str, Any]
    members: tuple[rules.Prepared, ...]

    @property
    def domain(self) -> str:
        """The domain that it is of."""
        return self.address.rpartition("@")[2]


class Found(msgspec.Struct, kw_only=True):
    """All that one import found. `domains` are to be here too, each with the postmaster it had, "" for none."""

    groups: list[Wanted] = []
    domains: dict[str, str] = {}
    refused: list[Refused] = []
    notes: list[Refused] = []
    """What comes along in another way than it was."""


class Raw(msgspec.Struct, kw_only=True):
    """A group as its source wrote it. `places` says where each member stands, as far as that is not `where`."""

    where: str
    address: str
    settings: Mapping[str, Any]
    members: list[NewMember]
    places: dict[str, str] = {}


def checked(raw: Raw, found: Found) -> None:
    """Add `raw` to what was found, or to what cannot come along."""
    try:
        address = rules.new_group_key(raw.address)
    except DirectoryError as error:
        found.refused.append(Refused(raw.where, raw.address, str(error)))
        return
    domain = address.rpartition("@")[2]
    settings = _settings(raw, domain, found)
    members = _members(raw, domain, found)
    if raw.members and not members:
        found.refused.append(
            Refused(raw.where, address, "none of its members can come along, so the group is not made")
        )
        return
    if any(member.base == address for member in members):
        why = (
            "it is its own member: a mailbox that keeps a copy and forwards it. A group has no mailbox: give the mailbox"
            " another address, and put that in the group"
        )
        found.refused.append(Refused(raw.where, address, why))
        return
    found.groups.append(Wanted(address=address, settings=settings, members=tuple(members)))


def _settings(raw: Raw, domain: str, found: Found) -> dict[str, Any]:
    """The settings that Horo takes; one that it does not take is told."""
    taken: dict[str, Any] = {}
    for name, value in raw.settings.items():
        try:
            made = rules.settings(Settings(), {name: value}, domain)
        except DirectoryError as error:
            found.refused.append(Refused(raw.where, f"{raw.address}: {name}", str(error)))
        else:
            taken[name] = getattr(made, name)
    return taken


def _members(raw: Raw, domain: str, found: Found) -> list[rules.Prepared]:
    members: dict[str, rules.Prepared] = {}
    for new in raw.members:
        try:
            row = rules.member(new, domain)
        except DirectoryError as error:
            found.refused.append(
                Refused(raw.places.get(new.address, raw.where), f"{raw.address}: {new.address}", str(error))
            )
        else:
            members.setdefault(row.key, row)
    return list(members.values())


def only(found: Found, patterns: Iterable[str]) -> None:
    """Keep the groups whose address matches one of `patterns` (`*@example.com`), where there are any. What was refused is told all the same."""
    wanted = tuple(patterns)
    found.groups = [one for one in found.groups if matches(one.address, wanted)]
    found.notes = [one for one in found.notes if matches(one.where, wanted)]
    found.domains = {name: owner for name, owner in found.domains.items() if matches(f"postmaster@{name}", wanted)}


def matches(address: str, patterns: Sequence[str]) -> bool:
    """Whether an address matches one of `patterns`, or there are none."""
    return not patterns or any(fnmatchcase(address.lower(), pattern.lower()) for pattern in patterns)


def as_domain(text: str) -> str:
    """A domain in its one form; "" for what is none."""
    try:
        return to_ascii(text)
    except AddressError:
        return ""
