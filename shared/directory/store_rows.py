"""Rows of the directory's tables to the structs of `shared.groups` and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.database.tables import members
from shared.directory import DirectoryUnavailable
from shared.directory.rules import Prepared
from shared.groups import Domain, Group, Member, Settings

MEMBER_COLUMNS = (
    members.c.address,
    members.c.key,
    members.c.name,
    members.c.paused,
    members.c.own_copies,
    members.c.bounce,
    members.c.group_key,
)

DOMAIN_COLUMNS = Domain.__struct_fields__
"""The columns of a domain are its fields."""

_settings = msgspec.json.Decoder(Settings)
_fields = frozenset(Settings.__struct_fields__)


def to_settings(text: str, address: str) -> Settings:
    """Settings as stored. What a newer Horo added is let pass, for both run while one replaces the other."""
    try:
        return _settings.decode(text)
    except msgspec.MsgspecError:
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
            return msgspec.convert({name: value for name, value in found.items() if name in _fields}, Settings)
        except msgspec.MsgspecError as error:
            raise DirectoryUnavailable(f"the settings of {address} cannot be read: {error}") from error


def from_settings(settings: Settings) -> str:
    """Settings to be stored: all of them, so that a default that changes later changes no group that is there."""
    return msgspec.json.encode(settings).decode()


def searched(address: str, settings: Settings) -> str:
    """What a search for groups looks in."""
    return f"{address} {settings.title}".casefold()


def to_domain(row: Sequence[Any]) -> Domain:
    """A row of `DOMAIN_COLUMNS`. SQLite has 0 and 1 for a switch."""
    return msgspec.convert(dict(zip(DOMAIN_COLUMNS, row, strict=True)), Domain, strict=False)


def to_group(row: Any, seq: int) -> Group:
    """A row of `groups`, read at change `seq`."""
    return Group(
        id=row.id, address=row.address, settings=to_settings(row.settings, row.address), members=row.members, seq=seq
    )


def to_member(row: Any) -> Member:
    """A row of `MEMBER_COLUMNS`."""
    address, key, name, paused, own_copies, bounce, group_key = row
    return Member(
        address=address,
        key=key,
        name=name,
        paused=bool(paused),
        own_copies=bool(own_copies),
        bounce=bounce,
        group=group_key,
    )


def from_prepared(row: Prepared, group_id: int, group_key: str | None) -> dict[str, Any]:
    """A new row of `members`."""
    return {
        "group_id": group_id,
        "key": row.key,
        "slot": row.slot,
        "address": row.address,
        "name": row.name,
        "search": row.search,
        "paused": bool(row.paused),
        "own_copies": bool(row.own_copies),
        "bounce": "ok",
        "group_key": group_key,
    }


def escaped(text: str) -> str:
    """Text for the inside of a LIKE pattern with ESCAPE '\\'."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
